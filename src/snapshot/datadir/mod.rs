//! What lies in an etcd data directory beside the database: ids, membership, write-ahead log and raft snapshot, such that one
//! restored directory boots on etcd 3.4, 3.5, 3.6 and 3.7 alike (etcd-format.md §5). Pure: names and bytes.

pub mod database;
mod ids;
mod members;
mod protobuf;
mod raft;
mod read;
#[cfg(test)]
mod tests;
mod url;
mod wal;

pub use ids::{cluster_id, member_id};
pub use members::{Cluster, Member, MembershipError};
pub use raft::{raft_snapshot, raft_snapshot_name};
pub use read::{
    Damage, Entry, HardState, Log, Point, RaftSnapshot, read_log, read_raft_snapshot,
    restored_problem,
};
pub use url::peer_url;
pub use wal::{WAL_NAME, WAL_SEGMENT_BYTES, write_ahead_log};

/// The database, under the data directory.
pub const DATABASE: &str = "member/snap/db";
/// The folder of the database and of raft snapshots, under the data directory.
pub const SNAPSHOTS: &str = "member/snap";
/// The folder of the write-ahead log, under the data directory.
pub const LOG: &str = "member/wal";
/// Raft's term in a restored directory.
pub const TERM: u64 = 1;
