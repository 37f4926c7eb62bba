//! `backup verify`: reads a stored backup again and says how far it is proved today.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::backup::RepositoryFlags;
use super::context::Context;
use super::output;
use super::progress::Bar;
use super::restore_from::StoredBackups;
use super::seal_flags::UnsealFlags;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::recorder::merge::Until;
use crate::repository::key::Key;
use crate::repository::{Check, Kind, Level, Manifest, Repository};
use crate::restore::bundle::prove_export;
use crate::restore::workspace::Workspace;
use crate::seal::Unsealer;
use crate::verify::{self, Live};

/// Read a stored backup again and prove it; exits with 3 when it is not sound.
///
/// Without --deep the stored bytes are compared with their SHA-256, which needs no key. With --deep they are unsealed, and
/// every page and row is checked; an increment is merged with all that it stands on, too.
#[derive(Debug, Args)]
pub struct Verify {
    /// Id, name, unique prefix, or `latest`; or a URL: of a backup's data, of a repository (its newest), or URL#ID.
    #[arg(value_name = "ID|URL")]
    backup: String,
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Unseal it and check every page and row.
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    unseal: UnsealFlags,
    /// Folder for the unsealed snapshot; TMPDIR unless given.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// The JSON of `backup verify`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    ok: bool,
    /// What this run proved.
    level: Level,
    checks: Vec<Check>,
    id: String,
    location: String,
    /// What was proved when it was taken.
    level_when_taken: Level,
}

impl Verify {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let (flags, id) = self.source();
        let repository = flags.open(context).await?;
        let manifest = match flags.find(&repository, &id).await {
            Ok(manifest) => manifest,
            Err(error) if error.class == ErrorClass::NotFound => {
                let damaged = damaged(&repository, &flags, &id).await?;
                return Err(damaged.unwrap_or(error));
            }
            Err(error) => return Err(error),
        };
        let bar = Bar::new(global, "reading");
        let told = |done: u64| bar.at(done, manifest.stored_size);
        let verdict = if self.deep {
            let unsealer = self.unseal.unsealer(context).await?;
            let scratch = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
            let mut verdict = if manifest.kind == Kind::Export {
                let all = flags.catalog(&repository).await?.backups;
                prove_export(&repository, &all, &manifest, &unsealer, &scratch).await?
            } else {
                verify::deep(&repository, &manifest, &unsealer, &scratch, &told).await?
            };
            if manifest.kind == Kind::Increment && verdict.ok() {
                let chain = Chain {
                    flags: &flags,
                    id: &manifest.id,
                    unsealer: &unsealer,
                    scratch: &scratch,
                };
                let (level, check) = chain.prove(context).await?;
                verdict.level = level;
                verdict.checks.push(check);
            }
            verdict
        } else {
            verify::shallow(&repository, &manifest, &told).await?
        };
        drop(bar);
        let verified = Verified {
            ok: verdict.ok(),
            level: verdict.level,
            checks: verdict.checks,
            id: manifest.id.clone(),
            location: repository.url_of(&manifest),
            level_when_taken: manifest.level,
        };
        output::print(global.output, &verified, render)?;
        if verified.ok {
            return Ok(ExitCode::SUCCESS);
        }
        Err(unsound(&repository, &manifest))
    }

    /// Where to look, and for what.
    fn source(&self) -> (RepositoryFlags, String) {
        let mut flags = self.repository.clone();
        if !self.backup.contains("://") {
            return (flags, self.backup.clone());
        }
        let (url, id) = match self.backup.split_once('#') {
            Some((url, id)) => (url.to_owned(), id.to_owned()),
            None => match of_data(&self.backup) {
                Some((url, key)) => {
                    flags.cluster_id = Some(key.cluster.clone());
                    (url, key.id())
                }
                None => (self.backup.clone(), "latest".to_owned()),
            },
        };
        flags.from = Some(url);
        (flags, id)
    }
}

/// An increment with all that it stands on.
struct Chain<'a> {
    flags: &'a RepositoryFlags,
    id: &'a str,
    unsealer: &'a Unsealer,
    scratch: &'a Path,
}

