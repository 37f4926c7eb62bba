//! Why a data key could not be made or opened, said so that somebody can act.

use crate::api::ErrorClass;
use crate::seal::SealError;
use crate::secrets::SecretError;

/// Why a data key could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// The name of a key cannot be read.
    #[error(
        "'{key}' names no key: write arn:aws:kms:REGION:ACCOUNT:key/ID or acs:kms:REGION:ACCOUNT:key/ID"
    )]
    Name {
        /// What was given.
        key: String,
    },
    /// The service does not answer.
    #[error(
        "the key {key} cannot be reached: check the network to {host}, then try again; nothing was begun without it"
    )]
    Unreachable {
        /// Which key.
        key: String,
        /// Which server.
        host: String,
        /// What happened.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The service is ill.
    #[error("the service of key {key} fails ({code}): try again later")]
    Failing {
        /// Which key.
        key: String,
        /// What it said.
        code: String,
    },
    /// The service says no.
    #[error(
        "the key {key} may not be used to {action} ({code}): check that it exists and is enabled, and that this identity may use it"
    )]
    Refused {
        /// Which key.
        key: String,
        /// `make a data key` or `open the backup`.
        action: &'static str,
        /// What the service said.
        code: String,
    },
    /// The wrapped key is not of this key, or of another backup.
    #[error(
        "the key {asked} does not open the backup ({code}): key {wanted} wrapped it; name that one, or a replica of it, with --kms-key"
    )]
    WrongKey {
        /// The key that was asked.
        asked: String,
        /// The key of the manifest.
        wanted: String,
        /// What the service said.
        code: String,
    },
    /// What the service answered is no data key.
    #[error("the service of key {key} answered with something else than a key: {problem}")]
    Answer {
        /// Which key.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// There are no credentials for the service.
    #[error(
        "no credentials for key {key} were found: name a Secret of the same cloud in credentialsSecret, or run with a workload identity"
    )]
    NoCredentials {
        /// Which key.
        key: String,
        /// What was tried.
        #[source]
        source: object_store::Error,
    },
    /// Only the operator's own identity could ask for it, and the backup is of a namespace that may not use that.
    #[error(
        "the key {key} is not asked for with the operator's cloud identity: name a Secret of the key's cloud in credentialsSecret, or have the namespace added to operator.trustedNamespaces"
    )]
    NotOwn {
        /// Which key.
        key: String,
    },
    /// A Secret or an identity is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The data key cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KmsError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Name { .. } => ErrorClass::Usage,
            Self::Unreachable { .. } | Self::Failing { .. } => ErrorClass::StoreUnavailable,
            Self::Refused { .. } | Self::WrongKey { .. } | Self::NoCredentials { .. } => {
                ErrorClass::Credentials
            }
            Self::NotOwn { .. } => ErrorClass::Refused,
            Self::Answer { .. } => ErrorClass::Failed,
            Self::Secret(error) => error.class(),
            Self::Seal(error) => error.class(),
        }
    }
}
