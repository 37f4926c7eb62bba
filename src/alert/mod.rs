//! Outcome → message → Slack, email, webhook: deduplicated, repeated while it stands, resolved when it ends, never blocking.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod deliver;
mod email;
mod heartbeat;
mod kind;
mod lane;
mod message;
mod plan;
mod quiet;
mod run;
mod signature;
mod slack;
mod template;
#[cfg(test)]
mod tests;
mod webhook;

pub use deliver::{DeliveryError, send_test};
pub use heartbeat::Heartbeat;
pub use kind::{Kind, severity_word};
pub use message::Message;
pub use plan::{Outgoing, Stage, State};
pub use run::Alerter;

/// Whom or what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

    /// `namespace/name` as people read it; the bare name, or the cluster, where there is no more.
    pub fn path(&self) -> String {
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => self.cluster.clone(),
            ("", name) => name.to_owned(),
            (namespace, "") => namespace.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

/// What a person wants to know at 03:00. Never a secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

    /// The command to type next.
    pub fn next_step(&self) -> &str {
        self.facts
            .next_step
            .as_deref()
            .unwrap_or_else(|| self.kind.default_step())
    }

    /// What makes two events the same matter: the kind and the subject, whatever channels it names today.
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind,
            cluster: self.subject.cluster.clone(),
            namespace: self.subject.namespace.clone(),
            name: self.subject.name.clone(),
        }
    }
}

/// The identity of a matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    kind: Kind,
    cluster: String,
    namespace: String,
    name: String,
}

/// Hears what became of messages; the metrics do.
pub trait AlertObserver: Send + Sync {
    /// A channel is known.
    fn expects(&self, channel: &str);
    /// A message was delivered to a channel, or was not.
    fn sent(&self, channel: &str, ok: bool);
}

/// An alert that stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// What and who; the facts are the newest.
    pub event: Event,
    /// When it began.
    pub since: Timestamp,
    /// When people were last told.
    pub told: Option<Timestamp>,
    /// How often it was reported since it began.
    pub occurrences: u64,
    /// Its end, while the channels that are left wait for their quiet hours to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Event>,
    /// The channels that heard of it.
    #[serde(default)]
    pub channels: BTreeMap<String, Told>,
}

/// That a channel heard of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// When it last heard.
    pub at: Timestamp,
    /// The first message, to which later ones reply: Slack's `ts`, an email's Message-ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
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
