//! Compression and encryption of what is stored: zstd, then age, both in their standard formats, so that `age -d | zstd -d`
//! gives the snapshot back without this program. Pure over `Read` and `Write`.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::api::{Compression, Encryption, ErrorClass};
use crate::secrets::Secrets;

/// How stored bytes were made from plain ones: what the manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seal {
    /// `age`, or empty when the bytes are not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The age recipients (public keys) that can open it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Whether a passphrase opens it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub passphrase: bool,
}

/// What seals: resolved before a backup begins, so that a missing key fails it at once. Cheap to clone: work on a thread of
/// its own takes one along.
#[derive(Clone)]
pub struct Sealer {}

/// What unseals: identities or a passphrase. Cheap to clone, as a [`Sealer`] is.
#[derive(Clone, Default)]
pub struct Unsealer {}

impl Sealer {
    /// The sealer that a backup's `encryption` and `compression` ask for.
    ///
    /// # Errors
    /// When a Secret is missing or holds no usable key.
    pub async fn resolve(
        _encryption: Option<&Encryption>,
        _compression: Compression,
        _namespace: &str,
        _secrets: &dyn Secrets,
    ) -> Result<Self, SealError> {
        todo!()
    }

    /// What the manifest says of it.
    pub fn describe(&self) -> Seal {
        todo!()
    }

    /// The compression in force.
    pub fn compression(&self) -> Compression {
        todo!()
    }

    /// Copies `plain` to `stored`, sealed.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn seal(&self, _plain: &mut dyn Read, _stored: &mut dyn Write) -> Result<(), SealError> {
        todo!()
    }
}

impl Unsealer {
    /// The unsealer for what a backup's `encryption` sealed: the Secret's `identities` or `passphrase`.
    ///
    /// # Errors
    /// When a Secret is missing or holds no usable key.
    pub async fn resolve(
        _encryption: Option<&Encryption>,
        _namespace: &str,
        _secrets: &dyn Secrets,
    ) -> Result<Self, SealError> {
        todo!()
    }

    /// Copies `stored` to `plain`, unsealed.
    ///
    /// # Errors
    /// When the key is wrong or the bytes are damaged.
    pub fn unseal(
        &self,
        _seal: &Seal,
        _compression: Compression,
        _stored: &mut dyn Read,
        _plain: &mut dyn Write,
    ) -> Result<(), SealError> {
        todo!()
    }
}

/// Why something could not be sealed or unsealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes could not be read or written.
    #[error("the stream broke")]
    Io(#[source] std::io::Error),
}

impl SealError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Failed
    }
}
