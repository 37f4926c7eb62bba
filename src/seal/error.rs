//! Why something could not be sealed or unsealed, said so that somebody can act.

use std::io;

use super::Seal;
use crate::api::ErrorClass;
use crate::secrets::SecretError;

/// Why something could not be sealed or unsealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes could not be read or written.
    #[error(
        "the stream could not be {action}: try again; if it lasts, look at the disk and the store"
    )]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The stored bytes are not what was sealed.
    #[error("the stored bytes are damaged: {problem}; use another backup")]
    Damaged {
        /// What is wrong.
        problem: String,
    },
    /// No key was given.
    #[error(
        "the backup is encrypted and no key was given; {wanted}: add --identity FILE, --passphrase-file FILE, or the Secret"
    )]
    KeyMissing {
        /// Which key opens it.
        wanted: String,
    },
    /// Another key is needed.
    #[error("none of the given keys opens the backup; {wanted}")]
    KeyWrong {
        /// Which key opens it.
        wanted: String,
    },
    /// The passphrase would take too much memory and time.
    #[error(
        "the passphrase header asks for scrypt work factor {required}, more than this program spends: use another backup, or age itself"
    )]
    TooMuchWork {
        /// log2 of scrypt's N.
        required: u8,
    },
    /// A line is not a key.
    #[error(
        "line {line} of {origin} is not {expected}: write it as 'etcdguardian keygen' or 'age-keygen' does"
    )]
    BadKey {
        /// Which text.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// There is no key in a text.
    #[error("{origin} holds no key: write one, as 'etcdguardian keygen' prints it")]
    Empty {
        /// Which text.
        origin: String,
    },
    /// A Secret has none of the keys that are looked for.
    #[error("secret '{secret}' has no key {keys}: add one")]
    NoKeys {
        /// Which Secret.
        secret: String,
        /// What is looked for.
        keys: &'static str,
    },
    /// Encryption is on and nothing says with which key.
    #[error("encryption is enabled and names no key: set encryption.encryptionSecret")]
    NoSecretNamed,
    /// The key is made by a key management service, backup by backup.
    #[error("encryption.kmsKeyID names no key that this machine holds: ask its service for one")]
    KeyAtService,
    /// A seal of a newer program.
    #[error(
        "the backup is sealed with '{method}', which this program does not know: use a newer etcdguardian"
    )]
    UnknownMethod {
        /// What the manifest says.
        method: String,
    },
    /// The Secret could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl SealError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } => ErrorClass::Failed,
            Self::Damaged { .. } => ErrorClass::VerificationFailed,
            Self::TooMuchWork { .. } | Self::KeyAtService | Self::UnknownMethod { .. } => {
                ErrorClass::Refused
            }
            Self::NoSecretNamed => ErrorClass::Usage,
            Self::KeyMissing { .. }
            | Self::KeyWrong { .. }
            | Self::BadKey { .. }
            | Self::Empty { .. }
            | Self::NoKeys { .. } => ErrorClass::Credentials,
            Self::Secret(error) => error.class(),
        }
    }
}

/// Which key opens a seal, in words.
pub(super) fn wanted(seal: &Seal) -> String {
    if let Some(wrapped) = &seal.kms {
        return format!("the key {} opens it", wrapped.key_id);
    }
    match (&seal.recipients[..], seal.passphrase) {
        ([], true) => "its passphrase opens it".to_owned(),
        ([], false) => "its recipients are in its manifest: 'etcdguardian backup show'".to_owned(),
        ([one], _) => format!("the identity of {one} opens it"),
        (several, _) => format!(
            "the identity of any of these opens it: {}",
            several.join(", ")
        ),
    }
}
