//! The config file of the binary, kind `EtcdGuardianConfig`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AlertsConfig, EtcdAuth, EtcdBackupSpec, EtcdCertificates, OperatorConfig, PrometheusSource,
    StorageLocation,
};

/// Everything that is not said in a resource: the cluster, default store, alerts, listener, folders.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdGuardianConfig {
    /// `etcdguardian.io/v1alpha1`, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `EtcdGuardianConfig`, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The etcd cluster of resources that name no endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
    /// Prometheus of schedules that name none; under the operator of those in trusted namespaces alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// Store of resources that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StorageLocation>,
    /// Who is told when something goes wrong.
    #[serde(default)]
    pub alerts: AlertsConfig,
    /// The HTTP listener.
    #[serde(default)]
    pub serve: ServeConfig,
    /// How restore drills are done.
    #[serde(default)]
    pub drill: DrillConfig,
    /// Folder for state that survives restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// Folder of resource YAML that stand-alone mode watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<PathBuf>,
    /// Folder with a folder per Secret and a file per key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_dir: Option<PathBuf>,
    /// What concerns the operator alone.
    #[serde(default)]
    pub operator: OperatorConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces of backups.
    #[serde(default)]
    pub tracing: TracingConfig,
}

/// An etcd cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfig {
    /// Name in metrics, alerts and pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Client URLs of the members.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Names of Secrets, or paths of files, with the client certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<EtcdCertificates>,
    /// User name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<EtcdAuth>,
}

impl ClusterConfig {
    /// The etcd of a backup: its own endpoints and credentials, each absent one taken from here.
    #[must_use]
    pub fn for_backup(mut self, spec: &EtcdBackupSpec) -> Self {
        if !spec.etcd_endpoints.is_empty() {
            self.endpoints.clone_from(&spec.etcd_endpoints);
        }
        if spec.etcd_certificates.is_some() {
            self.certificates.clone_from(&spec.etcd_certificates);
        }
        if spec.etcd_auth.is_some() {
            self.auth.clone_from(&spec.etcd_auth);
        }
        self
    }
}

/// How restore drills are done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillConfig {
    /// The etcd that is booted on a restored backup; the one of `PATH`, if there is one, unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_binary: Option<PathBuf>,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServeConfig {
    /// Address and port of metrics, health and status page; empty switches it off.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// File with a token that the page, its JSON and the metrics are shown for; to all unless set. Health is always shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

fn default_listen() -> String {
    "127.0.0.1:9180".to_owned()
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: default_listen(),
            token_file: None,
        }
    }
}

/// Logging.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogConfig {
    /// Filter in tracing's syntax, as `info` or `etcdguardian=debug`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Text for people or JSON for machines.
    #[serde(default)]
    pub format: LogFormat,
}

/// Traces of backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TracingConfig {
    /// Base URL of a collector that takes OTLP over HTTP, as `http://otel-collector:4318`; none unless set. The environment's
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
