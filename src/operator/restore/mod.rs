//! The controller of EtcdRestores: plan → stop the members → a Job a member → start → compare their hashes. Each look does the next
//! thing that [`plan`] names; a failure stops there and says how to go back.

mod job;
pub mod members;
mod observe;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;

use self::members::Member;
use self::plan::Step;
use super::backup::refuse_unreadable;
use super::conditions::{Said, say};
use super::context::{Context, audit};
use super::job::{owner_of, watched};
use super::labels::{MANAGER, REPLICAS_ANNOTATION};
use super::lease::is_conflict;
use crate::api::{EtcdRestore, EtcdRestoreStatus};
use crate::cause::with_causes;

/// A restore that goes on is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// An API server that refused is asked again after this.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Runs until the process ends.
pub async fn control(context: Arc<Context>) {
    let restores: Api<DeserializeGuard<EtcdRestore>> = Api::all(context.client.clone());
    let jobs: Api<Job> = Api::all(context.client.clone());
    Controller::new(restores, watcher::Config::default())
        .watches(jobs, watched(), |job| {
            owner_of(&job, "EtcdRestore")
                .map(|owner| ObjectRef::new(&owner.name).within(&owner.namespace))
        })
        .run(reconcile, |_, _, _| Action::requeue(AFTER_ERROR), context)
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "the watch of EtcdRestores was interrupted");
            }
        })
        .await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<EtcdRestore>>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    let outcome = match &object.0 {
        Ok(restore) => look(&context, restore).await,
        Err(invalid) => {
            let message = format!("the object cannot be read: {}", invalid.error);
            refuse_unreadable::<EtcdRestore>(&context, &invalid.metadata, &message).await
        }
    };
    context
        .services
        .metrics
        .reconciled("EtcdRestore", outcome.is_ok());
    match outcome {
        Err(error) if is_conflict(&error) => Ok(Action::requeue(LOOK)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::await_change()),
        Err(error) => {
            tracing::warn!(restore = %ObjectRef::from(object.as_ref()), "{}", with_causes(&error));
            Err(error)
        }
        outcome => outcome,
    }
}

