//! Begins an attempt at a backup: waits for a slot, claims the object, and does the work here or hands it to a Job.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};

use super::plan::{self, scope};
use super::status::Draft;
use crate::api::{BackupMode, EtcdBackup, EtcdBackupSchedule};
use crate::cause::with_causes;
use crate::engine::{ResourceName, records};
use crate::operator::context::{Context, audit};
use crate::operator::hooks::commands_of;
use crate::operator::job::{self, Purpose};
use crate::operator::labels::SCHEDULE_ANNOTATION;
use crate::operator::lease::is_conflict;
use crate::operator::report::Outcome;
use crate::operator::retries;
use crate::operator::tenancy::plan::Account;
use crate::operator::work::{self, Handed, Tools};
use crate::pipeline::{Part, Recording};

/// How long an attempt waits for its schedule's task to stand its watch: after a start both begin at once.
const WATCH_STANDS: Duration = Duration::from_secs(20);
/// The object's stage is shown while an attempt is handed over: whoever was slower reads it again.
const TRIES: usize = 10;

/// Carries an attempt to its end, or to the Job that does it; where the API server refuses that it begins, it is asked ever later.
pub async fn begin(context: Arc<Context>, backup: Arc<EtcdBackup>, attempt: i64) {
    let mut refusals = 0;
    while let Err(error) = try_to_begin(&context, &backup, attempt).await {
        refusals += 1;
        let wait = retries::wait_after(refusals);
        let (kind, object) = (EtcdBackup::kind(&()), ResourceName::of(backup.as_ref()));
        let seconds = wait.as_secs();
        tracing::warn!(%kind, %object, "no attempt begins for {seconds} s: {}", with_causes(&error));
        tokio::time::sleep(wait).await;
    }
}

/// Every way out leaves word in [`Context::runs`], but for an error: then nothing is begun.
async fn try_to_begin(
    context: &Arc<Context>,
    backup: &EtcdBackup,
    attempt: i64,
) -> Result<(), kube::Error> {
    let uid = backup.uid().unwrap_or_default();
    let name = ResourceName::of(backup);
    let slot = context.services.slots.acquire(&name.namespace).await;
    let run_id = uuid::Uuid::now_v7().to_string();
    let recording = recording_of(context, backup).await;
    let stands = recording.recorder.as_ref();
    let stands = stands.is_some_and(|recorder| recorder.is_alive());
    let has_jobs = context.config.jobs.image.is_some();
    let here = plan::made_here(&backup.spec, has_jobs, stands);
    let mut purpose = Purpose::backup(backup, &run_id, attempt);
    purpose.handed = Handed::of(Part::Whole, &recording);
    let job_name = here.is_none().then(|| purpose.job_in(&context.namespace));
    let Some(claimed) = claim(context, backup, &run_id, attempt, job_name).await? else {
        context.runs.forget(&uid);
        return Ok(());
    };
    tracing::info!(backup = %name, run = %run_id, attempt, job = here.is_none(), "backup begins");
    let note = format!("attempt {attempt}: {}", scope(&claimed.spec));
    context
        .event(&claimed, false, "BackupStarted", "Backup", &note)
        .await;
    audit(&claimed, "backup", &scope(&claimed.spec), "begun");
    if let Some(warning) = plan::warning(&claimed.spec).filter(|_| attempt == 1) {
        context
            .event(&claimed, true, "ScheduleIgnored", "Backup", &warning)
            .await;
    }
    let Some(part) = here else {
        match job::create(context, &purpose).await {
            Ok(()) => context.runs.in_job(&uid, slot),
            Err(error) => context.runs.ended(&uid, not_created(&error)),
        }
        return Ok(());
    };
    context.runs.here(&uid, None);
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
        recording,
        part,
        client: context.client.clone(),
        trusted,
    };
    let told = |stage: &str| context.runs.here(&uid, Some(stage));
    let rest = match work::back_up(tools, &claimed, &run_id, told).await {
        Ok(outcome) => {
            drop(slot);
            context.runs.ended(&uid, outcome);
            return Ok(());
        }
        Err(rest) => rest,
    };
    purpose.handed.part = rest;
    match hand_over(context, &purpose).await {
        Ok(true) => context.runs.in_job(&uid, slot),
        Ok(false) => context.runs.forget(&uid),
        Err(error) => context.runs.ended(&uid, not_created(&error)),
    }
    Ok(())
}

