//! An export in the store, with all that it builds on → one plain bundle that is whole.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::RestoreError;
use crate::export::chain::merge;
use crate::repository::{Manifest, Repository, exports_to};
use crate::seal::Unsealer;
use crate::verify;

/// Fetches an export into a new file, against the digests of its manifest; one that holds changes is merged with those of `all` that it
/// builds on. The ids of what was read, the whole export first.
///
/// # Errors
/// When the store does not answer, a key is wrong, or an export is damaged or not there.
pub async fn fetch_export(
    repository: &Repository,
    all: &[Manifest],
    wanted: &Manifest,
    unsealer: &Unsealer,
    file: &Path,
) -> Result<Vec<String>, RestoreError> {
    let chain = exports_to(wanted, all).map_err(|problem| RestoreError::Chain { problem })?;
    let ids = chain.iter().map(|one| one.id.clone()).collect();
    if let [only] = chain.as_slice() {
        verify::fetch(repository, only, unsealer, file, &|_| {}).await?;
        return Ok(ids);
    }
    let parent = file.parent().unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new()
        .prefix("exports-")
        .tempdir_in(parent)
        .map_err(RestoreError::file("create a folder in", parent))?;
    let mut files = Vec::with_capacity(chain.len());
    for (at, one) in chain.iter().enumerate() {
        let part = folder.path().join(format!("{at}.tar"));
        verify::fetch(repository, one, unsealer, &part, &|_| {}).await?;
        files.push(part);
    }
    let to = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(RestoreError::file("create", file))?;
    tokio::task::spawn_blocking(move || {
        let merged = merge(&files, to);
        drop(folder);
        merged
    })
    .await
    .map_err(|error| RestoreError::file("merge into", file)(error.into()))??;
    Ok(ids)
}