async fn look(context: &Arc<Context>, restore: &EtcdRestore) -> Result<Action, kube::Error> {
    let ended = matches!(
        restore
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref()),
        Some("Completed" | "Failed" | "Aborted")
    );
    if ended || restore.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let mut seen = observe::observe(context, restore).await?;
    let mut step = plan::decide(&seen, now);
    if matches!(step, Step::LookAtSource) {
        seen.source = observe::source(context, restore).await;
        step = plan::decide(&seen, now);
    }
    let set = seen.stateful_set.clone();
    let mut draft = Draft::of(restore, now);
    match step {
        Step::Nothing | Step::LookAtSource => return Ok(Action::await_change()),
        Step::Wait(message) => {
            draft.message(&message);
            draft.write(context, restore).await?;
        }
        Step::Reject { reason, message } | Step::Fail { reason, message } => {
            draft.fail(reason, &message);
            draft.write(context, restore).await?;
            audit(restore, "restore", &scope(restore), "failed");
            context
                .event(restore, true, reason, "Restore", &message)
                .await;
            return Ok(Action::await_change());
        }
        Step::Plan {
            chain,
            steps,
            warnings,
        } => {
            audit(restore, "restore", &scope(restore), "planned");
            draft.planned(restore, chain, steps, &warnings);
            draft.write(context, restore).await?;
            let note = draft.status.message.clone().unwrap_or_default();
            context
                .event(restore, false, "RestorePlanned", "Restore", &note)
                .await;
        }
        Step::Quiesce => {
            if let (Some(set), true) = (&set, restore.spec.quiesce_cluster) {
                scale(context, set, Some(0)).await?;
                draft.step(
                    "quiesce",
                    "Running",
                    &format!("StatefulSet {} goes down to 0", set.name_any()),
                );
                context
                    .event(
                        restore,
                        false,
                        "Quiescing",
                        "Restore",
                        &format!("StatefulSet {} is scaled to 0", set.name_any()),
                    )
                    .await;
            }
            draft.phase("Quiescing", "the members are being stopped");
            draft.write(context, restore).await?;
        }
        Step::Quiesced => {
            if set.is_some() && restore.spec.quiesce_cluster {
                draft.step("quiesce", "Done", "no pod is left");
                draft.say(
                    "Quiesced",
                    Some(true),
                    "Stopped",
                    "no pod of the members is left",
                );
            } else {
                draft.say(
                    "Quiesced",
                    Some(false),
                    "NotAskedFor",
                    "nothing was stopped by the operator",
                );
            }
            draft.phase("Restoring", "the data directories are being made");
            draft.write(context, restore).await?;
        }
        Step::MakeJobs(members) => {
            make_jobs(context, restore, &seen, &members).await?;
            for member in &members {
                draft.step(
                    &format!("restore {}", member.name),
                    "Running",
                    "a Job works",
                );
            }
            draft.write(context, restore).await?;
        }
        Step::Start => {
            for step in &mut draft.status.steps {
                if step.name.starts_with("restore ") {
                    step.state = "Done".to_owned();
                }
            }
            draft.say(
                "DataRestored",
                Some(true),
                "InPlace",
                "every member has its new data directory; the old ones are kept",
            );
            if let (Some(set), true) = (&set, restore.spec.quiesce_cluster) {
                scale(context, set, None).await?;
                draft.step(
                    "start",
                    "Done",
                    &format!("StatefulSet {} is scaled back", set.name_any()),
                );
            }
            draft.phase(
                "Validating",
                "the data is in place: waiting for the members to answer",
            );
            draft.write(context, restore).await?;
            context
                .event(
                    restore,
                    false,
                    "DataRestored",
                    "Restore",
                    "every member has its new data directory",
                )
                .await;
        }
        Step::Complete { revision, hash } => {
            let message =
                format!("restored to revision {revision}; every member answers with hash {hash}");
            draft.complete(revision, &message);
            draft.write(context, restore).await?;
            audit(restore, "restore", &scope(restore), "completed");
            context
                .event(restore, false, "RestoreCompleted", "Restore", &message)
                .await;
            if let Some(started) = draft.status.start_time {
                let mode = format!("{:?}", restore.spec.restore_mode);
                let took = now.duration_since(started).unsigned_abs();
                context.services.metrics.restore_ended(&mode, took);
            }
            return Ok(Action::await_change());
        }
    }
    Ok(Action::requeue(LOOK))
}

fn scope(restore: &EtcdRestore) -> String {
    let spec = &restore.spec;
    let source = spec
        .backup_name
        .as_deref()
        .or(spec.snapshot_location.as_deref());
    format!(
        "{:?} restore of {}",
        spec.restore_mode,
        source.unwrap_or_default()
    )
}

