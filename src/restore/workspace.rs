//! The folder beside the target in which a restore works: locked while at work, removed when dropped, and cleaned by the next
//! restore after a kill.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::RestoreError;
use super::plan::WORKSPACE;

/// A locked scratch folder on the target's file system.
pub struct Workspace {
    folder: PathBuf,
    /// Whether an interrupted restore's leftovers were found and removed.
    pub cleaned: bool,
    _lock: File,
}

impl Workspace {
    /// The folder for a target: beside it, or in it when it is the root of a file system.
    pub fn path(data_dir: &Path, inside: bool) -> PathBuf {
        if inside {
            return data_dir.join(WORKSPACE);
        }
        let name = data_dir.file_name().unwrap_or_default();
        let mut folder = std::ffi::OsString::from(".");
        folder.push(name);
        folder.push(".restoring");
        data_dir.with_file_name(folder)
    }

    /// Takes the folder for a target, and cleans it.
    ///
    /// # Errors
    /// When another restore has it, or it cannot be made.
    pub fn take(data_dir: &Path, inside: bool) -> Result<Self, RestoreError> {
        let folder = Self::path(data_dir, inside);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(RestoreError::file("create the folder", &folder))?;
        let path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(RestoreError::file("open the lock", &path))?;
        let locked = || RestoreError::Locked {
            data_dir: data_dir.to_owned(),
        };
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| locked())?;
        // Whoever had it may have removed the folder between our opening and our locking.
        let ours = lock.metadata().ok().map(|about| about.ino());
        let there = fs::metadata(&path).ok().map(|about| about.ino());
        if ours.is_none() || ours != there {
            return Err(locked());
        }
        let workspace = Self {
            cleaned: folder.join("data").exists(),
            folder,
            _lock: lock,
        };
        let data = workspace.data();
        if workspace.cleaned {
            fs::remove_dir_all(&data).map_err(RestoreError::file("remove the remains", &data))?;
        }
        let fetched = workspace.fetched();
        if fetched.exists() {
            fs::remove_file(&fetched).map_err(RestoreError::file("remove", &fetched))?;
        }
        make_folder(&data)?;
        Ok(workspace)
    }

    /// Where a snapshot that is fetched first can lie meanwhile.
    pub fn fetched(&self) -> PathBuf {
        self.folder.join("fetched.db")
    }

    /// What will be moved into place.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next restore.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Creates a folder that only its owner can enter, as etcd wants it.
pub fn make_folder(path: &Path) -> Result<(), RestoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(RestoreError::file("create the folder", path))
}

/// Makes a folder's entries survive a power cut.
pub fn sync_folder(path: &Path) -> Result<(), RestoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(RestoreError::file("sync the folder", path))
}
