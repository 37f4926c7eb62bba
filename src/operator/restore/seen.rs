//! What is seen of a restore before it is decided what is next: its backup, its Jobs, and what the restored members say.

use k8s_openapi::api::apps::v1::StatefulSet;

use crate::api::{EtcdRestore, FieldError};

/// What was seen of the source.
#[derive(Debug, Clone)]
pub enum Source {
    /// Not looked at.
    NotLooked,
    /// It cannot be had now.
    Unknown(String),
    /// It is not there, or does not lead to the target.
    Missing(String),
    /// The ids of the backups, in order, and the etcd release that wrote the first.
    Found {
        /// Backups in order.
        chain: Vec<String>,
        /// As `3.5.9`.
        version: String,
    },
}

/// How far a member's Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// There is none.
    Absent,
    /// It works.
    Going,
    /// It is done.
    Done,
    /// It failed, and why.
    Failed(String),
}

/// What the restored members say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nobody asked, or there is nobody to ask.
    NotAsked,
    /// Not all of them answer, and what is missing.
    Waiting(String),
    /// All answer the same.
    Healthy {
        /// Their newest revision.
        revision: i64,
        /// Their hash at it.
        hash: u32,
    },
    /// They answer differently.
    Differ(String),
}

/// What was seen of a restore.
pub struct Seen<'a> {
    /// The object.
    pub restore: &'a EtcdRestore,
    /// Rules that it breaks.
    pub problems: Vec<FieldError>,
    /// Whether its namespace may use nodes' folders.
    pub trusted: bool,
    /// Whether Jobs can be made.
    pub jobs: bool,
    /// Whether the members are those of the cluster that the operator runs in: then nobody is left to work while they are stopped.
    pub own_etcd: bool,
    /// The backup.
    pub source: Source,
    /// The StatefulSet, where one is named and there.
    pub stateful_set: Option<StatefulSet>,
    /// The Jobs, one a member.
    pub states: Vec<JobState>,
    /// The Jobs that stop or start static pods in this phase, one a member of [`static_pods`](super::members::static_pods).
    pub turns: Vec<JobState>,
    /// The restored members.
    pub health: Health,
}
