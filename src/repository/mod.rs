//! What lies in the bucket: providers, the key grammar, manifests, the catalogue that a listing gives, orphans.

mod bucket;
mod catalog;
mod chain;
mod copy;
mod delete;
mod error;
pub mod key;
mod lease;
pub mod manifest;
mod memo;
mod pin;
mod probe;
mod process;
mod providers;
mod sweep;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

pub use chain::{
    Chain, MergedFrom, Synthetic, Window, exports_to, increments_of, increments_to, refused,
    replacement, windows,
};
pub use copy::Copied;
pub use error::RepositoryError;
use key::Key;
pub use lease::{Lease, LeaseTimes};
pub use manifest::{ExportScope, ManifestError};
pub use pin::{Pin, this_process};
pub use probe::Probe;
pub(crate) use providers::retry_after;

use crate::api::{Compression, Provider, StorageLocation};
use crate::kms::Keyring;
use crate::seal::Seal;
use crate::secrets::Secrets;
use crate::snapshot::{HashKv, Share};

/// Hears of every request to a store.
pub trait StoreObserver: Send + Sync {
    /// A request of this kind ended.
    fn request(&self, operation: &'static str, ok: bool);
}

/// Hears nothing.
pub struct SilentObserver;

impl StoreObserver for SilentObserver {
    fn request(&self, _: &'static str, _: bool) {}
}

/// How many requests are made at once where many are needed.
const CONCURRENT_REQUESTS: usize = 16;
/// Manifests are small, and a distant store answers each after some time.
const MANIFESTS_AT_ONCE: usize = 64;

/// A bucket and prefix, opened.
pub struct Repository {
    bucket: bucket::Bucket,
    location: StorageLocation,
    keyring: Keyring,
    /// Where manifests that were read are kept on this machine.
    memos: Option<PathBuf>,
}

/// What a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A whole snapshot.
    Full,
    /// The events of a revision range.
    Increment,
    /// Objects of the Kubernetes API.
    Export,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// How far a backup is proved; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// It lies in the store.
    Stored,
    /// It was read back from the store: digest, pages and rows are right.
    Verified,
    /// Its HashKV equals the live cluster's.
    Consistent,
    /// It was restored into scratch.
    Drilled,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// One check and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was checked, as `digest` or `hashkv`.
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was seen, in a sentence.
    pub message: String,
}

/// The commit point and the truth about a backup; the last object that is written, create-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this layout: 1.
    pub format_version: u32,
    /// `<time>-<revision>` for a full backup; unique in a cluster.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// etcd's cluster id, hexadecimal, 16 digits.
    pub cluster_id: String,
    /// The cluster's name in the config.
    pub cluster_name: String,
    /// The member that it was read from, hexadecimal.
    pub member_id: String,
    /// That member's release.
    pub etcd_version: String,
    /// Name of the EtcdBackup.
    pub backup_name: String,
    /// Namespace of the EtcdBackup.
    pub namespace: String,
    /// Schedule that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Identity of the attempt that made it.
    pub run_id: String,
    /// When the snapshot was taken.
    pub created: Timestamp,
    /// Of a full backup: a moment by which all of it had been written. What was written after `created` may be in it already,
    /// what was written after this moment is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
    /// Of an increment: the moment before which everything that etcd acknowledged is in the chain up to here. `created` is when the
    /// recorder heard of its last revision, which is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_to: Option<Timestamp>,
    /// When this manifest was written.
    pub completed: Timestamp,
    /// First revision of an increment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_revision: Option<i64>,
    /// Last revision, read from the file.
    pub revision: i64,
    /// Compact revision of the file; -1 when never compacted.
    pub compact_revision: i64,
    /// Live keys.
    pub key_count: u64,
    /// Key under the prefix of the data object.
    pub data_key: String,
    /// Bytes before compression: image and digest.
    pub raw_size: u64,
    /// Stored bytes.
    pub stored_size: u64,
    /// SHA-256 of the plain bytes, hexadecimal.
    pub plain_sha256: String,
    /// SHA-256 of the stored bytes, hexadecimal.
    pub stored_sha256: String,
    /// How the stored bytes are compressed.
    pub compression: Compression,
    /// How they are encrypted.
    #[serde(default)]
    pub seal: Seal,
    /// Its place in a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// How far it is proved.
    pub level: Level,
    /// Of a full backup: the revision of etcd's users and roles in it, which each change of them raises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_revision: Option<u64>,
    /// Of a full backup that was merged from a chain and not read from etcd: from which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
    /// The checks that say so.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// The live HashKV that it was compared with, or its own at its newest revision.
    #[serde(default, rename = "hashKV", skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<HashKv>,
    /// What fills the database, by kinds of Kubernetes: `prefix`, `keys`, `rows`, `bytes`. Not written with a sealed backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// Of an export: what it was asked to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportScope>,
    /// The trace of the attempt that made it, when it was sent to a collector: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Version of this program.
    pub tool_version: String,
}

impl Manifest {
    /// What etcd acknowledged before this moment can be restored from it and what it stands on.
    pub fn covers(&self) -> Timestamp {
        self.covered_to.unwrap_or(self.created)
    }

    /// When it, or the full backup that it was merged from, was read from etcd.
    pub fn read_at(&self) -> Timestamp {
        let synthetic = self.synthetic.as_ref();
        synthetic.map_or(self.created, |synthetic| synthetic.read)
    }
}

