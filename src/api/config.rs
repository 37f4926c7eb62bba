//! The config file of the binary, kind `EtcdGuardianConfig`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    EtcdAuth, EtcdBackupSpec, EtcdCertificates, HumanDuration, OperatorConfig, PrometheusSource,
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
    /// Prometheus of schedules that name none.
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

/// Who is told when something goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertsConfig {
    /// The channels.
    #[serde(default)]
    pub channels: Vec<AlertChannel>,
    /// Which channel hears of what; all of everything unless set.
    #[serde(default)]
    pub routes: Vec<AlertRoute>,
    /// How often an alert that still stands is sent again.
    #[serde(default = "default_repeat_interval")]
    pub repeat_interval: HumanDuration,
    /// Whether recovery is announced.
    #[serde(default = "super::default_true")]
    pub resolve: bool,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            routes: Vec::new(),
            repeat_interval: default_repeat_interval(),
            resolve: true,
        }
    }
}

fn default_repeat_interval() -> HumanDuration {
    HumanDuration::from_secs(4 * 3600)
}

/// One way to reach people: exactly one of Slack, email and webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertChannel {
    /// Name in routes, schedules and metrics.
    pub name: String,
    /// A Slack channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackChannel>,
    /// Email.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailChannel>,
    /// An HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookChannel>,
}

/// Slack by incoming webhook or by bot token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlackChannel {
    /// File with the URL of an incoming webhook.
    #[serde(
        default,
        rename = "webhookURLFile",
        skip_serializing_if = "Option::is_none"
    )]
    pub webhook_url_file: Option<PathBuf>,
    /// File with a bot token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Channel id or name, with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// URL of the Web API, for a proxy; Slack's own unless set.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

/// Email by SMTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailChannel {
    /// The server.
    pub smtp: SmtpConfig,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
}

/// An SMTP server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmtpConfig {
    /// Host name or address.
    pub host: String,
    /// Port; 465, 587 or 25 by `tls` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub tls: SmtpTls,
    /// File with a certificate authority that is trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File with the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_file: Option<PathBuf>,
    /// File with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// How an SMTP connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SmtpTls {
    /// From the first byte (port 465).
    Implicit,
    /// Upgraded before anything is said (port 587); refused when the server cannot.
    #[default]
    StartTLS,
    /// Not at all.
    None,
}

/// An HTTP endpoint that takes alerts as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookChannel {
    /// Where to.
    pub url: String,
    /// File with a `Name: value` header on each line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
}

/// Sends some alerts to some channels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertRoute {
    /// Schedules that this route is for; all unless set.
    #[serde(default)]
    pub schedules: Vec<String>,
    /// Severities that this route is for; all unless set.
    #[serde(default)]
    pub severities: Vec<AlertSeverity>,
    /// Channels that are told.
    pub channels: Vec<String>,
}

/// How urgent an alert is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// Good to know.
    Info,
    /// Look at it in working hours.
    Warning,
    /// Act now.
    Critical,
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
}

fn default_listen() -> String {
    "127.0.0.1:9180".to_owned()
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: default_listen(),
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

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
