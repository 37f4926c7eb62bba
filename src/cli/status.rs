//! `status`: one screen that says whether the cluster is protected, since when, and when the next backup is due.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::context::Context;
use super::output::{self, Tone, paint};
use super::spark;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::engine::StateDir;
use crate::records::read_record;
use crate::serve::{ScheduleState, StatusSnapshot, Verdict, verdict};

/// Sparklines of more schedules would fill the screen.
const DRAWN: usize = 3;
/// The running loop writes its status more often than this.
const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// Say whether the cluster is protected; exits 3 when a schedule is not, or when every one is suspended.
#[derive(Debug, Args)]
pub struct Status {
    /// Show the status page in the browser: the one of $BROWSER, else the desktop's.
    #[arg(long, conflicts_with = "watch")]
    open: bool,
    /// Look again every so many seconds, until interrupted.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
}

/// The status as JSON: what the page shows, judged anew at this moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Screen {
    protected: bool,
    verdict: Verdict,
    running: bool,
    #[serde(flatten)]
    snapshot: StatusSnapshot,
}

impl Status {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        if self.open {
            return open_page(&context);
        }
        let root = context.state_dir()?;
        let Some(seconds) = self.watch else {
            return look(global, &root, "");
        };
        // On a screen the old picture is replaced; in a pipe one follows the other.
        let before = if output::is_screen() { CLEAR } else { "" };
        loop {
            look(global, &root, before)?;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }
}

/// Home, and everything behind it cleared.
const CLEAR: &str = "\x1b[H\x1b[J";

fn look(global: &Global, root: &Path, before: &str) -> Result<ExitCode, CliError> {
    let file = StateDir::status_file(root);
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
    output::print(global.output, &screen, |screen| {
        format!("{before}{}", render(screen, now))
    })?;
    Ok(if screen.protected {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ErrorClass::VerificationFailed.exit_code())
    })
}

/// Shows the page in a browser, and prints where it is.
fn open_page(context: &Context) -> Result<ExitCode, CliError> {
    let listen = &context.config.serve.listen;
    let refused = |words: String| Err(CliError::new(ErrorClass::Refused, words));
    if listen.is_empty() {
        return refused(
            "serve.listen is empty, so there is no page: set it, such as 127.0.0.1:9180".to_owned(),
        );
    }
    let url = page_url(listen);
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    if let Err(error) = std::net::TcpStream::connect(host) {
        return Err(CliError::new(
            ErrorClass::NotFound,
            format!(
                "nobody answers at {url} ({error}): start 'etcdguardian run' with this config first"
            ),
        ));
    }
    output::write_out(format!("{url}\n").as_bytes())?;
    if context.config.serve.token_file.is_some() {
        output::say(
            "the browser asks for a password: it is the token in the file of serve.tokenFile",
        );
    }
    let named = std::env::var("BROWSER")
        .ok()
        .filter(|name| !name.is_empty());
    let programs = named.map_or_else(
        || vec!["xdg-open".to_owned(), "open".to_owned()],
        |name| vec![name],
    );
    let shown = programs.iter().any(|program| {
        std::process::Command::new(program)
            .arg(&url)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .is_ok()
    });
    if !shown {
        output::say("no browser was found here: open that address in one");
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a browser on this host finds the listener: one on every address is there too.
fn page_url(listen: &str) -> String {
    let local = match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "" | "[::]" | "*", port)) => format!("127.0.0.1:{port}"),
        _ => listen.to_owned(),
    };
    format!("http://{local}/")
}

/// Judges a stored status at `now`: a loop that died leaves one that once was true.
fn judge(mut snapshot: StatusSnapshot, now: Timestamp) -> Screen {
    for schedule in &mut snapshot.schedules {
        let schedule = Arc::make_mut(schedule);
        schedule.protected = schedule.protected_until.is_some_and(|until| now <= until);
    }
    let verdict = verdict(&snapshot.schedules);
    Screen {
        protected: verdict.protected,
        verdict,
        running: snapshot
            .now
            .is_some_and(|at| now.duration_since(at).abs() <= FRESH),
        snapshot,
    }
}

