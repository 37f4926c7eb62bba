//! Opens the object store that a location names, with credentials from its Secret or from the workload's identity.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::error::RepositoryError;
use crate::api::{Addressing, Provider, ServerSideEncryptionKind, StorageLocation};
use crate::secrets::{Secret, Secrets};

/// A server that sends or takes nothing for so long is gone. Not a limit on a whole transfer, which may take hours.
const SILENCE: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(10);

/// An opened store and the path of the repository in it.
pub(super) struct Opened {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
}

/// Opens a location. Credentials are read anew each time, so that a rotated Secret is seen.
pub(super) async fn open(
    location: &StorageLocation,
    namespace: &str,
    secrets: &dyn Secrets,
) -> Result<Opened, RepositoryError> {
    if location.object_lock.is_some() {
        return Err(RepositoryError::Unsupported {
            location: location.to_string(),
            feature: "objectLock",
            instead: "set a default retention on the bucket and remove objectLock",
        });
    }
    let secret = match &location.credentials_secret {
        Some(name) if location.provider != Provider::Local => {
            Some(secrets.read(namespace, name).await?)
        }
        _ => None,
    };
    let secret = secret.as_ref();
    let prefix = Path::from(location.prefix.as_str());
    let store: Arc<dyn ObjectStore> = match location.provider {
        Provider::Local => return open_directory(location),
        Provider::S3 => Arc::new(built(location, s3(location, secret)?.build())?),
        Provider::GCS => Arc::new(built(location, gcs(location, secret)?.build())?),
        Provider::Azure => Arc::new(built(location, azure(location, secret)?.build())?),
        Provider::OSS => {
            return Err(RepositoryError::Unsupported {
                location: location.to_string(),
                feature: "provider OSS",
                instead: "use S3, GCS, Azure or Local",
            });
        }
    };
    Ok(Opened { store, prefix })
}

/// A directory, made when the first backup is stored. Addressed from the root, so that it need not exist to be listed.
fn open_directory(location: &StorageLocation) -> Result<Opened, RepositoryError> {
    let problem = |problem: String| RepositoryError::Location {
        location: location.to_string(),
        problem,
    };
    let folder = std::path::absolute(&location.bucket)
        .map_err(|error| problem(format!("{error}; write an absolute path")))?;
    let folder = folder.join(&location.prefix);
    let prefix = Path::from_absolute_path(&folder)
        .map_err(|error| problem(format!("{error}; choose another directory")))?;
    if prefix.is_root() {
        return Err(problem(
            "backups do not belong into /; name a directory".to_owned(),
        ));
    }
    if folder.exists() && !folder.is_dir() {
        return Err(problem("it is a file; name a directory".to_owned()));
    }
    let store = Arc::new(LocalFileSystem::new().with_fsync(true));
    Ok(Opened { store, prefix })
}

fn built<T>(
    location: &StorageLocation,
    result: object_store::Result<T>,
) -> Result<T, RepositoryError> {
    result.map_err(|error| RepositoryError::Location {
        location: location.to_string(),
        problem: format!("{error}; correct the storage location or its Secret"),
    })
}

fn client_options(location: &StorageLocation) -> ClientOptions {
    let plain = location
        .endpoint
        .as_ref()
        .is_some_and(|url| url.starts_with("http://"));
    if plain {
        tracing::warn!(%location, "the endpoint is http: what is sent can be read on the way");
    }
    ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        .with_connect_timeout(CONNECT)
}

/// Each request is retried for itself: about ten seconds for a server that is not there.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(8),
            base: 2.0,
        },
        max_retries: 6,
        retry_timeout: Duration::from_secs(180),
    }
}