impl Chain<'_> {
    /// Merges it as a restore would, and proves what it comes to.
    async fn prove(&self, context: &Context) -> Result<(Level, Check), CliError> {
        let failed = |message: String| {
            let check = Check {
                name: "chain".to_owned(),
                ok: false,
                message,
            };
            (Level::Stored, check)
        };
        let stored = StoredBackups::open(self.flags, Some(self.id), context).await?;
        let chain = match stored.chain(Until::End) {
            Ok(chain) => chain,
            Err(error) => return Ok(failed(error.message)),
        };
        let folder = tempfile::Builder::new()
            .prefix("verify-")
            .tempdir_in(self.scratch)?;
        let workspace = Workspace::take(&folder.path().join("chain"), false)?;
        let fetched = match stored.fetch(&chain, self.unsealer, &workspace).await {
            Ok(fetched) => fetched,
            Err(error) if error.class == ErrorClass::VerificationFailed => {
                return Ok(failed(error.message));
            }
            Err(error) => return Err(error),
        };
        let proof = verify::prove(&fetched.file, self.id).await?;
        let verdict = verify::judge(&proof, None, &Live::NotAsked);
        let Some(status) = proof.status.as_ref().filter(|_| verdict.ok()) else {
            return Ok(failed(verdict.problem()));
        };
        let held = fetched.held_to.map(|live| {
            format!(
                ", which had HashKV {} at revision {} as the live cluster had",
                live.hash, live.revision
            )
        });
        let level = if held.is_some() {
            Level::Consistent
        } else {
            Level::Verified
        };
        let check = Check {
            name: "chain".to_owned(),
            ok: true,
            message: format!(
                "{} and {} come to {} keys at revision {}{}",
                chain.base.id,
                output::count(chain.increments.len(), "increment"),
                status.total_keys,
                status.revision,
                held.unwrap_or_default()
            ),
        };
        Ok((level, check))
    }
}

/// Why a backup is not in the catalogue although something of it is there: that is no "not found".
async fn damaged(
    repository: &Repository,
    flags: &RepositoryFlags,
    id: &str,
) -> Result<Option<CliError>, CliError> {
    let catalog = repository.catalog(flags.cluster_id.as_deref()).await?;
    let found = catalog
        .damaged
        .into_iter()
        .find(|sentence| id == "latest" || sentence.contains(id));
    Ok(found.map(|sentence| {
        let words = format!("{sentence}; restore an older one and take a new backup");
        CliError::new(ErrorClass::VerificationFailed, words)
    }))
}

/// The repository and the key of a URL that names an object of a backup.
fn of_data(url: &str) -> Option<(String, Key)> {
    let (cut, _) = url.rmatch_indices('/').nth(4)?;
    let key = Key::parse(url.get(cut + 1..)?)?;
    Some((url.get(..cut)?.to_owned(), key))
}

fn unsound(repository: &Repository, manifest: &Manifest) -> CliError {
    let message = format!(
        "backup {} in {} must not be relied on: take a new one with 'etcdguardian backup create', and look for an older sound one with 'etcdguardian backup list'",
        manifest.id,
        repository.location()
    );
    CliError::new(ErrorClass::VerificationFailed, message)
}

fn render(verified: &Verified) -> String {
    let mut text = output::fields(&[
        ("backup", verified.id.clone()),
        ("location", verified.location.clone()),
        (
            "result",
            if verified.ok { "sound" } else { "NOT SOUND" }.to_owned(),
        ),
        ("proved now", verified.level.to_string()),
        ("when taken", verified.level_when_taken.to_string()),
    ]);
    for check in &verified.checks {
        let mark = if check.ok { "ok" } else { "FAILED" };
        text.push_str(&format!("{mark:6} {}: {}\n", check.name, check.message));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::of_data;

    #[test]
    fn a_data_url_is_its_repository_and_its_backup() {
        let key = "0123456789abcdef/v1/full/20260304T050607Z-42/snapshot.db.zst";
        let (url, found) = of_data(&format!("s3://bucket/some/prefix/{key}")).unwrap();
        assert_eq!(url, "s3://bucket/some/prefix");
        assert_eq!(found.to_string(), key);
        assert_eq!(found.id(), "20260304T050607Z-42");
        assert!(of_data("s3://bucket/some/prefix").is_none());
        assert!(of_data("file:///a/b/c/d/e/f").is_none());
    }
}
