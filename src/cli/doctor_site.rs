//! What `doctor` tries around etcd: Prometheus, alert channels, the scratch disk.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::CliError;
use super::context::Context;
use super::doctor::Examined;
use super::output;
use crate::alert;
use crate::api::{AlertChannel, ErrorClass};
use crate::signals::{PrometheusReader, Signal, SignalError, SignalReport, Window};

/// Reads the last hour from Prometheus, when one is configured.
pub async fn prometheus(context: &Context, now: Timestamp) -> Option<Examined> {
    let source = context.config.prometheus.as_ref()?;
    let secret = match &source.credentials_secret {
        None => None,
        Some(name) => match context.secrets.read("default", name).await {
            Ok(secret) => Some(secret),
            Err(error) => return Some(Examined::of_error("prometheus", error.into())),
        },
    };
    let read = async {
        let reader = PrometheusReader::new(source, secret.as_ref())?;
        let window = Window::before(now, SignedDuration::from_hours(1), 60);
        Ok::<SignalReport, SignalError>(reader.read(&window).await?.1)
    };
    Some(match read.await {
        Ok(report) => of_report(&report),
        Err(error) => {
            let error = CliError::from_error(ErrorClass::Failed, &error);
            let fix = "mend prometheus.url and its credentials; meanwhile etcd itself is sampled";
            Examined::failed("prometheus", error.class, error.message, fix)
        }
    })
}

fn of_report(report: &SignalReport) -> Examined {
    let seen = format!(
        "{} of {} minutes of the last hour are known; what counts as a change: {}",
        report.samples,
        report.samples + report.gaps,
        report.signal
    );
    if report.signal == Signal::None {
        let fix = "let it scrape etcd's /metrics, or set changeRateQuery; meanwhile etcd itself is sampled";
        return Examined::warning("prometheus", seen, fix);
    }
    Examined::good("prometheus", seen)
}

/// Tries the alert channels: the files that they name, and a message when `test` names one, or all by being empty.
pub async fn channels(context: &Context, test: Option<&str>, now: Timestamp) -> Vec<Examined> {
    let alerts = &context.config.alerts;
    let mut checks = Vec::new();
    if alerts.channels.is_empty() {
        let fix = "add alerts.channels to the config, so that somebody hears of a failed backup";
        checks.push(Examined::warning("alerts", "there is no channel", fix));
    }
    if let Some(heartbeat) = &alerts.heartbeat {
        let message = "the file with its URL is readable; it is called while the loop works";
        let files = vec![heartbeat.url_file.clone()];
        checks.push(readable("heartbeat".to_owned(), files, message));
    }
    let Some(wanted) = test else {
        checks.extend(alerts.channels.iter().map(configured));
        return checks;
    };
    let one = Some(wanted).filter(|name| !name.is_empty());
    if let Some(name) = one
        && !alerts.channels.iter().any(|channel| channel.name == name)
    {
        let names: Vec<&str> = alerts.channels.iter().map(|c| c.name.as_str()).collect();
        checks.push(Examined::failed(
            format!("channel {name}"),
            ErrorClass::NotFound,
            "there is no such channel",
            format!("name one of: {}", names.join(", ")),
        ));
    }
    let cluster = context.config.cluster.as_ref();
    let cluster = cluster
        .and_then(|cluster| cluster.name.as_deref())
        .unwrap_or("etcd");
    for (name, sent) in alert::send_test(alerts, one, cluster, now).await {
        let name = format!("channel {name}");
        checks.push(match sent {
            Ok(()) => Examined::good(name, "a test message was delivered"),
            Err(error) => Examined::failed(
                name,
                error.class(),
                error.words(),
                "mend the channel in the config, then run 'etcdguardian doctor --send-test-alert' again",
            ),
        });
    }
    checks
}

fn configured(channel: &AlertChannel) -> Examined {
    let message = "its files are readable; nothing was sent, add --send-test-alert to try it";
    readable(
        format!("channel {}", channel.name),
        files_of(channel),
        message,
    )
}

/// Whether the files that hold secrets can be read, and hold something; else what is said of them.
fn readable(name: String, files: Vec<PathBuf>, message: &str) -> Examined {
    for file in files {
        let problem = match std::fs::read(&file) {
            Ok(content) if content.trim_ascii().is_empty() => "it is empty".to_owned(),
            Ok(_) => continue,
            Err(error) => error.to_string(),
        };
        return Examined::failed(
            name,
            ErrorClass::Credentials,
            format!("{} cannot be used: {problem}", file.display()),
            "put the secret there, readable by this user",
        );
    }
    Examined::good(name, message)
}

fn files_of(channel: &AlertChannel) -> Vec<PathBuf> {
    let slack = channel.slack.as_ref();
    let smtp = channel.email.as_ref().map(|email| &email.smtp);
    let webhook = channel.webhook.as_ref();
    [
        slack.and_then(|slack| slack.webhook_url_file.clone()),
        slack.and_then(|slack| slack.token_file.clone()),
        smtp.and_then(|smtp| smtp.ca_file.clone()),
        smtp.and_then(|smtp| smtp.username_file.clone()),
        smtp.and_then(|smtp| smtp.password_file.clone()),
        webhook.and_then(|webhook| webhook.headers_file.clone()),
        webhook.and_then(|webhook| webhook.signing_secret_file.clone()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Looks whether the disk for snapshots on their way is large enough: the plain and the sealed file lie there at once.
pub fn scratch(context: &Context, db_size: Option<u64>) -> Option<Examined> {
    let folder = context.config.state_dir.as_ref()?;
    let name = format!("disk of {}", folder.display());
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let room = rustix::fs::statvfs(there).ok()?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let Some(db_size) = db_size else {
        let message = format!(
            "{} free; how much a backup needs is not known while no etcd answers",
            output::bytes(free)
        );
        return Some(Examined::good(name, message));
    };
    let needed = db_size.saturating_mul(2);
    let message = format!(
        "{} free, a backup needs up to {}",
        output::bytes(free),
        output::bytes(needed)
    );
    Some(if free < needed {
        let fix = "free space there, or move stateDir to a larger disk";
        Examined::failed(name, ErrorClass::Failed, message, fix)
    } else {
        Examined::good(name, message)
    })
}
