//! The controller of EtcdRestores: plan → stop the members → a Job a member → start → compare their hashes. Each look does the next
//! thing that [`plan`] names; a failure stops there and says how to go back.

mod act;
mod job;
pub mod members;
mod objects;
mod observe;
mod pair;
pub mod plan;
mod rules;
mod seen;
pub mod static_pods;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};

use self::act::{create, make_jobs, run_hooks, scale, work};
use self::plan::Step;
use self::status::Draft;
use super::backup::refuse_unreadable;
use super::context::{Context, PAGE, audit};
use super::job::{owner_of, watched};
use super::retries;
use crate::api::{EtcdRestore, EtcdRestoreStatus};
use crate::pipeline::hooks::HookFailed;

/// A restore that goes on is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until the process ends.
pub async fn control(context: Arc<Context>) {
    let restores: Api<DeserializeGuard<EtcdRestore>> = Api::all(context.client.clone());
    let jobs: Api<Job> = Api::all(context.client.clone());
    let controller = Controller::new(restores, watcher::Config::default().page_size(PAGE)).watches(
        jobs,
        watched(),
        |job| {
            owner_of(&job, "EtcdRestore")
                .map(|owner| ObjectRef::new(&owner.name).within(&owner.namespace))
        },
    );
    retries::control(controller, reconcile, LOOK, context).await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<EtcdRestore>>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    match &object.0 {
        Ok(restore) => look(&context, restore).await,
        Err(invalid) => {
            let message = format!("the object cannot be read: {}", invalid.error);
            refuse_unreadable::<EtcdRestore>(&context, &invalid.metadata, &message).await
        }
    }
}

async fn look(context: &Arc<Context>, restore: &EtcdRestore) -> Result<Action, kube::Error> {
    let ended = matches!(
        restore
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref()),
        Some("Completed" | "Failed" | "Aborted" | "Rejected")
    );
    if ended || restore.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if objects::plan::is_of_objects(&restore.spec) {
        return objects::look(context, restore).await;
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
            write(context, restore, &draft).await?;
        }
        Step::Reject { reason, message } | Step::Fail { reason, message } => {
            draft.fail(reason, &message);
            let mut outcome = "failed".to_owned();
            // A right that is missing is said in the same way by every restore and backup.
            if reason == "NotAllowed" {
                draft.status.phase = Some("Rejected".to_owned());
                outcome = format!("rejected: {message}");
            }
            write(context, restore, &draft).await?;
            audit(restore, "restore", &scope(restore), &outcome);
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
            // A fresh token makes fresh ids: a member of the old cluster that comes back cannot mix with the new one.
            let token = format!("etcdguardian-{}", uuid::Uuid::new_v4().simple());
            draft.planned(restore, token, chain, steps, &warnings);
            if seen.own_etcd
                && let Some(stored) = observe::stored(context, restore).await
            {
                let all = members::members(&restore.spec, None).unwrap_or_default();
                let token = draft.status.cluster_token.clone().unwrap_or_default();
                let runbook = job::runbook(&work(context, restore, &stored, &all, &token));
                draft.phase("Planned", &runbook);
            }
            write(context, restore, &draft).await?;
            let note = draft.status.message.clone().unwrap_or_default();
            context
                .event(restore, false, "RestorePlanned", "Restore", &note)
                .await;
        }
        Step::RunHooks(when) => match run_hooks(context, restore, when, &mut draft).await {
            Ok(()) => write(context, restore, &draft).await?,
            Err(HookFailed { hook, problem }) => {
                let message = format!(
                    "hook '{hook}' failed before the restore: {problem}; nothing was stopped or replaced: mend the hook and create the EtcdRestore anew"
                );
                draft.step(when.step(), "Failed", &message);
                draft.fail("HookFailed", &message);
                write(context, restore, &draft).await?;
                audit(restore, "restore", &scope(restore), "failed");
                context
                    .event(restore, true, "HookFailed", "Restore", &message)
                    .await;
                return Ok(Action::await_change());
            }
        },
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
            write(context, restore, &draft).await?;
        }
        Step::TurnStaticPods(turn, members) => {
            let jobs: Api<Job> = context.api(&restore.namespace().unwrap_or_default());
            for member in &members {
                let job = static_pods::job_of(turn, restore, &context.config.jobs, member);
                create(&jobs, &job).await?;
            }
            let (manifest, _) = static_pods::manifest(restore.spec.etcd_cluster.as_ref());
            let words = format!("a Job on each node moves {manifest}");
            draft.step(turn.step(), "Running", &words);
            write(context, restore, &draft).await?;
            context
                .event(restore, false, "StaticPods", "Restore", &words)
                .await;
        }
        Step::Quiesced => {
            if (set.is_some() || !seen.turns.is_empty()) && restore.spec.quiesce_cluster {
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
            write(context, restore, &draft).await?;
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
            write(context, restore, &draft).await?;
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
            write(context, restore, &draft).await?;
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
        Step::Pair => {
            pair::pair(context, restore, &mut draft).await;
            write(context, restore, &draft).await?;
        }
        Step::Complete { revision, hash } => {
            let message =
                format!("restored to revision {revision}; every member answers with hash {hash}");
            draft.complete(revision, &message);
            write(context, restore, &draft).await?;
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

/// Writes a status when it says something new.
async fn write(
    context: &Context,
    restore: &EtcdRestore,
    draft: &Draft<EtcdRestoreStatus>,
) -> Result<(), kube::Error> {
    if restore.status.as_ref() != Some(&draft.status) {
        context.write_status(restore, &draft.status, true).await?;
    }
    Ok(())
}
