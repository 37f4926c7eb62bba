//! The part of the config file that says who is told when something goes wrong.

use std::path::PathBuf;

use jiff::civil::Weekday;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HumanDuration;

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
    /// Words in place of the built-in ones, for every channel that has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<AlertTemplates>,
    /// When what is not urgent waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
    /// A summary of each week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestConfig>,
    /// A URL that is called for as long as this process works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatConfig>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            routes: Vec::new(),
            repeat_interval: default_repeat_interval(),
            resolve: true,
            templates: None,
            quiet_hours: None,
            digest: None,
            heartbeat: None,
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
    /// Words in place of the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<AlertTemplates>,
}

/// Words in place of the built-in ones, as Jinja templates over the fields of the webhook's JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertTemplates {
    /// The first line: Slack's header, the mail's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What happened, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The whole body of a webhook: JSON of the receiver's own shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// When what is not urgent waits until they are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuietHours {
    /// When they begin, `HH:MM`.
    pub from: String,
    /// When they end, `HH:MM`; on the next day when not after `from`.
    pub to: String,
    /// IANA time zone; UTC unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Days that are quiet as a whole.
    #[serde(default)]
    pub whole_days: Vec<DayOfWeek>,
    /// Severities that wait; warning and info unless set.
    #[serde(default = "default_quiet_severities")]
    pub severities: Vec<AlertSeverity>,
    /// Channels that are quiet; all unless set.
    #[serde(default)]
    pub channels: Vec<String>,
}

fn default_quiet_severities() -> Vec<AlertSeverity> {
    vec![AlertSeverity::Warning, AlertSeverity::Info]
}

/// A summary of each week: backups by level, the window that can be restored, what was saved against the cron.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DigestConfig {
    /// The day it is sent.
    #[serde(default = "default_digest_day")]
    pub day: DayOfWeek,
    /// The time of day, `HH:MM`.
    #[serde(default = "default_digest_time")]
    pub at: String,
    /// IANA time zone; UTC unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Channels that get it; all unless set.
    #[serde(default)]
    pub channels: Vec<String>,
}

fn default_digest_day() -> DayOfWeek {
    DayOfWeek::Monday
}

fn default_digest_time() -> String {
    "08:00".to_owned()
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DayOfWeek {
    /// The first day.
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The last.
    Sunday,
}

impl From<DayOfWeek> for Weekday {
    fn from(day: DayOfWeek) -> Self {
        match day {
            DayOfWeek::Monday => Self::Monday,
            DayOfWeek::Tuesday => Self::Tuesday,
            DayOfWeek::Wednesday => Self::Wednesday,
            DayOfWeek::Thursday => Self::Thursday,
            DayOfWeek::Friday => Self::Friday,
            DayOfWeek::Saturday => Self::Saturday,
            DayOfWeek::Sunday => Self::Sunday,
        }
    }
}

/// A dead man's switch: whoever answers the URL raises the alarm when it is not called any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatConfig {
    /// File with the URL.
    #[serde(rename = "urlFile")]
    pub url_file: PathBuf,
    /// How often it is called.
    #[serde(default = "default_heartbeat_interval")]
    pub interval: HumanDuration,
}

fn default_heartbeat_interval() -> HumanDuration {
    HumanDuration::from_secs(60)
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
    /// File with a secret that messages are signed with, as standardwebhooks.com says: `whsec_` and base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret_file: Option<PathBuf>,
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
