//! Checks the alerts part of the config: each finding names the field and what to write.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::validate::Findings;
use super::{AlertTemplates, AlertsConfig, SmtpTls};

/// Services that watch heartbeats limit how often they may be called.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) fn alerts(found: &mut Findings, config: &AlertsConfig) {
    let mut names = std::collections::BTreeSet::new();
    for (index, channel) in config.channels.iter().enumerate() {
        let path = format!("alerts.channels[{index}]");
        if !names.insert(channel.name.as_str()) {
            found.push(
                format!("{path}.name"),
                format!("'{}' is used twice", channel.name),
            );
        }
        let kinds = usize::from(channel.slack.is_some())
            + usize::from(channel.email.is_some())
            + usize::from(channel.webhook.is_some());
        if kinds != 1 {
            found.push(&path, "needs exactly one of slack, email and webhook");
        }
        if let Some(slack) = &channel.slack {
            if slack.webhook_url_file.is_some() == slack.token_file.is_some() {
                let at = format!("{path}.slack");
                found.push(at, "needs exactly one of webhookURLFile and tokenFile");
            }
            if slack.token_file.is_some() && slack.channel.is_none() {
                found.push(
                    format!("{path}.slack.channel"),
                    "is required with tokenFile",
                );
            }
        }
        if channel.webhook.is_none() && channel.templates.as_ref().is_some_and(|t| t.body.is_some())
        {
            let at = format!("{path}.templates.body");
            found.push(at, "is for webhooks: Slack and email have title and what");
        }
        templates(found, &path, channel.templates.as_ref());
        if let Some(email) = &channel.email {
            if email.to.is_empty() {
                found.push(format!("{path}.email.to"), "needs at least one recipient");
            }
            let smtp = &email.smtp;
            if smtp.username_file.is_some() != smtp.password_file.is_some() {
                let at = format!("{path}.email.smtp");
                found.push(
                    at,
                    "needs both of usernameFile and passwordFile, or neither",
                );
            }
            if smtp.tls == SmtpTls::None && smtp.password_file.is_some() {
                let at = format!("{path}.email.smtp.tls");
                found.push(
                    at,
                    "None would send the password in clear: use StartTLS or Implicit",
                );
            }
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        for name in &route.channels {
            if !names.contains(name.as_str()) {
                let at = format!("alerts.routes[{index}].channels");
                found.push(at, format!("'{name}' is not the name of a channel"));
            }
        }
    }
    let mut known = |at: &str, channels: &[String]| {
        for name in channels
            .iter()
            .filter(|name| !names.contains(name.as_str()))
        {
            found.push(at, format!("'{name}' is not the name of a channel"));
        }
    };
    if let Some(quiet) = &config.quiet_hours {
        known("alerts.quietHours.channels", &quiet.channels);
    }
    if let Some(digest) = &config.digest {
        known("alerts.digest.channels", &digest.channels);
    }
    templates(found, "alerts", config.templates.as_ref());
    if let Some(quiet) = &config.quiet_hours {
        time_of_day(found, "alerts.quietHours.from", &quiet.from);
        time_of_day(found, "alerts.quietHours.to", &quiet.to);
        zone(
            found,
            "alerts.quietHours.timeZone",
            quiet.time_zone.as_deref(),
        );
    }
    if let Some(digest) = &config.digest {
        time_of_day(found, "alerts.digest.at", &digest.at);
        zone(found, "alerts.digest.timeZone", digest.time_zone.as_deref());
    }
    if let Some(heartbeat) = &config.heartbeat
        && heartbeat.interval.as_std() < SHORTEST_HEARTBEAT
    {
        found.push("alerts.heartbeat.interval", "is at least 10s");
    }
}

fn templates(found: &mut Findings, path: &str, templates: Option<&AlertTemplates>) {
    let Some(AlertTemplates { title, what, body }) = templates else {
        return;
    };
    for (name, template) in [("title", title), ("what", what), ("body", body)] {
        if let Some(template) = template
            && let Err(error) = minijinja::Environment::new().template_from_str(template)
        {
            found.push(
                format!("{path}.templates.{name}"),
                format!("is no template: {error}"),
            );
        }
    }
}

fn time_of_day(found: &mut Findings, path: &str, text: &str) {
    if parse_time_of_day(text).is_none() {
        found.push(
            path,
            format!("'{text}' is not a time of day: write HH:MM, such as 22:00"),
        );
    }
}

fn zone(found: &mut Findings, path: &str, name: Option<&str>) {
    if parse_zone(name).is_none() {
        let name = name.unwrap_or_default();
        let words = format!("'{name}' is not a time zone: use an IANA name such as Europe/Berlin");
        found.push(path, words);
    }
}

/// Reads `HH:MM`.
pub fn parse_time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| {
        (digits.len() == 2)
            .then(|| digits.parse::<i8>().ok())
            .flatten()
    };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

/// Reads an IANA time zone; UTC for none.
pub fn parse_zone(name: Option<&str>) -> Option<TimeZone> {
    name.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())
}
