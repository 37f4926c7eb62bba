//! The `EtcdBackup` resource: one backup, wanted and done.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{EtcdBackupStatus, Hooks, HumanDuration, StorageLocation, default_true, is_default};

/// What to back up, where to keep it and how far to prove it.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "etcdguardian.io",
    version = "v1alpha1",
    kind = "EtcdBackup",
    plural = "etcdbackups",
    shortname = "egb",
    shortname = "etcdbkp",
    category = "etcdguardian",
    namespaced,
    status = "EtcdBackupStatus",
    derive = "PartialEq",
    doc = "One backup of an etcd cluster, or of the objects of a managed cluster.",
    validation = Rule::new("self.spec == oldSelf.spec").message("spec is immutable: create a new EtcdBackup instead"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.mode"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.etcdRevision"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.snapshotSize"),
    printcolumn(name = "Validated", type_ = "string", json_path = ".status.validationResult.level"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupSpec {
    /// Full or incremental; what was really done is in status.
    pub backup_mode: BackupMode,
    /// Client URLs of the etcd members; absent: the configured or discovered ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 2048)))]
    pub etcd_endpoints: Vec<String>,
    /// Client certificates for etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_certificates: Option<EtcdCertificates>,
    /// User name and password for etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_auth: Option<EtcdAuth>,
    /// Whether to read etcd itself or the Kubernetes API.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "Auto"))]
    pub source: Source,
    /// Where the backup is kept; in stand-alone mode the config's store when absent.
    pub storage_location: StorageLocation,
    /// Client-side encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// Compression of what is stored.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "Zstd"))]
    pub compression: Compression,
    /// How far the backup is proved.
    #[serde(default)]
    pub validation: Validation,
    /// Which backups are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<RetentionPolicy>,
    /// Further stores that every backup is copied to, as in another region or cloud.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub replicate_to: Vec<Replica>,
    /// Backs up only the objects of the selected namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// Which resources an export takes, where it is not all but those that others derive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_resources: Option<ExportResources>,
    /// Whose rights bound a tenant's export.
    #[serde(default = "default_service_account")]
    #[schemars(length(max = 253))]
    pub service_account_name: String,
    /// What runs before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// The Velero backup that accompanies this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velero_integration: Option<VeleroIntegration>,
    /// What happens to the stored backup when this object is deleted.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "Retain"))]
    pub deletion_policy: DeletionPolicy,
    /// How long the work may take, in seconds.
    #[serde(default = "default_deadline_seconds")]
    #[schemars(range(min = 1, max = 604800))]
    pub active_deadline_seconds: i64,
    /// Where the work runs under the operator.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "Job"))]
    pub executor: Executor,
    /// Accepted for old manifests; use an EtcdBackupSchedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub schedule: Option<String>,
}

/// An object of somebody else's making, kept as it is.
pub(super) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

pub(super) fn default_service_account() -> String {
    "default".to_owned()
}

fn default_deadline_seconds() -> i64 {
    3600
}

/// Full or incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum BackupMode {
    /// The whole database.
    Full,
    /// What changed since the last backup of the chain.
    Incremental,
}

/// Where a backup is read from.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Source {
    /// etcd where an endpoint is configured or found, else the Kubernetes API.
    #[default]
    Auto,
    /// etcd.
    Direct,
    /// An export through the Kubernetes API.
    Proxy,
}

/// Names of Secrets with etcd's client certificates: each `SECRET` or `SECRET/KEY`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdCertificates {
    /// One Secret with the keys `ca.crt`, `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// Certificate authority; key `ca.crt` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub ca: Option<String>,
    /// Client certificate; key `tls.crt` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub cert: Option<String>,
    /// Client key; key `tls.key` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub key: Option<String>,
}

/// etcd's own user and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdAuth {
    /// Secret with the keys `username` and `password`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// Client-side encryption: exactly one of a key management key and a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.enabled || (has(self.kmsKeyID) != has(self.encryptionSecret))").message("encryption.enabled needs exactly one of kmsKeyID and encryptionSecret"))]
pub struct Encryption {
    /// Whether backups are encrypted before they leave the process.
    #[serde(default)]
    pub enabled: bool,
    /// AWS (`arn:aws:kms:…`) or Alibaba (`acs:kms:…`) key that wraps the data key.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key_id: Option<String>,
    /// Secret with the key `recipients` (age public keys) or `passphrase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub encryption_secret: Option<String>,
}

/// Resources of an export, as `events` or `widgets.example.com`: only some, or not some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.include) || !(has(self.exclude) || has(self.add))").message("exportResources takes include alone, or exclude and add"))]
pub struct ExportResources {
    /// Only these, also such as are left out unless they are named (events, leases, endpoint slices and other derived ones).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub include: Vec<String>,
    /// These are left out besides the derived ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub exclude: Vec<String>,
    /// Of the derived ones these are taken, besides all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub add: Vec<String>,
}

/// Compression of what is stored.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Compression {
    /// Zstandard, level 1: the database compresses threefold at disk speed.
    #[default]
    Zstd,
    /// As etcd sent it.
    None,
}

/// How far a backup is proved before it counts as completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Read back from the store: digest, pages and rows.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// Compare its HashKV with the live cluster's.
    #[serde(default = "default_true")]
    pub consistency_check: bool,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            enabled: true,
            consistency_check: true,
        }
    }
}

/// A further store, with a retention of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Where the copies are kept.
    pub storage_location: StorageLocation,
    /// Which copies are kept; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<RetentionPolicy>,
}

/// Which backups are kept: a backup goes when no rule keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_backups: Option<i64>,
    /// Those younger than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<HumanDuration>,
    /// The newest of each of the last so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub keep_hourly: Option<i64>,
    /// The newest of each of the last so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub keep_daily: Option<i64>,
    /// The newest of each of the last so many weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub keep_weekly: Option<i64>,
    /// The newest of each of the last so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub keep_monthly: Option<i64>,
}

/// Selects namespaces by label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that a namespace must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Expressions that a namespace's labels must satisfy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::bounds::label_expressions")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// The Velero backup that accompanies this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VeleroIntegration {
    /// Whether to create it.
    #[serde(default)]
    pub enabled: bool,
    /// Name of the Velero backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_name: Option<String>,
    /// Velero's namespace; `velero` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// The spec of the Velero backup, as Velero has it; everything, with volumes, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub template: Option<BTreeMap<String, serde_json::Value>>,
}

/// What happens to the stored backup when its object is deleted.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum DeletionPolicy {
    /// It stays in the store.
    #[default]
    Retain,
    /// It is deleted too.
    Delete,
}

/// Where the work runs under the operator.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Executor {
    /// In a Kubernetes Job of its own.
    #[default]
    Job,
    /// In the operator's process.
    InProcess,
}
