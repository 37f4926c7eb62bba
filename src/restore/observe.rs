//! What a restore must know before it is decided: the snapshot's revisions and kind, the target's content and room.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::RestoreError;
use super::plan::{Source, Target};
use crate::snapshot::bolt::Database;
use crate::snapshot::datadir::DATABASE;
use crate::snapshot::datadir::database::holds_kubernetes;
use crate::snapshot::{self, Digest, Snapshot, SnapshotError};

/// Looks at a snapshot: only as far as a plan needs. It is proved while it is restored.
///
/// # Errors
/// When it is no bbolt file.
pub fn source(bytes: &[u8]) -> Result<Source, RestoreError> {
    let split = Snapshot::split(bytes);
    let image = Database::open(split.image).map_err(SnapshotError::from)?;
    let (revision, compact_revision) = snapshot::revisions(bytes)?;
    Ok(Source {
        revision,
        compact_revision,
        image_bytes: image.size(),
        digest: if split.trailer.is_none() {
            Digest::Missing
        } else {
            Digest::Ok
        },
        kubernetes: holds_kubernetes(&image).map_err(SnapshotError::from)?,
    })
}

/// Looks at the target.
///
/// # Errors
/// When it cannot be looked at.
pub fn target(data_dir: &Path) -> Result<Target, RestoreError> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => {
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry.map_err(RestoreError::file("list", data_dir))?;
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Some(names)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(RestoreError::file("list", data_dir)(error)),
    };
    let existing = data_dir
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(data_dir);
    let room = rustix::fs::statvfs(existing)
        .map_err(|error| RestoreError::file("ask for the free space of", existing)(error.into()))?;
    Ok(Target {
        running: is_running(data_dir),
        mount_point: entries.is_some() && is_mount_point(data_dir),
        entries,
        free: room.f_bavail.saturating_mul(room.f_frsize),
    })
}

/// Whether an etcd runs on a data directory, or on one right below it: it locks its database as long as it lives.
pub fn is_running(data_dir: &Path) -> bool {
    let below = fs::read_dir(data_dir).into_iter().flatten().flatten();
    let mut folders = below.map(|entry| entry.path()).chain([data_dir.to_owned()]);
    folders.any(|folder| {
        let Ok(database) = File::open(folder.join(DATABASE)) else {
            return false;
        };
        // A file system that knows no locks says something else, and nothing about etcd.
        flock(&database, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Whether the folder is the root of a file system, such as a volume of a pod.
fn is_mount_point(folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|about| about.dev());
    match folder.parent() {
        Some(parent) => device(folder) != device(parent),
        None => true,
    }
}
