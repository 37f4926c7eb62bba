//! Outcome → message → Slack, email, webhook: deduplicated, repeated while it stands, resolved when it ends, never blocking.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::{AlertSeverity, AlertsConfig};

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A backup failed.
    BackupFailed,
    /// No verified backup within the longest interval in force.
    NotProtected,
    /// A backup is stored but its proof failed.
    VerificationFailed,
    /// The store does not answer.
    StoreUnavailable,
    /// etcd does not answer.
    EtcdUnavailable,
    /// The model gave way to the cron.
    ModelFallback,
    /// A manifest, Secret or config value is wrong.
    ConfigInvalid,
    /// A channel cannot deliver.
    ChannelDown,
}

impl Kind {
    /// How urgent it is.
    pub fn severity(self) -> AlertSeverity {
        todo!()
    }
}

/// Whom or what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The cluster's name.
    pub cluster: String,
    /// Namespace of the resource.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Channels that the resource names; all when empty.
    pub channels: Vec<String>,
}

impl Subject {
    /// A schedule, or a single backup.
    pub fn schedule(cluster: &str, namespace: &str, name: &str, channels: &[String]) -> Self {
        Self {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            channels: channels.to_vec(),
        }
    }
}

/// What a person wants to know at 03:00. Never a secret.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// What happened, in a sentence.
    pub what: String,
    /// The error's own words.
    pub error: Option<String>,
    /// The command to type next.
    pub next_step: Option<String>,
    /// When the last good backup was.
    pub last_good: Option<Timestamp>,
    /// Changes at risk.
    pub exposure: Option<f64>,
    /// When it is tried again by itself.
    pub retry_at: Option<Timestamp>,
    /// Further labelled values, as the store's URL or the revision.
    pub details: BTreeMap<String, String>,
}

/// Trouble, or its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// Who.
    pub subject: Subject,
    /// Whether the trouble is over.
    pub recovered: bool,
    /// When.
    pub at: Timestamp,
    /// The rest.
    pub facts: Facts,
}

impl Event {
    /// Something is wrong.
    pub fn trouble(kind: Kind, subject: Subject, at: Timestamp, facts: Facts) -> Self {
        Self {
            kind,
            subject,
            recovered: false,
            at,
            facts,
        }
    }

    /// It is over.
    pub fn recovered(kind: Kind, subject: Subject, at: Timestamp, facts: Facts) -> Self {
        Self {
            kind,
            subject,
            recovered: true,
            at,
            facts,
        }
    }
}

/// Hears what became of messages; the metrics do.
pub trait AlertObserver: Send + Sync {
    /// A message was delivered to a channel, or was not.
    fn sent(&self, channel: &str, ok: bool);
}

/// An alert that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What and who.
    pub event: Event,
    /// When it began.
    pub since: Timestamp,
    /// When people were last told.
    pub told: Option<Timestamp>,
}

/// A channel's health.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelHealth {
    /// Its name.
    pub name: String,
    /// When it last delivered.
    pub last_delivered: Option<Timestamp>,
    /// Why it cannot deliver now.
    pub error: Option<String>,
}

/// Takes events and tells people, in a task of its own.
#[derive(Clone)]
pub struct Alerter {}

impl Alerter {
    /// Starts the task.
    pub fn start(
        _config: AlertsConfig,
        _observer: std::sync::Arc<dyn AlertObserver>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        todo!()
    }

    /// Hands in an event; never waits.
    pub fn tell(&self, _event: Event) {
        todo!()
    }

    /// What stands now, and how the channels are.
    pub fn state(&self) -> (Vec<Standing>, Vec<ChannelHealth>) {
        todo!()
    }

    /// Delivers what is queued, for at most `limit`, then stops.
    pub async fn finish(&self, _limit: std::time::Duration) {
        todo!()
    }
}
