//! A chain in the store → one snapshot file in the workspace: each backup is fetched against its digests, then they are merged.

use std::path::PathBuf;

use super::RestoreError;
use super::chain::{self, Chain};
use super::workspace::Workspace;
use crate::recorder::merge::{Merged, Until};
use crate::repository::{Manifest, Repository, this_process};
use crate::seal::Unsealer;
use crate::snapshot::HashKv;
use crate::verify::{self, VerifyError};

/// A snapshot that lies in the workspace.
pub struct Fetched {
    /// The file.
    pub file: PathBuf,
    /// What it was made of, for messages.
    pub name: String,
    /// What is still to be left out: the revision of a base that goes on.
    pub to_revision: Option<i64>,
    /// What was merged, when increments were.
    pub merged: Option<Merged>,
    /// The hash of the live cluster that it was held to, when an increment has one.
    pub held_to: Option<HashKv>,
}

/// Fetches a chain into the workspace and merges it; meanwhile a pin keeps retention from deleting it.
///
/// # Errors
/// When the store does not answer, a key is wrong, or a backup is damaged or gone.
pub async fn fetch(
    repository: &Repository,
    chain: &Chain<'_>,
    unsealer: &Unsealer,
    workspace: &Workspace,
) -> Result<Fetched, RestoreError> {
    let all = std::iter::once(chain.base).chain(chain.increments.iter().copied());
    let read: Vec<&Manifest> = all.collect();
    let work = fetch_all(repository, chain, unsealer, workspace);
    let pinned = repository.pinned(&read, &this_process(), work).await;
    pinned.map_err(VerifyError::from)?
}

async fn fetch_all(
    repository: &Repository,
    chain: &Chain<'_>,
    unsealer: &Unsealer,
    workspace: &Workspace,
) -> Result<Fetched, RestoreError> {
    let base = workspace.fetched();
    verify::fetch(repository, chain.base, unsealer, &base, &|_| {}).await?;
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
            merged: None,
            held_to: None,
        });
    }
    let parent = base.parent().map(PathBuf::from).unwrap_or_default();
    let folder = tempfile::Builder::new()
        .prefix("chain-")
        .tempdir_in(&parent)
        .map_err(RestoreError::file("create a folder in", &parent))?;
    let mut files = Vec::new();
    for (index, increment) in chain.increments.iter().enumerate() {
        let file = folder.path().join(format!("{index}.seg"));
        verify::fetch(repository, increment, unsealer, &file, &|_| {}).await?;
        files.push(file);
    }
    let merged_file = base.with_extension("merged");
    let (until, to) = (chain.until, merged_file.clone());
    let samples: Vec<_> = chain.increments.iter().map(|one| (*one).clone()).collect();
    let owned = (chain.base.clone(), samples);
    let (merged, held_to) = tokio::task::spawn_blocking(move || {
        let merged = chain::assemble(&base, &files, until, &to);
        drop(folder);
        // Its room is needed for what is restored.
        let _ = std::fs::remove_file(&base);
        let merged = merged?;
        let chain = Chain {
            base: &owned.0,
            increments: owned.1.iter().collect(),
            until,
        };
        let sample = chain::live_sample(&chain, merged.revision);
        if let Some((increment, live)) = sample {
            chain::hold_to(&to, &increment.id, live)?;
        }
        Ok::<_, RestoreError>((merged, sample.map(|(_, live)| live)))
    })
    .await
    .map_err(|error| RestoreError::file("merge into", &merged_file)(error.into()))??;
    Ok(Fetched {
        file: merged_file,
        name: format!("{name} with {} increments", chain.increments.len()),
        to_revision: None,
        merged: Some(merged),
        held_to,
    })
}
