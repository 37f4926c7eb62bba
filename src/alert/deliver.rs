//! Delivers one message to one channel, once, within a time limit; the errors that this can have.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Outgoing, Stage};
use super::{Event, Facts, Kind, Standing, Subject, email, slack, template, webhook};
use crate::api::{AlertChannel, AlertsConfig, ErrorClass};

/// How long one attempt may take: a mail server that greylists answers within this, a dead one must not hold the lane.
pub(super) const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// Why a channel did not take a message. Never holds a URL's path, a token or a password.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The config of the channel cannot work.
    #[error("alert channel '{channel}' is set up wrongly: {problem}")]
    Config {
        /// Which channel.
        channel: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file with a secret cannot be read.
    #[error(
        "alert channel '{channel}' needs the file {}, which cannot be read: write it, or name another in the config",
        .path.display()
    )]
    File {
        /// Which channel.
        channel: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The other side answered and refused.
    #[error("alert channel '{channel}' refused the message: {answer}; {advice}")]
    Refused {
        /// Which channel.
        channel: String,
        /// What it said.
        answer: String,
        /// What to do.
        advice: String,
    },
    /// The other side wants fewer messages.
    #[error("alert channel '{channel}' is rate limited; it is tried again by itself")]
    Limited {
        /// Which channel.
        channel: String,
        /// When it may be tried again.
        retry_after: Option<Duration>,
    },
    /// The other side cannot be reached, or broke off.
    #[error(
        "alert channel '{channel}' cannot be reached: {problem}; check the address and the network"
    )]
    Unreachable {
        /// Which channel.
        channel: String,
        /// What the network said.
        problem: String,
    },
    /// No answer in time.
    #[error("alert channel '{channel}' did not answer within {seconds} s")]
    Timeout {
        /// Which channel.
        channel: String,
        /// The limit.
        seconds: u64,
    },
}

impl DeliveryError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Config { .. } => ErrorClass::Usage,
            Self::File { .. } => ErrorClass::Credentials,
            Self::Refused { .. } | Self::Limited { .. } | Self::Unreachable { .. } => {
                ErrorClass::Failed
            }
            Self::Timeout { .. } => ErrorClass::Timeout,
        }
    }

    /// The error and its causes in one line.
    pub fn words(&self) -> String {
        match self {
            Self::File { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }

    /// How long the other side asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Delivers a message. The thread is the first message of the matter on this channel; what comes back is that of this
/// message, where the channel has such a thing.
pub(super) async fn deliver(
    channel: &AlertChannel,
    outgoing: &Outgoing,
    thread: Option<&str>,
    now: Timestamp,
) -> Result<Option<String>, DeliveryError> {
    let words = || template::words(channel, outgoing, now);
    let attempt = async {
        match (&channel.slack, &channel.email, &channel.webhook) {
            (Some(slack), None, None) => slack::send(&channel.name, slack, &words()?, thread).await,
            (None, Some(email), None) => email::send(&channel.name, email, &words()?, thread).await,
            (None, None, Some(webhook)) => webhook::send(channel, webhook, outgoing, now).await,
            _ => Err(DeliveryError::Config {
                channel: channel.name.clone(),
                problem: "name exactly one of slack, email and webhook".to_owned(),
            }),
        }
    };
    match tokio::time::timeout(ATTEMPT_LIMIT, attempt).await {
        Ok(result) => result,
        Err(_) => Err(DeliveryError::Timeout {
            channel: channel.name.clone(),
            seconds: ATTEMPT_LIMIT.as_secs(),
        }),
    }
}

/// Sends a test message to a channel, or to all, and says what became of each.
pub async fn send_test(
    config: &AlertsConfig,
    channel: Option<&str>,
    cluster: &str,
    now: Timestamp,
) -> Vec<(String, Result<(), DeliveryError>)> {
    crate::init_tls();
    let chosen = config
        .channels
        .iter()
        .filter(|one| channel.is_none_or(|name| name == one.name))
        .map(|one| template::with_defaults(one, config));
    futures::future::join_all(chosen.map(|one| async move {
        let sent = deliver(&one, &test_message(&one.name, cluster, now), None, now).await;
        (one.name, sent.map(|_| ()))
    }))
    .await
}

fn test_message(channel: &str, cluster: &str, now: Timestamp) -> Outgoing {
    let facts = Facts {
        what: format!(
            "This is a test. Channel '{channel}' works; real alerts look like this one and say what happened and what to type."
        ),
        ..Facts::default()
    };
    Outgoing {
        channel: channel.to_owned(),
        stage: Stage::Test,
        standing: Standing {
            event: Event::trouble(
                Kind::ChannelDown,
                Subject::schedule(cluster, "", channel, &[]),
                now,
                facts,
            ),
            since: now,
            told: None,
            occurrences: 1,
            ended: None,
            channels: Default::default(),
        },
        recovery: None,
    }
}

/// Reads a file with a secret anew, without its line end.
pub(super) async fn secret(channel: &str, path: &Path) -> Result<String, DeliveryError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(source) => Err(DeliveryError::File {
            channel: channel.to_owned(),
            path: path.to_owned(),
            source,
        }),
    }
}

/// The innermost words of an error: network libraries wrap "connection refused" in layers that say nothing.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
