//! What lies in the bucket: providers, the key grammar, manifests, the catalogue that a listing gives, orphans.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::api::{Compression, ErrorClass, StorageLocation};
use crate::seal::Seal;
use crate::secrets::Secrets;
use crate::snapshot::HashKv;

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

/// A bucket and prefix, opened.
pub struct Repository {}

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

/// Where in its chain an increment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Id of the full backup.
    pub base: String,
    /// SHA-256 of the stored bytes of the backup before this one.
    pub parent_sha256: String,
    /// Fencing epoch of the writer.
    pub epoch: u64,
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
    /// The checks that say so.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// The live HashKV that it was compared with, or its own at its newest revision.
    #[serde(default, rename = "hashKV", skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<HashKv>,
    /// Version of this program.
    pub tool_version: String,
}

impl Manifest {
    /// Whether a key is needed to read it.
    pub fn is_sealed(&self) -> bool {
        !self.seal.method.is_empty()
    }
}

/// What a listing of manifests says.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Backups in order of cluster, epoch and revision.
    pub backups: Vec<Manifest>,
    /// One sentence for each manifest that could not be read.
    pub damaged: Vec<String>,
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
    ///
    /// # Errors
    /// When credentials are missing or the location is impossible.
    pub async fn open(
        _location: &StorageLocation,
        _namespace: &str,
        _secrets: &dyn Secrets,
        _observer: Arc<dyn StoreObserver>,
    ) -> Result<Self, RepositoryError> {
        todo!()
    }

    /// The location as people recognise it.
    pub fn location(&self) -> String {
        todo!()
    }

    /// The URL of a backup's data.
    pub fn url_of(&self, _manifest: &Manifest) -> String {
        todo!()
    }

    /// The key of the data object of a full backup.
    pub fn full_data_key(
        _cluster_id: &str,
        _id: &str,
        _compression: Compression,
        _seal: &Seal,
    ) -> String {
        todo!()
    }

    /// Every backup of a cluster (hexadecimal id), or of all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn catalog(&self, _cluster_id: Option<&str>) -> Result<Catalog, RepositoryError> {
        todo!()
    }

    /// One backup by id, name, run id or unique prefix of its id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn find(&self, _id: &str) -> Result<Manifest, RepositoryError> {
        todo!()
    }

    /// Stores `file` under `key` in parts, at bounded memory; aborts what it began when it fails.
    ///
    /// # Errors
    /// When the store refuses or breaks.
    pub async fn store(
        &self,
        _key: &str,
        _file: &Path,
        _progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Stored, RepositoryError> {
        todo!()
    }

    /// Reads the object under `key` as a stream.
    ///
    /// # Errors
    /// When it is not there or the store does not answer.
    pub async fn read(
        &self,
        _key: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, RepositoryError> {
        todo!()
    }

    /// Writes a manifest, create-only: from here on the backup exists.
    ///
    /// # Errors
    /// When another manifest is there already, or the store refuses. A lost reply is settled by reading back.
    pub async fn commit(&self, _manifest: &Manifest) -> Result<(), RepositoryError> {
        todo!()
    }

    /// Deletes a backup: the manifest first, then its data.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, _manifest: &Manifest) -> Result<(), RepositoryError> {
        todo!()
    }

    /// Deletes data that has had no manifest for a day; returns the keys.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sweep(&self, _now: Timestamp) -> Result<Vec<String>, RepositoryError> {
        todo!()
    }
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// No such backup.
    #[error("{location} holds no backup '{id}': see 'etcdguardian backup list --from {location}'")]
    NotFound {
        /// Where.
        location: String,
        /// What was asked for.
        id: String,
    },
}

impl RepositoryError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::NotFound
    }
}