/// What an incremental backup of a schedule is cut from, and when the next full one is due.
async fn recording_of(context: &Context, backup: &EtcdBackup) -> Recording {
    let schedule = backup.annotations().get(SCHEDULE_ANNOTATION);
    let (Some(schedule), BackupMode::Incremental) = (schedule, backup.spec.backup_mode) else {
        return Recording::default();
    };
    let schedule = ResourceName {
        namespace: backup.namespace().unwrap_or_default(),
        name: schedule.clone(),
    };
    if let Some(known) = context.recording(&schedule, Duration::ZERO).await {
        return known;
    }
    let api: Api<EtcdBackupSchedule> = context.api(&schedule.namespace);
    let Ok(Some(object)) = api.get_opt(&schedule.name).await else {
        return Recording::default();
    };
    let stood = match records(&object.spec) {
        true => context.recording(&schedule, WATCH_STANDS).await,
        false => None,
    };
    stood.unwrap_or_else(|| Recording {
        full_every: object.spec.full_every,
        ..Recording::default()
    })
}

/// Has a Job make what is left of an attempt; `false` when the object does not wait for it any more.
async fn hand_over(context: &Context, purpose: &Purpose) -> Result<bool, kube::Error> {
    let api: Api<EtcdBackup> = context.api(&purpose.owner.namespace);
    let why = match &purpose.handed.part {
        Part::Full(why) => format!("a full backup is due: {why}"),
        Part::Merge => "the chain is to become a full backup".to_owned(),
        Part::Whole | Part::Increment => "it is begun anew".to_owned(),
    };
    let mut tries = 0;
    loop {
        let Some(fresh) = api.get_opt(&purpose.owner.name).await? else {
            return Ok(false);
        };
        let same = fresh.uid().as_deref() == Some(purpose.uid.as_str());
        let deleted = fresh.metadata.deletion_timestamp.is_some();
        if !same || deleted || !plan::awaits(&fresh, &purpose.run_id) {
            return Ok(false);
        }
        let draft = Draft::of(&fresh, Timestamp::now());
        let status = draft.left_to(purpose.job_in(&context.namespace), &why);
        tries += 1;
        match context.write_status(&fresh, &status, true).await {
            Err(error) if is_conflict(&error) && tries < TRIES => {}
            Err(error) => return Err(error),
            Ok(told) => {
                tracing::info!(backup = %purpose.owner, run = %purpose.run_id, "a Job goes on: {why}");
                context
                    .event(&told, false, "LeftToJob", "Backup", &why)
                    .await;
                job::create(context, purpose).await?;
                return Ok(true);
            }
        }
    }
}

/// Writes that the attempt begins, unless another replica has begun one, or the object is gone or another one meanwhile.
///
/// # Errors
/// What the API server refused.
async fn claim(
    context: &Context,
    backup: &EtcdBackup,
    run_id: &str,
    attempt: i64,
    job: Option<String>,
) -> Result<Option<EtcdBackup>, kube::Error> {
    let name = ResourceName::of(backup);
    let api: Api<EtcdBackup> = context.api(&name.namespace);
    let Some(fresh) = api.get_opt(&name.name).await? else {
        return Ok(None);
    };
    let phase = fresh
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let pending = phase.is_none_or(|phase| phase == "Pending");
    let as_seen = fresh.metadata.uid == backup.metadata.uid
        && fresh.metadata.generation == backup.metadata.generation;
    if !as_seen || fresh.metadata.deletion_timestamp.is_some() || !pending {
        return Ok(None);
    }
    let mut status = Draft::of(&fresh, Timestamp::now()).begun(run_id, attempt, job);
    status.warnings = plan::warning(&fresh.spec).into_iter().collect();
    match context.write_status(&fresh, &status, true).await {
        Ok(claimed) => Ok(Some(claimed)),
        Err(error) if is_conflict(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_created(error: &kube::Error) -> Outcome {
    Outcome::Failed {
        reason: "JobNotCreated".to_owned(),
        message: format!("the Job could not be created: {}", with_causes(error)),
    }
}
