//! `status`: one screen that says whether the cluster is protected, since when, and when the next backup is due.

use std::process::ExitCode;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::context::Context;
use super::output;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::engine::StateDir;
use crate::records::read_record;
use crate::serve::{ScheduleState, StatusSnapshot};

/// The running loop writes its status more often than this.
const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// Say whether the cluster is protected; exits 3 when a schedule is not.
#[derive(Debug, Args)]
pub struct Status {}

/// The status as JSON: what the page shows, judged anew at this moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Screen {
    protected: bool,
    running: bool,
    #[serde(flatten)]
    snapshot: StatusSnapshot,
}

impl Status {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        let root = context.state_dir()?;
        let file = StateDir::status_file(&root);
        let snapshot: StatusSnapshot = read_record(&file).ok_or_else(|| {
            CliError::new(
                ErrorClass::NotFound,
                format!(
                    "{} holds no status: start 'etcdguardian run' with this config first",
                    root.display()
                ),
            )
        })?;
        let now = Timestamp::now();
        let screen = judge(snapshot, now);
        output::print(global.output, &screen, |screen| render(screen, now))?;
        Ok(if screen.protected {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(ErrorClass::VerificationFailed.exit_code())
        })
    }
}

/// Judges a stored status at `now`: a loop that died leaves one that once was true.
fn judge(mut snapshot: StatusSnapshot, now: Timestamp) -> Screen {
    for schedule in &mut snapshot.schedules {
        schedule.protected = schedule.protected_until.is_some_and(|until| now <= until);
    }
    Screen {
        protected: !snapshot.schedules.is_empty()
            && snapshot.schedules.iter().all(|schedule| schedule.protected),
        running: snapshot
            .now
            .is_some_and(|at| now.duration_since(at).abs() <= FRESH),
        snapshot,
    }
}

fn render(screen: &Screen, now: Timestamp) -> String {
    let snapshot = &screen.snapshot;
    let mut text = match (screen.protected, snapshot.schedules.is_empty()) {
        (true, _) => format!("{}: protected\n", snapshot.cluster),
        (false, true) => format!(
            "{}: NOT PROTECTED: there is no schedule\n",
            snapshot.cluster
        ),
        (false, false) => format!("{}: NOT PROTECTED\n", snapshot.cluster),
    };
    if !screen.running {
        let since = snapshot
            .now
            .map_or_else(|| "ever".to_owned(), |at| output::relative(at, now));
        text.push_str(&format!(
            "warning: 'etcdguardian run' does not seem to run; this was written {since}\n"
        ));
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = snapshot
        .schedules
        .iter()
        .map(|schedule| row(schedule, now))
        .collect();
    if !rows.is_empty() {
        let header = ["SCHEDULE", "PROTECTED", "RECOVERABLE TO", "NEXT", "WHY"];
        text.push_str(&output::table(&header, &rows));
    }
    for problem in &snapshot.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    for store in snapshot.stores.iter().filter(|store| !store.reachable) {
        text.push_str(&format!("store {}: {}\n", store.url, store.error));
    }
    for alert in &snapshot.alerts {
        let since = alert
            .since
            .map_or_else(String::new, |at| output::relative(at, now));
        text.push_str(&format!(
            "alert ({}, {since}): {}\n",
            alert.severity, alert.what
        ));
    }
    for channel in &snapshot.channels {
        if let Some(error) = &channel.error {
            text.push_str(&format!(
                "alert channel {} cannot deliver: {error}\n",
                channel.name
            ));
        }
    }
    text
}

fn row(schedule: &ScheduleState, now: Timestamp) -> Vec<String> {
    let moment =
        |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| output::relative(at, now));
    let why = match (&schedule.running, &schedule.status.decision) {
        (Some(stage), _) => format!("running: {stage}"),
        (None, Some(decision)) => {
            let reason = decision.reasons.first().map_or("", String::as_str);
            format!("{}: {reason}", decision.source)
        }
        (None, None) => String::new(),
    };
    vec![
        format!("{}/{}", schedule.namespace, schedule.name),
        if schedule.protected { "yes" } else { "NO" }.to_owned(),
        moment(schedule.status.recoverable_to),
        moment(schedule.status.next_backup_time),
        why,
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_status_that_was_true_once_is_judged_anew() {
        let schedule = ScheduleState {
            name: "main".to_owned(),
            protected: true,
            protected_until: Some(at(100)),
            ..ScheduleState::default()
        };
        let snapshot = StatusSnapshot {
            now: Some(at(0)),
            schedules: vec![schedule],
            ..StatusSnapshot::default()
        };
        assert!(judge(snapshot.clone(), at(10)).protected);
        let late = judge(snapshot, at(101));
        assert!(!late.protected && !late.running);
        assert!(render(&late, at(101)).contains("NOT PROTECTED"));
        assert!(
            !judge(StatusSnapshot::default(), at(0)).protected,
            "no schedule protects nothing"
        );
    }
}
