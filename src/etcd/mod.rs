//! etcd itself: connections whose certificates are read anew, the snapshot stream, status, HashKV. Read-only.

use std::path::Path;

use async_trait::async_trait;

use crate::api::{ClusterConfig, ErrorClass};
use crate::secrets::Secrets;

/// How to reach a cluster: endpoints, certificates and a user, read from files and Secrets at that moment.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Client URLs.
    pub endpoints: Vec<String>,
}

impl ConnectOptions {
    /// Reads the certificates and credentials that a cluster's configuration names, anew at each call.
    ///
    /// # Errors
    /// When a Secret or file is missing, unreadable or not what it should be.
    pub async fn resolve(
        _cluster: &ClusterConfig,
        _namespace: &str,
        _secrets: &dyn Secrets,
    ) -> Result<Self, EtcdError> {
        todo!()
    }
}

/// A connected cluster.
pub struct Etcd {}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its client URL.
    pub endpoint: String,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
    /// The newest revision it has applied.
    pub revision: i64,
    /// Raft's term.
    pub raft_term: u64,
    /// The newest entry of its log.
    pub raft_index: u64,
    /// The newest entry it has applied.
    pub applied_index: u64,
    /// Bytes of its database file.
    pub db_size: i64,
    /// Bytes of it that are in use; 0 when unknown.
    pub db_size_in_use: i64,
    /// Its release, as `3.6.1`.
    pub version: String,
    /// The leader's id; 0 when there is none.
    pub leader: u64,
    /// Whether it only learns.
    pub is_learner: bool,
    /// Alarms and other trouble that it reports.
    pub errors: Vec<String>,
}

/// A live HashKV answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveHash {
    /// The value with its revision and compact revision.
    pub hash: crate::snapshot::HashKv,
    /// The member that was asked.
    pub member_id: u64,
}

/// A snapshot that was drained to a file, to its very end.
#[derive(Debug, Clone)]
pub struct Drained {
    /// The member it came from, as it was just before.
    pub member: MemberStatus,
    /// Bytes written: image and digest.
    pub bytes: u64,
    /// SHA-256 of the image, hexadecimal; equal to the digest that etcd sent.
    pub image_sha256: String,
}

/// Hears how far a snapshot stream is.
pub trait StreamProgress: Send + Sync {
    /// So many bytes have arrived of so many.
    fn bytes(&self, done: u64, total: u64);
}

impl Etcd {
    /// Connects; at least one endpoint must answer.
    ///
    /// # Errors
    /// With each endpoint's own failure.
    pub async fn connect(_options: &ConnectOptions) -> Result<Self, EtcdError> {
        todo!()
    }

    /// The status of every endpoint, in their order.
    pub async fn members(&self) -> Vec<(String, Result<MemberStatus, EtcdError>)> {
        todo!()
    }

    /// Drains a snapshot into `file` (created new, 0600): a healthy follower's where there is one, else the leader's; the
    /// next endpoint is tried when one fails.
    ///
    /// # Errors
    /// When no endpoint gives a whole snapshot with its digest.
    pub async fn drain_snapshot(
        &self,
        _file: &Path,
        _progress: &dyn StreamProgress,
    ) -> Result<Drained, EtcdError> {
        todo!()
    }

    /// HashKV at `revision` (0: the newest), from a follower where there is one.
    ///
    /// # Errors
    /// When no member answers, or the revision was compacted.
    pub async fn hash_kv(&self, _revision: i64) -> Result<LiveHash, EtcdError> {
        todo!()
    }
}

/// Whoever can say how a cluster is: etcd itself, or a test.
#[async_trait]
pub trait StatusSource: Send + Sync {
    /// The status of the member that is furthest ahead.
    async fn status(&self) -> Result<MemberStatus, EtcdError>;
}

/// Why etcd could not be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Nobody answered.
    #[error(
        "no etcd endpoint answered ({attempts}): check the endpoints and certificates with 'etcdguardian doctor'"
    )]
    Unavailable {
        /// Each endpoint with its own failure.
        attempts: String,
    },
}

impl EtcdError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::EtcdUnavailable
    }
}
