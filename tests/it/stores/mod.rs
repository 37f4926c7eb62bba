//! Every kind of store, held to one contract: directories, memory, S3 (versitygw, MinIO), Google Cloud Storage (a contract server), Azure
//! (azurite) and OSS (a contract server in front of versitygw); and what only some of them have.

mod alibaba;
mod conformance;
mod copies;
mod faults;
mod identities;
mod kill;
mod kms;
mod leases;
mod leftovers;
mod listing;
mod lost;
mod minio;
mod others_tools;
mod overwriting;
mod pins;
mod refusals;
mod replicas;
pub mod secrets;
mod settings;
mod workloads;

use std::any::Any;
use std::sync::Arc;

use etcdguardian::api::StorageLocation;
use etcdguardian::repository::{Manifest, Repository, RepositoryError, SilentObserver};
use etcdguardian::secrets::FolderSecrets;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Azurite, GcsFake, OssGate, Versitygw, location};

/// The cluster of every backup here.
pub const CLUSTER: &str = "cdf818194e3a8c32";

/// A store that is there, how to reach it, and what its Secret says.
pub struct Place {
    pub name: &'static str,
    pub location: StorageLocation,
    pub secrets: TempDir,
    server: Box<dyn Any + Send>,
}

impl Place {
    pub fn new(
        name: &'static str,
        location: StorageLocation,
        pairs: &[(&str, &str)],
        server: Box<dyn Any + Send>,
    ) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let place = Self {
            name,
            location,
            secrets,
            server,
        };
        place.write(pairs);
        place
    }

    /// Writes keys of the Secret `store`.
    pub fn write(&self, pairs: &[(&str, &str)]) {
        let folder = self.secrets.path().join("store");
        std::fs::create_dir_all(&folder).unwrap();
        for (key, value) in pairs {
            std::fs::write(folder.join(key), value).unwrap();
        }
    }

    /// The server behind, as what it is.
    pub fn server<T: 'static>(&self) -> &T {
        self.server.downcast_ref().unwrap()
    }

    pub async fn open(&self) -> Result<Repository, RepositoryError> {
        self.open_at(&self.location).await
    }

    pub async fn open_at(&self, location: &StorageLocation) -> Result<Repository, RepositoryError> {
        let secrets = FolderSecrets::new(Some(self.secrets.path().to_owned()));
        Repository::open(location, "default", &secrets, Arc::new(SilentObserver)).await
    }
}

pub fn directory() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("store").display().to_string();
    let location = location(json!({"provider": "Local", "bucket": bucket}));
    Place::new("directory", location, &[], Box::new(folder))
}

pub fn s3() -> Place {
    let server = Versitygw::start(&["backups"]);
    let location = location(json!({
        "provider": "S3", "bucket": "backups", "prefix": "team/a", "region": "us-east-1",
        "endpoint": server.url, "credentialsSecret": "store", "addressing": "Path",
    }));
    let keys = [("access-key-id", "vgw"), ("secret-access-key", "vgwsecret")];
    Place::new("S3", location, &keys, Box::new(server))
}

pub fn gcs() -> Place {
    let server = GcsFake::start("backups");
    let location = location(json!({
        "provider": "GCS", "bucket": "backups", "prefix": "team/a",
        "endpoint": server.url, "credentialsSecret": "store",
    }));
    let account = server.account();
    let keys = [("service-account.json", account.as_str())];
    Place::new("GCS", location, &keys, Box::new(server))
}

pub fn azure() -> Place {
    let server = Azurite::start(&["backups"]);
    let location = location(json!({
        "provider": "Azure", "bucket": "backups", "prefix": "team/a",
        "endpoint": server.url, "credentialsSecret": "store",
    }));
    let key = server.key.clone();
    let keys = [("account-name", "guardian"), ("account-key", key.as_str())];
    Place::new("Azure", location, &keys, Box::new(server))
}

pub fn oss_of(server: OssGate) -> Place {
    let location = location(json!({
        "provider": "OSS", "bucket": "backups", "prefix": "team/a", "region": "cn-test",
        "endpoint": server.endpoint, "credentialsSecret": "store",
    }));
    let proxy = server.proxy.clone();
    let keys = [
        ("access-key-id", "LTAItest"),
        ("access-key-secret", "testsecret"),
        ("proxy-url", proxy.as_str()),
    ];
    Place::new("OSS", location, &keys, Box::new(server))
}

pub fn oss() -> Place {
    oss_of(OssGate::start(&["backups"]))
}

/// Bytes that nothing compresses and no two places share.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// The manifest of a full backup with these stored bytes, uncompressed and open.
pub fn manifest(id: &str, revision: i64, stored: &[u8]) -> Manifest {
    let digest = sha256(stored);
    serde_json::from_value(json!({
        "formatVersion": 1, "id": id, "kind": "Full", "clusterId": CLUSTER, "clusterName": "c",
        "memberId": "1", "etcdVersion": "3.6.0", "backupName": id, "namespace": "default",
        "runId": id, "created": "2026-01-01T00:00:00Z", "completed": "2026-01-01T00:00:00Z",
        "revision": revision, "compactRevision": -1, "keyCount": 1,
        "dataKey": format!("{CLUSTER}/v1/full/{id}/snapshot.db"), "rawSize": stored.len(),
        "storedSize": stored.len(), "plainSha256": digest, "storedSha256": digest,
        "compression": "None", "level": "Verified", "toolVersion": "0",
    }))
    .unwrap()
}

/// Stores and commits a backup.
pub async fn put(
    repository: &Repository,
    id: &str,
    revision: i64,
    stored: &[u8],
) -> Result<Manifest, RepositoryError> {
    let manifest = manifest(id, revision, stored);
    let mut reader = stored;
    let size = stored.len() as u64;
    let key = &manifest.data_key;
    repository
        .store_stream(key, size, "test", &mut reader, &|_| {})
        .await?;
    repository.commit(&manifest).await?;
    Ok(manifest)
}

/// Everything that lies under a key.
pub async fn get(repository: &Repository, key: &str) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut read = Vec::new();
    let mut stream = repository.read(key).await.unwrap();
    stream.read_to_end(&mut read).await.unwrap();
    read
}
