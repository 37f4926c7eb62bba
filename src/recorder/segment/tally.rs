//! What writer and reader count alike: bytes, revisions, rows, checksums. The writer's totals are the reader's proof.

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Counts and checksums of a segment's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// The last revision; one less than the first when there is none.
    pub last_revision: i64,
    /// Revisions.
    pub revisions: u64,
    /// Rows.
    pub rows: u64,
    /// CRC-32C over each row's key and value, as HashKV sees them.
    pub rows_crc32c: u32,
    /// When the first revision came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_time: Option<Timestamp>,
    /// Up to when nothing is missing.
    pub covered_to: Timestamp,
}

/// The running state; a clone of it is a point to come back to.
#[derive(Clone)]
pub struct Tally {
    /// Bytes so far.
    pub length: u64,
    /// Counts so far.
    pub totals: Totals,
    sha256: Context,
}

impl Tally {
    /// Before the first byte of a segment that begins with `first_revision`.
    pub fn new(first_revision: i64, started: Timestamp) -> Self {
        Self {
            length: 0,
            totals: Totals {
                last_revision: first_revision.saturating_sub(1),
                revisions: 0,
                rows: 0,
                rows_crc32c: 0,
                first_time: None,
                covered_to: started,
            },
            sha256: Context::new(&SHA256),
        }
    }

    /// Takes bytes in.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    /// Takes a row in.
    pub fn row(&mut self, key: &[u8], value: &[u8]) {
        self.totals.rows += 1;
        let crc = crc32c::crc32c_append(self.totals.rows_crc32c, key);
        self.totals.rows_crc32c = crc32c::crc32c_append(crc, value);
    }

    /// Takes a whole revision in.
    pub fn commit(&mut self, revision: i64, at: Timestamp) {
        self.totals.last_revision = revision;
        self.totals.revisions += 1;
        self.totals.first_time.get_or_insert(at);
        self.totals.covered_to = at;
    }

    /// SHA-256 of the bytes so far, hexadecimal.
    pub fn digest(&self) -> String {
        hex::encode(self.sha256.clone().finish())
    }
}
