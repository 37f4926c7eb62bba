//! The state folder: what must survive a restart, each file replaced atomically, one process at a time.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ResourceName;
use crate::api::ErrorClass;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process works with it.
    #[error(
        "the state folder {} is in use by another etcdguardian: stop that one, or give this one its own stateDir",
        .folder.display()
    )]
    Locked { folder: PathBuf },
    /// It cannot be read or written.
    #[error(
        "{} cannot be {action}: mend its rights or free space, or set another stateDir",
        .path.display()
    )]
    Io {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl StateError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Locked { .. } => ErrorClass::Locked,
            Self::Io { .. } => ErrorClass::Failed,
        }
    }
}

/// The folder, locked for this process for as long as it is held.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the folder when needed and locks it; the lock goes with the process, however it ends.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        let at = |path: &Path, action| {
            let path = path.to_owned();
            move |source| StateError::Io {
                path,
                action,
                source,
            }
        };
        std::fs::create_dir_all(root).map_err(at(root, "created"))?;
        let lock_path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(at(&lock_path, "opened"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                root: root.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked {
                folder: root.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(at(&lock_path, "locked")(source)),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where snapshots are drained before they are stored. Its contents never outlive a run.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The file of a schedule's or backup's record.
    pub fn record(&self, kind: &str, name: &ResourceName) -> PathBuf {
        // '_' cannot occur in a namespace or name, so no two resources share a file.
        self.root
            .join(kind)
            .join(format!("{}_{}.json", name.namespace, name.name))
    }

    /// The file of the status that `etcdguardian status` reads.
    pub fn status_file(root: &Path) -> PathBuf {
        root.join("status.json")
    }

    /// The folder where commands leave their wishes for the running process.
    pub fn requests(root: &Path) -> PathBuf {
        root.join("requests")
    }
}

/// Reads a record; `None` when there is none. One that cannot be understood is set aside, never trusted, never fatal.
pub fn read_record<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read a state file: starting without it");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            let aside = path.with_extension("json.damaged");
            let kept = std::fs::rename(path, &aside).is_ok();
            tracing::warn!(path = %path.display(), %error, kept, "a state file is damaged: set aside, starting without it");
            None
        }
    }
}

/// Writes a record so that a crash leaves the old or the new one, never a part.
pub fn write_record<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let failed = |source| StateError::Io {
        path: path.to_owned(),
        action: "written",
        source,
    };
    let bytes = serde_json::to_vec(value).map_err(|error| failed(io::Error::other(error)))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// Removes a record; a missing one is fine.
pub fn remove_record(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io {
            path: path.to_owned(),
            action: "removed",
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_the_lock_goes_with_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        assert!(matches!(
            StateDir::open(folder.path()),
            Err(StateError::Locked { .. })
        ));
        drop(first);
        assert!(StateDir::open(folder.path()).is_ok());
    }

    #[test]
    fn records_survive_and_damaged_ones_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schedules/default_a.json");
        assert_eq!(read_record::<Vec<i32>>(&path), None);
        write_record(&path, &vec![1, 2]).unwrap();
        assert_eq!(read_record::<Vec<i32>>(&path), Some(vec![1, 2]));
        std::fs::write(&path, b"[1, 2").unwrap();
        assert_eq!(read_record::<Vec<i32>>(&path), None);
        assert!(path.with_extension("json.damaged").exists());
        remove_record(&path).unwrap();
    }
}
