//! The state folder: what must survive a restart, each file replaced atomically, one process at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
    _lock: Arc<File>,
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
                _lock: Arc::new(lock),
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

    /// Removes what a killed process left in scratch.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn empty_scratch(&self) -> Result<(), StateError> {
        let scratch = self.scratch();
        match std::fs::remove_dir_all(&scratch) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io {
                path: scratch,
                action: "emptied",
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Where standing alerts survive a restart.
    pub fn alerts_file(&self) -> PathBuf {
        self.root.join("alerts.json")
    }

    /// Where it is kept when the last digest was sent.
    pub fn digest_file(&self) -> PathBuf {
        self.root.join("digest.json")
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
}
