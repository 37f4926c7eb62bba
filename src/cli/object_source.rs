//! Where `object` verbs read from: a snapshot file, or the backups that lead to a moment, fetched and merged in a scratch folder.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use tempfile::TempDir;

use super::CliError;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::output;
use super::restore_from::StoredBackups;
use super::seal_flags::UnsealFlags;
use super::snapshot_file::map;
use crate::api::ErrorClass;
use crate::export::find::{Search, Wanted, find, find_in_bundle};
use crate::recorder::merge::Until;
use crate::repository::Manifest;
use crate::restore::bundle::fetch_export;
use crate::restore::workspace::Workspace;
use crate::verify::Mapped;

/// A snapshot file or a repository, and a moment.
#[derive(Debug, Args)]
pub struct ObjectSource {
    /// A plain snapshot file, as of etcdctl snapshot save; else a backup of --from.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "backup"])]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Which backup, by id, name or `latest`; an increment with all that it stands on. Unless given, the newest that was proved
    /// and gets to the moment.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// As of this moment: the last revision that was recorded by then, else the newest backup before it.
    #[arg(
        long,
        value_name = "TIME",
        alias = "to-time",
        alias = "deleted-after",
        conflicts_with = "to_revision"
    )]
    at: Option<Timestamp>,
    /// As of this revision.
    #[arg(long, value_name = "N")]
    to_revision: Option<i64>,
    #[command(flatten)]
    unseal: UnsealFlags,
}

/// A backup, mapped for reading.
pub struct Opened {
    mapped: Mapped,
    /// As of this revision; the newest when absent.
    pub revision: Option<i64>,
    /// What it was made of, for messages.
    pub name: String,
    /// Whether it is the bundle of an export instead of a snapshot.
    bundle: bool,
    _scratch: Option<(Option<Workspace>, TempDir)>,
}

impl Opened {
    /// Looks for objects in it.
    pub fn find(&self, wanted: &Wanted) -> Result<Search<'_>, CliError> {
        let bytes = self.mapped.bytes();
        Ok(match self.bundle {
            true => find_in_bundle(bytes, wanted)?,
            false => find(bytes, wanted)?,
        })
    }
}

impl ObjectSource {
    /// Opens the file, or fetches what leads to the moment.
    pub async fn open(&self, context: &Context) -> Result<Opened, CliError> {
        if let Some(file) = &self.snapshot {
            let name = file.display().to_string();
            if self.at.is_some() {
                return Err(CliError::new(
                    ErrorClass::Refused,
                    format!("{name} does not say what was when: use --to-revision N, or --deleted"),
                ));
            }
            return Ok(Opened {
                mapped: map(file)?,
                revision: self.to_revision,
                name,
                bundle: false,
                _scratch: None,
            });
        }
        let until = match (self.to_revision, self.at) {
            (Some(revision), _) => Until::Revision(revision),
            (None, Some(time)) => Until::Time(time),
            (None, None) => Until::End,
        };
        let stored = StoredBackups::open(&self.repository, self.backup.as_deref(), context).await?;
        if let Some(export) = stored.export(self.at) {
            return self.open_export(&stored, export, context).await;
        }
        let chain = match (stored.chain(until), self.at) {
            (Ok(chain), _) => chain,
            (Err(error), Some(time)) => {
                let chain = stored.before(time).ok_or(error)?;
                let newest = chain.increments.last().unwrap_or(&chain.base);
                output::say(format!(
                    "note: nothing was recorded at {}: the newest backup before it is {}, of {}",
                    output::moment(time),
                    newest.id,
                    output::moment(newest.created)
                ));
                chain
            }
            (Err(error), None) => return Err(error),
        };
        let unsealer = self.unseal.unsealer(context).await?;
        let scratch = tempfile::Builder::new().prefix("etcdguardian-").tempdir()?;
        let workspace = Workspace::take(&scratch.path().join("object"), false)?;
        let fetched = stored.fetch(&chain, &unsealer, &workspace).await?;
        Ok(Opened {
            mapped: map(&fetched.file)?,
            revision: fetched.to_revision,
            name: fetched.name,
            bundle: false,
            _scratch: Some((Some(workspace), scratch)),
        })
    }

    /// A source that other flags name: a snapshot file, or a backup of a repository.
    pub fn named(word: &str, repository: &RepositoryFlags, unseal: &UnsealFlags) -> Self {
        let file = PathBuf::from(word);
        let is_file = file.is_file();
        Self {
            snapshot: is_file.then_some(file),
            repository: repository.clone(),
            backup: (!is_file).then(|| word.to_owned()),
            at: None,
            to_revision: None,
            unseal: unseal.clone(),
        }
    }

    /// The bundle of an export.
    async fn open_export(
        &self,
        stored: &StoredBackups,
        export: &Manifest,
        context: &Context,
    ) -> Result<Opened, CliError> {
        if self.to_revision.is_some() {
            return Err(CliError::new(
                ErrorClass::Refused,
                format!(
                    "export {} has one moment and no revisions: leave --to-revision out",
                    export.id
                ),
            ));
        }
        let unsealer = self.unseal.unsealer(context).await?;
        let scratch = tempfile::Builder::new().prefix("etcdguardian-").tempdir()?;
        let file = scratch.path().join("bundle.tar");
        let all = stored.backups();
        fetch_export(stored.repository(), all, export, &unsealer, &file).await?;
        Ok(Opened {
            mapped: map(&file)?,
            revision: None,
            name: format!("export {}", export.id),
            bundle: true,
            _scratch: Some((None, scratch)),
        })
    }
}
