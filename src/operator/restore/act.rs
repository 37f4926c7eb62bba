//! What the steps of a restore do to the cluster: hooks are run, members scaled down and back, Jobs made.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::members::{self, Member};
use super::plan::When;
use super::status::Draft;
use super::{job, observe, seen};
use crate::api::{EtcdRestore, EtcdRestoreStatus};
use crate::operator::context::Context;
use crate::operator::hooks::commands_of;
use crate::operator::labels::{MANAGER, REPLICAS_ANNOTATION};
use crate::operator::lease::is_conflict;
use crate::operator::tenancy::plan::Account;
use crate::pipeline::hooks::{self, HookFailed, Told};

/// Runs the hooks before or after; whatever they say goes into their step.
pub(super) async fn run_hooks(
    context: &Context,
    restore: &EtcdRestore,
    when: When,
    draft: &mut Draft<EtcdRestoreStatus>,
) -> Result<(), HookFailed> {
    let namespace = restore.namespace().unwrap_or_default();
    let trusted = context.services.trust.covers(&namespace);
    let account = Account {
        namespace,
        name: restore.spec.service_account_name.clone(),
    };
    let commands = commands_of(&context.client, &context.config, trusted, account);
    let status = restore.status.clone().unwrap_or_default();
    let told = Told {
        stage: when.stage(),
        outcome: (when == When::After).then_some("Completed"),
        message: status.message,
        name: restore.name_any(),
        namespace: restore.namespace().unwrap_or_default(),
        cluster: context.services.cluster_name(),
        run_id: restore.uid().unwrap_or_default(),
        id: status.resolved_chain.last().cloned(),
        ..Told::default()
    };
    let said = match when {
        When::Before => hooks::before(&restore.spec.pre_restore_hooks, &told, &commands).await?,
        When::After => hooks::after(&restore.spec.post_restore_hooks, &told, &commands).await,
    };
    for warning in &said {
        context
            .event(restore, true, "HookFailed", "Restore", warning)
            .await;
    }
    let words = if said.is_empty() {
        "every hook succeeded".to_owned()
    } else {
        said.join("; ")
    };
    draft.step(when.step(), "Done", &words);
    Ok(())
}

/// Scales the members down, remembering how many there were, or back to that.
pub(super) async fn scale(
    context: &Context,
    set: &StatefulSet,
    to: Option<i32>,
) -> Result<(), kube::Error> {
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

/// What is done to each member.
pub(super) fn work<'a>(
    context: &'a Context,
    restore: &'a EtcdRestore,
    stored: &'a observe::Stored,
    members: &'a [Member],
    token: &'a str,
) -> job::Plan<'a> {
    let encryption = restore
        .spec
        .encryption
        .as_ref()
        .or(stored.encryption.as_ref());
    job::Plan {
        restore,
        config: &context.config.jobs,
        location: &stored.location,
        encryption_secret: encryption
            .filter(|encryption| encryption.enabled)
            .and_then(|encryption| encryption.encryption_secret.as_deref()),
        backup: &stored.id,
        revision: stored.revision,
        members,
        token,
    }
}

pub(super) async fn make_jobs(
    context: &Context,
    restore: &EtcdRestore,
    seen: &seen::Seen<'_>,
    members: &[Member],
) -> Result<(), kube::Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let all = members::members(&restore.spec, seen.stateful_set.as_ref()).unwrap_or_default();
    let status = restore.status.clone().unwrap_or_default();
    let Some(stored) = observe::stored(context, restore).await else {
        return Ok(());
    };
    let token = status.cluster_token.as_deref().unwrap_or_default();
    let shared = work(context, restore, &stored, &all, token);
    let maps: Api<ConfigMap> = context.api(&namespace);
    let map = job::config_map(&shared);
    let params = PatchParams::apply(MANAGER).force();
    maps.patch(&map.name_any(), &params, &Patch::Apply(&map))
        .await?;
    let jobs: Api<Job> = context.api(&namespace);
    for member in members {
        create(&jobs, &job::job_of(&shared, member)).await?;
    }
    Ok(())
}

/// Makes a Job, unless an earlier look did.
pub(super) async fn create(jobs: &Api<Job>, job: &Job) -> Result<(), kube::Error> {
    match jobs.create(&PostParams::default(), job).await {
        Err(error) if !is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}
