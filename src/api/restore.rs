//! The `EtcdRestore` resource: one restore, wanted and done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Encryption, EtcdCertificates, Hook, default_true, is_default};

/// What to restore, to which point, and where.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "etcdguardian.io",
    version = "v1alpha1",
    kind = "EtcdRestore",
    plural = "etcdrestores",
    shortname = "egr",
    category = "etcdguardian",
    namespaced,
    status = "EtcdRestoreStatus",
    derive = "PartialEq",
    doc = "One restore of an etcd cluster, or of selected objects, from a backup.",
    validation = Rule::new("self.spec == oldSelf.spec").message("spec is immutable: create a new EtcdRestore instead"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Backup", type_ = "string", json_path = ".spec.backupName"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.restoredRevision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.backupName) != has(self.snapshotLocation)").message("exactly one of backupName and snapshotLocation is needed"),
    validation = Rule::new("self.restoreMode != 'PointInTime' || (has(self.targetRevision) != has(self.targetTime))").message("restoreMode PointInTime needs exactly one of targetRevision and targetTime"),
    validation = Rule::new("self.restoreMode == 'PointInTime' || !(has(self.targetRevision) || has(self.targetTime))").message("targetRevision and targetTime go with restoreMode PointInTime")
)]
pub struct EtcdRestoreSpec {
    /// Name of an EtcdBackup in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_name: Option<String>,
    /// URL of a stored backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub snapshot_location: Option<String>,
    /// A full backup, a chain to its end, or a point in between.
    pub restore_mode: RestoreMode,
    /// Last revision to restore, with PointInTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub target_revision: Option<i64>,
    /// Last moment to restore, with PointInTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_time: Option<Timestamp>,
    /// The cluster to restore into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_cluster: Option<RestoreCluster>,
    /// Whether the cluster is stopped before its data is replaced.
    #[serde(default = "default_true")]
    pub quiesce_cluster: bool,
    /// Run in order before anything is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub pre_restore_hooks: Vec<Hook>,
    /// Run in order after the cluster is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub post_restore_hooks: Vec<Hook>,
    /// What to do about differing etcd versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_compatibility: Option<VersionCompatibility>,
    /// Restores only the objects of these namespaces, through the Kubernetes API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 63)))]
    pub namespace_filter: Vec<String>,
    /// Restores only the objects that this selects, through the Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<ObjectSelector>,
    /// With whose rights objects are restored: a service account of the same namespace.
    #[serde(default = "super::backup::default_service_account")]
    #[schemars(length(max = 253))]
    pub service_account_name: String,
    /// Whether the revision is raised above what clients have seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_policy: Option<RevisionPolicy>,
    /// How the backup is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The Velero restore that brings the volumes of the backup's pair once etcd is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velero_integration: Option<VeleroRestore>,
    /// Stop after planning.
    #[serde(default, skip_serializing_if = "is_default")]
    pub plan: bool,
}

/// The Velero restore that is made once etcd is back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VeleroRestore {
    /// Whether to create it.
    #[serde(default)]
    pub enabled: bool,
    /// Name of the Velero restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub restore_name: Option<String>,
    /// The spec of the Velero restore, as Velero has it, but for backupName; every volume (restorePVs) unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::backup::any_object")]
    pub template: Option<BTreeMap<String, serde_json::Value>>,
}

/// How far to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RestoreMode {
    /// One full backup.
    Full,
    /// A full backup and its increments to their end.
    Incremental,
    /// A revision or a moment.
    PointInTime,
}

/// Whether the revision is raised above what clients have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RevisionPolicy {
    /// The revision of the backup.
    Exact,
    /// Raised and marked compacted, so that Kubernetes' watches start anew.
    BumpAndCompact,
}

/// The cluster to restore into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreCluster {
    /// Client URLs of the members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 2048)))]
    pub endpoints: Vec<String>,
    /// Data directory of every member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub data_dir: Option<String>,
    /// Client certificates for the restored cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<EtcdCertificates>,
    /// The members, where they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub members: Vec<RestoreMemberSpec>,
    /// The StatefulSet that runs the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateful_set: Option<StatefulSetReference>,
    /// The manifest of members that run as static pods, on each of their nodes; `/etc/kubernetes/manifests/etcd.yaml` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub static_pod_manifest: Option<String>,
    /// Cluster token; a fresh one unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub initial_cluster_token: Option<String>,
}

/// One member of the restored cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.nodeName) && has(self.podName))").message("a member is named by nodeName or by podName, not by both")
)]
pub struct RestoreMemberSpec {
    /// etcd's name of the member.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The member's peer URL.
    #[serde(rename = "peerURL")]
    #[schemars(length(min = 1, max = 2048))]
    pub peer_url: String,
    /// Node that it runs on, for static pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Pod that it runs in, of a member with a claimName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_name: Option<String>,
    /// Its data directory; the cluster's unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub data_dir: Option<String>,
    /// Its volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
}

/// A StatefulSet in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What to do about differing etcd versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionCompatibility {
    /// Whether versions are compared.
    #[serde(default = "default_true")]
    pub check: bool,
    /// Whether a mismatch only warns.
    #[serde(default)]
    pub allow_mismatch: bool,
}

/// Selects objects by kind, name and label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectSelector {
    /// Kinds, as `deployments.apps`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub resources: Vec<String>,
    /// Names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 253)))]
    pub names: Vec<String>,
    /// Labels that an object must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::labels")]
    pub match_labels: BTreeMap<String, String>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EtcdRestoreStatus {
    /// Pending, Planned, Quiescing, Restoring, Validating, Completed, Failed or Aborted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Revision of the restored cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_revision: Option<i64>,
    /// Live keys of the restored cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_keys: Option<i64>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub errors: Vec<String>,
    /// When the work began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When the work ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// Succeeded, SourceResolved, Quiesced, DataRestored, ClusterHealthy, VeleroRestore.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Backups that are restored, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub resolved_chain: Vec<String>,
    /// Name of the Velero restore that brings the volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velero_restore_name: Option<String>,
    /// UID of it.
    #[serde(rename = "veleroRestoreUID", skip_serializing_if = "Option::is_none")]
    pub velero_restore_uid: Option<String>,
    /// Velero's own word on it, as `Completed` or `PartiallyFailed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velero_restore_phase: Option<String>,
    /// What the ids of the restored cluster and its members are made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_token: Option<String>,
    /// The steps and how far each got.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub steps: Vec<RestoreStep>,
}

/// One step of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreStep {
    /// What is done.
    pub name: String,
    /// Pending, Running, Done, Failed or Skipped.
    pub state: String,
    /// What came of it.
    pub message: String,
}
