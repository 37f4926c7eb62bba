//! The work itself, the same in the operator's process and in a Job: one backup through the pipeline, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use tracing::Instrument;

use super::labels::SCHEDULE_ANNOTATION;
use super::report::{Finished, Outcome};
use super::tenancy::{self, Refused, Selected};
use crate::api::{ClusterConfig, ErrorClass, EtcdBackup};
use crate::cause::with_causes;
use crate::export::ApiServer;
use crate::export::resources::Selection;
use crate::pipeline::hooks::Commands;
use crate::pipeline::{self, Completed, Progress, Recording, Request, Services, Stage};
use crate::repository::StoreObserver;
use crate::secrets::Secrets;

/// What the work needs.
pub struct Tools {
    /// Where credentials come from.
    pub secrets: Arc<dyn Secrets>,
    /// Hears of requests to the store.
    pub observer: Arc<dyn StoreObserver>,
    /// The cluster's name in manifests.
    pub cluster_name: String,
    /// The etcd, endpoints and credentials filled in.
    pub cluster: ClusterConfig,
    /// Folder for scratch files.
    pub scratch: PathBuf,
    /// Runs the commands of hooks.
    pub commands: Arc<dyn Commands>,
    /// What an incremental backup is cut from.
    pub recording: Recording,
    /// The API server, where exports come from.
    pub client: Client,
    /// Whether the object's namespace may use what is the operator's own.
    pub trusted: bool,
}

/// Makes the backup that an object wants.
pub async fn back_up(
    tools: Tools,
    backup: &EtcdBackup,
    run_id: &str,
    told: impl Fn(&str) + Send + Sync,
) -> Outcome {
    // Labels and rights move: they are asked for at each run, and the answer is what is exported.
    let export = match tenancy::selected(&tools.client, backup, tools.trusted).await {
        Ok(Selected::Everything) => Selection::default(),
        Ok(Selected::Namespaces(namespaces)) => Selection {
            namespaces,
            ..Selection::default()
        },
        Err(Refused::NotAllowed(message)) => return Outcome::Rejected { message },
        Err(Refused::Unknown(message)) => {
            return Outcome::Failed {
                reason: ErrorClass::Failed.reason().to_owned(),
                message,
            };
        }
    };
    let services = Services {
        secrets: tools.secrets,
        observer: tools.observer,
        commands: tools.commands,
        api: ApiServer::Client(tools.client),
    };
    let request = Request {
        spec: backup.spec.clone(),
        namespace: backup.namespace().unwrap_or_default(),
        name: backup.name_any(),
        schedule: backup.annotations().get(SCHEDULE_ANNOTATION).cloned(),
        run_id: run_id.to_owned(),
        cluster_name: tools.cluster_name,
        cluster: tools.cluster,
        export,
        makes_velero_pair: true,
        scratch: tools.scratch,
        started: Timestamp::now(),
    };
    let progress = Told(told);
    let work = pipeline::run_recorded(&request, &services, &progress, &tools.recording);
    match work.instrument(pipeline::span(&request)).await {
        Ok(completed) => Outcome::Completed(Box::new(finished(completed))),
        Err(error) => Outcome::Failed {
            reason: error.class().reason().to_owned(),
            message: with_causes(&error),
        },
    }
}

fn finished(completed: Completed) -> Finished {
    Finished {
        manifest: completed.manifest,
        location: completed.location,
        warnings: completed.warnings,
        stages: completed
            .stages
            .iter()
            .map(|(stage, took)| (stage.name().to_owned(), took.as_secs_f64()))
            .collect(),
        retired: completed.retired.len() as u64,
    }
}

struct Told<F>(F);

impl<F: Fn(&str) + Send + Sync> Progress for Told<F> {
    fn stage(&self, stage: Stage) {
        (self.0)(stage.name());
    }

    fn bytes(&self, _done: u64, _total: u64) {}
}
