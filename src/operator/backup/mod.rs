//! The controller of EtcdBackups: observe → [`plan`] → act → report, one object at a time and many side by side.

mod begin;
pub mod plan;
mod settle;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, DeserializeGuard};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use self::plan::{Seen, Step, Stored, Work};
use self::status::Draft;
use super::context::{Context, PAGE, audit};
use super::hooks::backup_hooks;
use super::job;
use super::labels::{CATALOGUE_ANNOTATION, FINALIZER, MANAGER};
use super::retries;
use super::runs::Known;
use super::secrets::foreign_names;
use super::tenancy::plan::account_problem;
use super::velero::{self, Half};
use crate::api::{EtcdBackup, validate_backup};
use crate::engine::ResourceName;

/// Work that goes on in this process is looked at this often; only objects that have some.
const LOOK: Duration = Duration::from_millis(500);
/// An unreachable store is asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// Velero takes its time.
const VELERO: Duration = Duration::from_secs(2);
/// Reconciles that run at once; each does little but wait for the API server or a store.
const CONCURRENCY: u16 = 16;

/// Runs until the process ends.
pub async fn control(context: Arc<Context>) {
    let backups: Api<DeserializeGuard<EtcdBackup>> = Api::all(context.client.clone());
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &context.namespace);
    let config = kube::runtime::controller::Config::default().concurrency(CONCURRENCY);
    let controller = Controller::new(backups, watcher::Config::default().page_size(PAGE))
        .with_config(config)
        .watches(jobs, job::watched(), |job| {
            job::owner_of(&job, "EtcdBackup")
                .map(|owner| ObjectRef::new(&owner.name).within(&owner.namespace))
        });
    retries::control(controller, reconcile, LOOK, context).await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<EtcdBackup>>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    match &object.0 {
        Ok(backup) => look(&context, Arc::new(backup.clone())).await,
        Err(invalid) => {
            let message = format!("the object cannot be read: {}", invalid.error);
            refuse_unreadable::<EtcdBackup>(&context, &invalid.metadata, &message).await
        }
    }
}

