//! The HTTP listener: metrics, health, the status page and its JSON.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api::EtcdBackupScheduleStatus;

/// Everything that the page shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusSnapshot {
    /// Version of this program.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// When the process started.
    pub started: Option<Timestamp>,
    /// When this was written.
    pub now: Option<Timestamp>,
    /// The schedules, by name.
    pub schedules: Vec<ScheduleState>,
    /// The stores.
    pub stores: Vec<StoreState>,
    /// Alerts that stand.
    pub alerts: Vec<AlertStatus>,
    /// Alert channels.
    pub channels: Vec<ChannelStatus>,
    /// What in the manifests or config is wrong.
    pub problems: Vec<String>,
}

/// A schedule as the page and `etcdguardian status` show it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleState {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The cron expression.
    pub schedule: String,
    /// Whether a model may choose the times.
    pub ai_enabled: bool,
    /// Whether a verified backup is young enough.
    pub protected: bool,
    /// Why, in a sentence.
    pub protection: String,
    /// What is running now.
    pub running: Option<String>,
    /// The resource's status.
    pub status: EtcdBackupScheduleStatus,
    /// Size of the database, bytes.
    pub db_size: Option<i64>,
    /// Newest revision.
    pub revision: Option<i64>,
    /// Where the signals come from.
    pub signal: String,
    /// What is wrong with the signals.
    pub signal_warnings: Vec<String>,
}

/// A store's health.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreState {
    /// Its URL.
    pub url: String,
    /// Whether it answered.
    pub reachable: bool,
    /// When it was last asked.
    pub checked: Option<Timestamp>,
    /// What it said.
    pub error: String,
}

/// An alert that stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertStatus {
    /// What.
    pub kind: String,
    /// Who.
    pub subject: String,
    /// How urgent.
    pub severity: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// In a sentence.
    pub what: String,
}

/// A channel's health.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// When it last delivered.
    pub last_delivered: Option<Timestamp>,
    /// Why it cannot deliver.
    pub error: Option<String>,
}

/// The metrics of docs/reference/metrics.md.
pub struct Metrics {}

/// Labels of a backup in the metrics.
#[derive(Debug, Clone)]
pub struct BackupLabels {
    /// Namespace.
    pub namespace: String,
    /// Schedule, empty for a single backup.
    pub schedule: String,
    /// Full or Incremental.
    pub mode: String,
}

impl Metrics {
    /// All families, registered; zero series exist once a schedule is known.
    pub fn new() -> Self {
        todo!()
    }

    /// A request to a store ended.
    pub fn store_request(&self, _operation: &'static str, _ok: bool) {
        todo!()
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        todo!()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A running listener.
pub struct Server {
    /// The address it listens on.
    pub address: std::net::SocketAddr,
    /// Its task.
    pub task: tokio::task::JoinHandle<()>,
}

/// Starts the listener on `listen`. `ready` says whether the loop works.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(
    _listen: &str,
    _metrics: Arc<Metrics>,
    _status: watch::Receiver<StatusSnapshot>,
    _ready: watch::Receiver<bool>,
) -> std::io::Result<Server> {
    todo!()
}
