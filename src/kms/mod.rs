//! Data keys that a key management service wraps: a key for each backup, whose wrapped form lies in the manifest and which only
//! the service opens again. The key itself is an age identity, so that what is sealed stays a plain age file.

mod acs3;
mod alibaba;
mod aws;
mod error;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::api::{Compression, Encryption, Provider, StorageLocation};
use crate::seal::{DataKey, Seal, Sealer, Unsealer, WrappedKey};
use crate::secrets::{Secret, Secrets};

pub use error::KmsError;

/// The names of the encryption context: what the service binds a wrapped key to, and writes into its audit log.
const CONTEXT_CLUSTER: &str = "etcdguardian-cluster";
const CONTEXT_BACKUP: &str = "etcdguardian-backup";

/// A key of a key management service, by its resource name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    cloud: Cloud,
    /// The region in whose service it lies.
    pub region: String,
    /// The whole name, as `arn:aws:kms:eu-central-1:1:key/…`.
    pub text: String,
    /// What follows the account: `key/…` or `alias/…`.
    resource: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloud {
    Aws,
    Alibaba,
}

impl KeyName {
    /// Reads `arn:aws:kms:REGION:ACCOUNT:key/ID`, an alias of that form, or `acs:kms:REGION:ACCOUNT:key/ID`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, KmsError> {
        let wrong = || KmsError::Name {
            key: text
                .chars()
                .filter(|letter| !letter.is_control())
                .take(200)
                .collect(),
        };
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let (cloud, region, resource) = match parts[..] {
            ["arn", partition, "kms", region, _, resource] if partition.starts_with("aws") => {
                (Cloud::Aws, region, resource)
            }
            ["acs", "kms", region, _, resource] => (Cloud::Alibaba, region, resource),
            _ => return Err(wrong()),
        };
        // The region becomes a part of a host name, and a manifest may be hostile.
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let named = resource.starts_with("key/") || resource.starts_with("alias/");
        if region.is_empty() || !region.bytes().all(plain) || !named || text.len() > 2048 {
            return Err(wrong());
        }
        Ok(Self {
            cloud,
            region: region.to_owned(),
            resource: resource.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// Asks key management services, with the identity that the store is reached with where it is of the same cloud, else with the
/// environment's.
#[derive(Clone)]
pub struct Keyring {
    aws: Arc<aws::AwsKms>,
    alibaba: Arc<alibaba::AlibabaKms>,
    /// The cloud that the store's Secret serves.
    of_secret: Option<Cloud>,
    /// Whether the environment's identity may ask, too.
    environment: bool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// The keyring of a store: its Secret serves the services of the same cloud.
    ///
    /// # Errors
    /// When the Secret lacks a key.
    pub fn of_store(location: &StorageLocation, secret: Option<&Secret>) -> Result<Self, KmsError> {
        let cloud = cloud_of(location);
        let keys = secret.filter(|secret| secret.bytes("access-key-id").is_some());
        let of = |wanted| keys.filter(|_| cloud == Some(wanted));
        Ok(Self {
            aws: Arc::new(aws::AwsKms::new(of(Cloud::Aws))?),
            alibaba: Arc::new(alibaba::AlibabaKms::new(of(Cloud::Alibaba))?),
            of_secret: keys.and(cloud),
            environment: true,
        })
    }

    /// Leaves the environment's identity out: for those who are not trusted with it, and whose manifests may name any key.
    pub fn keep_to_secret(&mut self) {
        self.environment = false;
    }

    fn admit(&self, key: &KeyName) -> Result<(), KmsError> {
        if self.environment || self.of_secret == Some(key.cloud) {
            return Ok(());
        }
        Err(KmsError::NotOwn {
            key: key.text.clone(),
        })
    }

    /// The keyring of the environment alone.
    pub fn of_environment() -> Self {
        Self {
            aws: Arc::default(),
            alibaba: Arc::default(),
            of_secret: None,
            environment: true,
        }
    }

    /// What seals a backup, or what will make that once the backup has a name. A key that cannot be reached, or may not be
    /// used, is found here, before anything is read from etcd.
    ///
    /// # Errors
    /// When a key is missing, wrong or out of reach.
    pub async fn sealing(
        &self,
        encryption: Option<&Encryption>,
        compression: Compression,
        namespace: &str,
        secrets: &dyn Secrets,
    ) -> Result<Sealing, KmsError> {
        let wanted = encryption.filter(|encryption| encryption.enabled);
        let Some(text) = wanted.and_then(|encryption| encryption.kms_key_id.as_deref()) else {
            let sealer = Sealer::resolve(encryption, compression, namespace, secrets).await?;
            return Ok(Sealing::Ready(sealer));
        };
        let key = KeyName::parse(text)?;
        // A key made and thrown away proves reach and right, and costs a fraction of a cent.
        let context = context("trial", "trial");
        drop(self.generate(&key, &context).await?);
        Ok(Sealing::Service {
            keyring: self.clone(),
            key,
            compression,
        })
    }

    /// An unsealer that opens `seal` as well: when no key at hand does, the service is asked.
    ///
    /// # Errors
    /// When the service refuses, or cannot be reached.
    pub async fn opening(&self, unsealer: &Unsealer, seal: &Seal) -> Result<Unsealer, KmsError> {
        let mut unsealer = unsealer.clone();
        let Some(wrapped) = seal.kms.as_ref().filter(|_| !unsealer.opens(seal)) else {
            return Ok(unsealer);
        };
        unsealer.add_data_key(&self.unwrap(wrapped, unsealer.kms_key()).await?)?;
        Ok(unsealer)
    }

    /// Opens a wrapped key; `instead` names the key to ask for it in place of the manifest's, as a replica in another region.
    ///
    /// # Errors
    /// When the service refuses, or cannot be reached.
    pub async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        instead: Option<&str>,
    ) -> Result<DataKey, KmsError> {
        let key = KeyName::parse(instead.unwrap_or(&wrapped.key_id))?;
        self.admit(&key)?;
        match key.cloud {
            Cloud::Aws => self.aws.unwrap(&key, wrapped).await,
            Cloud::Alibaba => self.alibaba.unwrap(&key, wrapped).await,
        }
    }

    async fn generate(
        &self,
        key: &KeyName,
        context: &BTreeMap<String, String>,
    ) -> Result<(DataKey, WrappedKey), KmsError> {
        self.admit(key)?;
        match key.cloud {
            Cloud::Aws => self.aws.generate(key, context).await,
            Cloud::Alibaba => self.alibaba.generate(key, context).await,
        }
    }
}

/// The cloud whose services a store's Secret serves. The keys of a store that only speaks like S3 are none of AWS.
fn cloud_of(location: &StorageLocation) -> Option<Cloud> {
    let endpoint = location.endpoint.as_deref();
    let in_aws = endpoint.is_none_or(|url| url.contains(".amazonaws.com"));
    match location.provider {
        Provider::S3 if in_aws => Some(Cloud::Aws),
        Provider::OSS => Some(Cloud::Alibaba),
        _ => None,
    }
}

/// Whether a key is asked for with the Secret of a store, rather than with the environment's identity. Pure.
pub fn is_of_secret(location: &StorageLocation, key: &str) -> bool {
    let key = KeyName::parse(key).ok();
    let has_secret = location.credentials_secret.is_some();
    has_secret && key.is_some_and(|key| cloud_of(location) == Some(key.cloud))
}

fn context(cluster: &str, backup: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (CONTEXT_CLUSTER.to_owned(), cluster.to_owned()),
        (CONTEXT_BACKUP.to_owned(), backup.to_owned()),
    ])
}

