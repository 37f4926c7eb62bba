//! `snapshot save FILE`: a snapshot of a live etcd in a plain file, proved before it has its name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::context::{Context, EtcdFlags};
use super::output;
use super::progress::Bar;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::etcd::{ConnectOptions, Etcd, known_problems};
use crate::pipeline;
use crate::repository::{Check, Level};

/// Save a snapshot of etcd to a file and prove it; exits with 3, and keeps the file, when it is not sound.
#[derive(Debug, Args)]
pub struct Save {
    /// File to make; nothing is overwritten.
    file: PathBuf,
    #[command(flatten)]
    etcd: EtcdFlags,
}

/// The JSON of `snapshot save`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    ok: bool,
    level: Level,
    file: String,
    /// Absent when the file is too broken to tell.
    revision: Option<i64>,
    total_keys: Option<u64>,
    file_size: u64,
    /// Of the database without the digest behind it.
    sha256: String,
    endpoint: String,
    etcd_version: String,
    checks: Vec<Check>,
}

impl Save {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let file = self.file.as_path();
        if file.symlink_metadata().is_ok() {
            return Err(there_already(file));
        }
        let cluster = self.etcd.cluster(context)?;
        let secrets = context.secrets.as_ref();
        let options = ConnectOptions::resolve(&cluster, "default", secrets).await?;
        let etcd = Etcd::connect(&options).await?;
        // Without a leader one member's data is still worth saving, so no quorum is asked for.
        let partial = Partial::beside(file)?;
        let bar = Bar::new(global, "snapshot");
        let drained = etcd.drain_snapshot(&partial.0, &bar).await?;
        drop(bar);
        let proved = pipeline::prove_drained(&etcd, &drained, &partial.0, true).await?;
        partial.become_file(file)?;
        if drained.member.leader == 0 {
            output::say(format!(
                "warning: member {} knows no leader: what the other members wrote last may be missing; save each that runs, and compare their revisions with 'etcdguardian snapshot status'",
                drained.member.endpoint
            ));
        }
        for problem in known_problems(&drained.member.version) {
            output::say(format!("warning: {problem}"));
        }
        let saved = Saved {
            ok: proved.verdict.ok(),
            level: proved.verdict.level,
            file: file.display().to_string(),
            revision: proved.status.as_ref().map(|status| status.revision),
            total_keys: proved.status.as_ref().map(|status| status.total_keys),
            file_size: drained.bytes,
            sha256: drained.image_sha256,
            endpoint: drained.member.endpoint,
            etcd_version: drained.member.version,
            checks: proved.verdict.checks,
        };
        output::print(global.output, &saved, render)?;
        if saved.ok {
            return Ok(ExitCode::SUCCESS);
        }
        let message = format!(
            "the snapshot of {} is not sound; the file is kept: save one of another member with --endpoints, and look closer with 'etcdguardian snapshot check {}'",
            saved.endpoint, saved.file
        );
        Err(CliError::new(ErrorClass::VerificationFailed, message))
    }
}

fn there_already(file: &Path) -> CliError {
    CliError::new(
        ErrorClass::Refused,
        format!(
            "{} is there already: nothing is overwritten, choose another name",
            file.display()
        ),
    )
}

/// The file under its first name, removed unless it becomes the real one.
struct Partial(PathBuf);

impl Partial {
    fn beside(file: &Path) -> Result<Self, CliError> {
        let name = file.file_name().ok_or_else(|| {
            CliError::new(
                ErrorClass::Usage,
                format!(
                    "{} names no file: write one, as snapshot.db",
                    file.display()
                ),
            )
        })?;
        let mut partial = name.to_owned();
        partial.push(format!(".partial-{}", std::process::id()));
        Ok(Self(file.with_file_name(partial)))
    }

    /// A hard link, because a rename would replace what appeared meanwhile.
    fn become_file(self, file: &Path) -> Result<(), CliError> {
        std::fs::File::open(&self.0)?.sync_all()?;
        match std::fs::hard_link(&self.0, file) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(there_already(file))
            }
            // File systems without hard links.
            Err(_) if !file.exists() => Ok(std::fs::rename(&self.0, file)?),
            linked => Ok(linked?),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was renamed, or never made.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn render(saved: &Saved) -> String {
    let number = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let mut text = output::fields(&[
        ("file", saved.file.clone()),
        (
            "from",
            format!("{} (etcd {})", saved.endpoint, saved.etcd_version),
        ),
        ("revision", number(saved.revision.map(|n| n.to_string()))),
        ("keys", number(saved.total_keys.map(|n| n.to_string()))),
        ("size", output::bytes(saved.file_size)),
        ("level", saved.level.to_string()),
    ]);
    for check in &saved.checks {
        let mark = if check.ok { "ok" } else { "FAILED" };
        text.push_str(&format!("{mark:6} {}: {}\n", check.name, check.message));
    }
    text
}
