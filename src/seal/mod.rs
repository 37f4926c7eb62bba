//! Compression and encryption of what is stored: zstd, then age, both in their standard formats, so that `age -d | zstd -d`
//! gives the snapshot back without this program. Pure over `Read` and `Write`.

mod digest;
mod error;
mod keys;
mod pieces;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use age::secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::api::{Compression, Encryption};
use crate::secrets::{Secret, Secrets};

pub use digest::Digest;
pub use error::SealError;
pub use keys::{DataKey, GeneratedKey, generate};
pub use pieces::Pieces;

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
    /// The identity of the recipient, wrapped by a key management service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms: Option<WrappedKey>,
}

/// A data key in the form that only a key management service opens; no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrappedKey {
    /// The key that wrapped it, as `arn:aws:kms:…` or `acs:kms:…`.
    #[serde(rename = "keyID")]
    pub key_id: String,
    /// The wrapped key as the service gave it: base64.
    pub wrapped: String,
    /// What it is bound to: the cluster and the backup.
    pub context: BTreeMap<String, String>,
}

/// The method of every encrypted backup.
const AGE: &str = "age";

/// What seals: resolved before a backup begins, so that a missing key fails it at once.
#[derive(Clone)]
pub struct Sealer {
    compression: Compression,
    lock: Lock,
    kms: Option<WrappedKey>,
    /// A key of the moment, for reading back what only others can open.
    witness: Option<age::x25519::Recipient>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sealer").field(&self.describe()).finish()
    }
}

#[derive(Clone)]
enum Lock {
    Open,
    Recipients(Vec<age::x25519::Recipient>),
    Passphrase(SecretString),
}

/// What unseals: identities or a passphrase. The default opens only what is not encrypted.
#[derive(Clone, Default)]
pub struct Unsealer {
    identities: Vec<age::x25519::Identity>,
    passphrase: Option<SecretString>,
    kms_key: Option<String>,
}

impl Sealer {
    /// The sealer that a backup's `encryption` and `compression` ask for. The Secret holds `recipients` (age public keys,
    /// one a line), or `identities`, whose public keys are then used, or `passphrase`.
    ///
    /// # Errors
    /// When a Secret is missing or holds no usable key, and for `kmsKeyID`, whose service makes the key.
    pub async fn resolve(
        encryption: Option<&Encryption>,
        compression: Compression,
        namespace: &str,
        secrets: &dyn Secrets,
    ) -> Result<Self, SealError> {
        if encryption.is_some_and(|wanted| wanted.enabled && wanted.kms_key_id.is_some()) {
            return Err(SealError::KeyAtService);
        }
        let Some((name, secret)) = read_secret(encryption, namespace, secrets).await? else {
            return Ok(Self::open(compression));
        };
        let lock = if let Some(text) = secret.text("recipients")? {
            Lock::Recipients(keys::recipients(
                text,
                &format!("secret '{name}', key 'recipients'"),
            )?)
        } else if let Some(text) = secret.text("identities")? {
            let identities = keys::identities(text, &format!("secret '{name}', key 'identities'"))?;
            Lock::Recipients(
                identities
                    .iter()
                    .map(age::x25519::Identity::to_public)
                    .collect(),
            )
        } else if let Some(text) = secret.text("passphrase")? {
            Lock::Passphrase(keys::passphrase(
                text,
                &format!("secret '{name}', key 'passphrase'"),
            )?)
        } else {
            return Err(SealError::NoKeys {
                secret: name.to_owned(),
                keys: "'recipients' (age public keys, one a line) or 'passphrase'",
            });
        };
        Ok(Self {
            compression,
            lock,
            kms: None,
            witness: None,
        })
    }

    /// A sealer that compresses and does not encrypt.
    pub fn open(compression: Compression) -> Self {
        Self {
            compression,
            lock: Lock::Open,
            kms: None,
            witness: None,
        }
    }

    /// A sealer of one backup, whose data key a key management service wrapped.
    ///
    /// # Errors
    /// When the bytes are no key.
    pub fn envelope(
        compression: Compression,
        key: &DataKey,
        wrapped: WrappedKey,
    ) -> Result<Self, SealError> {
        let recipient = key.identity()?.to_public();
        Ok(Self {
            compression,
            lock: Lock::Recipients(vec![recipient]),
            kms: Some(wrapped),
            witness: None,
        })
    }

    /// The same sealer, and an unsealer with a key of the moment that is kept nowhere: what is sealed for keys that are not on
    /// this machine can so be read back and proved. The stored file has one recipient more than its manifest names.
    #[must_use]
    pub fn witnessed(&self) -> (Self, Unsealer) {
        let mut sealer = self.clone();
        let mut unsealer = Unsealer::default();
        if let Lock::Recipients(_) = &sealer.lock {
            let identity = age::x25519::Identity::generate();
            sealer.witness = Some(identity.to_public());
            unsealer.identities.push(identity);
        }
        (sealer, unsealer)
    }

    /// What the manifest says of it.
    pub fn describe(&self) -> Seal {
        match &self.lock {
            Lock::Open => Seal::default(),
            Lock::Recipients(recipients) => Seal {
                method: AGE.to_owned(),
                recipients: recipients.iter().map(ToString::to_string).collect(),
                passphrase: false,
                kms: self.kms.clone(),
            },
            Lock::Passphrase(_) => Seal {
                method: AGE.to_owned(),
                recipients: Vec::new(),
                passphrase: true,
                kms: None,
            },
        }
    }

