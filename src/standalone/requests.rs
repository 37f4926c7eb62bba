//! Wishes that commands leave for the running process: a file each in the state folder, removed once it is heeded.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::engine::Wish;
use crate::engine::{ResourceName, StateDir};
use crate::records::{RecordError, read_record, write_record};

/// A wish and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What is wanted.
    pub wish: Wish,
    /// The schedule's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was asked for.
    pub asked: Timestamp,
}

impl Request {
    /// The schedule that it is about.
    pub fn schedule(&self) -> ResourceName {
        ResourceName {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Leaves a request in a state folder; returns its file, which vanishes once the request is heeded.
///
/// # Errors
/// When the folder cannot be written.
pub fn leave(state_root: &Path, request: &Request) -> Result<PathBuf, RecordError> {
    let file = StateDir::requests(state_root).join(format!("{}.json", uuid::Uuid::now_v7()));
    write_record(&file, request)?;
    Ok(file)
}

/// The requests that wait, oldest first, with their files. Unreadable ones are set aside.
pub fn waiting(state_root: &Path) -> Vec<(PathBuf, Request)> {
    let Ok(entries) = std::fs::read_dir(StateDir::requests(state_root)) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|file| read_record(&file).map(|request| (file, request)))
        .collect()
}
