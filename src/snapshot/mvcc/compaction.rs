//! How far a database was compacted, by the two marks in the bucket `meta` (etcd-format.md §3, §3.5).

use super::META_BUCKET;
use super::revision::RowKey;
use crate::snapshot::bolt::{Database, Fault};

/// The compaction marks of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compaction {
    /// The revision whose compaction was begun last.
    pub scheduled: Option<i64>,
    /// The revision whose compaction was ended last.
    pub finished: Option<i64>,
}

impl Compaction {
    /// Reads the marks; those that are malformed count as absent here and are found by the check of `meta`.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub fn of(database: &Database<'_>) -> Result<Self, Fault> {
        let Some(meta) = database.bucket(META_BUCKET)? else {
            return Ok(Self::default());
        };
        let mark = |key: &[u8]| -> Result<Option<i64>, Fault> {
            let row_key = meta.get(key)?.and_then(RowKey::decode);
            Ok(row_key.map(|row_key| row_key.revision.main))
        };
        Ok(Self {
            scheduled: mark(b"scheduledCompactRev")?,
            finished: mark(b"finishedCompactRev")?,
        })
    }

    /// The compact revision: rows up to it may be gone. -1 when there never was a compaction.
    pub fn revision(&self) -> i64 {
        self.scheduled.max(self.finished).unwrap_or(-1)
    }

    /// Whether no compaction is under way, so that everything that it deletes is gone.
    pub fn is_finished(&self) -> bool {
        self.scheduled == self.finished
    }
}
