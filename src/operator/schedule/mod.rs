//! The controller of EtcdBackupSchedules: one task of the engine a schedule, begun, told and ended as the API server's objects
//! come, change and go.

mod host;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

pub use host::ClusterHost;

use super::backup::plan::{not_allowed, own_things};
use super::backup::refuse_unreadable;
use super::conditions::{Said, say};
use super::context::{Context, PAGE};
use super::hooks::backup_hooks;
use super::secrets::foreign_names_of_schedule;
use crate::api::{EtcdBackupSchedule, FieldError, validate_schedule};
use crate::engine::{Keeper, ResourceName, policy_of};

/// What `kubectl apply` writes for itself: the whole resource once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Follows the schedules until the process ends.
pub async fn control(context: Arc<Context>, host: Arc<ClusterHost>) {
    let api: Api<DeserializeGuard<EtcdBackupSchedule>> = Api::all(context.client.clone());
    let mut keeper = Keeper::new(Arc::clone(&context.services));
    let mut listed = BTreeSet::new();
    let mut events =
        pin!(watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff());
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the watch of EtcdBackupSchedules was interrupted");
                continue;
            }
        };
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => {
                listed.insert(name_of(&object));
                want(&context, &host, &mut keeper, object).await;
            }
            watcher::Event::InitDone => {
                let kept = std::mem::take(&mut listed);
                let gone = keeper.retain(|name| kept.contains(name));
                forget(&context, &host, &gone).await;
            }
            watcher::Event::Apply(object) => want(&context, &host, &mut keeper, object).await,
            watcher::Event::Delete(object) => {
                let name = name_of(&object);
                let gone = keeper.retain(|kept| *kept != name);
                forget(&context, &host, &gone).await;
            }
        }
    }
}

fn name_of(object: &DeserializeGuard<EtcdBackupSchedule>) -> ResourceName {
    ResourceName {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

async fn forget(context: &Context, host: &ClusterHost, gone: &[ResourceName]) {
    for name in gone {
        host.forget(name).await;
    }
    let now = jiff::Timestamp::now();
    context
        .services
        .board
        .retain(|name| !gone.contains(name), now);
}

/// Has a schedule followed, or says why it cannot be. A schedule that was changed for the worse stays in force as it was.
async fn want(
    context: &Context,
    host: &ClusterHost,
    keeper: &mut Keeper,
    object: DeserializeGuard<EtcdBackupSchedule>,
) {
    let mut schedule = match object.0 {
        Ok(schedule) => schedule,
        Err(invalid) => {
            let message = format!("the object cannot be read: {}", invalid.error);
            let refused =
                refuse_unreadable::<EtcdBackupSchedule>(context, &invalid.metadata, &message);
            if let Err(error) = refused.await {
                tracing::warn!(%error, "a status cannot be written");
            }
            context
                .services
                .metrics
                .reconciled("EtcdBackupSchedule", false);
            return;
        }
    };
    let name = ResourceName::of(&schedule);
    // A thousand of them are held in memory: without what others wrote into them.
    schedule.metadata.managed_fields = None;
    schedule.annotations_mut().remove(LAST_APPLIED);
    // Mostly it is the status that changed, which was written here.
    if keeper.follows(&name, &schedule) {
        let phase = schedule
            .status
            .as_ref()
            .and_then(|one| one.phase.as_deref());
        // A change for the worse was taken back: what was said of it holds no more.
        if phase == Some("Rejected") {
            host.say_again(&name);
            keeper.look_again(&name);
        }
        return;
    }
    let mut problems = validate_schedule(&schedule);
    problems.extend(foreign_names_of_schedule(&schedule.spec));
    problems.extend(backup_hooks(
        &schedule.spec.backup_template.spec,
        "spec.backupTemplate.spec",
    ));
    problems.extend(policy_of(&schedule.spec).err());
    if !context.services.trust.covers(&name.namespace) {
        problems.extend(not_trusted(context, &name, &schedule));
    }
    let outcome = if problems.is_empty() {
        let wanted = EtcdBackupSchedule {
            status: None,
            ..schedule.clone()
        };
        host.met(&schedule);
        keeper.want(name.clone(), wanted).await
    } else {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Err(problems.join("; "))
    };
    context
        .services
        .metrics
        .reconciled("EtcdBackupSchedule", outcome.is_ok());
    if let Err(message) = outcome {
        let stays = if keeper.keeps(&name) {
            "; the schedule stays in force as it was before"
        } else {
            ""
        };
        refuse(context, &schedule, &format!("{message}{stays}")).await;
    }
}

/// What a schedule of a namespace that is not trusted asks of the operator's own.
fn not_trusted(
    context: &Context,
    name: &ResourceName,
    schedule: &EtcdBackupSchedule,
) -> Vec<FieldError> {
    let template = &schedule.spec.backup_template.spec;
    let what = [
        ("spec.backupTemplate.spec", own_things(template)),
        (
            "spec.aiOptimization.model",
            schedule
                .spec
                .ai_optimization
                .model
                .as_ref()
                .map(|_| "a file of the operator".to_owned()),
        ),
    ];
    let mut found: Vec<FieldError> = what
        .into_iter()
        .filter_map(|(path, what)| {
            let message = not_allowed(&name.namespace, &context.namespace, &what?);
            Some(FieldError {
                path: path.to_owned(),
                message,
            })
        })
        .collect();
    let source = schedule.spec.ai_optimization.prometheus.as_ref();
    let own = context.services.config.prometheus.as_ref();
    let own = own.and_then(|own| own.url.as_deref());
    found.extend(source.and_then(|source| plan::foreign_prometheus(source, own)));
    found
}

async fn refuse(context: &Context, schedule: &EtcdBackupSchedule, message: &str) {
    let mut status = schedule.status.clone().unwrap_or_default();
    let said = Said {
        kind: "Ready",
        status: Some(false),
        reason: "SpecInvalid",
        message,
    };
    let generation = schedule.metadata.generation;
    let old = status.clone();
    say(
        &mut status.conditions,
        &said,
        generation,
        jiff::Timestamp::now(),
    );
    status.phase = Some("Rejected".to_owned());
    status.message = Some(message.to_owned());
    status.observed_generation = generation;
    if plan::says_the_same(&old, &status) {
        return;
    }
    let status = json!(status);
    if let Err(error) = context.write_status(schedule, &status, false).await {
        tracing::warn!(schedule = %schedule.name_any(), %error, "a status cannot be written");
    }
    context
        .event(schedule, true, "SpecInvalid", "Observe", message)
        .await;
}
