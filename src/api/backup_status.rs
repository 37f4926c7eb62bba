//! What is known of an `EtcdBackup`: what was done, and how far it is proved.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EtcdBackupStatus {
    /// Pending, Running, Verifying, TriggeringVelero, Completed, Failed or Rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Stored bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_size: Option<i64>,
    /// URL of the stored backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_location: Option<String>,
    /// Last revision in the backup, read from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_revision: Option<i64>,
    /// How far it is proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_result: Option<ValidationResult>,
    /// When the work began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When the work ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// Name of the accompanying Velero backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velero_backup_name: Option<String>,
    /// UID of the accompanying Velero backup.
    #[serde(rename = "veleroBackupUID", skip_serializing_if = "Option::is_none")]
    pub velero_backup_uid: Option<String>,
    /// Velero's own word on its backup, as `Completed` or `PartiallyFailed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velero_backup_phase: Option<String>,
    /// Where Velero's half lies: bucket and prefix of its storage location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velero_backup_location: Option<String>,
    /// The contract with tools: Succeeded, SnapshotTaken, Stored, Verified, VeleroBackup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Identity of the run that made it.
    #[serde(rename = "runID", skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Full or Incremental, as done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Full, Increment or Export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The full backup that an increment builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// First revision of an increment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_revision: Option<i64>,
    /// etcd's cluster id, hexadecimal.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Version of the member that it was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_version: Option<String>,
    /// Live keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_count: Option<i64>,
    /// Bytes before compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_size: Option<i64>,
    /// SHA-256 of the snapshot, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// HashKV at the backup's revision.
    #[serde(rename = "hashKV", skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<i64>,
    /// Compact revision of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// Id in the catalogue.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The moment that it holds: when the snapshot was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// Attempts that were begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    /// When a failed attempt is followed by the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Timestamp>,
    /// The Kubernetes Job that does the work, `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// What went wrong without failing it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How far a backup is proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ValidationResult {
    /// Whether every check that was asked for passed.
    pub valid: bool,
    /// SHA-256 of the snapshot, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Stored, Verified, Consistent or Drilled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}
