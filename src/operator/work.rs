//! The work itself, the same in the operator's process and in a Job: one backup through the pipeline, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::labels::SCHEDULE_ANNOTATION;
use super::report::{Finished, Outcome};
use super::tenancy::{self, Refused, Selected};
use crate::api::{ClusterConfig, ErrorClass, EtcdBackup, FullEvery};
use crate::cause::with_causes;
use crate::export::ApiServer;
use crate::export::resources::Selection;
use crate::pipeline::hooks::Commands;
use crate::pipeline::{
    self, Completed, Part, PipelineError, Progress, Recording, Request, Services, Stage,
};
use crate::repository::{Manifest, StoreObserver};
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
    /// Which part of it is made here.
    pub part: Part,
    /// The API server, where exports come from.
    pub client: Client,
    /// Whether the object's namespace may use what is the operator's own.
    pub trusted: bool,
}

/// What a Job is told of the backup that it makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Handed {
    /// Which part of it.
    pub part: Part,
    /// When the schedule's next full backup is due.
    pub full_every: Option<FullEvery>,
    /// Bytes in a second that the schedule's last restore drill went at.
    pub drilled_pace: Option<f64>,
}

impl Handed {
    /// A part of a backup, by the rules of its schedule.
    pub fn of(part: Part, recording: &Recording) -> Self {
        Self {
            part,
            full_every: recording.full_every.clone(),
            drilled_pace: recording.drilled_pace,
        }
    }

    /// The schedule's rules where no watch stands.
    pub fn recording(&self) -> Recording {
        Recording {
            recorder: None,
            full_every: self.full_every.clone(),
            drilled_pace: self.drilled_pace,
        }
    }
}

/// Makes the backup that an object wants.
///
/// # Errors
/// The part of it that is left, where only an increment was to be made here.
pub async fn back_up(
    tools: Tools,
    backup: &EtcdBackup,
    run_id: &str,
    told: impl Fn(&str) + Send + Sync,
) -> Result<Outcome, Part> {
    // Labels and rights move: they are asked for at each run, and the answer is what is exported.
    let export = match tenancy::selected(&tools.client, backup, tools.trusted).await {
        Ok(Selected::Everything) => Selection::default(),
        Ok(Selected::Namespaces(namespaces)) => Selection {
            namespaces,
            ..Selection::default()
        },
        Err(Refused::NotAllowed(message)) => return Ok(Outcome::Rejected { message }),
        Err(Refused::Unknown(message)) => {
            return Ok(Outcome::Failed {
                reason: ErrorClass::Failed.reason().to_owned(),
                message,
            });
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
        part: tools.part,
        scratch: tools.scratch,
        started: Timestamp::now(),
    };
    let progress = Told(told);
    let work = pipeline::run_recorded(&request, &services, &progress, &tools.recording);
    match work.instrument(pipeline::span(&request)).await {
        Ok(completed) => Ok(Outcome::Completed(Box::new(finished(completed)))),
        Err(PipelineError::Left(rest)) => Err(rest),
        Err(error) => Ok(Outcome::Failed {
            reason: error.class().reason().to_owned(),
            message: with_causes(&error),
        }),
    }
}

/// What an object says of a backup that stored nothing of its own, or that made a full backup of its chain.
fn remark(idle: Option<String>, synthetic: Option<&Manifest>) -> Option<String> {
    let merged = synthetic.map(|full| format!("the chain was merged into full backup {}", full.id));
    let said: Vec<String> = idle.into_iter().chain(merged).collect();
    (!said.is_empty()).then(|| said.join("; "))
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
        retired: completed.retired,
        remark: remark(completed.idle, completed.synthetic.as_ref()),
    }
}

struct Told<F>(F);

impl<F: Fn(&str) + Send + Sync> Progress for Told<F> {
    fn stage(&self, stage: Stage) {
        (self.0)(stage.name());
    }

    fn bytes(&self, _done: u64, _total: u64) {}
}