    /// The compression in force.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Copies `plain` to `stored`, sealed. Blocks; memory does not grow with the stream.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn seal(
        &self,
        plain: &mut dyn Read,
        stored: &mut (dyn Write + Send),
    ) -> Result<(), SealError> {
        stream::seal(self, plain, stored)
    }
}

impl Unsealer {
    /// The unsealer for what a backup's `encryption` sealed: the Secret's `identities` or `passphrase`. A Secret that holds
    /// only `recipients` is in order, as the private key may be kept elsewhere; the result then opens nothing encrypted.
    ///
    /// # Errors
    /// When a Secret is missing or holds no usable key.
    pub async fn resolve(
        encryption: Option<&Encryption>,
        namespace: &str,
        secrets: &dyn Secrets,
    ) -> Result<Self, SealError> {
        match read_secret(encryption, namespace, secrets).await? {
            None => Ok(Self::default()),
            Some((name, secret)) => Self::from_secret(name, &secret),
        }
    }

    /// The unsealer of a Secret's `identities` and `passphrase`.
    ///
    /// # Errors
    /// When it holds no usable key.
    pub fn from_secret(name: &str, secret: &Secret) -> Result<Self, SealError> {
        let mut unsealer = Self::default();
        if let Some(text) = secret.text("identities")? {
            unsealer.add_identities(text, &format!("secret '{name}', key 'identities'"))?;
        }
        if let Some(text) = secret.text("passphrase")? {
            unsealer.set_passphrase(text, &format!("secret '{name}', key 'passphrase'"))?;
        }
        if !unsealer.has_key() && secret.text("recipients")?.is_none() {
            return Err(SealError::NoKeys {
                secret: name.to_owned(),
                keys: "'identities' (age secret keys, one a line) or 'passphrase'",
            });
        }
        Ok(unsealer)
    }

    /// Adds the age identities of a text, one a line; `origin` names it in errors.
    ///
    /// # Errors
    /// When a line is neither a comment nor an identity.
    pub fn add_identities(&mut self, text: &str, origin: &str) -> Result<(), SealError> {
        self.identities.extend(keys::identities(text, origin)?);
        Ok(())
    }

    /// Sets the passphrase; `origin` names its place in errors.
    ///
    /// # Errors
    /// When it is empty.
    pub fn set_passphrase(&mut self, text: &str, origin: &str) -> Result<(), SealError> {
        self.passphrase = Some(keys::passphrase(text, origin)?);
        Ok(())
    }

    /// Adds a data key that a key management service opened.
    ///
    /// # Errors
    /// When the bytes are no key.
    pub fn add_data_key(&mut self, key: &DataKey) -> Result<(), SealError> {
        self.identities.push(key.identity()?);
        Ok(())
    }

    /// Names the key to ask in place of the one in a manifest, as a replica in another region.
    pub fn set_kms_key(&mut self, key: impl Into<String>) {
        self.kms_key = Some(key.into());
    }

    /// The key to ask in place of the one in a manifest.
    pub fn kms_key(&self) -> Option<&str> {
        self.kms_key.as_deref()
    }

    /// Whether it holds any key at all.
    pub fn has_key(&self) -> bool {
        !self.identities.is_empty() || self.passphrase.is_some()
    }

    /// Whether it holds a key that the manifest says will open this.
    pub fn opens(&self, seal: &Seal) -> bool {
        let listed = |identity: &age::x25519::Identity| {
            seal.recipients.contains(&identity.to_public().to_string())
        };
        seal.method.is_empty()
            || (seal.passphrase && self.passphrase.is_some())
            || self.identities.iter().any(listed)
    }

    /// Copies `stored` to `plain`, unsealed. Blocks; memory does not grow with the stream.
    ///
    /// # Errors
    /// When the key is wrong or the bytes are damaged.
    pub fn unseal(
        &self,
        seal: &Seal,
        compression: Compression,
        stored: &mut dyn Read,
        plain: &mut dyn Write,
    ) -> Result<(), SealError> {
        stream::unseal(self, stream::Made::As(seal, compression), stored, plain)
    }

    /// Copies a stored file to `plain`, unsealed as its own first bytes say: for a file without its manifest.
    ///
    /// # Errors
    /// When the key is wrong or the bytes are damaged.
    pub fn unseal_file(
        &self,
        stored: &mut dyn Read,
        plain: &mut dyn Write,
    ) -> Result<(), SealError> {
        stream::unseal(self, stream::Made::Told, stored, plain)
    }
}

/// The Secret of an enabled `encryption`, with its name; none where a key management service holds the key.
async fn read_secret<'a>(
    encryption: Option<&'a Encryption>,
    namespace: &str,
    secrets: &dyn Secrets,
) -> Result<Option<(&'a str, Secret)>, SealError> {
    let Some(encryption) = encryption.filter(|encryption| encryption.enabled) else {
        return Ok(None);
    };
    if encryption.kms_key_id.is_some() {
        return Ok(None);
    }
    let name = encryption
        .encryption_secret
        .as_deref()
        .ok_or(SealError::NoSecretNamed)?;
    Ok(Some((name, secrets.read(namespace, name).await?)))
}
