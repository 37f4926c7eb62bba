//! The HTTP listener: metrics, health, the status page and its JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::{ChannelHealth, Standing, severity_word};
use crate::api::EtcdBackupScheduleStatus;
use crate::schedule::size::Expected;
use crate::snapshot::Share;

mod auth;
mod brief;
mod exposition;
mod families;
mod http;
mod labels;
mod metrics;
mod series;
mod verdict;

pub use families::{CONTENT_TYPE, Metrics};
pub use http::{ListenError, Server, start};
pub use labels::{BackupLabels, ScheduleLabels};
pub use metrics::Took;
pub use verdict::{Verdict, verdict};

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
    /// The schedules, by name. Shared: a thousand of them are held once, however often the whole is published.
    #[serde(with = "shared")]
    pub schedules: Vec<Arc<ScheduleState>>,
    /// The stores.
    pub stores: Vec<StoreState>,
    /// Alerts that stand.
    pub alerts: Vec<AlertStatus>,
    /// Alerts that are over, the newest first; the last few.
    pub past_alerts: Vec<AlertStatus>,
    /// Alert channels.
    pub channels: Vec<ChannelStatus>,
    /// What in the manifests or config is wrong.
    pub problems: Vec<String>,
}

/// Shared values as the values themselves.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(
        all: &[Arc<T>],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(Arc::as_ref))
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Arc<T>>, D::Error> {
        let all = Vec::<T>::deserialize(from)?;
        Ok(all.into_iter().map(Arc::new).collect())
    }
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
    /// Until when that holds without a new backup.
    pub protected_until: Option<Timestamp>,
    /// Why, in a sentence.
    pub protection: String,
    /// What is expected of the next backup's size and duration.
    pub expected: Option<Expected>,
    /// What is running now.
    pub running: Option<String>,
    /// What decided when the next backup comes, and why, in a sentence.
    pub why: String,
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
    /// The newest backups in the store, newest first, and failed attempts between them.
    pub backups: Vec<BackupState>,
    /// Past change rates, oldest first.
    pub rates: Vec<RatePoint>,
    /// Forecast change rates.
    pub forecast: Vec<RatePoint>,
    /// What came of the backups of the last weeks, a day each, oldest first.
    pub days: Vec<DayTally>,
    /// When the plain cron would have run and will run, over the span of the rates and a day ahead.
    pub cron_slots: Vec<Timestamp>,
    /// Full backups with the increments on each, newest first; none without increments.
    pub chains: Vec<ChainState>,
    /// Stretches between them of which nothing can be restored, newest first.
    pub holes: Vec<HoleState>,
    /// What fills the database.
    pub fills: Option<Fills>,
    /// The last restore drills, newest first.
    pub drills: Vec<DrillState>,
    /// When the next drill is due.
    pub next_drill: Option<Timestamp>,
}

/// A full backup and the increments that follow on it without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChainState {
    /// Id of the full backup.
    pub base: String,
    /// The moment of the full backup.
    pub from: Timestamp,
    /// The last moment that the chain reaches.
    pub to: Timestamp,
    /// Revision of the full backup.
    pub first: i64,
    /// Last revision of the chain.
    pub last: i64,
    /// Increments on the full backup.
    pub increments: u64,
    /// Stored bytes of all of it.
    pub stored_size: u64,
    /// The lowest level in it.
    pub level: String,
    /// Increments of the same full backup that cannot be reached: one before them is missing.
    pub cut_off: u64,
}

/// A stretch of time of which nothing can be restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HoleState {
    /// The last moment before it.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
    /// What is lost by it, in a sentence.
    pub what: String,
}

/// What fills the database, from the proof of a full backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fills {
    /// Id of the backup.
    pub backup: String,
    /// When it was taken.
    pub time: Timestamp,
    /// The kinds of objects, the largest first; all other keys last, under an empty prefix.
    pub shares: Vec<Share>,
}

/// A restore drill that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillState {
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Id of the newest backup of the chain.
    pub backup: String,
    /// Drilled, or what the backup was before.
    pub level: String,
    /// Why it proved nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What came of a day's backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DayTally {
    /// The day in UTC, `YYYY-MM-DD`.
    pub day: String,
    /// Good backups by the level that they had when they ended.
    pub levels: BTreeMap<String, u64>,
    /// Attempts that failed.
    pub failed: u64,
}

/// A backup, or an attempt that failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupState {
    /// Its id in the catalogue; the attempt's name when it failed.
    pub id: String,
    /// When the snapshot was taken.
    pub time: Option<Timestamp>,
    /// Full, Increment or Export.
    pub kind: String,
    /// Stored, Verified, Consistent, Drilled; empty when it failed.
    pub level: String,
    /// Last revision in it.
    pub revision: i64,
    /// Bytes before compression.
    pub size: u64,
    /// Stored bytes.
    pub stored_size: u64,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A change rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RatePoint {
    /// When it begins.
    pub at: Timestamp,
    /// Changes a second.
    pub rate: f64,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// The command to type next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// When people were last told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Timestamp>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl From<&Standing> for AlertStatus {
    fn from(standing: &Standing) -> Self {
        let Standing {
            event,
            since,
            told,
            ended,
            ..
        } = standing;
        Self {
            kind: event.kind.word().to_owned(),
            subject: event.subject.path(),
            severity: severity_word(event.kind.severity()).to_owned(),
            since: Some(*since),
            what: event.facts.what.clone(),
            next_step: Some(event.next_step().to_owned()),
            told: *told,
            ended: ended.as_ref().map(|end| end.at),
        }
    }
}

/// A channel's health.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// When it last delivered.
    pub last_delivered: Option<Timestamp>,
    /// Why it cannot deliver.
    pub error: Option<String>,
}

impl From<&ChannelHealth> for ChannelStatus {
    fn from(health: &ChannelHealth) -> Self {
        Self {
            name: health.name.clone(),
            last_delivered: health.last_delivered,
            error: health.error.clone(),
        }
    }
}