/// One look at an object: what is to be done, and the doing.
async fn look(context: &Arc<Context>, backup: Arc<EtcdBackup>) -> Result<Action, kube::Error> {
    let uid = backup.uid().unwrap_or_default();
    let name = ResourceName::of(backup.as_ref());
    let mut problems = validate_backup(&backup);
    problems.extend(foreign_names(&backup.spec, "spec"));
    problems.extend(backup_hooks(&backup.spec, "spec"));
    let account = &backup.spec.service_account_name;
    problems.extend(account_problem("spec.serviceAccountName", account));
    let mut seen = Seen {
        backup: &backup,
        problems,
        trusted: context.services.trust.covers(&name.namespace),
        operator_namespace: &context.namespace,
        work: work_of(context, &backup, &uid).await?,
        stored: Stored::NotAsked,
    };
    let now = Timestamp::now();
    let mut step = plan::decide(&seen, now);
    if matches!(step, Step::AskStore) {
        seen.stored = settle::ask_store(context, &backup).await;
        step = plan::decide(&seen, now);
    }
    let ongoing = matches!(seen.work, Work::Queued | Work::Going(_));
    let before = backup.status.clone().unwrap_or_default();
    let draft = Draft::of(backup.as_ref(), now);
    match step {
        Step::Nothing | Step::AskStore if ongoing => return Ok(Action::requeue(LOOK)),
        Step::Nothing | Step::AskStore => {
            if let Known::Ended(_) | Known::InJob = context.runs.known(&uid) {
                context.runs.forget(&uid);
            }
        }
        Step::WaitUntil(at) => {
            let wait = at.duration_since(now).unsigned_abs();
            return Ok(Action::requeue(wait.max(LOOK)));
        }
        Step::AddFinalizer => set_finalizers(context, &backup, &[FINALIZER]).await?,
        Step::RemoveFinalizer => set_finalizers(context, &backup, &[]).await?,
        Step::DeleteStored => {
            if !settle::delete_stored(context, &backup).await {
                return Ok(Action::requeue(ASK_AGAIN));
            }
            set_finalizers(context, &backup, &[]).await?;
        }
        Step::Begin { attempt } => {
            if context.runs.queue(&uid) {
                context.spawn(begin::begin(Arc::clone(context), backup, attempt));
            }
            return Ok(Action::requeue(LOOK));
        }
        Step::Show(stage) => {
            let status = draft.in_stage(&stage);
            if status.message != before.message {
                context.write_status(backup.as_ref(), &status, true).await?;
            }
            return Ok(Action::requeue(LOOK));
        }
        Step::StoreSilent(error) => {
            let status = draft.unknown(&error);
            if status.message != before.message {
                context.write_status(backup.as_ref(), &status, true).await?;
            }
            return Ok(Action::requeue(ASK_AGAIN));
        }
        Step::Reject { reason, message } => {
            context
                .write_status(backup.as_ref(), &draft.rejected(reason, &message), true)
                .await?;
            audit(
                backup.as_ref(),
                "backup",
                &plan::scope(&backup.spec),
                &format!("rejected: {message}"),
            );
            context.runs.forget(&uid);
            context
                .event(backup.as_ref(), true, reason, "Backup", &message)
                .await;
        }
        Step::Complete(mut finished) => {
            // First, as only so many are kept.
            finished.warnings.splice(..0, plan::warning(&backup.spec));
            let found_again = backup.annotations().contains_key(CATALOGUE_ANNOTATION);
            let pair = velero::asked(&backup) && !found_again;
            let status = draft.completed(&finished, pair);
            context.write_status(backup.as_ref(), &status, true).await?;
            context.runs.forget(&uid);
            settle::completed(context, &backup, &finished, now).await;
            if pair {
                return Ok(Action::requeue(LOOK));
            }
        }
        Step::Pair => {
            let half = velero::look(context, &backup, now).await;
            let status = draft.paired(&velero::name_of(&backup), &half);
            if status.message != before.message
                || status.velero_backup_uid != before.velero_backup_uid
            {
                context.write_status(backup.as_ref(), &status, true).await?;
            }
            let Half::Ended {
                whole,
                reason,
                message,
                ..
            } = half
            else {
                return Ok(Action::requeue(VELERO));
            };
            let reason = if whole {
                "VeleroBackupCompleted"
            } else {
                &reason
            };
            context
                .event(backup.as_ref(), !whole, reason, "Velero", &message)
                .await;
        }
        Step::RetryAt {
            at,
            reason,
            message,
        } => {
            context
                .write_status(backup.as_ref(), &draft.retried(&reason, &message, at), true)
                .await?;
            context.runs.forget(&uid);
            audit(
                backup.as_ref(),
                "backup",
                &plan::scope(&backup.spec),
                "failed, another attempt follows",
            );
            context
                .event(backup.as_ref(), true, &reason, "Backup", &message)
                .await;
            let wait = at.duration_since(now).unsigned_abs();
            return Ok(Action::requeue(wait.max(LOOK)));
        }
        Step::Fail { reason, message } => {
            context
                .write_status(backup.as_ref(), &draft.failed(&reason, &message), true)
                .await?;
            context.runs.forget(&uid);
            settle::failed(context, &backup, &reason, &message, now).await;
        }
    }
    Ok(Action::await_change())
}

/// What is known of an object's work: from this process, or from the Job that its status names.
async fn work_of(context: &Context, backup: &EtcdBackup, uid: &str) -> Result<Work, kube::Error> {
    let job = backup.status.as_ref().and_then(|status| {
        let (_, name) = status.job.as_ref()?.split_once('/')?;
        Some((name.to_owned(), status.run_id.clone()?))
    });
    let running = matches!(
        backup
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref()),
        Some("Running" | "Verifying")
    );
    Ok(match (context.runs.known(uid), job) {
        (Known::Queued, _) => Work::Queued,
        (Known::Here(stage), _) => Work::Going(stage),
        (Known::Ended(outcome), _) => Work::Ended(outcome),
        (Known::InJob | Known::Nothing, Some((name, run_id))) if running => {
            job::look(context, &name, &run_id).await?
        }
        _ => Work::None,
    })
}

async fn set_finalizers(
    context: &Context,
    backup: &EtcdBackup,
    finalizers: &[&str],
) -> Result<(), kube::Error> {
    let others = backup.finalizers().iter().map(String::as_str);
    let mut all: Vec<&str> = others.filter(|name| *name != FINALIZER).collect();
    all.extend(finalizers);
    let patch = json!({ "metadata": {
        "finalizers": all, "resourceVersion": backup.metadata.resource_version
    }});
    let api: Api<EtcdBackup> = context.api(&backup.namespace().unwrap_or_default());
    api.patch(
        &backup.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await?;
    Ok(())
}

/// Says of an object that does not fit its type that it is refused.
pub async fn refuse_unreadable<K>(
    context: &Context,
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    message: &str,
) -> Result<Action, kube::Error>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &resource);
    let name = metadata.name.as_deref().unwrap_or_default();
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "status": { "phase": "Rejected", "message": message, "observedGeneration": metadata.generation },
    });
    tracing::warn!(kind = %K::kind(&()), namespace, name, "{message}");
    api.patch_status(
        name,
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&patch),
    )
    .await?;
    Ok(Action::await_change())
}