/// What a listing of manifests says.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Backups in order of cluster, epoch and revision.
    pub backups: Vec<Manifest>,
    /// One sentence for each manifest that could not be read.
    pub damaged: Vec<String>,
    /// Chains that somebody reads, or has read a short while ago.
    pub pins: Vec<Pin>,
}

/// What was stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Repository {
    /// Opens a location; credentials are read from the namespace's Secrets, or found as workload identity.
    /// Nothing is requested from the store yet.
    ///
    /// # Errors
    /// When credentials are missing or the location is impossible.
    pub async fn open(
        location: &StorageLocation,
        namespace: &str,
        secrets: &dyn Secrets,
        observer: Arc<dyn StoreObserver>,
    ) -> Result<Self, RepositoryError> {
        crate::init_tls();
        let secret = providers::secret_of(location, namespace, secrets).await?;
        let opened = providers::open(location, secret.as_ref()).await?;
        let bucket = bucket::Bucket {
            store: opened.store,
            uploads: opened.uploads,
            within: opened.within,
            prefix: opened.prefix,
            location: location.to_string(),
            storage_class: location.storage_class.clone(),
            observer,
        };
        // A directory answers faster than a copy of it is kept.
        let is_far = location.provider != Provider::Local;
        let memos = is_far.then(|| memo::folder(|name| std::env::var(name).ok()));
        Ok(Self {
            bucket,
            location: location.clone(),
            keyring: Keyring::of_store(location, secret.as_ref())?,
            memos: memos.flatten(),
        })
    }

    /// A repository over any store, below a prefix: for tests with a store that fails on purpose.
    pub fn over(
        store: Arc<dyn object_store::ObjectStore>,
        location: &StorageLocation,
        observer: Arc<dyn StoreObserver>,
    ) -> Self {
        let bucket = bucket::Bucket {
            store,
            uploads: None,
            within: None,
            prefix: object_store::path::Path::from(location.prefix.as_str()),
            location: location.to_string(),
            storage_class: None,
            observer,
        };
        Self {
            bucket,
            location: location.clone(),
            keyring: Keyring::of_environment(),
            memos: None,
        }
    }

    /// Asks key management services with the keys of the store's Secret alone.
    pub fn keep_to_secret(&mut self) {
        self.keyring.keep_to_secret();
    }

    /// Whom to ask for keys that a key management service holds.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The location as people recognise it.
    pub fn location(&self) -> String {
        self.bucket.location.clone()
    }

    /// For how long the store lets nobody delete what is written, as far as the location says so.
    pub fn lock(&self) -> Option<SignedDuration> {
        let lock = self.location.object_lock.as_ref();
        lock.map(|lock| lock.retain.as_signed())
    }

    /// The URL of a backup's data.
    pub fn url_of(&self, manifest: &Manifest) -> String {
        format!(
            "{}/{}",
            self.bucket.location.trim_end_matches('/'),
            manifest.data_key
        )
    }

    /// The key of the data object of a full backup.
    pub fn full_data_key(
        cluster_id: &str,
        id: &str,
        compression: Compression,
        seal: &Seal,
    ) -> String {
        key::Key::full_data(cluster_id, id, compression, seal).to_string()
    }

    /// The key of the data object of an export.
    pub fn export_data_key(
        cluster_id: &str,
        id: &str,
        compression: Compression,
        seal: &Seal,
    ) -> String {
        key::Key::export_data(cluster_id, id, compression, seal).to_string()
    }

    /// Reads the object under `key` as a stream; a connection that breaks is resumed where it broke.
    ///
    /// # Errors
    /// When it is not there or the store does not answer.
    pub async fn read(
        &self,
        key: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, RepositoryError> {
        self.bucket.read(&data_key(key)?.to_string()).await
    }

    /// Writes a manifest, create-only: from here on the backup exists.
    ///
    /// # Errors
    /// When its data is not there, another manifest is there already, or the store refuses. A lost reply is settled by
    /// reading back.
    pub async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        let unusable = |source| RepositoryError::Manifest {
            id: manifest.id.clone(),
            source,
        };
        let own = manifest::check(manifest).map_err(unusable)?;
        let bytes = manifest::encode(manifest).map_err(unusable)?;
        let data = data_key(&manifest.data_key)?;
        let location = self.location();
        match self.bucket.head(&data).await? {
            None => Err(RepositoryError::NoObject {
                location,
                key: manifest.data_key.clone(),
            }),
            Some(found) if found.size != manifest.stored_size => Err(RepositoryError::Damaged {
                location,
                key: manifest.data_key.clone(),
                problem: format!(
                    "it has {} bytes and {} were stored; take another backup",
                    found.size, manifest.stored_size
                ),
            }),
            Some(_) => {
                self.bucket
                    .create_settled(&own.to_string(), bytes.into())
                    .await
            }
        }
    }
}

fn data_key(text: &str) -> Result<key::Key, RepositoryError> {
    key::Key::parse(text)
        .filter(|key| matches!(key.role, key::Role::Data { .. }))
        .ok_or_else(|| RepositoryError::ForeignKey {
            key: text
                .chars()
                .filter(|letter| !letter.is_control())
                .take(120)
                .collect(),
        })
}
