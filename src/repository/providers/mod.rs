//! Opens the object store that a location names, with credentials from its Secret or from the workload's identity.

mod clouds;
mod oss;
mod oss_sign;
mod patient;
mod s3;
mod stamp;
mod uploads;
mod within;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

pub(crate) use patient::retry_after;
pub(super) use uploads::Uploads;
use uploads::{InBucket, InDirectory, Signer};
pub(super) use within::{MOST_AT_ONCE, Within};

use super::error::RepositoryError;
use crate::api::{HumanDuration, Provider, StorageLocation};
use crate::secrets::{Secret, Secrets};

/// A server that sends or takes nothing for so long is gone. Not a limit on a whole transfer, which may take hours.
const SILENCE: Duration = Duration::from_secs(180);
/// Names another time than [`SILENCE`], such as `30s`: for networks that lose connections without a word.
const SILENCE_VARIABLE: &str = "ETCDGUARDIAN_STORE_SILENCE";
const CONNECT: Duration = Duration::from_secs(10);

/// An opened store and the path of the repository in it.
pub(super) struct Opened {
    pub store: Arc<dyn ObjectStore>,
    /// Where it keeps uploads that were begun and not finished.
    pub uploads: Option<Arc<dyn Uploads>>,
    /// The bucket, as its server's other buckets see it.
    pub within: Option<Within>,
    pub prefix: Path,
}

/// A store of S3's API with what its own requests are made with.
struct Compatible {
    store: AmazonS3,
    /// The bucket's URL.
    url: String,
    region: String,
    /// Whose buckets may copy out of each other: the same words, the same server.
    server: String,
}

