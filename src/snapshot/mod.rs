//! The snapshot file: its pages, its rows and the data directories made of it. Pure: over slices, `Read` and `Write`.

pub mod bolt;
#[cfg(test)]
mod built;
pub mod contents;
pub mod datadir;
mod findings;
pub mod mvcc;
mod prove;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use mvcc::shares::Share;
use serde::{Deserialize, Serialize};

/// A snapshot's bytes: the database image, and the SHA-256 that etcd appends (etcd-format.md §1.1).
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The bbolt image, as etcd holds it on disk.
    pub image: &'a [u8],
    /// The digest behind it; absent on a file that was copied from a data directory.
    pub trailer: Option<&'a [u8; 32]>,
}

impl<'a> Snapshot<'a> {
    /// Splits the bytes of a file by the size rule: a trailer is there when the length is 32 more than a multiple of 512.
    pub fn split(bytes: &'a [u8]) -> Self {
        match bytes.split_last_chunk() {
            Some((image, trailer)) if bytes.len() % 512 == 32 => Self {
                image,
                trailer: Some(trailer),
            },
            _ => Self {
                image: bytes,
                trailer: None,
            },
        }
    }
}

/// What the digest behind the image says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// It is there and right.
    Ok,
    /// There is none.
    Missing,
    /// It is there and wrong.
    Mismatch,
}

/// What a snapshot holds: the JSON of `snapshot status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The newest revision: the larger of the last row's and the compaction markers'.
    pub revision: i64,
    /// The revision that was last compacted; -1 when none ever was.
    pub compact_revision: i64,
    /// Live user keys.
    pub total_keys: u64,
    /// Rows of the bucket `key`.
    pub rows: u64,
    /// Bytes of the image that are in use by bbolt: its pages times their size.
    pub db_size: u64,
    /// Bytes of the file.
    pub file_size: u64,
    /// Whether the digest behind the image is right.
    pub digest: Digest,
    /// CRC-32C over all buckets, as `etcdutl snapshot status` prints it.
    pub hash: u32,
    /// etcd's storage version, from 3.6 on.
    pub storage_version: Option<String>,
    /// Leases.
    pub leases: u64,
    /// Alarms that were raised, as `NOSPACE` or `CORRUPT`.
    pub alarms: Vec<String>,
    /// Whether etcd's own user management is on.
    pub auth_enabled: bool,
    /// The revision of users and roles, which each change of them raises; 0 when the file does not say.
    pub auth_revision: u64,
}

/// A HashKV value, comparable only with one of the same revision and compact revision (etcd-format.md §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// Up to which revision.
    pub revision: i64,
    /// Compacted at which revision; -1 when never.
    pub compact_revision: i64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The file restores, but somebody should look.
    Warning,
    /// The file must not be trusted.
    Error,
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A CamelCase word that tools can rely on.
    pub code: String,
    /// Where: a page, a bucket, a row.
    pub place: String,
    /// What is wrong, in a sentence.
    pub message: String,
}

/// Everything that one pass over a snapshot proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// What it holds; absent when the structure is too broken to say.
    pub status: Option<Status>,
    /// SHA-256 of the image, hexadecimal.
    pub image_sha256: String,
    /// HashKV at the newest revision, compacted at the file's own compact revision.
    pub hash_kv: Option<HashKv>,
    /// HashKV at that revision once everything is compacted there; only from [`prove_compacting`], and where a key is alive.
    #[serde(skip)]
    pub compacted_hash: Option<HashKv>,
    /// CRC-32C of the bucket `key`: its name, and every row as it lies there.
    pub rows_checksum: Option<u32>,
    /// The bytes that this is of.
    #[serde(skip)]
    pub rows_bytes: usize,
    /// Leases that live keys name and the file does not hold.
    #[serde(skip)]
    pub missing_leases: BTreeSet<i64>,
    /// What fills the bucket `key`: the rows of each of Kubernetes' kinds, the largest first, and all others in one.
    pub shares: Vec<Share>,
    /// What was found, the worst first; at most a thousand.
    pub findings: Vec<Finding>,
}

impl Proof {
    /// Whether nothing was found that forbids trusting the file.
    pub fn ok(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity != Severity::Error)
    }
}

