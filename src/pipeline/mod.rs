//! One backup from start to end: hooks → snapshot → verify → seal → store → read back → retain → hooks.

mod bridge;
mod commit;
mod deposit;
mod error;
mod export;
mod export_changes;
pub mod fence;
pub mod hooks;
mod increment;
mod join;
mod part;
mod plan;
mod prove;
mod replicate;
mod run;
mod scratch;
mod seal_file;
mod stages;
mod synthetic;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{ClusterConfig, EtcdBackupSpec, FullEvery};
use crate::export::ApiServer;
use crate::export::bundle::About;
use crate::export::resources::Selection;
use crate::recorder::watch::{Origin, Recorder};
use crate::repository::{Kind, Manifest, StoreObserver};
use crate::secrets::Secrets;

pub use error::PipelineError;
pub use prove::{Proved, prove_drained};
pub use run::{run, run_recorded};
pub use trace::span;

/// What a pipeline needs from its surroundings.
#[derive(Clone)]
pub struct Services {
    /// Where credentials come from.
    pub secrets: Arc<dyn Secrets>,
    /// Hears of every request to the store.
    pub observer: Arc<dyn StoreObserver>,
    /// Runs the commands of hooks.
    pub commands: Arc<dyn hooks::Commands>,
    /// Where exports come from.
    pub api: ApiServer,
}

/// One backup that is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// The backup's spec.
    pub spec: EtcdBackupSpec,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The schedule that wants it.
    pub schedule: Option<String>,
    /// Identity of this attempt.
    pub run_id: String,
    /// The cluster's name in manifests and alerts.
    pub cluster_name: String,
    /// The etcd to read, endpoints and credentials filled in.
    pub cluster: ClusterConfig,
    /// What an export takes: under the operator the selected namespaces that its rights allow.
    pub export: Selection,
    /// Whether the caller makes the Velero backup that the spec asks for.
    pub makes_velero_pair: bool,
    /// Which part of it is made here.
    pub part: Part,
    /// Folder for bounded scratch files; emptied at the end, however it ends.
    pub scratch: PathBuf,
    /// When the attempt began.
    pub started: Timestamp,
}

/// Which part of a backup is made by one process: the one with the standing watch leaves what is heavy to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The increment that is due. When more than that is due, what was recorded is published, and [`PipelineError::Left`] says what
    /// remains.
    Increment,
    /// What remained: all of etcd is read, for this reason. The hooks before have run.
    Full(String),
    /// What remained: the chain as it stands becomes a full backup. The hooks before have run.
    Merge,
}

/// What incremental backups of one schedule are cut from.
#[derive(Clone, Default)]
pub struct Recording {
    /// The standing watch; without one a watch of the moment is tried, which etcd's compaction may have overtaken.
    pub recorder: Option<Arc<Recorder>>,
    /// When a new full backup is due.
    pub full_every: Option<FullEvery>,
    /// Bytes in a second that the last restore drill went at.
    pub drilled_pace: Option<f64>,
}

/// Where a recording goes on after this backup, the newest of its chain; `None` for an export, or an impossible cluster id.
pub fn origin_after(last: &Manifest) -> Option<Origin> {
    let base = match last.kind {
        Kind::Full => last.id.clone(),
        Kind::Increment => last.chain.as_ref()?.base.clone(),
        Kind::Export => return None,
    };
    Some(Origin {
        cluster_id: u64::from_str_radix(&last.cluster_id, 16).ok()?,
        base,
        parent_sha256: last.plain_sha256.clone(),
        revision: last.revision,
        covered_to: last.created,
        epoch: last.chain.as_ref().map_or(0, |chain| chain.epoch),
        auth_revision: last.auth_revision,
    })
}

/// The stages, in order; `name` is the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Hooks before.
    PreHooks,
    /// The stream from etcd.
    Snapshot,
    /// The proof of the drained file.
    Check,
    /// Compression, encryption and the upload.
    Store,
    /// The proof of what lies in the store.
    Verify,
    /// The manifest.
    Commit,
    /// Retention.
    Retain,
    /// Copies to other stores.
    Replicate,
    /// Hooks after.
    PostHooks,
}

impl Stage {
    /// The word in metrics, logs and on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreHooks => "pre-hooks",
            Self::Snapshot => "snapshot",
            Self::Check => "check",
            Self::Store => "store",
            Self::Verify => "verify",
            Self::Commit => "commit",
            Self::Retain => "retain",
            Self::Replicate => "replicate",
            Self::PostHooks => "post-hooks",
        }
    }
}

/// Hears how far a pipeline is.
pub trait Progress: Send + Sync {
    /// A stage begins.
    fn stage(&self, stage: Stage);
    /// So many bytes of so many in this stage; 0 when the total is unknown.
    fn bytes(&self, done: u64, total: u64);
}

/// A backup that is complete.
#[derive(Debug, Clone)]
pub struct Completed {
    /// Its manifest, as stored.
    pub manifest: Manifest,
    /// URL of its data.
    pub location: String,
    /// How long each stage took.
    pub stages: Vec<(Stage, Duration)>,
    /// Backups that retention deleted.
    pub retired: Vec<String>,
    /// What an export holds.
    pub export: Option<About>,
    /// Why nothing was stored: the manifest is that of the backup that holds everything already, up to this run.
    pub idle: Option<String>,
    /// The full backup that the chain was merged into.
    pub synthetic: Option<Manifest>,
    /// What went wrong without failing the backup: a hook that may fail, retention, a sweep.
    pub warnings: Vec<String>,
}
