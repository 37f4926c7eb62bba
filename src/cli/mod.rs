//! Words in, words out: parses the command line, calls the rooms, prints results, chooses the exit code.

mod args;
mod backup;
mod backup_copy;
mod backup_create;
mod backup_delete;
mod backup_verify;
mod completions;
mod context;
mod crd;
mod doctor;
mod doctor_etcd;
mod doctor_rights;
mod doctor_site;
mod doctor_store;
mod drill;
mod error;
mod export;
mod import;
mod keygen;
mod list;
mod model;
mod object;
mod object_diff;
mod object_restore;
mod object_source;
mod operator;
mod output;
mod progress;
mod redact;
mod report;
mod restore;
mod restore_fit;
mod restore_from;
mod run;
mod schedule;
mod seal_flags;
mod simulate;
mod simulate_csv;
mod simulate_html;
mod snapshot;
mod snapshot_contents;
mod snapshot_file;
mod snapshot_save;
mod spark;
mod status;
mod velero;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use error::CliError;
pub use output::Format;

use crate::api::ErrorClass;
use crate::telemetry;

/// Backs up etcd when it matters and proves that every backup restores.
#[derive(Debug, Parser)]
#[command(
    name = "etcdguardian",
    version,
    propagate_version = true,
    max_term_width = 110
)]
pub struct Cli {
    #[command(flatten)]
    pub global: args::Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Backups by hand, and what a repository holds.
    Backup(backup::Backup),
    /// Make a key pair for encrypted backups.
    Keygen(keygen::Keygen),
    /// Open a stored backup file.
    Unseal(keygen::Unseal),
    /// Make data directories of a backup.
    Restore(Box<restore::Restore>),
    /// Look into a snapshot; the file is never changed.
    Snapshot(Box<snapshot::SnapshotVerbs>),
    /// Restore a backup into a scratch folder, prove it, and clean up.
    Drill(Box<drill::Drill>),
    /// Export a cluster's objects through its API server.
    Export(Box<export::Export>),
    /// Import an export into a cluster.
    Import(Box<import::Import>),
    /// Kubernetes objects out of a backup.
    Object(Box<object::Object>),
    /// Run schedules without Kubernetes.
    Run(run::Run),
    /// Run the controllers in a Kubernetes cluster.
    Operator(operator::Operator),
    /// What a Job of the operator runs.
    #[command(hide = true)]
    Job(operator::JobVerbs),
    /// What was decided, and wishes to the running loop.
    Schedule(schedule::Schedule),
    /// Fit, judge and show forecasts of the change rate offline.
    Model(model::Model),
    /// Try out everything that a backup needs.
    Doctor(doctor::Doctor),
    /// List backups, restores or schedules.
    List(Box<list::List>),
    /// Velero beside EtcdGuardian.
    Velero(velero::Velero),
    /// Write a support bundle without secrets.
    Report(report::Report),
    /// Say whether the cluster is protected.
    Status(status::Status),
    /// Print the CustomResourceDefinitions.
    Crd(crd::Crd),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Print the manual page.
    Man,
    /// Print the version.
    Version,
}

/// Runs the process's command line and returns its exit code.
pub fn main() -> ExitCode {
    crate::init_tls();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, mistakes to stderr with code 2; clap knows which.
            if error.use_stderr() && asks_for_json(std::env::args_os()) {
                let words = error.to_string();
                let words = words.strip_prefix("error: ").unwrap_or(&words).trim_end();
                report(Format::Json, &CliError::new(ErrorClass::Usage, words));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let format = cli.global.output;
    let code = match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            report(format, &error);
            ExitCode::from(error.class.exit_code())
        }
    };
    telemetry::finish();
    code
}

/// Whether a command line that cannot be understood asks for JSON all the same.
fn asks_for_json(words: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<OsString> = words.collect();
    let pair = |pair: &[OsString]| matches!(pair, [flag, form] if (flag == "-o" || flag == "--output") && form == "json");
    let one = |word: &OsString| {
        ["-ojson", "-o=json", "--output=json"]
            .iter()
            .any(|form| word == form)
    };
    words.windows(2).any(pair) || words.iter().any(one)
}

fn report(format: Format, error: &CliError) {
    if format == Format::Json {
        let body = serde_json::json!({ "error": error });
        output::say(body.to_string());
    } else if output::colours() {
        output::say(format!("\x1b[1;31merror:\x1b[0m {error}"));
    } else {
        output::say(format!("error: {error}"));
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    let global = cli.global;
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Backup(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Keygen(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Unseal(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Restore(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Snapshot(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Drill(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Export(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Import(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Object(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Run(verb) => wait::block_on(verb.run(&global)),
        Command::Operator(verb) => wait::block_on_told(|told| verb.run(&global, told)),
        Command::Job(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Schedule(verb) => wait::block_on(verb.run(&global)),
        Command::Model(verb) => wait::block_on(verb.run(&global)),
        Command::Doctor(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::List(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Velero(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Report(verb) => wait::block_on(async { verb.run(&global).await }),
        Command::Status(verb) => wait::block_on(verb.run(&global)),
        Command::Crd(verb) => verb.run(&global).map(done),
        Command::Completions(verb) => verb.run().map(done),
        Command::Man => completions::man().map(done),
        Command::Version => crd::version(&global).map(done),
    }
}
