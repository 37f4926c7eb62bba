//! Evidence → verdict: what is in the store is read back, unsealed and proved, level by level.

mod mapped;

use std::path::Path;

use crate::api::ErrorClass;
use crate::repository::{Manifest, Repository};
use crate::seal::Unsealer;

pub use mapped::Mapped;

/// Reads a stored backup back into `to` (created new, 0600): the stored bytes' size and digest are checked, then it is
/// unsealed, and the plain bytes' size and digest are checked.
///
/// # Errors
/// When the store does not answer, the key is wrong, or the bytes are not those of the manifest.
pub async fn fetch(
    _repository: &Repository,
    _manifest: &Manifest,
    _unsealer: &Unsealer,
    _to: &Path,
    _progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), VerifyError> {
    todo!()
}

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
}

impl VerifyError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::VerificationFailed
    }
}
