//! Why a backup failed: the stage and the object, and the class that callers act by.

use std::path::PathBuf;

use crate::api::ErrorClass;
use crate::etcd::EtcdError;
use crate::export::ExportError;
use crate::kms::KmsError;
use crate::pipeline::Part;
use crate::recorder::watch::RecordError;
use crate::repository::RepositoryError;
use crate::restore::RestoreError;
use crate::seal::SealError;
use crate::snapshot::SnapshotError;
use crate::verify::VerifyError;

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The deadline passed.
    #[error(
        "the backup took longer than activeDeadlineSeconds ({seconds}); raise it, or find what is slow in the log"
    )]
    Deadline {
        /// The limit.
        seconds: i64,
    },
    /// The spec asks for something that must not be done by halves.
    #[error("backup '{name}' was not taken: {why}")]
    Refused {
        /// Which backup.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// A hook that must succeed did not.
    #[error(
        "hook '{hook}' failed before the backup: {problem}; mend it, or give it onError: Continue"
    )]
    Hook {
        /// Which hook.
        hook: String,
        /// What it said.
        problem: String,
    },
    /// etcd could not be read.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The objects could not be had.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The snapshot could not be sealed, or the keys are missing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The key that the backup would be sealed with cannot be used.
    #[error(transparent)]
    Key(#[from] KmsError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] RepositoryError),
    /// The changes could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A chain could not be merged.
    #[error(transparent)]
    Merge(#[from] RestoreError),
    /// What lies in the store could not be proved.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The snapshot cannot be read at all.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A check failed, so nothing was kept.
    #[error(
        "the snapshot of revision {revision} from etcd member {endpoint} is not sound ({problem}); nothing was stored; look at the member with 'etcdguardian doctor'"
    )]
    NotSound {
        /// Whose snapshot.
        endpoint: String,
        /// Its last revision.
        revision: i64,
        /// The failed checks.
        problem: String,
    },
    /// The scratch folder cannot be used.
    #[error("the scratch folder {path} cannot be used: free space there or name another stateDir")]
    Scratch {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Only an increment was to be made here, and more is due.
    #[error("more than an increment is due, which this process leaves to another: {0:?}")]
    Left(Part),
    /// Work on a thread of its own was given up.
    #[error("{what} was interrupted: start the backup again")]
    Interrupted {
        /// What.
        what: &'static str,
    },
}

impl PipelineError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Deadline { .. } => ErrorClass::Timeout,
            Self::Refused { .. } => ErrorClass::Refused,
            Self::Etcd(error) => error.class(),
            Self::Export(error) => error.class(),
            Self::Seal(error) => error.class(),
            Self::Key(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Record(error) => error.class(),
            Self::Merge(error) => error.class(),
            Self::Verify(error) => error.class(),
            Self::Snapshot(error) => error.class(),
            Self::NotSound { .. } => ErrorClass::VerificationFailed,
            Self::Hook { .. } | Self::Scratch { .. } | Self::Left(_) | Self::Interrupted { .. } => {
                ErrorClass::Failed
            }
        }
    }
}
