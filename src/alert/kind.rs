//! What an alert can be about, how urgent it is, which runbook explains it, and what to type first.

use serde::{Deserialize, Serialize};

use crate::api::AlertSeverity;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// A restore drill could not prove the newest backup.
    DrillFailed,
    /// A backup is much larger or smaller than those before it let expect.
    SizeSurprise,
    /// A store that copies are kept in is not up to date.
    ReplicaBehind,
    /// The standing watch lost revisions, or its record is not what etcd holds.
    RecorderGap,
    /// A manifest, Secret or config value is wrong.
    ConfigInvalid,
    /// A channel cannot deliver.
    ChannelDown,
    /// Nothing is wrong: the summary of a week.
    Digest,
}

impl Kind {
    /// All that can be wrong.
    pub const ALL: [Self; 12] = [
        Self::BackupFailed,
        Self::NotProtected,
        Self::VerificationFailed,
        Self::StoreUnavailable,
        Self::EtcdUnavailable,
        Self::ModelFallback,
        Self::DrillFailed,
        Self::SizeSurprise,
        Self::ReplicaBehind,
        Self::RecorderGap,
        Self::ConfigInvalid,
        Self::ChannelDown,
    ];

    /// How urgent it is. One failed backup is tried again by itself and wakes nobody; being without a backup does.
    pub fn severity(self) -> AlertSeverity {
        match self {
            Self::NotProtected
            | Self::VerificationFailed
            | Self::DrillFailed
            | Self::EtcdUnavailable => AlertSeverity::Critical,
            Self::BackupFailed
            | Self::StoreUnavailable
            | Self::SizeSurprise
            | Self::ReplicaBehind
            | Self::RecorderGap
            | Self::ConfigInvalid
            | Self::ChannelDown => AlertSeverity::Warning,
            Self::ModelFallback | Self::Digest => AlertSeverity::Info,
        }
    }

    /// The CamelCase word in JSON and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::BackupFailed => "BackupFailed",
            Self::NotProtected => "NotProtected",
            Self::VerificationFailed => "VerificationFailed",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::EtcdUnavailable => "EtcdUnavailable",
            Self::ModelFallback => "ModelFallback",
            Self::DrillFailed => "DrillFailed",
            Self::SizeSurprise => "SizeSurprise",
            Self::ReplicaBehind => "ReplicaBehind",
            Self::RecorderGap => "RecorderGap",
            Self::ConfigInvalid => "ConfigInvalid",
            Self::ChannelDown => "ChannelDown",
            Self::Digest => "Digest",
        }
    }

    /// The words that open a message, in capitals of a sentence.
    pub fn headline(self) -> &'static str {
        match self {
            Self::BackupFailed => "Backup failed",
            Self::NotProtected => "Not protected",
            Self::VerificationFailed => "Backup cannot be proved",
            Self::StoreUnavailable => "Backup store does not answer",
            Self::EtcdUnavailable => "etcd does not answer",
            Self::ModelFallback => "Model gave way to the cron",
            Self::DrillFailed => "Backup does not restore",
            Self::SizeSurprise => "Backup size is unexpected",
            Self::ReplicaBehind => "Copies are behind",
            Self::RecorderGap => "Recorded changes have a hole",
            Self::ConfigInvalid => "Configuration is wrong",
            Self::ChannelDown => "Alert channel cannot deliver",
            Self::Digest => "Backups of the last week",
        }
    }

    /// Where in the project's documentation the matter is explained; shared with the Prometheus rule of the same matter.
    pub fn runbook(self) -> &'static str {
        match self {
            Self::BackupFailed => "docs/runbooks/BackupFailure.md",
            Self::NotProtected => "docs/runbooks/NoRecentBackup.md",
            Self::VerificationFailed => "docs/runbooks/ValidationFailure.md",
            Self::StoreUnavailable => "docs/runbooks/StoreUnavailable.md",
            Self::EtcdUnavailable => "docs/runbooks/EtcdUnavailable.md",
            Self::ModelFallback => "docs/runbooks/ModelFallback.md",
            Self::DrillFailed => "docs/runbooks/RestoreDrillFailed.md",
            Self::SizeSurprise => "docs/runbooks/BackupSizeSpiking.md",
            Self::ReplicaBehind => "docs/runbooks/ReplicaBehind.md",
            Self::RecorderGap => "docs/runbooks/RecorderGap.md",
            Self::ConfigInvalid => "docs/runbooks/ConfigInvalid.md",
            Self::ChannelDown => "docs/runbooks/ChannelDown.md",
            Self::Digest => "docs/reference/alerts.md",
        }
    }

    /// What to type when the event itself names no command.
    pub fn default_step(self) -> &'static str {
        match self {
            Self::BackupFailed
            | Self::StoreUnavailable
            | Self::EtcdUnavailable
            | Self::ReplicaBehind
            | Self::ConfigInvalid => "etcdguardian doctor",
            Self::NotProtected | Self::RecorderGap | Self::Digest => "etcdguardian status",
            Self::DrillFailed => "etcdguardian drill",
            Self::VerificationFailed | Self::SizeSurprise => "etcdguardian backup list",
            Self::ModelFallback => "etcdguardian schedule list",
            Self::ChannelDown => "etcdguardian doctor --send-test-alert",
        }
    }
}

/// A severity as written in routes and messages.
pub fn severity_word(severity: AlertSeverity) -> &'static str {
    match severity {
        AlertSeverity::Info => "info",
        AlertSeverity::Warning => "warning",
        AlertSeverity::Critical => "critical",
    }
}
