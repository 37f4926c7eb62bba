//! `schedule list|next|explain|suspend|resume|trigger`: what the running loop decided, and wishes to it; `simulate` is
//! in its own file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::context::Context;
use super::output::{self, Format};
use super::{CliError, args::Global};
use crate::api::{ErrorClass, EtcdBackupSchedule};
use crate::engine::{ResourceName, StateDir, decision_file, decision_status, policy_of};
use crate::records::read_record;
use crate::schedule::decide::{Decision, Source};
use crate::schedule::explain;
use crate::serve::StatusSnapshot;
use crate::standalone::Desired;
use crate::standalone::requests::{self, Request, Wish};

/// How long a command waits for the running loop to heed it.
const HEED: Duration = Duration::from_secs(10);

/// What the running loop decided, and wishes to it.
#[derive(Debug, Args)]
pub struct Schedule {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the schedules.
    List,
    /// Say when the next backup is planned.
    Next(Name),
    /// Say what was decided and why.
    Explain(Name),
    /// Take no backups for now.
    Suspend(Name),
    /// Take backups again.
    Resume(Name),
    /// Take a backup now.
    Trigger(Name),
    /// Replay recorded traces: what each policy would have done.
    Simulate(super::simulate::Simulate),
}

/// Which schedule.
#[derive(Debug, Args)]
struct Name {
    /// Its name, or NAMESPACE/NAME.
    name: String,
}

/// A schedule as the table shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    schedule: String,
    ai: bool,
    source: Option<String>,
    last: Option<Timestamp>,
    next: Option<Timestamp>,
    protected: Option<bool>,
}

/// What decided, as people call it.
fn decider(word: &str) -> &str {
    match Source::of_word(word) {
        Some(source) => source.name(),
        None => word,
    }
}

/// When the next backup is planned.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Next {
    schedule: String,
    next: Option<Timestamp>,
    source: Option<String>,
    reason: Option<String>,
}

/// What the folders say.
struct Seen {
    root: PathBuf,
    desired: Desired,
    snapshot: StatusSnapshot,
}

