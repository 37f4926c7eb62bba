//! Where `snapshot` verbs read from: a file, or a backup in a store, which is fetched into a scratch folder first.

use std::io::ErrorKind;
use std::path::Path;

use clap::Args;

use super::CliError;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::restore_from::StoredBackups;
use super::seal_flags::UnsealFlags;
use crate::api::ErrorClass;
use crate::recorder::merge::Until;
use crate::repository::{Kind, Manifest, Repository};
use crate::restore::workspace::Workspace;
use crate::verify::{self, Mapped};

/// How to get at a backup when a store's URL is given instead of a file.
#[derive(Debug, Clone, Args)]
pub struct SourceFlags {
    /// With a URL: id, name or unique prefix of the backup, an increment with all that it stands on; the newest unless given. URL#ID says
    /// the same.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// With a URL: only this etcd cluster, by its hexadecimal id.
    #[arg(long, value_name = "ID")]
    cluster_id: Option<String>,
    #[command(flatten)]
    unseal: UnsealFlags,
}

/// A snapshot, mapped for reading.
pub struct SnapshotFile {
    mapped: Mapped,
    /// The release that it was taken from, which only a manifest says.
    pub etcd_version: Option<String>,
    /// Holds a fetched file; removed when dropped.
    _scratch: Option<(Option<Workspace>, tempfile::TempDir)>,
}

impl SnapshotFile {
    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.mapped.bytes()
    }
}

/// Maps a file, with the words that say why it cannot be.
pub fn map(path: &Path) -> Result<Mapped, CliError> {
    Mapped::open(path).map_err(|error| {
        let class = match error.kind() {
            ErrorKind::NotFound => ErrorClass::NotFound,
            ErrorKind::InvalidData => ErrorClass::VerificationFailed,
            _ => ErrorClass::Failed,
        };
        let file = path.display();
        CliError::new(
            class,
            format!("the snapshot {file} cannot be read: {error}"),
        )
    })
}

impl SourceFlags {
    /// Opens a file by its path, or a backup by its store's URL.
    pub async fn open(&self, context: &Context, source: &str) -> Result<SnapshotFile, CliError> {
        if !source.contains("://") {
            return Ok(SnapshotFile {
                mapped: map(Path::new(source))?,
                etcd_version: None,
                _scratch: None,
            });
        }
        let (url, id) = match source.split_once('#') {
            Some((url, id)) => (url, Some(id.to_owned())),
            None => (source, self.backup.clone()),
        };
        let flags = RepositoryFlags {
            from: Some(url.to_owned()),
            cluster_id: self.cluster_id.clone(),
        };
        let repository = flags.open(context).await?;
        let id = id.as_deref().unwrap_or("latest");
        let manifest = flags.find(&repository, id).await?;
        let scratch = tempfile::Builder::new().prefix("etcdguardian-").tempdir()?;
        if manifest.kind == Kind::Increment {
            let stored = StoredBackups::open(&flags, Some(&manifest.id), context).await?;
            let chain = stored.chain(Until::End)?;
            let unsealer = self.unseal.unsealer(context).await?;
            let workspace = Workspace::take(&scratch.path().join("chain"), false)?;
            let fetched = stored.fetch(&chain, &unsealer, &workspace).await?;
            return Ok(SnapshotFile {
                mapped: map(&fetched.file)?,
                etcd_version: Some(manifest.etcd_version),
                _scratch: Some((Some(workspace), scratch)),
            });
        }
        let file = scratch.path().join("snapshot.db");
        fetch(context, &self.unseal, &repository, &manifest, &file).await?;
        Ok(SnapshotFile {
            mapped: map(&file)?,
            etcd_version: Some(manifest.etcd_version),
            _scratch: Some((None, scratch)),
        })
    }
}

/// Fetches a full backup into a new file.
pub async fn fetch(
    context: &Context,
    unseal: &UnsealFlags,
    repository: &Repository,
    manifest: &Manifest,
    file: &Path,
) -> Result<(), CliError> {
    if manifest.kind != Kind::Full {
        return Err(CliError::new(
            ErrorClass::Usage,
            format!(
                "backup '{}' is of kind {}, which is no snapshot: name a Full one, see 'etcdguardian backup list'",
                manifest.id, manifest.kind
            ),
        ));
    }
    let unsealer = unseal.unsealer(context).await?;
    verify::fetch(repository, manifest, &unsealer, file, &|_| {}).await?;
    Ok(())
}
