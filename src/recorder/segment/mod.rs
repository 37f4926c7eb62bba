//! The segment: the rows of a revision range with the times they came at, as written to disk and to the store.
//! docs/reference/segment-format.md is its description.

mod frame;
mod read;
mod tally;
mod write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::ErrorClass;
use crate::snapshot::HashKv;

pub use read::{Item, Recovered, SegmentReader, recover};
pub use tally::Totals;
pub use write::{Finished, SegmentWriter};

/// The first bytes of a segment; the last of them is the version of the format.
pub const MAGIC: [u8; 8] = *b"EGINCR\0\x01";

/// What a segment says of itself before its first row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// etcd's cluster id, hexadecimal, 16 digits.
    pub cluster_id: String,
    /// The member that the first row came from, hexadecimal.
    pub member_id: String,
    /// That member's release.
    pub etcd_version: String,
    /// Id of the full backup that the chain stands on.
    pub base: String,
    /// SHA-256 of the plain bytes of the backup before this one, hexadecimal.
    pub parent_sha256: String,
    /// Fencing epoch of the writer.
    pub epoch: u64,
    /// The first revision.
    pub first_revision: i64,
    /// Raft's term when the segment began.
    pub raft_term: u64,
    /// From when on nothing can have been missed: the end of the segment before, or the start of the recording.
    pub started: Timestamp,
}

/// What a segment says of itself behind its last row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Footer {
    /// Counts and checksums of the rows.
    #[serde(flatten)]
    pub totals: Totals,
    /// Highest raft term seen.
    pub raft_term: u64,
    /// etcd's compact revision, when somebody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// A HashKV of the live cluster at a revision of this segment.
    #[serde(default, rename = "hashKV", skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<HashKv>,
    /// SHA-256 of all bytes before the footer, hexadecimal.
    pub sha256: String,
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Its bytes are not what was written.
    #[error("the segment is damaged at byte {at}: {problem}; the chain ends before it")]
    Damaged {
        /// Offset.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// A newer program wrote it.
    #[error(
        "the segment has format version {found}, and this program knows version 1: use a newer etcdguardian"
    )]
    Version {
        /// Its version.
        found: u8,
    },
    /// It could not be read or written.
    #[error("the segment could not be read or written")]
    Io(#[from] std::io::Error),
}

impl SegmentError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Damaged { .. } => ErrorClass::VerificationFailed,
            Self::Version { .. } => ErrorClass::Usage,
            Self::Io(_) => ErrorClass::Failed,
        }
    }
}

#[cfg(test)]
mod tests;
