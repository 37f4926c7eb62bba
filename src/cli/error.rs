//! What a failed command says: what happened, to which object, what to type next; and its exit code.

use std::error::Error;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::api::ErrorClass;
use crate::cause::with_causes;

/// A failure as the user sees it.
#[derive(Debug, Serialize)]
pub struct CliError {
    /// Chooses the exit code.
    pub class: ErrorClass,
    /// What happened, to which object, and the next step.
    pub message: String,
}

impl CliError {
    /// An error of a class, in words.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// An error of a class from a room's error: its own words, then those of its sources that add something.
    pub fn from_error(class: ErrorClass, error: &dyn Error) -> Self {
        let message = with_causes(error);
        Self { class, message }
    }

    /// The same error, said of a file.
    #[must_use]
    pub fn about(mut self, path: &Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Converts errors of rooms, which know their class, into what the user sees.
macro_rules! from_room_errors {
    ($($error:path),* $(,)?) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::from_error(error.class(), &error)
            }
        })*
    };
}

from_room_errors!(
    crate::api::DocumentError,
    crate::api::LocationUrlError,
    crate::etcd::EtcdError,
    crate::kms::KmsError,
    crate::export::ExportError,
    crate::pipeline::PipelineError,
    crate::verify::VerifyError,
    crate::records::RecordError,
    crate::repository::RepositoryError,
    crate::seal::SealError,
    crate::restore::RestoreError,
    crate::secrets::SecretError,
    crate::snapshot::SnapshotError,
    crate::operator::OperatorError,
    crate::standalone::LoopError,
);

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::from_error(ErrorClass::Failed, &error)
    }
}
