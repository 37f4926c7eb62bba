//! Why a backup could not be proved.

use std::path::PathBuf;

use crate::api::ErrorClass;
use crate::kms::KmsError;
use crate::repository::RepositoryError;
use crate::seal::SealError;

/// Why a backup could not be proved.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The bytes in the store are not those that were stored.
    #[error(
        "backup '{id}' in the store is damaged: {problem}; restore an older one and take a new backup"
    )]
    Damaged {
        /// Which backup.
        id: String,
        /// What differs.
        problem: String,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] RepositoryError),
    /// The store answered, but its stream broke.
    #[error("backup '{id}' cannot be read to its end from the store; try again")]
    Read {
        /// Which backup.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be unsealed although the stored bytes are right.
    #[error(
        "backup '{id}' cannot be opened, though its stored bytes are right: name the Secret or key that it was sealed for"
    )]
    Sealed {
        /// Which backup.
        id: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// The key management service that holds its key does not open it.
    #[error("backup '{id}' cannot be opened: its key is held by a key management service")]
    Key {
        /// Which backup.
        id: String,
        /// Why.
        #[source]
        source: KmsError,
    },
    /// The plain bytes cannot be put on disk, or read from there.
    #[error(
        "{path} cannot be used for the snapshot: free space or mend the permissions of its folder"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The work was given up because nobody waits for it any more.
    #[error("the check of backup '{id}' was interrupted; start it again")]
    Interrupted {
        /// Which backup.
        id: String,
    },
}

impl VerifyError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Damaged { .. } => ErrorClass::VerificationFailed,
            Self::Store(error) => error.class(),
            Self::Read { .. } => ErrorClass::StoreUnavailable,
            Self::Sealed { source, .. } => source.class(),
            Self::Key { source, .. } => source.class(),
            Self::File { .. } | Self::Interrupted { .. } => ErrorClass::Failed,
        }
    }
}
