//! The `EtcdBackupSchedule` resource: when backups are taken, and what was decided.
#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column repeats its type"
)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{EtcdBackupSpec, HumanDuration, default_true, is_default};

/// When backups are taken and what each looks like.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "etcdguardian.io",
    version = "v1alpha1",
    kind = "EtcdBackupSchedule",
    plural = "etcdbackupschedules",
    shortname = "egs",
    category = "etcdguardian",
    namespaced,
    status = "EtcdBackupScheduleStatus",
    derive = "PartialEq",
    doc = "Backups at times that a cron expression or a fitted model chooses.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(
        name = "AI",
        type_ = "boolean",
        json_path = ".spec.aiOptimization.enabled"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".status.decision.source"
    ),
    printcolumn(
        name = "Last",
        type_ = "date",
        json_path = ".status.lastSuccessfulTime"
    ),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextBackupTime"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupScheduleSpec {
    /// Five-field cron expression, or a macro such as `@hourly`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// The backup that is taken each time.
    pub backup_template: BackupTemplate,
    /// Whether nothing is taken for now.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
    /// Whether and how a model chooses the times.
    #[serde(default)]
    pub ai_optimization: AiOptimization,
    /// Time zone of the cron expression, as `Europe/Berlin`; UTC unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// Whether the first backup is taken at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub immediate: bool,
    /// A slot that is missed by more than this is not made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub starting_deadline_seconds: Option<i64>,
    /// When an incremental schedule takes a new full backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_every: Option<FullEvery>,
    /// The standing watch that records increments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    /// Restores into scratch that prove the newest backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// How many failed backups stay listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_backups_history_limit: Option<i64>,
    /// Names of the alert channels that are told; all of them unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub alerts: Vec<String>,
}

/// The backup that a schedule takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupTemplate {
    /// Labels and annotations of the created backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Their spec.
    pub spec: EtcdBackupSpec,
}

/// Labels and annotations of created objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// Whether and how a model chooses the times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AiOptimization {
    /// Off: the cron expression alone decides.
    #[serde(default)]
    pub enabled: bool,
    /// Never sooner than this after the last good backup.
    #[serde(default = "default_min_interval")]
    pub min_interval: HumanDuration,
    /// Never later than this after the last good backup.
    #[serde(default = "default_max_interval")]
    pub max_interval: HumanDuration,
    /// Where change rates come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// Name or path of the model to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub model: Option<String>,
    /// Mean exposure that is allowed, in percent of the cron's.
    #[serde(default = "default_exposure_target")]
    #[schemars(range(min = 10, max = 1000))]
    pub exposure_target_percent: i64,
    /// Never more changes than this without a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_unprotected_writes: Option<i64>,
    /// Whether the decision is revised at every sample.
    #[serde(default = "default_true")]
    pub replan: bool,
    /// Whether load peaks are avoided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub avoid_load: bool,
    /// Weight of changes by key prefix or resource, in percent; absent ones weigh 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub significance: BTreeMap<String, i64>,
}

fn default_min_interval() -> HumanDuration {
    HumanDuration::from_secs(3600)
}

fn default_max_interval() -> HumanDuration {
    HumanDuration::from_secs(6 * 3600)
}

fn default_exposure_target() -> i64 {
    100
}

impl Default for AiOptimization {
    fn default() -> Self {
        Self {
            enabled: false,
            min_interval: default_min_interval(),
            max_interval: default_max_interval(),
            prometheus: None,
            model: None,
            exposure_target_percent: default_exposure_target(),
            max_unprotected_writes: None,
            replan: true,
            avoid_load: false,
            significance: BTreeMap::new(),
        }
    }
}

/// A Prometheus server and the queries that ask it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSource {
    /// Its URL; the config's when absent, in trusted namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    /// Secret with `token`, or `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret: Option<String>,
    /// PromQL for changes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub change_rate_query: Option<String>,
    /// PromQL for the size of the database in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub db_size_query: Option<String>,
    /// PromQL for the load on etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub load_query: Option<String>,
    /// Weight of API server requests by resource, in percent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub weights: BTreeMap<String, i64>,
}

/// When an incremental schedule takes a new full backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullEvery {
    /// After so many increments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub increments: Option<i64>,
    /// When the last one that was read from etcd is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<HumanDuration>,
    /// When a restore of the chain is expected to take longer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_time: Option<HumanDuration>,
    /// Whether a chain that is long enough, or takes too long to restore, is merged into a full backup instead of reading all of etcd
    /// again: it is fetched, held to the live cluster's HashKV, and stored anew. A chain that is too old, or whose users or roles
    /// have changed, is always followed by one that is read from etcd.
    #[serde(default, skip_serializing_if = "is_default")]
    pub synthetic: bool,
}

/// The standing watch that records increments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Whether it stands.
    #[serde(default)]
    pub enabled: bool,
    /// A segment is cut when it is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_max_age: Option<HumanDuration>,
    /// A segment is cut when it is larger than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub segment_max_bytes: Option<i64>,
}

/// Restores into scratch that prove the newest backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// Cron expression of the drills.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
}

/// What was decided and done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EtcdBackupScheduleStatus {
    /// Active, Suspended or Invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// When the last backup began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup_time: Option<Timestamp>,
    /// When the next one is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_backup_time: Option<Timestamp>,
    /// When the last good one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Timestamp>,
    /// When the last proved one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verified_time: Option<Timestamp>,
    /// Earliest moment that can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable_from: Option<Timestamp>,
    /// Latest moment that can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable_to: Option<Timestamp>,
    /// Slots that passed without a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_slots: Option<i64>,
    /// The last restore drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillStatus>,
    /// The newest backups, at most twenty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub backup_history: Vec<BackupHistoryEntry>,
    /// The decision in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionStatus>,
    /// Ready, AIOptimized, Recording, Protected, StoreReachable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The last restore drill of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillStatus {
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Timestamp>,
    /// When one last proved its backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Timestamp>,
    /// Id of the newest backup that was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// Drilled when it was proved; what it was before otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Why the last one proved nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One backup of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupHistoryEntry {
    /// Name of the backup.
    pub name: String,
    /// UID of its object, empty where it has none; run id in stand-alone mode.
    pub uid: String,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// Its phase.
    pub status: String,
}

/// The decision in force: when the next backup is due, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionStatus {
    /// Cron, Reactive, Model, Guard or Fallback.
    pub source: String,
    /// Seconds from the last good backup to the planned one; absent while none is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,
    /// When the next backup is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why, in sentences.
    #[schemars(length(max = 20))]
    pub reasons: Vec<String>,
    /// Model that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Changes that would be lost if etcd died, counted in the last half hour.
    pub exposure: i64,
    /// Changes that the policy accepts to lose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<i64>,
    /// Backups saved against the cron, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_percent: Option<i64>,
    /// Mean exposure against the cron's, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure_ratio_percent: Option<i64>,
    /// What could be saved on this cluster, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub potential_percent: Option<i64>,
}