fn s3(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<AmazonS3Builder, RepositoryError> {
    let mut builder = match secret {
        // The environment says how this machine or pod gets its identity: IRSA, EKS pod identity, ECS, IMDS, or keys.
        None => AmazonS3Builder::from_env(),
        Some(secret) => {
            let builder = AmazonS3Builder::new()
                .with_access_key_id(secret.require_text("access-key-id")?)
                .with_secret_access_key(secret.require_text("secret-access-key")?);
            match secret.text("session-token")? {
                Some(token) if !token.is_empty() => builder.with_token(token),
                _ => builder,
            }
        }
    };
    builder = builder
        .with_bucket_name(&location.bucket)
        .with_client_options(client_options(location))
        .with_retry(retries())
        // Checksums stay off: many stores refuse the newer ones, and the signature already covers the content.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_tagging(true);
    if let Some(region) = &location.region {
        builder = builder.with_region(region);
    }
    // Path addressing works everywhere but with AWS's own newest buckets, which have no endpoint of their own.
    let virtual_hosted = match location.addressing {
        Some(addressing) => addressing == Addressing::VirtualHosted,
        None => location.endpoint.is_none() && secret.is_some() && !location.bucket.contains('.'),
    };
    builder = builder.with_virtual_hosted_style_request(virtual_hosted);
    if let Some(endpoint) = &location.endpoint {
        let endpoint = if virtual_hosted {
            with_bucket_in_host(location, endpoint)?
        } else {
            endpoint.trim_end_matches('/').to_owned()
        };
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(encryption) = &location.server_side_encryption {
        builder = match (encryption.kind, &encryption.kms_key_id) {
            (ServerSideEncryptionKind::KMS, Some(key)) => builder.with_sse_kms_encryption(key),
            (kind, _) => {
                let name = match kind {
                    ServerSideEncryptionKind::AES256 => "AES256",
                    ServerSideEncryptionKind::KMS => "aws:kms",
                };
                let setting: AmazonS3ConfigKey =
                    built(location, "aws_server_side_encryption".parse())?;
                builder.with_config(setting, name)
            }
        };
    }
    Ok(builder)
}

/// `https://host` → `https://bucket.host`, unless it says so already.
fn with_bucket_in_host(
    location: &StorageLocation,
    endpoint: &str,
) -> Result<String, RepositoryError> {
    let problem = || RepositoryError::Location {
        location: location.to_string(),
        problem: format!("its endpoint '{endpoint}' is not a URL: write https://HOST"),
    };
    let mut url = url::Url::parse(endpoint).map_err(|_| problem())?;
    let host = url.host_str().ok_or_else(problem)?.to_owned();
    if !host.starts_with(&format!("{}.", location.bucket)) {
        url.set_host(Some(&format!("{}.{host}", location.bucket)))
            .map_err(|_| problem())?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn gcs(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<GoogleCloudStorageBuilder, RepositoryError> {
    refuse_server_side_encryption(location)?;
    let mut builder = match secret {
        None => GoogleCloudStorageBuilder::from_env(),
        Some(secret) => GoogleCloudStorageBuilder::new()
            .with_service_account_key(secret.require_text("service-account.json")?),
    };
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    Ok(builder
        .with_bucket_name(&location.bucket)
        .with_client_options(client_options(location))
        .with_retry(retries()))
}

fn azure(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<MicrosoftAzureBuilder, RepositoryError> {
    refuse_server_side_encryption(location)?;
    let mut builder = match secret {
        None => MicrosoftAzureBuilder::from_env(),
        Some(secret) => {
            let builder =
                MicrosoftAzureBuilder::new().with_account(secret.require_text("account-name")?);
            match secret.text("sas-token")? {
                Some(token) if !token.is_empty() => {
                    let pairs =
                        url::form_urlencoded::parse(token.trim_start_matches('?').as_bytes());
                    let pairs: Vec<(String, String)> = pairs.into_owned().collect();
                    builder.with_sas_authorization(pairs)
                }
                _ => builder.with_access_key(secret.require_text("account-key")?),
            }
        }
    };
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    Ok(builder
        .with_container_name(&location.bucket)
        .with_client_options(client_options(location))
        .with_retry(retries()))
}

/// These encrypt what they store always, with the key that the bucket is set to.
fn refuse_server_side_encryption(location: &StorageLocation) -> Result<(), RepositoryError> {
    match location.server_side_encryption {
        None => Ok(()),
        Some(_) => Err(RepositoryError::Unsupported {
            location: location.to_string(),
            feature: "serverSideEncryption of this provider",
            instead: "it always encrypts; set the key on the bucket or account and remove serverSideEncryption",
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_bucket_goes_into_the_host_once() {
        let location: StorageLocation = "s3://b/p".parse().unwrap();
        for (endpoint, expected) in [
            ("https://s3.example.com", "https://b.s3.example.com"),
            ("https://b.s3.example.com/", "https://b.s3.example.com"),
            ("http://s3.localhost:29000", "http://b.s3.localhost:29000"),
        ] {
            assert_eq!(with_bucket_in_host(&location, endpoint).unwrap(), expected);
        }
        assert!(with_bucket_in_host(&location, "nonsense").is_err());
    }
}
