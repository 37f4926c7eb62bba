//! A restore drill: what a restore would do, done in a scratch folder, proved, booted in a real etcd when there is one, and
//! cleaned up. [`plan`] judges what was seen, [`boot`] runs the etcd.

mod boot;
pub mod plan;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::chain::Chain;
use super::fetch::fetch;
use super::plan::Request;
use super::workspace::Workspace;
use super::{RestoreError, observe, run};
use crate::api::{ErrorClass, RevisionPolicy};
use crate::cause::with_causes;
use crate::repository::Repository;
use crate::seal::Unsealer;
use crate::verify::Mapped;
use plan::{Drilled, Seen};

/// How a drill is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder for the fetched backup and the restored database: room for about three times the database.
    pub scratch: PathBuf,
    /// The etcd that is booted on the result; none is booted without one.
    pub etcd: Option<PathBuf>,
    /// How long that etcd may take to answer.
    pub boot_timeout: Duration,
}

/// The `etcd` of `PATH`.
pub fn etcd_on_path() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join("etcd"))
        .find(|file| file.is_file())
}

/// Restores a chain into scratch and proves the result. Whether the proof holds is in the answer; nothing stays behind.
///
/// # Errors
/// When the drill could not be done: the store does not answer, a key is wrong, there is no room.
pub async fn drill(
    repository: &Repository,
    chain: &Chain<'_>,
    unsealer: &Unsealer,
    options: &Options,
) -> Result<Drilled, RestoreError> {
    let began = Instant::now();
    std::fs::create_dir_all(&options.scratch)
        .map_err(RestoreError::file("create the folder", &options.scratch))?;
    let scratch = tempfile::Builder::new()
        .prefix("drill-")
        .tempdir_in(&options.scratch)
        .map_err(RestoreError::file("create a folder in", &options.scratch))?;
    let mut seen = Seen::default();
    let attempt = attempt(
        repository,
        chain,
        unsealer,
        options,
        scratch.path(),
        &mut seen,
    )
    .await;
    let removed = tokio::task::spawn_blocking(move || scratch.close()).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "the scratch folder of a drill cannot be removed");
    }
    match attempt {
        Ok(()) => {}
        // That the backup does not restore is what a drill is there to find out.
        Err(error) if error.class() == ErrorClass::VerificationFailed => {
            seen.broken = Some(with_causes(&error));
        }
        Err(error) => return Err(error),
    }
    Ok(plan::judge(chain, seen, began.elapsed()))
}

async fn attempt(
    repository: &Repository,
    chain: &Chain<'_>,
    unsealer: &Unsealer,
    options: &Options,
    scratch: &Path,
    seen: &mut Seen,
) -> Result<(), RestoreError> {
    let data_dir = scratch.join("member");
    let workspace = Workspace::take(&data_dir, false)?;
    let fetched = fetch(repository, chain, unsealer, &workspace).await?;
    seen.fetched = true;
    seen.held_to = fetched.held_to;
    let peer = boot::free_url().map_err(RestoreError::file("find a port for", "the drill"))?;
    let request = Request {
        source_name: fetched.name.clone(),
        data_dir: data_dir.clone(),
        name: "drill".to_owned(),
        initial_cluster: None,
        token: format!("drill-{}", uuid::Uuid::new_v4().simple()),
        advertise: vec![peer.clone()],
        all_members: false,
        to_revision: fetched.to_revision,
        policy: Some(RevisionPolicy::Exact),
        bump: None,
        skip_hash_check: false,
        replace: false,
    };
    let file = fetched.file;
    let restored = tokio::task::spawn_blocking(move || {
        let mapped = Mapped::open(&file).map_err(RestoreError::file("read", &file))?;
        let source = observe::source(mapped.bytes())?;
        let target = observe::target(&request.data_dir)?;
        let plan = super::plan::plan(&request, &source, &target, Timestamp::now())?;
        let outcome = run::restore(&plan, &workspace, mapped.bytes(), &|_| {})?;
        // The fetched copy's room is free before etcd starts.
        drop(workspace);
        Ok::<_, RestoreError>(outcome)
    })
    .await
    .map_err(|error| RestoreError::file("restore into", &data_dir)(error.into()))?;
    seen.restored = Some(restored?);
    if let Some(binary) = &options.etcd {
        let booted = boot::boot(binary, &data_dir, &peer, options.boot_timeout).await;
        seen.booted = Some(booted);
    }
    Ok(())
}
