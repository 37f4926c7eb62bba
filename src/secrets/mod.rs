//! Where credentials come from: a trait over Secrets, and a folder of them for stand-alone mode.

mod alibaba;
mod folder;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretSlice};

use crate::api::ErrorClass;

pub use alibaba::{AlibabaIdentity, AlibabaKeys};
pub use folder::FolderSecrets;

/// Reads Secrets by namespace and name. Read anew at each use, so that a rotated one is seen.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The Secret's keys and values.
    async fn read(&self, namespace: &str, name: &str) -> Result<Secret, SecretError>;
}

/// The keys and values of one Secret; prints only its name and keys.
#[derive(Clone)]
pub struct Secret {
    name: String,
    values: BTreeMap<String, SecretSlice<u8>>,
}

/// Why a Secret could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No such Secret.
    #[error("secret '{name}' does not exist: create {place}")]
    NotFound { name: String, place: String },
    /// It exists but cannot be read.
    #[error("secret '{name}' cannot be read at {place}: give this user the right to read it")]
    Unreadable {
        name: String,
        place: String,
        #[source]
        source: std::io::Error,
    },
    /// A key is missing.
    #[error("secret '{name}' has no key '{key}': add it")]
    MissingKey { name: String, key: String },
    /// A value is not text.
    #[error("key '{key}' of secret '{name}' is not UTF-8 text: write it again")]
    NotText { name: String, key: String },
    /// The name could lead out of the secrets folder.
    #[error("'{name}' is not a Secret name: use letters, digits, '-' and '.'")]
    InvalidName { name: String },
    /// A resource names a Secret, but no place to read Secrets from is configured.
    #[error(
        "secret '{name}' is named, but no secrets folder is configured: set secretsDir in the config"
    )]
    NoFolder { name: String },
    /// Nobody gives this process keys.
    #[error("{who}: {problem}")]
    Identity {
        who: &'static str,
        problem: String,
        #[source]
        source: Option<reqwest::Error>,
    },
}

impl SecretError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Credentials
    }
}

impl Secret {
    /// A Secret from its parts.
    pub fn new(name: impl Into<String>, values: BTreeMap<String, Vec<u8>>) -> Self {
        let values = values
            .into_iter()
            .map(|(key, value)| (key, SecretSlice::from(value)));
        Self {
            name: name.into(),
            values: values.collect(),
        }
    }

    /// The bytes of a key, when there.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(ExposeSecret::expose_secret)
    }

    /// The text of a key without surrounding white space, when there.
    pub fn text(&self, key: &str) -> Result<Option<&str>, SecretError> {
        let Some(bytes) = self.bytes(key) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText {
            name: self.name.clone(),
            key: key.to_owned(),
        })?;
        Ok(Some(text.trim()))
    }

    /// The text of a key that must be there.
    pub fn require_text(&self, key: &str) -> Result<&str, SecretError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// The bytes of a key that must be there.
    pub fn require_bytes(&self, key: &str) -> Result<&[u8], SecretError> {
        self.bytes(key).ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> SecretError {
        SecretError::MissingKey {
            name: self.name.clone(),
            key: key.to_owned(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("keys", &self.values.keys())
            .finish_non_exhaustive()
    }
}
