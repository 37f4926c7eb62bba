//! The labels of the metrics: bounded sets, never a backup's name.

use prometheus_client::encoding::EncodeLabelSet;

/// Labels of a backup in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackupLabels {
    /// Namespace.
    pub namespace: String,
    /// Schedule, empty for a single backup.
    pub schedule: String,
    /// Full or Incremental.
    pub mode: String,
}

/// A schedule in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ScheduleLabels {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub schedule: String,
}

impl ScheduleLabels {
    /// The labels of a schedule.
    pub fn new(namespace: &str, schedule: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            schedule: schedule.to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) mode: String,
    pub(super) status: &'static str,
}

/// A schedule with further words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WindowLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) days: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RatioLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) days: u64,
    pub(super) stat: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SourceLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DecisionLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) source: String,
    pub(super) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) namespace: String,
    pub(super) schedule: String,
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Cluster {
    pub(super) cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Mode {
    pub(super) mode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageName {
    pub(super) stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    pub(super) operation: String,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Channel {
    pub(super) channel: String,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reconcile {
    pub(super) kind: String,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Version {
    pub(super) version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Process {}

/// The labels of a backup's outcome.
pub(super) fn outcome(
    namespace: &str,
    schedule: &str,
    mode: &str,
    status: &'static str,
) -> OutcomeLabels {
    OutcomeLabels {
        namespace: namespace.to_owned(),
        schedule: schedule.to_owned(),
        mode: mode.to_owned(),
        status,
    }
}

/// What an observation points at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Exemplar {
    pub(super) trace_id: String,
}