impl Schedule {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let look = || Seen::look(&Context::load(global, "warn")?);
        match &self.verb {
            // Recorded traces need neither the state folder nor a config file.
            Verb::Simulate(verb) => return verb.run(global),
            Verb::List => look()?.list(global),
            Verb::Next(name) => look()?.next(global, &name.name),
            Verb::Explain(name) => look()?.explain(global, &name.name),
            Verb::Suspend(name) => look()?.wish(&name.name, Wish::Suspend).await,
            Verb::Resume(name) => look()?.wish(&name.name, Wish::Resume).await,
            Verb::Trigger(name) => look()?.wish(&name.name, Wish::Trigger).await,
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Lists the schedules of the folders that the config names.
pub fn list(global: &Global, context: &Context) -> Result<(), CliError> {
    Seen::look(context)?.list(global)
}

impl Seen {
    fn look(context: &Context) -> Result<Self, CliError> {
        let root = context.state_dir()?;
        let folder = context
            .config
            .manifests
            .as_deref()
            .unwrap_or(Path::new("manifests"));
        let desired = Desired::load(folder, context.config.store.as_ref());
        for problem in &desired.problems {
            output::say(format!("warning: {problem}"));
        }
        let snapshot = read_record(&StateDir::status_file(&root)).unwrap_or_default();
        Ok(Self {
            root,
            desired,
            snapshot,
        })
    }

    fn find(&self, wanted: &str) -> Result<(&ResourceName, &EtcdBackupSchedule), CliError> {
        let matches = |name: &ResourceName| name.name == wanted || name.to_string() == wanted;
        let mut found = self
            .desired
            .schedules
            .iter()
            .filter(|(name, _)| matches(name));
        let known = || {
            let names: Vec<String> = self
                .desired
                .schedules
                .keys()
                .map(ToString::to_string)
                .collect();
            if names.is_empty() {
                "there is none".to_owned()
            } else {
                names.join(", ")
            }
        };
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(CliError::new(
                ErrorClass::NotFound,
                format!(
                    "there is no schedule '{wanted}' in the manifests folder; known: {}",
                    known()
                ),
            )),
            (Some(_), Some(_)) => Err(CliError::new(
                ErrorClass::Usage,
                format!(
                    "'{wanted}' is in several namespaces: write NAMESPACE/NAME, one of {}",
                    known()
                ),
            )),
        }
    }

    fn decision(&self, name: &ResourceName) -> Option<Decision> {
        read_record(&decision_file(&self.root, name))
    }

    fn list(&self, global: &Global) -> Result<(), CliError> {
        let rows: Vec<Row> =
            self.desired
                .schedules
                .iter()
                .map(|(name, schedule)| {
                    let state =
                        self.snapshot.schedules.iter().find(|state| {
                            state.name == name.name && state.namespace == name.namespace
                        });
                    let decision = state.and_then(|state| state.status.decision.as_ref());
                    Row {
                        namespace: name.namespace.clone(),
                        name: name.name.clone(),
                        schedule: schedule.spec.schedule.clone(),
                        ai: schedule.spec.ai_optimization.enabled,
                        source: decision.map(|decision| decision.source.clone()),
                        last: state.and_then(|state| state.status.last_successful_time),
                        next: state.and_then(|state| state.status.next_backup_time),
                        protected: state.map(|state| state.protected),
                    }
                })
                .collect();
        let now = Timestamp::now();
        let list = serde_json::json!({ "items": rows });
        output::print(global.output, &list, |_| {
            let header = [
                "NAME",
                "SCHEDULE",
                "AI",
                "DECIDED BY",
                "LAST",
                "NEXT",
                "PROTECTED",
            ];
            let moment = |at: Option<Timestamp>| {
                at.map_or_else(|| "-".to_owned(), |at| output::relative(at, now))
            };
            let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
            let protected = |value: bool| match value {
                true => output::paint(output::Tone::Good, "yes"),
                false => output::paint(output::Tone::Bad, "no"),
            };
            let cells: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    vec![
                        format!("{}/{}", row.namespace, row.name),
                        row.schedule.clone(),
                        yes(row.ai),
                        row.source.as_deref().map_or("-", decider).to_owned(),
                        moment(row.last),
                        moment(row.next),
                        row.protected.map_or_else(|| "-".to_owned(), protected),
                    ]
                })
                .collect();
            if cells.is_empty() {
                output::say("the manifests folder holds no schedule");
                String::new()
            } else {
                output::table(&header, &cells)
            }
        })
    }

    /// When the next backup is planned: by the running loop's decision, else by the cron alone.
    fn next(&self, global: &Global, wanted: &str) -> Result<(), CliError> {
        let (name, schedule) = self.find(wanted)?;
        let decision = self.decision(name);
        let now = Timestamp::now();
        let policy = policy_of(&schedule.spec)
            .map_err(|error| CliError::new(ErrorClass::Usage, error.to_string()))?;
        let planned = decision
            .as_ref()
            .filter(|decision| decision.at > now)
            .map(|decision| decision.at);
        let next = Next {
            schedule: name.to_string(),
            next: planned
                .filter(|at| *at < Timestamp::MAX)
                .or_else(|| policy.cron.next_after(now)),
            source: decision
                .as_ref()
                .map(|decision| format!("{:?}", decision.source)),
            reason: decision.and_then(|decision| decision.reasons.into_iter().next()),
        };
        output::print(global.output, &next, |next| match next.next {
            Some(at) => format!("{} ({})", output::moment(at), output::relative(at, now)),
            None => "never".to_owned(),
        })
    }

    fn explain(&self, global: &Global, wanted: &str) -> Result<(), CliError> {
        let (name, schedule) = self.find(wanted)?;
        let decision = self.decision(name).ok_or_else(|| {
            CliError::new(
                ErrorClass::NotFound,
                format!(
                    "nothing was decided for {name} yet: start 'etcdguardian run' with this config"
                ),
            )
        })?;
        let policy = policy_of(&schedule.spec)
            .map_err(|error| CliError::new(ErrorClass::Usage, error.to_string()))?;
        if global.output == Format::Table {
            let now = Timestamp::now();
            let mut lines = explain::render(&decision, &policy, now);
            let state = self
                .snapshot
                .schedules
                .iter()
                .find(|state| state.name == name.name && state.namespace == name.namespace);
            if let Some(state) = state.filter(|_| output::is_screen()) {
                let drawn = super::spark::lines(state, now);
                lines.extend(drawn.into_iter().map(|line| format!("  {line}")));
            }
            let name = output::paint(output::Tone::Strong, &name.to_string());
            return output::write_out(format!("{name}: {}\n", lines.join("\n")).as_bytes());
        }
        // The contract's whole numbers go before the core's own.
        let mut shown = serde_json::to_value(&decision).unwrap_or_default();
        let status = serde_json::to_value(decision_status(&decision)).unwrap_or_default();
        if let (Some(shown), Some(status)) = (shown.as_object_mut(), status.as_object()) {
            shown.extend(status.clone());
            shown.insert("why".to_owned(), explain::why(&decision).into());
        }
        output::print(global.output, &shown, |_| String::new())
    }

    /// Leaves a wish for the running loop and waits until it is heeded.
    async fn wish(&self, wanted: &str, wish: Wish) -> Result<(), CliError> {
        let (name, _) = self.find(wanted)?;
        let request = Request {
            wish,
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            asked: Timestamp::now(),
        };
        let file = requests::leave(&self.root, &request)?;
        let deadline = tokio::time::Instant::now() + HEED;
        while file.exists() {
            if tokio::time::Instant::now() >= deadline {
                return Err(CliError::new(
                    ErrorClass::Timeout,
                    format!(
                        "no running 'etcdguardian run' heeded it within {} s; it is left in {} and will be heeded at the next start",
                        HEED.as_secs(),
                        file.display()
                    ),
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let done = match wish {
            Wish::Trigger => "a backup begins: see 'etcdguardian status'",
            Wish::Suspend => "no backups are taken until 'etcdguardian schedule resume'",
            Wish::Resume => "backups are taken again",
        };
        output::say(format!("{name}: {done}"));
        Ok(())
    }
}
