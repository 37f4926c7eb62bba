//! What etcd keeps in the database: revisions, rows and the hash over them, leases, alarms, users and members
//! (etcd-format.md §3, §4, §7).

pub mod compact;
mod compaction;
pub(super) mod crc;
pub mod hash;
pub mod key_value;
pub(super) mod ledger;
pub mod proto;
pub mod revision;
mod rules;
mod schema;
pub mod shares;
pub mod survey;

pub use compaction::Compaction;
pub use key_value::KeyValue;
pub use revision::{Revision, RowKey};

/// The bucket of the rows.
pub const KEY_BUCKET: &[u8] = b"key";
/// The bucket of etcd's own marks.
pub const META_BUCKET: &[u8] = b"meta";
/// The bucket of leases.
pub const LEASE_BUCKET: &[u8] = b"lease";
/// The buckets that etcd 3.4 to 3.7 make.
pub const BUCKETS: [&[u8]; 10] = [
    b"alarm",
    b"auth",
    b"authRoles",
    b"authUsers",
    b"cluster",
    b"key",
    b"lease",
    b"members",
    b"members_removed",
    b"meta",
];