/// Scales the members down, remembering how many there were, or back to that.
async fn scale(context: &Context, set: &StatefulSet, to: Option<i32>) -> Result<(), kube::Error> {
    let replicas = members::wanted_replicas(set);
    let patch = match to {
        Some(to) => json!({
            "metadata": { "annotations": { REPLICAS_ANNOTATION: replicas.to_string() } },
            "spec": { "replicas": to },
        }),
        None => json!({
            "metadata": { "annotations": { REPLICAS_ANNOTATION: null } },
            "spec": { "replicas": replicas },
        }),
    };
    let api: Api<StatefulSet> = context.api(&set.namespace().unwrap_or_default());
    api.patch(
        &set.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await?;
    Ok(())
}

async fn make_jobs(
    context: &Context,
    restore: &EtcdRestore,
    seen: &plan::Seen<'_>,
    members: &[Member],
) -> Result<(), kube::Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let all = members::members(&restore.spec, seen.stateful_set.as_ref()).unwrap_or_default();
    let status = restore.status.clone().unwrap_or_default();
    let Some(stored) = observe::stored(context, restore).await else {
        return Ok(());
    };
    let encryption = restore
        .spec
        .encryption
        .as_ref()
        .or(stored.encryption.as_ref());
    let shared = job::Plan {
        restore,
        config: &context.config.jobs,
        location: &stored.location,
        encryption_secret: encryption
            .filter(|encryption| encryption.enabled)
            .and_then(|encryption| encryption.encryption_secret.as_deref()),
        backup: &stored.id,
        revision: stored.revision,
        members: &all,
        token: status.cluster_token.as_deref().unwrap_or_default(),
    };
    let maps: Api<ConfigMap> = context.api(&namespace);
    let map = job::config_map(&shared);
    let params = PatchParams::apply(MANAGER).force();
    maps.patch(&map.name_any(), &params, &Patch::Apply(&map))
        .await?;
    let jobs: Api<Job> = context.api(&namespace);
    for member in members {
        match jobs
            .create(&PostParams::default(), &job::job_of(&shared, member))
            .await
        {
            Err(error) if !is_conflict(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A status in the making.
struct Draft {
    status: EtcdRestoreStatus,
    generation: Option<i64>,
    now: Timestamp,
}

impl Draft {
    fn of(restore: &EtcdRestore, now: Timestamp) -> Self {
        let generation = restore.metadata.generation;
        let mut status = restore.status.clone().unwrap_or_default();
        status.observed_generation = generation;
        Self {
            status,
            generation,
            now,
        }
    }

    fn say(&mut self, kind: &str, status: Option<bool>, reason: &str, message: &str) {
        let said = Said {
            kind,
            status,
            reason,
            message,
        };
        say(
            &mut self.status.conditions,
            &said,
            self.generation,
            self.now,
        );
    }

    fn message(&mut self, message: &str) {
        self.status.message = Some(message.to_owned());
        self.status
            .phase
            .get_or_insert_with(|| "Pending".to_owned());
    }

    fn phase(&mut self, phase: &str, message: &str) {
        self.status.phase = Some(phase.to_owned());
        self.say("Succeeded", None, phase, message);
        self.message(message);
    }

    fn step(&mut self, name: &str, state: &str, message: &str) {
        if let Some(step) = self.status.steps.iter_mut().find(|step| step.name == name) {
            step.state = state.to_owned();
            step.message = message.to_owned();
        }
    }

    fn planned(
        &mut self,
        restore: &EtcdRestore,
        chain: Vec<String>,
        steps: Vec<crate::api::RestoreStep>,
        warnings: &[String],
    ) {
        let named = restore.spec.etcd_cluster.as_ref();
        let token = named.and_then(|cluster| cluster.initial_cluster_token.clone());
        // A fresh token makes fresh ids: a member of the old cluster that comes back cannot mix with the new one.
        self.status.cluster_token = Some(
            token.unwrap_or_else(|| format!("etcdguardian-{}", uuid::Uuid::new_v4().simple())),
        );
        let mut message = format!(
            "{} backups lead there; {} steps are planned",
            chain.len(),
            steps.len()
        );
        for warning in warnings {
            message = format!("{message}; {warning}");
        }
        self.say("SourceResolved", Some(true), "Found", &chain.join(", "));
        self.status.resolved_chain = chain;
        self.status.steps = steps;
        self.status.start_time = Some(self.now);
        self.phase("Planned", &message);
    }

    fn fail(&mut self, reason: &str, message: &str) {
        for step in &mut self.status.steps {
            if step.state == "Running" {
                step.state = "Failed".to_owned();
            }
        }
        self.status.errors.push(message.to_owned());
        self.status.completion_time = Some(self.now);
        self.status.phase = Some("Failed".to_owned());
        self.say("Succeeded", Some(false), reason, message);
        self.message(message);
    }

    fn complete(&mut self, revision: i64, message: &str) {
        self.step("validate", "Done", message);
        self.status.restored_revision = Some(revision);
        self.status.completion_time = Some(self.now);
        self.status.phase = Some("Completed".to_owned());
        self.say("ClusterHealthy", Some(true), "HashesEqual", message);
        self.say("Succeeded", Some(true), "Completed", message);
        self.message(message);
    }

    /// Writes it when it says something new.
    async fn write(&self, context: &Context, restore: &EtcdRestore) -> Result<(), kube::Error> {
        if restore.status.as_ref() != Some(&self.status) {
            context.write_status(restore, &self.status, true).await?;
        }
        Ok(())
    }
}
