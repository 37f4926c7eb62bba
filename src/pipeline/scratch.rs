//! The folder of one attempt: private, removed however the attempt ends, and what a killed attempt left is removed by the next.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::PipelineError;

const PREFIX: &str = "etcdguardian-backup-";
const LOCK: &str = ".lock";

/// A private folder with a lock beside it that says that its owner lives.
pub(super) struct Scratch {
    folder: TempDir,
    lock_file: PathBuf,
    _lock: File,
}

impl Scratch {
    /// A fresh folder in `parent`, which is created when missing; folders whose owner died are removed first.
    pub fn create(parent: &Path) -> Result<Self, PipelineError> {
        let failed = |path: &Path, source| PipelineError::Scratch {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
        remove_stale(parent);
        let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let lock_file = parent.join(format!("{name}{LOCK}"));
        // The lock comes first, so that no other attempt ever sees the folder without it.
        let lock = lock(&lock_file).map_err(|source| failed(&lock_file, source))?;
        let folder = tempfile::Builder::new()
            .prefix(&name)
            .rand_bytes(0)
            .tempdir_in(parent)
            .map_err(|source| failed(parent, source))?;
        Ok(Self {
            folder,
            lock_file,
            _lock: lock,
        })
    }

    /// Itself.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let folder = self.folder.path();
        if let Err(error) = fs::remove_dir_all(folder) {
            tracing::warn!(folder = %folder.display(), %error, "a scratch folder cannot be removed");
        }
        let _ = fs::remove_file(&self.lock_file);
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !name.starts_with(PREFIX) {
            continue;
        }
        // Ours always has its lock beside it, so a folder without one is somebody else's.
        let lock_file = parent.join(format!("{name}{LOCK}"));
        if !lock_file.is_file() {
            continue;
        }
        let Ok(_dead) = lock(&lock_file) else {
            continue;
        };
        tracing::info!(folder = name, "removing what a killed backup left");
        let _ = fs::remove_dir_all(entry.path());
        let _ = fs::remove_file(&lock_file);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn it_goes_when_it_is_dropped_and_a_dead_one_goes_with_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let inside = parent.path().join("scratch");
        let living = Scratch::create(&inside).unwrap();
        fs::write(living.file("snapshot.db"), "x").unwrap();
        let dead = inside.join("etcdguardian-backup-0123");
        fs::create_dir(&dead).unwrap();
        fs::write(inside.join("etcdguardian-backup-0123.lock"), "").unwrap();
        fs::write(dead.join("snapshot.db"), "x").unwrap();
        let other = inside.join("etcdguardian-backup-mine");
        fs::create_dir(&other).unwrap();

        let second = Scratch::create(&inside).unwrap();
        assert!(living.file("snapshot.db").exists(), "its owner lives");
        assert!(!dead.exists());
        assert!(other.exists(), "not ours");
        drop(second);
        drop(living);
        assert_eq!(names(&inside), 1, "only what is not ours is left");
    }
}
