//! Resources that the config's folder holds, as the chart's values name them: applied at the start, and taken away when the folder no
//! longer names them.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::context::{Context, audit};
use super::labels::MANIFEST_LABEL;
use crate::api::EtcdBackupSchedule;
use crate::cause::with_causes;
use crate::standalone::Desired;

/// The field manager of what is applied, apart from that of status.
const APPLIER: &str = "etcdguardian-manifests";

/// Applies the schedules of the folder. Trouble is logged: the resources of the API server are followed all the same.
pub async fn apply(context: &Context) {
    let config = &context.services.config;
    let Some(folder) = &config.manifests else {
        return;
    };
    let desired = Desired::load(folder, config.store.as_ref());
    for problem in &desired.problems {
        tracing::error!("{problem}");
    }
    let api: Api<EtcdBackupSchedule> = context.api(&context.namespace);
    for (name, mut schedule) in desired.schedules.clone() {
        if name.namespace != context.namespace && name.namespace != "default" {
            tracing::error!(schedule = %name, "only schedules of the operator's own namespace {} are applied", context.namespace);
            continue;
        }
        schedule.metadata.namespace = Some(context.namespace.clone());
        schedule
            .labels_mut()
            .insert(MANIFEST_LABEL.to_owned(), "true".to_owned());
        schedule.status = None;
        let params = PatchParams::apply(APPLIER).force();
        match api
            .patch(&name.name, &params, &Patch::Apply(&schedule))
            .await
        {
            Ok(applied) => audit(&applied, "create", &scope(&name.name), "applied"),
            Err(error) => {
                tracing::error!(schedule = %name, "cannot be applied: {}", with_causes(&error));
            }
        }
    }
    // A folder that cannot be understood must not take away what it used to ask for.
    if !desired.problems.is_empty() {
        return;
    }
    let labelled = ListParams::default().labels(MANIFEST_LABEL);
    let Ok(applied) = api.list(&labelled).await else {
        return;
    };
    for schedule in applied.items {
        let name = schedule.name_any();
        if desired.schedules.keys().all(|wanted| wanted.name != name) {
            tracing::info!(
                schedule = name,
                "the manifests no longer name it: it is taken away"
            );
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => audit(&schedule, "delete", &scope(&name), "deleted"),
                Err(error) => tracing::error!(
                    schedule = name,
                    "cannot be taken away: {}",
                    with_causes(&error)
                ),
            }
        }
    }
}

fn scope(schedule: &str) -> String {
    format!("EtcdBackupSchedule {schedule} of the config's manifests")
}