fn render(screen: &Screen, now: Timestamp) -> String {
    let snapshot = &screen.snapshot;
    let tone = if screen.protected {
        Tone::Good
    } else {
        Tone::Bad
    };
    let words = paint(tone, &screen.verdict.words);
    let mut text = format!("{}: {words}\n", paint(Tone::Strong, &snapshot.cluster));
    if !screen.running {
        let since = snapshot
            .now
            .map_or_else(|| "ever".to_owned(), |at| output::relative(at, now));
        text.push_str(&format!(
            "{}: 'etcdguardian run' does not seem to run; this was written {since}\n",
            paint(Tone::Warn, "warning")
        ));
    }
    text.push('\n');
    let drawn = output::is_screen() && snapshot.schedules.len() <= DRAWN;
    let mut rows: Vec<Vec<String>> = snapshot
        .schedules
        .iter()
        .map(|schedule| row(schedule, now))
        .collect();
    // On a screen a few schedules have room for their reasons below the table, where no line is broken.
    let mut reasons = Vec::new();
    let mut header = vec!["SCHEDULE", "PROTECTED", "RECOVERABLE TO", "NEXT", "WHY"];
    if drawn {
        header.pop();
        reasons = rows.iter_mut().filter_map(Vec::pop).collect();
    }
    if !rows.is_empty() {
        text.push_str(&output::table(&header, &rows));
    }
    if drawn {
        for (schedule, reason) in snapshot.schedules.iter().zip(reasons) {
            let lines = spark::lines(schedule, now);
            text.push('\n');
            if snapshot.schedules.len() > 1 {
                let name = format!("{}/{}", schedule.namespace, schedule.name);
                text.push_str(&format!("{}\n", paint(Tone::Strong, &name)));
            }
            if !reason.is_empty() {
                text.push_str(&format!("{reason}\n"));
            }
            for line in lines {
                text.push_str(&format!("{line}\n"));
            }
        }
    }
    if drawn && !(snapshot.problems.is_empty() && snapshot.alerts.is_empty()) {
        text.push('\n');
    }
    for problem in &snapshot.problems {
        text.push_str(&format!("{}: {problem}\n", paint(Tone::Warn, "problem")));
    }
    for store in snapshot.stores.iter().filter(|store| !store.reachable) {
        let store = format!("store {}: {}", store.url, store.error);
        text.push_str(&format!("{}\n", paint(Tone::Bad, &store)));
    }
    for alert in &snapshot.alerts {
        let since = alert
            .since
            .map_or_else(String::new, |at| output::relative(at, now));
        text.push_str(&format!(
            "{} ({}, {since}): {}\n",
            paint(Tone::Bad, "alert"),
            alert.severity,
            alert.what
        ));
        if let Some(step) = &alert.next_step {
            text.push_str(&format!("  next: {step}\n"));
        }
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
    let why = match &schedule.running {
        _ if schedule.suspended() => schedule.protection.clone(),
        Some(stage) => format!("running: {stage}"),
        None => schedule.why.clone(),
    };
    vec![
        format!("{}/{}", schedule.namespace, schedule.name),
        if schedule.suspended() {
            paint(Tone::Warn, "suspended")
        } else if schedule.protected {
            paint(Tone::Good, "yes")
        } else {
            paint(Tone::Bad, "NO")
        },
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
    fn the_page_is_looked_for_on_this_host() {
        assert_eq!(page_url("0.0.0.0:9180"), "http://127.0.0.1:9180/");
        assert_eq!(page_url("[::]:9180"), "http://127.0.0.1:9180/");
        assert_eq!(page_url("10.1.2.3:80"), "http://10.1.2.3:80/");
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
            schedules: vec![Arc::new(schedule)],
            ..StatusSnapshot::default()
        };
        assert!(judge(snapshot.clone(), at(10)).protected);
        let late = judge(snapshot, at(101));
        assert!(!late.protected && !late.running);
        assert!(render(&late, at(101)).contains("Not protected"));
        assert!(
            !judge(StatusSnapshot::default(), at(0)).protected,
            "no schedule protects nothing"
        );
    }
}
