//! Small JSON files that survive a crash: each is replaced atomically, and a damaged one is set aside. Beside them, large files that
//! reach the disk while they are written.

mod syncing;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use syncing::{SyncingFile, WRITE_AT_ONCE};

use crate::api::ErrorClass;

/// Why a record could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be {action}: mend its rights or free space, or set another stateDir",
    .path.display()
)]
pub struct RecordError {
    path: PathBuf,
    action: &'static str,
    #[source]
    source: io::Error,
}

impl RecordError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Failed
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
pub fn write_record<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let failed = |source| RecordError {
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
pub fn remove_record(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RecordError {
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
