//! `restore --from`: the chain that leads to the target is fetched, proved and merged into one snapshot, which is then restored.

use std::path::PathBuf;

use serde::Serialize;

use super::backup::RepositoryFlags;
use super::context::Context;
use super::output;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::recorder::merge::Until;
use crate::repository::{Manifest, Repository};
use crate::restore::RestoreError;
use crate::restore::chain::{self, Chain};
use crate::restore::workspace::Workspace;
use crate::seal::Unsealer;
use crate::verify;

/// A snapshot that lies in the workspace.
pub struct Fetched {
    /// The file.
    pub file: PathBuf,
    /// What it was made of, for messages.
    pub name: String,
    /// What is still to be left out: the revision of a base that goes on.
    pub to_revision: Option<i64>,
}

/// What would be fetched, for `--plan`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChainView {
    base: String,
    base_revision: i64,
    increments: Vec<String>,
    newest_revision: i64,
    stored_bytes: u64,
}

/// The repository and the backups of one restore.
pub struct StoredBackups {
    repository: Repository,
    backups: Vec<Manifest>,
    named: Option<Manifest>,
}

impl StoredBackups {
    /// Lists the repository and finds the named backup.
    pub async fn open(
        flags: &RepositoryFlags,
        backup: Option<&str>,
        context: &Context,
    ) -> Result<Self, CliError> {
        let repository = flags.open(context).await?;
        let catalog = flags.catalog(&repository).await?;
        let named = match backup {
            None => None,
            Some(id) => Some(flags.find(&repository, id).await?),
        };
        let mut backups = catalog.backups;
        if let Some(named) = &named {
            backups.retain(|backup| backup.cluster_id == named.cluster_id);
        }
        Ok(Self {
            repository,
            backups,
            named,
        })
    }

    /// The chain that leads to the target.
    pub fn chain(&self, until: Until) -> Result<Chain<'_>, CliError> {
        chain::resolve(&self.backups, self.named.as_ref(), until).map_err(|problem| {
            let place = self.repository.location();
            CliError::new(
                ErrorClass::NotFound,
                format!("{place}: {problem}; see 'etcdguardian backup list'"),
            )
        })
    }

    /// Prints what would be fetched.
    pub fn show(&self, global: &Global, chain: &Chain<'_>) -> Result<(), CliError> {
        let all = std::iter::once(&chain.base).chain(&chain.increments);
        let newest = chain.increments.last().unwrap_or(&chain.base);
        let view = ChainView {
            base: chain.base.id.clone(),
            base_revision: chain.base.revision,
            increments: chain.increments.iter().map(|one| one.id.clone()).collect(),
            newest_revision: newest.revision,
            stored_bytes: all.map(|backup| backup.stored_size).sum(),
        };
        output::print(global.output, &view, |view| {
            output::fields(&[
                (
                    "base",
                    format!("{} (revision {})", view.base, view.base_revision),
                ),
                ("increments", view.increments.join(", ")),
                ("newest", view.newest_revision.to_string()),
                ("fetches", output::bytes(view.stored_bytes)),
            ])
        })
    }

    /// Fetches a chain into the workspace, each backup against its digests, and merges it.
    pub async fn fetch(
        &self,
        chain: &Chain<'_>,
        unsealer: &Unsealer,
        workspace: &Workspace,
    ) -> Result<Fetched, CliError> {
        let base = workspace.fetched();
        verify::fetch(&self.repository, chain.base, unsealer, &base, &|_| {}).await?;
        let name = format!("backup {}", chain.base.id);
        if chain.increments.is_empty() {
            let to_revision = match chain.until {
                Until::Revision(wanted) if wanted < chain.base.revision => Some(wanted),
                _ => None,
            };
            return Ok(Fetched {
                file: base,
                name,
                to_revision,
            });
        }
        let parent = base.parent().map(PathBuf::from).unwrap_or_default();
        let folder = tempfile::Builder::new()
            .prefix("chain-")
            .tempdir_in(parent)?;
        let mut files = Vec::new();
        for (index, increment) in chain.increments.iter().enumerate() {
            let file = folder.path().join(format!("{index}.seg"));
            verify::fetch(&self.repository, increment, unsealer, &file, &|_| {}).await?;
            files.push(file);
        }
        let merged_file = base.with_extension("merged");
        let (until, to) = (chain.until, merged_file.clone());
        let merged = tokio::task::spawn_blocking(move || {
            let merged = chain::assemble(&base, &files, until, &to);
            drop(folder);
            // Its room is needed for what is restored.
            let _ = std::fs::remove_file(&base);
            merged
        })
        .await
        .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?
        .map_err(|error: RestoreError| CliError::from(error))?;
        let came = merged
            .at
            .map(|at| format!(", which came at {}", output::moment(at)))
            .unwrap_or_default();
        output::say(format!(
            "merged {} increments on backup {}: revision {}{came}",
            chain.increments.len(),
            chain.base.id,
            merged.revision
        ));
        Ok(Fetched {
            file: merged_file,
            name: format!("{name} with {} increments", chain.increments.len()),
            to_revision: None,
        })
    }
}
