//! One opened bucket and prefix: each request in our own keys, observed, its errors given a meaning.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetResult, GetResultPayload, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::error::{Attempt, RepositoryError, is_bad_request};
use super::key::{Key, Role, is_cluster_id};
use super::pin::PinAt;
use super::probe::is_trial;
use super::providers::{Uploads, Within};
use super::{Manifest, StoreObserver, manifest};

/// How the file behind a local object is read.
const FILE_BUFFER: usize = 1024 * 1024;

/// A bucket and prefix, and how objects are created in it without overwriting.
pub(super) struct Bucket {
    pub store: Arc<dyn ObjectStore>,
    /// Where the store keeps uploads that were begun and not finished.
    pub uploads: Option<Arc<dyn Uploads>>,
    /// How its server's other buckets see it, where a server copies between them.
    pub within: Option<Within>,
    pub prefix: Path,
    pub location: String,
    /// The class that objects of backups are stored in.
    pub storage_class: Option<String>,
    pub observer: Arc<dyn StoreObserver>,
}

/// An object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub key: Key,
    pub size: u64,
    /// When the store finished writing it, in seconds since 1970, by the store's clock.
    pub written: i64,
    /// Of a manifest: the store's own word for this content.
    pub tag: Option<String>,
}

/// What a listing found of ours.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Objects of backups.
    pub objects: Vec<Listed>,
    /// Pins.
    pub pins: Vec<PinAt>,
}

impl Bucket {
    pub fn path(&self, key: &str) -> Path {
        if self.prefix.is_root() {
            Path::from(key)
        } else {
            Path::from(format!("{}/{key}", self.prefix))
        }
    }

