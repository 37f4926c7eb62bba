//! One content for every channel: what happened, where, since when, what is at risk, what to type next. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::kind::severity_word;
use super::plan::{Outgoing, Stage};
use crate::api::AlertSeverity;

/// A message as every channel renders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Why it is sent.
    pub stage: Stage,
    /// How urgent the matter is.
    pub severity: AlertSeverity,
    /// The first line, complete by itself: a phone shows no more.
    pub title: String,
    /// What happened, in a sentence.
    pub what: String,
    /// Labelled values, most important first.
    pub lines: Vec<Line>,
    /// The error's own words.
    pub error: Option<String>,
    /// The command to type; none when it is over.
    pub next_step: Option<String>,
    /// Path of the runbook.
    pub runbook: String,
}

/// A labelled value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is.
    pub label: String,
    /// The value, for people.
    pub value: String,
}

/// The longest error that a message carries; the whole is in the log.
const ERROR_LIMIT: usize = 1500;
/// The longest value of a line.
const VALUE_LIMIT: usize = 500;

impl Message {
    /// Renders a message as of `now`.
    pub fn new(outgoing: &Outgoing, now: Timestamp) -> Self {
        let standing = &outgoing.standing;
        let event = &standing.event;
        let newest = outgoing.recovery.as_ref().unwrap_or(event);
        let facts = &newest.facts;
        let over = outgoing.stage == Stage::Recovered;
        let stood = span(newest.at.max(standing.since).duration_since(standing.since));
        let place = place(&event.subject.cluster, &event.subject.path());
        let headline = event.kind.headline();
        let title = match outgoing.stage {
            Stage::New => format!("{headline}: {place}"),
            Stage::Repeat => format!(
                "Still standing after {}: {headline}: {place}",
                span(now.duration_since(standing.since))
            ),
            Stage::Recovered => format!("Recovered after {stood}: {headline}: {place}"),
            Stage::Test => format!("Test alert from etcdguardian: {place}"),
            Stage::Digest => format!("Backups of the last week: {place}"),
        };
        let mut lines = Vec::new();
        let mut line = |label: &str, value: String| {
            lines.push(Line {
                label: label.to_owned(),
                value: clipped(&value, VALUE_LIMIT),
            });
        };
        if !event.subject.cluster.is_empty() {
            line("Cluster", event.subject.cluster.clone());
        }
        if !event.subject.name.is_empty() && outgoing.stage != Stage::Digest {
            line("Name", event.subject.path());
        }
        match outgoing.stage {
            Stage::Test | Stage::Digest => {}
            Stage::Recovered => {
                line("Began", moment(standing.since, now));
                line("Ended", moment(newest.at, now));
            }
            Stage::New | Stage::Repeat => line("Since", moment(standing.since, now)),
        }
        if standing.occurrences > 1 {
            line("Reported", format!("{} times", standing.occurrences));
        }
        match facts.last_good {
            Some(at) => line("Last good backup", moment(at, now)),
            None if !over && is_about_backups(outgoing) => {
                line("Last good backup", "none known".to_owned());
            }
            None => {}
        }
        if let Some(changes) = facts.exposure.filter(|changes| changes.is_finite()) {
            line("Changes at risk", grouped(changes));
        }
        if let (Some(at), false) = (facts.retry_at, over) {
            let soon = at.duration_since(now) < SignedDuration::from_secs(1);
            let next = if soon {
                "at once".to_owned()
            } else {
                moment(at, now)
            };
            line("Next attempt", next);
        }
        for (label, value) in &facts.details {
            line(label, value.clone());
        }
        Self {
            stage: outgoing.stage,
            severity: event.kind.severity(),
            title: one_line(&title),
            what: one_line(if facts.what.is_empty() {
                headline
            } else {
                &facts.what
            }),
            lines,
            error: facts
                .error
                .as_deref()
                .filter(|_| !over)
                .map(|error| clipped(error, ERROR_LIMIT)),
            next_step: matches!(outgoing.stage, Stage::New | Stage::Repeat)
                .then(|| event.next_step().to_owned()),
            runbook: event.kind.runbook().to_owned(),
        }
    }

    /// The word that says how urgent it is, or that it is over.
    pub fn status(&self) -> &'static str {
        match self.stage {
            Stage::Recovered => "recovered",
            Stage::Test => "test",
            Stage::Digest => "digest",
            Stage::New | Stage::Repeat => severity_word(self.severity),
        }
    }

    /// Whether something is wrong.
    pub fn is_trouble(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Repeat)
    }

    /// The message as plain text, readable in a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n", self.title, self.what);
        let width = self
            .lines
            .iter()
            .map(|line| line.label.chars().count())
            .max()
            .unwrap_or(0);
        for Line { label, value } in &self.lines {
            text.push_str(&format!("  {label:<width$}  {}\n", one_line(value)));
        }
        if let Some(step) = &self.next_step {
            text.push_str(&format!("\nType next:\n  {step}\n"));
        }
        if let Some(error) = &self.error {
            text.push_str("\nError:\n");
            for row in error.lines() {
                text.push_str(&format!("  {row}\n"));
            }
        }
        if self.is_trouble() {
            text.push_str(&format!("\nRunbook: {}\n", self.runbook));
        }
        text
    }
}

fn is_about_backups(outgoing: &Outgoing) -> bool {
    use super::Kind::{BackupFailed, NotProtected, VerificationFailed};
    !matches!(outgoing.stage, Stage::Test | Stage::Digest)
        && matches!(
            outgoing.standing.event.kind,
            BackupFailed | NotProtected | VerificationFailed
        )
}

fn place(cluster: &str, path: &str) -> String {
    match (cluster.is_empty(), cluster == path) {
        (true, _) | (_, true) => path.to_owned(),
        _ => format!("{path} on {cluster}"),
    }
}

/// A moment in UTC and relative to now: a tired reader should not have to subtract.
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    let distance = now.duration_since(at);
    let relative = if distance.as_secs().abs() < 1 {
        "now".to_owned()
    } else if distance.is_negative() {
        format!("in {}", span(distance.abs()))
    } else {
        format!("{} ago", span(distance))
    };
    format!("{} ({relative})", at.strftime("%Y-%m-%d %H:%M:%S UTC"))
}

/// A duration in its two largest units: `3d 4h`, `12m 5s`.
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.abs().as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts
        .iter()
        .position(|(count, _)| *count > 0)
        .unwrap_or(parts.len() - 1);
    parts
        .iter()
        .skip(first)
        .take(2)
        .enumerate()
        .filter(|(place, (count, _))| *place == 0 || *count > 0)
        .map(|(_, (count, unit))| format!("{count}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A count with its thousands set apart.
fn grouped(count: f64) -> String {
    let digits = format!("{:.0}", count.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// At most `limit` characters, and says so.
pub fn clipped(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}… (shortened)", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Control characters and line ends become blanks: nothing may forge a header or a line.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .collect::<String>()
        .trim()
        .to_owned()
}
