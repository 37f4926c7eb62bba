//! A backup → data directories that boot. [`plan`] decides purely what will be done, [`run`] does it in a folder beside the
//! target, proves what it wrote, and only then moves it into place; [`observe`] looks at the snapshot and the target before.

pub mod bundle;
pub mod chain;
pub mod choose;
mod database;
pub mod drill;
pub mod fetch;
pub mod observe;
mod place;
pub mod plan;
mod proof;
pub mod run;
pub mod static_pod;
pub mod steps;
pub mod workspace;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::api::ErrorClass;
use crate::export::ExportError;
use crate::recorder::merge::MergeError;
use crate::snapshot::SnapshotError;
use crate::snapshot::bolt::build::BuildError;
use crate::snapshot::datadir::MembershipError;
use crate::verify::VerifyError;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The words of the caller fit no restore.
    #[error("{0}")]
    Usage(String),
    /// The initial cluster is none.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The snapshot is damaged.
    #[error(
        "{source_name} must not be restored: {problem}; nothing was written; take another backup (see 'etcdguardian snapshot check')"
    )]
    Damaged {
        /// The snapshot.
        source_name: String,
        /// What was found, the worst first.
        problem: String,
    },
    /// There is no digest behind the image.
    #[error(
        "{source_name} has no digest behind it, as a file that was copied from a data directory: nothing says that it is whole; add --skip-hash-check to restore it all the same"
    )]
    NoDigest {
        /// The snapshot.
        source_name: String,
    },
    /// The snapshot could not be read, or does not reach to the revision.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The target is in use.
    #[error(
        "{} is not empty (it holds {found}): name another --data-dir, or add --replace to keep it as {} and put the restored one in its place",
        data_dir.display(), kept_as.display()
    )]
    Occupied {
        /// The target.
        data_dir: PathBuf,
        /// What lies in it.
        found: String,
        /// Where it would be kept.
        kept_as: PathBuf,
    },
    /// There is no room.
    #[error(
        "{place} has {free} bytes free, and the restore needs {needed}: make room, or name another --data-dir"
    )]
    NoSpace {
        /// The file system's folder.
        place: String,
        /// Bytes.
        free: u64,
        /// Bytes.
        needed: u64,
    },
    /// Another restore is at work.
    #[error("another restore into {} is at work: wait for it, or name another --data-dir", data_dir.display())]
    Locked {
        /// The target.
        data_dir: PathBuf,
    },
    /// What would be moved away under a living etcd goes on to be written, unseen.
    #[error("an etcd runs on {}: stop it first (its static pod, its unit or its pod), then try again", data_dir.display())]
    Running {
        /// The target.
        data_dir: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The increments do not lead there, or one is broken.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// What a backup builds on is not there.
    #[error("{problem}; see 'etcdguardian backup list'")]
    Chain {
        /// In words.
        problem: String,
    },
    /// The bundle of an export could not be read or merged.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A backup could not be had from the store.
    #[error(transparent)]
    Fetch(#[from] VerifyError),
    /// The image could not be written.
    #[error("the restored database could not be written; nothing was put in place")]
    Build(#[from] BuildError),
    /// What was written is not what should have been.
    #[error(
        "the restored database was read back and is not the snapshot's: {problem}; nothing was put in place; the disk or this program is at fault: try another --data-dir"
    )]
    Unproved {
        /// What differs.
        problem: String,
    },
}

impl RestoreError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Usage(_) | Self::Membership(_) => ErrorClass::Usage,
            Self::Damaged { .. } | Self::Unproved { .. } => ErrorClass::VerificationFailed,
            Self::NoDigest { .. } | Self::Occupied { .. } | Self::NoSpace { .. } => {
                ErrorClass::Refused
            }
            Self::Snapshot(error) => error.class(),
            Self::Merge(error) => error.class(),
            Self::Chain { .. } => ErrorClass::NotFound,
            Self::Export(error) => error.class(),
            Self::Fetch(error) => error.class(),
            Self::Locked { .. } | Self::Running { .. } => ErrorClass::Locked,
            Self::File { .. } | Self::Build(_) => ErrorClass::Failed,
        }
    }

    /// Attaches what was tried, and on what, to an error of the file system.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
