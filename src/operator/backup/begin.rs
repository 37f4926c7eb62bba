//! Begins an attempt at a backup: waits for a slot, claims the object, and does the work here or hands it to a Job.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::plan::scope;
use super::status::Draft;
use crate::api::{EtcdBackup, Executor};
use crate::cause::with_causes;
use crate::engine::ResourceName;
use crate::operator::context::{Context, audit};
use crate::operator::hooks::commands_of;
use crate::operator::job::{self, Purpose};
use crate::operator::labels::SCHEDULE_ANNOTATION;
use crate::operator::report::Outcome;
use crate::operator::tenancy::plan::Account;
use crate::operator::work::{self, Tools};

/// Carries an attempt to its end, or to the Job that does it. Every way out leaves word in [`Context::runs`].
pub async fn begin(context: Arc<Context>, backup: Arc<EtcdBackup>, attempt: i64) {
    let uid = backup.uid().unwrap_or_default();
    let name = ResourceName::of(backup.as_ref());
    let slot = context.services.slots.acquire(&name.namespace).await;
    let run_id = uuid::Uuid::now_v7().to_string();
    let by_job = backup.spec.executor == Executor::Job && context.config.jobs.image.is_some();
    let purpose = Purpose::backup(&backup, &run_id, attempt);
    let job_name = by_job.then(|| format!("{}/{}", context.namespace, purpose.job_name()));
    let Some(claimed) = claim(&context, &name, &uid, &run_id, attempt, job_name).await else {
        context.runs.forget(&uid);
        return;
    };
    tracing::info!(backup = %name, run = %run_id, attempt, job = by_job, "backup begins");
    let note = format!("attempt {attempt}: {}", scope(&claimed.spec));
    context
        .event(&claimed, false, "BackupStarted", "Backup", &note)
        .await;
    audit(&claimed, "backup", &scope(&claimed.spec), "begun");
    if by_job {
        match job::create(&context, &purpose).await {
            Ok(()) => context.runs.in_job(&uid, slot),
            Err(error) => context.runs.ended(&uid, not_created(&error)),
        }
        return;
    }
    context.runs.here(&uid, None);
    let schedule = claimed.annotations().get(SCHEDULE_ANNOTATION);
    let recording = schedule.map(|schedule| ResourceName {
        namespace: name.namespace.clone(),
        name: schedule.clone(),
    });
    let services = &context.services;
    let trusted = services.trust.covers(&name.namespace);
    let account = Account {
        namespace: name.namespace.clone(),
        name: claimed.spec.service_account_name.clone(),
    };
    let for_pipeline = services.for_pipeline();
    let tools = Tools {
        secrets: for_pipeline.secrets,
        observer: for_pipeline.observer,
        cluster_name: services.cluster_name(),
        cluster: services.cluster_of(&claimed.spec, &name.namespace),
        scratch: services.state.scratch(),
        commands: Arc::new(commands_of(
            &context.client,
            &context.config,
            trusted,
            account,
        )),
        recording: recording
            .map(|schedule| context.recording(&schedule))
            .unwrap_or_default(),
        client: context.client.clone(),
        trusted,
    };
    let told = |stage: &str| context.runs.here(&uid, Some(stage));
    let outcome = work::back_up(tools, &claimed, &run_id, told).await;
    drop(slot);
    context.runs.ended(&uid, outcome);
}

/// Writes that the attempt begins, unless another replica has begun one, or the object is gone.
async fn claim(
    context: &Context,
    name: &ResourceName,
    uid: &str,
    run_id: &str,
    attempt: i64,
    job: Option<String>,
) -> Option<EtcdBackup> {
    let api: Api<EtcdBackup> = context.api(&name.namespace);
    let fresh = match api.get_opt(&name.name).await {
        Ok(fresh) => fresh?,
        Err(error) => {
            tracing::warn!(backup = %name, "cannot be read before its work begins: {}", with_causes(&error));
            return None;
        }
    };
    let pending = fresh
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_none_or(|phase| phase == "Pending");
    let deleted = fresh.metadata.deletion_timestamp.is_some();
    if fresh.uid().as_deref() != Some(uid) || deleted || !pending {
        return None;
    }
    let status = Draft::of(&fresh, Timestamp::now()).begun(run_id, attempt, job);
    match context.write_status(&fresh, &status, true).await {
        Ok(claimed) => Some(claimed),
        Err(error) => {
            tracing::warn!(backup = %name, "the attempt is not begun: {}", with_causes(&error));
            None
        }
    }
}

fn not_created(error: &kube::Error) -> Outcome {
    Outcome::Failed {
        reason: "JobNotCreated".to_owned(),
        message: format!("the Job could not be created: {}", with_causes(error)),
    }
}
