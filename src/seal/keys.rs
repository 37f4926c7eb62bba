//! Keys as people and Secrets hold them: age recipients and identities, one a line, and passphrases.

use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519::{Identity, Recipient};
use bech32::{Bech32, Hrp};

use super::SealError;

/// A new key pair.
pub struct GeneratedKey {
    /// What encrypts; may be known to all.
    pub public: String,
    /// The content of an identity file, in age-keygen's form.
    pub identity_file: SecretString,
}

/// A data key: the 32 bytes of an age identity.
pub struct DataKey(SecretString);

impl DataKey {
    /// From 32 random bytes; `None` for any other number.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let name = Hrp::parse("age-secret-key-").ok()?;
        let text = bech32::encode_upper::<Bech32>(name, bytes).ok()?;
        (bytes.len() == 32).then(|| Self(SecretString::from(text)))
    }

    pub(super) fn identity(&self) -> Result<Identity, SealError> {
        self.0
            .expose_secret()
            .parse()
            .map_err(|_| SealError::BadKey {
                origin: "the data key of the key management service".to_owned(),
                line: 1,
                expected: "an age identity",
            })
    }

    /// The content of an identity file, as age reads it.
    ///
    /// # Errors
    /// When the bytes are no key.
    pub fn identity_file(&self) -> Result<GeneratedKey, SealError> {
        let public = self.identity()?.to_public().to_string();
        let identity_file = SecretString::from(format!(
            "# public key: {public}\n{}\n",
            self.0.expose_secret()
        ));
        Ok(GeneratedKey {
            public,
            identity_file,
        })
    }
}

/// Makes a new key pair.
pub fn generate() -> GeneratedKey {
    let identity = Identity::generate();
    let public = identity.to_public().to_string();
    let secret = identity.to_string();
    let identity_file = SecretString::from(format!(
        "# public key: {public}\n{}\n",
        secret.expose_secret()
    ));
    GeneratedKey {
        public,
        identity_file,
    }
}

pub(super) fn recipients(text: &str, origin: &str) -> Result<Vec<Recipient>, SealError> {
    parse(text, origin, "an age public key (age1…)")
}

pub(super) fn identities(text: &str, origin: &str) -> Result<Vec<Identity>, SealError> {
    parse(text, origin, "an age secret key (AGE-SECRET-KEY-1…)")
}

pub(super) fn passphrase(text: &str, origin: &str) -> Result<SecretString, SealError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(SealError::Empty {
            origin: origin.to_owned(),
        });
    }
    Ok(SecretString::from(text.to_owned()))
}

/// A key a line; empty lines and comments are passed over. The line itself, which may be a secret, is never repeated.
fn parse<K: FromStr>(
    text: &str,
    origin: &str,
    expected: &'static str,
) -> Result<Vec<K>, SealError> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.parse().map_err(|_| SealError::BadKey {
            origin: origin.to_owned(),
            line: index + 1,
            expected,
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(SealError::Empty {
            origin: origin.to_owned(),
        });
    }
    Ok(keys)
}