/// Opens a location. Credentials are read anew each time, so that a rotated Secret is seen.
pub(super) async fn open(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<Opened, RepositoryError> {
    let prefix = Path::from(location.prefix.as_str());
    let compatible = match location.provider {
        Provider::Local => return open_directory(location),
        Provider::S3 => s3::open(location, secret)?,
        Provider::OSS => oss::open(location, secret).await?,
        Provider::GCS => {
            let (builder, url) = clouds::gcs(location, secret)?;
            let store = built(location, builder.build())?;
            let signer = Signer::Google(store.credentials().clone());
            return opened(location, secret, prefix, store, &url, signer);
        }
        Provider::Azure => {
            let store = built(location, clouds::azure(location, secret)?.build())?;
            return Ok(Opened {
                store: Arc::new(store),
                uploads: None,
                within: None,
                prefix,
            });
        }
    };
    let options = client_options(location, secret)?;
    let within = built(location, Within::new(location, &compatible, &options))?;
    let Compatible {
        store, url, region, ..
    } = compatible;
    let signer = Signer::Aws(store.credentials().clone(), region);
    let opened = opened(location, secret, prefix, store, &url, signer)?;
    Ok(Opened {
        within: Some(within),
        ..opened
    })
}

fn opened<S: ObjectStore + MultipartStore + Clone>(
    location: &StorageLocation,
    secret: Option<&Secret>,
    prefix: Path,
    store: S,
    url: &str,
    signer: Signer,
) -> Result<Opened, RepositoryError> {
    let options = client_options(location, secret)?;
    let parts: Arc<dyn MultipartStore> = Arc::new(store.clone());
    let uploads = built(location, InBucket::new(parts, url, signer, &options))?;
    Ok(Opened {
        store: Arc::new(store),
        uploads: Some(Arc::new(uploads)),
        within: None,
        prefix,
    })
}

/// The Secret of a location, when it names one and its provider needs any.
pub(super) async fn secret_of(
    location: &StorageLocation,
    namespace: &str,
    secrets: &dyn Secrets,
) -> Result<Option<Secret>, RepositoryError> {
    Ok(match &location.credentials_secret {
        Some(name) if location.provider != Provider::Local => {
            Some(secrets.read(namespace, name).await?)
        }
        _ => None,
    })
}

/// A directory, made when the first backup is stored. Addressed from the root, so that it need not exist to be listed.
fn open_directory(location: &StorageLocation) -> Result<Opened, RepositoryError> {
    refuse_settings(location)?;
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
    Ok(Opened {
        store: Arc::new(LocalFileSystem::new().with_fsync(true)),
        uploads: Some(Arc::new(InDirectory { root: folder })),
        within: None,
        prefix,
    })
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

/// Whether this was not said yet in this process: a store is opened at every backup, and once is enough.
fn first_time(said: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut all = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(said.to_owned())
}

/// How connections are made. The Secret may hold `ca.crt`, the authorities of a private endpoint, and `proxy-url`; the
/// environment's proxies (`https_proxy`, `no_proxy`) are heeded without it.
fn client_options(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<ClientOptions, RepositoryError> {
    let plain = location
        .endpoint
        .as_ref()
        .is_some_and(|url| url.starts_with("http://"));
    if plain && first_time(&location.to_string()) {
        tracing::warn!(%location, "the endpoint is http: what is sent can be read on the way");
    }
    let mut options = ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout_disabled()
        .with_read_timeout(silence())
        .with_connect_timeout(CONNECT);
    let Some(secret) = secret else {
        return Ok(options);
    };
    if let Some(pem) = secret.bytes("ca.crt") {
        let bundle = Certificate::from_pem_bundle(pem).unwrap_or_default();
        if bundle.is_empty() {
            return Err(RepositoryError::Location {
                location: location.to_string(),
                problem:
                    "key 'ca.crt' of its Secret is not a PEM bundle of certificates; write it again"
                        .to_owned(),
            });
        }
        for certificate in bundle {
            options = options.with_root_certificate(certificate);
        }
    }
    if let Some(proxy) = secret.text("proxy-url")?.filter(|url| !url.is_empty()) {
        options = options.with_proxy_url(proxy);
    }
    Ok(options)
}

fn silence() -> Duration {
    let Ok(said) = std::env::var(SILENCE_VARIABLE) else {
        return SILENCE;
    };
    match said.parse::<HumanDuration>() {
        Ok(time) if time.as_std() >= Duration::from_secs(1) => time.as_std(),
        _ => {
            if first_time(SILENCE_VARIABLE) {
                tracing::warn!("{SILENCE_VARIABLE}={said} is not a time of at least 1s: it is 3m");
            }
            SILENCE
        }
    }
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

/// What only S3 and its like have is refused elsewhere, never passed over in silence.
fn refuse_settings(location: &StorageLocation) -> Result<(), RepositoryError> {
    let refused = |feature, instead| {
        Err(RepositoryError::Unsupported {
            location: location.to_string(),
            feature,
            instead,
        })
    };
    if location.server_side_encryption.is_some() {
        return refused(
            "serverSideEncryption of this provider",
            "clouds encrypt always: set the key on the bucket or account and remove serverSideEncryption",
        );
    }
    refuse_lock(location)?;
    if location.storage_class.is_some() && location.provider == Provider::Local {
        return refused("storageClass of a directory", "remove storageClass");
    }
    Ok(())
}

/// Only S3 takes a lock with each object.
fn refuse_lock(location: &StorageLocation) -> Result<(), RepositoryError> {
    match location.object_lock {
        None => Ok(()),
        Some(_) => Err(RepositoryError::Unsupported {
            location: location.to_string(),
            feature: "objectLock of this provider",
            instead: "set a retention policy on the bucket and remove objectLock",
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

    #[test]
    fn what_a_provider_does_not_have_is_refused() {
        for (url, field, value, word) in [
            (
                "gs://b",
                "serverSideEncryption",
                r#"{"type":"AES256"}"#,
                "serverSideEncryption",
            ),
            (
                "az://b",
                "objectLock",
                r#"{"mode":"Governance","retain":"1d"}"#,
                "objectLock",
            ),
            ("file:///b", "storageClass", r#""GLACIER""#, "storageClass"),
        ] {
            let location: StorageLocation = url.parse().unwrap();
            let mut json = serde_json::to_value(location).unwrap();
            json[field] = serde_json::from_str(value).unwrap();
            let location: StorageLocation = serde_json::from_value(json).unwrap();
            let error = refuse_settings(&location).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