/// Why a snapshot could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a bbolt file, or broken beyond reading.
    #[error(
        "the file is not a readable etcd snapshot: {problem} at {place}; take another backup or restore an older one"
    )]
    Unreadable {
        /// What is wrong.
        problem: String,
        /// Where.
        place: String,
    },
    /// A revision that the file cannot answer for.
    #[error(
        "revision {wanted} is not in the file, which holds {oldest} to {newest}; choose one of those"
    )]
    RevisionOutOfRange {
        /// What was asked.
        wanted: i64,
        /// The compact revision.
        oldest: i64,
        /// The newest revision.
        newest: i64,
    },
}

impl SnapshotError {
    /// How a caller should treat the error.
    pub fn class(&self) -> crate::api::ErrorClass {
        match self {
            Self::Unreadable { .. } => crate::api::ErrorClass::VerificationFailed,
            Self::RevisionOutOfRange { .. } => crate::api::ErrorClass::NotFound,
        }
    }
}

/// Checks a snapshot's digest, structure and rows, and computes its status and HashKV, in as few passes as can be.
/// Never fails: what is wrong is a finding.
pub fn prove(bytes: &[u8]) -> Proof {
    prove::prove(bytes, false)
}

/// The same, and says what HashKV will be once everything is compacted at the newest revision, as a raised revision asks for.
pub fn prove_compacting(bytes: &[u8]) -> Proof {
    prove::prove(bytes, true)
}

/// What a reading of all pages says without looking into the rows: see [`skim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skimmed {
    /// CRC-32C over all buckets, as [`Status::hash`].
    pub hash: u32,
    /// CRC-32C of the bucket `key`, as [`Proof::rows_checksum`].
    pub rows_checksum: u32,
}

/// Checks the structure of an image and takes the checksums of what it holds: enough to know that it holds what something
/// that was proved holds.
///
/// # Errors
/// With the worst that is wrong.
pub fn skim(image: &[u8]) -> Result<Skimmed, SnapshotError> {
    prove::skim(image)
}

/// The newest revision of a snapshot and its compact revision (-1 when there is none), without reading its rows.
///
/// # Errors
/// When it is no bbolt file, or the way to them is broken.
pub fn revisions(bytes: &[u8]) -> Result<(i64, i64), SnapshotError> {
    let database = bolt::Database::open(Snapshot::split(bytes).image)?;
    let compact_revision = mvcc::Compaction::of(&database)?.revision();
    Ok((mvcc::hash::newest_revision(&database)?, compact_revision))
}

/// The version of etcd whose form the database has, as `3.6.0`; nothing before 3.6, which wrote none.
///
/// # Errors
/// When it is no bbolt file, or its marks cannot be reached.
pub fn storage_version(bytes: &[u8]) -> Result<Option<String>, SnapshotError> {
    let database = bolt::Database::open(Snapshot::split(bytes).image)?;
    let Some(marks) = database.bucket(b"meta")? else {
        return Ok(None);
    };
    let version = marks.get(b"storageVersion")?;
    Ok(version.map(|version| String::from_utf8_lossy(version).into_owned()))
}

/// What a snapshot holds.
///
/// # Errors
/// When it is no bbolt file, or a part of it cannot be reached.
pub fn status(bytes: &[u8]) -> Result<Status, SnapshotError> {
    let proof = prove(bytes);
    let worst = proof.findings.into_iter().next();
    proof.status.ok_or_else(|| {
        let (problem, place) = worst.map_or_else(
            || {
                (
                    "a part of it cannot be reached".to_owned(),
                    "file".to_owned(),
                )
            },
            |worst| (worst.message, worst.place),
        );
        SnapshotError::Unreadable { problem, place }
    })
}

/// HashKV at `revision` (the newest unless given) as if compacted at `compact_revision` (the file's own unless given).
///
/// # Errors
/// When it is no bbolt file, or does not reach to that revision.
pub fn hash_kv(
    bytes: &[u8],
    revision: Option<i64>,
    compact_revision: Option<i64>,
) -> Result<HashKv, SnapshotError> {
    let database = bolt::Database::open(Snapshot::split(bytes).image)?;
    Ok(mvcc::hash::hash_kv(&database, revision, compact_revision)?.hash_kv)
}