    /// A path of the store without the prefix; `None` for what does not lie below it.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a str> {
        if self.prefix.is_root() {
            return Some(path.as_ref());
        }
        path.as_ref()
            .strip_prefix(self.prefix.as_ref())?
            .strip_prefix('/')
    }

    /// Whether a path lies in a cluster's folder, where only this program writes: backups and leases.
    pub fn is_ours(&self, path: &Path) -> bool {
        let below = self.below(path).and_then(|text| text.split_once('/'));
        below.is_some_and(|(cluster, rest)| is_cluster_id(cluster) && rest.starts_with("v1/"))
    }

    pub fn attempt<'a>(&'a self, action: &'static str, key: &'a str) -> Attempt<'a> {
        Attempt {
            location: &self.location,
            action,
            key,
        }
    }

    pub fn observe<T>(
        &self,
        operation: &'static str,
        result: object_store::Result<T>,
    ) -> object_store::Result<T> {
        // "Not there" is an answer, not a failure of the store.
        let ok = matches!(&result, Ok(_) | Err(object_store::Error::NotFound { .. }));
        self.observer.request(operation, ok);
        result
    }

    /// What lies under a key; `None` when nothing does.
    pub async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>, RepositoryError> {
        let key = key.to_string();
        match self.observe("head", self.store.head(&self.path(&key)).await) {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => {
                let error = self.in_words(&key, error).await;
                Err(self.attempt("read", &key).failed(error))
            }
        }
    }

    /// The answer to a HEAD has no body, and so no words for what is wrong with the request: that to a GET of a byte has.
    async fn in_words(&self, key: &str, error: object_store::Error) -> object_store::Error {
        if !is_bad_request(&error) {
            return error;
        }
        let options = GetOptions {
            range: Some((0..1).into()),
            ..GetOptions::default()
        };
        match self.store.get_opts(&self.path(key), options).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => error,
            Err(told) => told,
        }
    }

    async fn get(&self, key: &str) -> object_store::Result<GetResult> {
        self.observe("get", self.store.get(&self.path(key)).await)
    }

    /// The bytes of a small object; `None` when it is not there.
    pub async fn get_small(&self, key: &str, most: u64) -> Result<Option<Bytes>, RepositoryError> {
        let attempt = self.attempt("read", key);
        let found = match self.get(key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(attempt.failed(error)),
        };
        let size = found.meta.size;
        if size > most {
            let source = manifest::ManifestError::TooLarge { size };
            return Err(RepositoryError::Manifest {
                id: key.to_owned(),
                source,
            });
        }
        found
            .bytes()
            .await
            .map(Some)
            .map_err(|error| attempt.failed(error))
    }

    /// An object as a stream; a connection that breaks is resumed where it broke.
    pub async fn read(
        &self,
        key: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, RepositoryError> {
        let found = self
            .get(key)
            .await
            .map_err(|error| self.attempt("read", key).failed(error))?;
        if let GetResultPayload::File(file, _) = found.payload {
            let file = tokio::fs::File::from_std(file);
            return Ok(Box::new(tokio::io::BufReader::with_capacity(
                FILE_BUFFER,
                file,
            )));
        }
        let (location, key) = (self.location.clone(), key.to_owned());
        let stream = found.into_stream().map_err(move |error| {
            let attempt = Attempt {
                location: &location,
                action: "read",
                key: &key,
            };
            std::io::Error::other(attempt.failed(error))
        });
        Ok(Box::new(StreamReader::new(stream)))
    }

    /// Everything of ours below a folder, in no order.
    pub async fn list(&self, folder: &str) -> Result<Listing, RepositoryError> {
        let path = self.path(folder);
        let listing: object_store::Result<Listing> = self
            .store
            .list(Some(&path))
            .try_fold(Listing::default(), |mut listing, meta| {
                let below = self.below(&meta.location).unwrap_or_default();
                listing.pins.extend(PinAt::of(below, &meta));
                if let Some(key) = Key::parse(below) {
                    let tag = meta.e_tag.filter(|_| key.role == Role::Manifest);
                    listing.objects.push(Listed {
                        key,
                        size: meta.size,
                        written: meta.last_modified.timestamp(),
                        tag,
                    });
                }
                std::future::ready(Ok(listing))
            })
            .await;
        self.observe("list", listing)
            .map_err(|error| self.attempt("list", folder).failed(error))
    }

    /// Objects that a trial of the store left beside the clusters' folders, and when each was written, in seconds since 1970.
    pub async fn trials(&self) -> Result<Vec<(Path, i64)>, RepositoryError> {
        let prefix = (!self.prefix.is_root()).then_some(&self.prefix);
        let listing = self.store.list_with_delimiter(prefix).await;
        let found = self
            .observe("list", listing)
            .map_err(|error| self.attempt("list", "trials of the store").failed(error))?;
        let trials = found.objects.into_iter().filter(|meta| {
            let name = meta.location.filename();
            name.is_some_and(is_trial)
        });
        Ok(trials
            .map(|meta| (meta.location, meta.last_modified.timestamp()))
            .collect())
    }

    /// The cluster folders below the prefix.
    pub async fn clusters(&self) -> Result<Vec<String>, RepositoryError> {
        let prefix = (!self.prefix.is_root()).then_some(&self.prefix);
        let listing = self.store.list_with_delimiter(prefix).await;
        let found = self
            .observe("list", listing)
            .map_err(|error| self.attempt("list", "the clusters").failed(error))?;
        let names = found
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename());
        Ok(names
            .filter(|name| is_cluster_id(name))
            .map(str::to_owned)
            .collect())
    }

    /// Writes a small object unless something lies there.
    pub async fn create(&self, key: &str, bytes: Bytes) -> object_store::Result<()> {
        let path = self.path(key);
        let mut options = PutOptions::from(PutMode::Create);
        options.attributes = self.attributes(key);
        let result = self
            .store
            .put_opts(&path, PutPayload::from(bytes), options)
            .await;
        self.observe("put", result.map(|_| ()))
    }

    /// What is said of an object of a backup as it is created; leases and trials live too short for a class.
    fn attributes(&self, key: &str) -> Attributes {
        match &self.storage_class {
            Some(class) if Key::parse(key).is_some() => {
                Attributes::from_iter([(Attribute::StorageClass, class.clone())])
            }
            _ => Attributes::new(),
        }
    }

    /// Begins an upload in parts.
    pub async fn begin(&self, key: &str) -> Result<Box<dyn MultipartUpload>, RepositoryError> {
        let options = PutMultipartOptions {
            attributes: self.attributes(key),
            ..PutMultipartOptions::default()
        };
        let began = self
            .store
            .put_multipart_opts(&self.path(key), options)
            .await;
        self.observe("multipart", began)
            .map_err(|error| self.attempt("write", key).failed(error))
    }

    /// Deletes an object; one that is not there is as good as deleted.
    pub async fn delete(&self, key: &Key) -> Result<(), RepositoryError> {
        let key = key.to_string();
        match self.observe("delete", self.store.delete(&self.path(&key)).await) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.attempt("delete", &key).failed(error)),
        }
    }

    /// The manifest under a key; `None` when it went away.
    pub async fn manifest(&self, key: &Key) -> Result<Option<Manifest>, RepositoryError> {
        let text = key.to_string();
        let Some(bytes) = self.get_small(&text, manifest::MAX_MANIFEST_BYTES).await? else {
            return Ok(None);
        };
        let decoded = manifest::decode(key, &bytes);
        decoded
            .map(Some)
            .map_err(|source| RepositoryError::Manifest {
                id: key.id(),
                source,
            })
    }

    /// Lists the folders of one cluster, or of all, at once.
    pub async fn list_clusters(&self, cluster: Option<&str>) -> Result<Listing, RepositoryError> {
        let clusters = match cluster {
            Some(id) if is_cluster_id(id) => vec![id.to_owned()],
            Some(_) => Vec::new(),
            None => self.clusters().await?,
        };
        let folders = clusters.into_iter().map(|id| format!("{id}/v1"));
        let listings = futures::stream::iter(folders)
            .map(|folder| async move { self.list(&folder).await })
            .buffer_unordered(super::CONCURRENT_REQUESTS);
        listings
            .try_fold(Listing::default(), |mut all, one| {
                all.objects.extend(one.objects);
                all.pins.extend(one.pins);
                std::future::ready(Ok(all))
            })
            .await
    }
}
