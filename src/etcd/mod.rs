//! etcd itself: connections whose certificates are read anew, the snapshot stream, status, HashKV. Read-only.

mod beside;
mod connect;
mod drain;
mod error;
mod known_bad;
mod member;
mod plan;
mod range;
mod shared;
mod stream;
mod tls;
mod watch;

use async_trait::async_trait;

pub use connect::ConnectOptions;
pub use error::{EtcdError, StreamProblem};
pub use known_bad::known_problems;
pub use member::{Certificate, Etcd};
pub use range::Pinned;
pub use shared::SharedClusters;

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

#[cfg(test)]
impl MemberStatus {
    /// A lone healthy member at a revision, as tests of those who ask for one want it.
    pub fn alone_at(revision: i64) -> Self {
        Self {
            endpoint: "http://fake".to_owned(),
            cluster_id: 0xfeed,
            member_id: 1,
            revision,
            raft_term: 1,
            raft_index: 1,
            applied_index: 1,
            db_size: 4096,
            db_size_in_use: 4096,
            version: "3.6.1".to_owned(),
            leader: 1,
            is_learner: false,
            errors: Vec::new(),
        }
    }
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
    /// SHA-256 of the file, hexadecimal: of the image and the digest behind it.
    pub file_sha256: String,
}

/// Hears how far a snapshot stream is.
pub trait StreamProgress: Send + Sync {
    /// So many bytes have arrived of so many.
    fn bytes(&self, done: u64, total: u64);
}

/// Whoever can say how a cluster is: etcd itself, or a test.
#[async_trait]
pub trait StatusSource: Send + Sync {
    /// The status of the member that is furthest ahead.
    async fn status(&self) -> Result<MemberStatus, EtcdError>;
}