/// What seals backups.
#[derive(Debug, Clone)]
pub enum Sealing {
    /// The same key for all.
    Ready(Sealer),
    /// A key for each, made by a service.
    Service {
        /// Whom to ask.
        keyring: Keyring,
        /// The key that wraps.
        key: KeyName,
        /// The compression in force.
        compression: Compression,
    },
}

impl Sealing {
    /// The sealer of one backup.
    ///
    /// # Errors
    /// When the service refuses, or cannot be reached.
    pub async fn of_backup(&self, cluster: &str, backup: &str) -> Result<Sealer, KmsError> {
        match self {
            Self::Ready(sealer) => Ok(sealer.clone()),
            Self::Service {
                keyring,
                key,
                compression,
            } => {
                let (data, wrapped) = keyring.generate(key, &context(cluster, backup)).await?;
                Ok(Sealer::envelope(*compression, &data, wrapped)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn key_names_are_read_and_hostile_ones_are_not() {
        for (text, cloud, region) in [
            (
                "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab",
                Cloud::Aws,
                "eu-central-1",
            ),
            (
                "arn:aws-cn:kms:cn-north-1:1:alias/etcd",
                Cloud::Aws,
                "cn-north-1",
            ),
            (
                "acs:kms:cn-hangzhou:1:key/k1",
                Cloud::Alibaba,
                "cn-hangzhou",
            ),
        ] {
            let name = KeyName::parse(text).unwrap();
            assert_eq!((name.cloud, name.region.as_str()), (cloud, region));
        }
        for text in [
            "",
            "key/1",
            "arn:aws:s3:eu-central-1:1:key/a",
            "arn:aws:kms:evil.example/:1:key/a",
            "arn:aws:kms::1:key/a",
            "arn:aws:kms:eu-central-1:1:secret/a",
            "acs:kms:cn-hangzhou@evil:1:key/a",
        ] {
            let error = KeyName::parse(text).unwrap_err().to_string();
            assert!(error.contains("arn:aws:kms:"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_manifest_cannot_have_the_environments_identity_open_a_key() {
        let location: StorageLocation =
            serde_saphyr::from_str("{provider: S3, bucket: b, endpoint: 'http://minio:9000'}")
                .unwrap();
        let mut keyring = Keyring::of_store(&location, None).unwrap();
        keyring.keep_to_secret();
        let wrapped = WrappedKey {
            key_id: "arn:aws:kms:eu-central-1:1:key/of-the-operator".to_owned(),
            wrapped: String::new(),
            context: BTreeMap::new(),
        };
        let refused = keyring.unwrap(&wrapped, None).await;
        assert!(matches!(refused, Err(KmsError::NotOwn { .. })));
    }

    #[test]
    fn a_key_is_of_the_secret_where_store_and_key_are_of_one_cloud() {
        let at = |text: &str| serde_saphyr::from_str::<StorageLocation>(text).unwrap();
        let aws = "arn:aws:kms:eu-central-1:1:key/a";
        let s3 = at("{provider: S3, bucket: b, credentialsSecret: s}");
        let minio =
            at("{provider: S3, bucket: b, endpoint: 'http://m:9000', credentialsSecret: s}");
        let oss = at("{provider: OSS, bucket: b, credentialsSecret: s}");
        assert!(is_of_secret(&s3, aws));
        assert!(is_of_secret(&oss, "acs:kms:cn-hangzhou:1:key/a"));
        for (location, key) in [(&minio, aws), (&oss, aws), (&s3, "nonsense")] {
            assert!(!is_of_secret(location, key), "{location} {key}");
        }
        assert!(!is_of_secret(&at("{provider: S3, bucket: b}"), aws));
    }
}
