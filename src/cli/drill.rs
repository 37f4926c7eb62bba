//! `drill`: a backup is restored into a scratch folder, proved, booted in a real etcd when there is one, and cleaned up.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::CliError;
use super::args::Global;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::output;
use super::restore_from::StoredBackups;
use super::seal_flags::UnsealFlags;
use crate::api::ErrorClass;
use crate::recorder::merge::Until;
use crate::restore::drill::plan::Drilled;
use crate::restore::drill::{self, Options};

/// Restore a backup into a scratch folder, prove it, boot etcd on it, and clean up.
///
/// Exits with 3 when the backup does not restore.
#[derive(Debug, Args)]
pub struct Drill {
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Which backup, by id, name or `latest`; an increment with all that it stands on. Unless given, the newest chain.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Restore to this revision.
    #[arg(long, value_name = "N", conflicts_with = "to_time")]
    to_revision: Option<i64>,
    /// Restore to this moment.
    #[arg(long, value_name = "TIME")]
    to_time: Option<Timestamp>,
    #[command(flatten)]
    unseal: UnsealFlags,
    /// The etcd to boot; the one of PATH unless given.
    #[arg(long, value_name = "FILE", conflicts_with = "no_boot")]
    etcd_binary: Option<PathBuf>,
    /// Boot no etcd, even when there is one.
    #[arg(long)]
    no_boot: bool,
    /// How many seconds etcd may take to start.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    boot_timeout: u64,
    /// Folder to work in; needs about three times the database. TMPDIR unless given.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl Drill {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        let etcd = self.etcd()?;
        let until = match (self.to_revision, self.to_time) {
            (Some(revision), _) => Until::Revision(revision),
            (None, Some(time)) => Until::Time(time),
            (None, None) => Until::End,
        };
        let stored =
            StoredBackups::open(&self.repository, self.backup.as_deref(), &context).await?;
        let chain = stored.chain(until)?;
        let unsealer = self.unseal.unsealer(&context).await?;
        let options = Options {
            scratch: self.scratch.clone().unwrap_or_else(std::env::temp_dir),
            etcd,
            boot_timeout: Duration::from_secs(self.boot_timeout),
        };
        let drilled = drill::drill(stored.repository(), &chain, &unsealer, &options).await?;
        output::print(global.output, &drilled, words)?;
        match drilled.problem() {
            None => Ok(ExitCode::SUCCESS),
            Some(problem) => Err(CliError::new(
                ErrorClass::VerificationFailed,
                format!(
                    "backup {} does not restore: {problem}; take a new one with 'etcdguardian backup create' and drill that",
                    drilled.backup
                ),
            )),
        }
    }

    fn etcd(&self) -> Result<Option<PathBuf>, CliError> {
        if self.no_boot {
            return Ok(None);
        }
        match &self.etcd_binary {
            Some(file) if file.is_file() => Ok(Some(file.clone())),
            Some(file) => Err(CliError::new(
                ErrorClass::Usage,
                format!(
                    "there is no etcd at {}: correct --etcd-binary",
                    file.display()
                ),
            )),
            None => {
                let found = drill::etcd_on_path();
                if found.is_none() {
                    output::say(
                        "note: no etcd is on PATH, so none is booted: add --etcd-binary FILE for the whole proof",
                    );
                }
                Ok(found)
            }
        }
    }
}

fn words(drilled: &Drilled) -> String {
    let mut text = output::fields(&[
        ("backup", drilled.backup.clone()),
        ("restores", if drilled.ok { "yes" } else { "NO" }.to_owned()),
        ("revision", drilled.revision.to_string()),
        ("keys", drilled.keys.to_string()),
        ("took", format!("{:.1} s", drilled.seconds)),
    ]);
    for check in &drilled.checks {
        let mark = if check.ok { "ok" } else { "FAILED" };
        text.push_str(&format!("{mark:6}     {}: {}\n", check.name, check.message));
    }
    text
}
