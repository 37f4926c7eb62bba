//! An export in the store, with all that it builds on → one plain bundle that is whole.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::RestoreError;
use crate::api::ErrorClass;
use crate::cause::with_causes;
use crate::export::ExportError;
use crate::export::bundle;
use crate::export::chain::merge;
use crate::repository::{Check, Level, Manifest, Repository, exports_to, this_process};
use crate::seal::Unsealer;
use crate::verify::{self, Verdict, VerifyError};

/// Fetches an export into a new file, against the digests of its manifest; one that holds changes is merged with those of `all` that it
/// builds on. The ids of what was read, the whole export first. Meanwhile a pin keeps retention from deleting them.
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
    let work = fetch_all(repository, &chain, unsealer, file);
    let pinned = repository.pinned(&chain, &this_process(), work).await;
    pinned.map_err(VerifyError::from)??;
    Ok(chain.iter().map(|one| one.id.clone()).collect())
}

async fn fetch_all(
    repository: &Repository,
    chain: &[&Manifest],
    unsealer: &Unsealer,
    file: &Path,
) -> Result<(), RestoreError> {
    if let [only] = chain {
        return Ok(verify::fetch(repository, only, unsealer, file, &|_| {}).await?);
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
    Ok(())
}

/// Reads a stored export back with all that it builds on, and counts and compares its objects by kind.
///
/// # Errors
/// When the store does not answer, a key is wrong, or the scratch folder cannot be used. What is wrong with the export is in the verdict.
pub async fn prove_export(
    repository: &Repository,
    all: &[Manifest],
    wanted: &Manifest,
    unsealer: &Unsealer,
    scratch: &Path,
) -> Result<Verdict, RestoreError> {
    let folder = tempfile::Builder::new()
        .prefix("verify-")
        .tempdir_in(scratch)
        .map_err(RestoreError::file("create a folder in", scratch))?;
    let file = folder.path().join("bundle.tar");
    let unsound = [ErrorClass::VerificationFailed, ErrorClass::NotFound];
    let proved = match fetch_export(repository, all, wanted, unsealer, &file).await {
        Ok(chain) => read_whole(&file).await.map(|objects| (chain, objects)),
        Err(error) => Err(error),
    };
    let (ok, message) = match proved {
        Ok((chain, objects)) => (
            true,
            match chain.len() - 1 {
                0 => format!("{objects} objects, counted and compared by kind"),
                before => format!(
                    "{objects} objects with the {before} exports that it builds on, counted and compared by kind"
                ),
            },
        ),
        Err(error) if unsound.contains(&error.class()) => (false, with_causes(&error)),
        Err(error) => return Err(error),
    };
    Ok(Verdict {
        level: if ok { Level::Verified } else { Level::Stored },
        checks: vec![Check {
            name: "bundle".to_owned(),
            ok,
            message,
        }],
    })
}

/// The objects of a plain bundle, read to its end.
async fn read_whole(file: &Path) -> Result<u64, RestoreError> {
    let opened = File::open(file).map_err(RestoreError::file("open", file))?;
    let reading = tokio::task::spawn_blocking(move || {
        bundle::read(BufReader::with_capacity(1 << 20, opened), |_| Ok(()))
    });
    let about = reading
        .await
        .map_err(|error| RestoreError::file("read", file)(error.into()))?
        .map_err(|source| ExportError::Bundle {
            action: "read",
            source,
        })?;
    Ok(about.kinds.values().map(|kind| kind.objects).sum())
}
