//! A full backup's own history against what was recorded of the same revisions, row by row (etcd-format.md §6.7): the one check
//! that needs neither a live cluster nor a base, and that finds an event which the watch lost.

use std::io::Read;

use super::merge::newest;
use super::segment::{Item, SegmentError, SegmentReader};
use crate::snapshot::bolt::{Database, Fault};
use crate::snapshot::mvcc::{Compaction, KEY_BUCKET, Revision, RowKey};

/// What was compared and found equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// First revision that both hold; larger than the last when they share none.
    pub first: i64,
    /// Last revision that both hold.
    pub last: i64,
    /// Rows that were compared.
    pub rows: u64,
}

/// Why the two do not agree, or could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// They differ.
    #[error(
        "revision {revision} was recorded otherwise than the full backup holds it: {problem}; restores by these increments beyond revision {} are not to be trusted",
        revision - 1
    )]
    Differs {
        /// The first revision that differs.
        revision: i64,
        /// How.
        problem: &'static str,
    },
    /// The full backup cannot be read.
    #[error("the full backup cannot be read: {0}")]
    Base(#[from] Fault),
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// Compares a full backup with segments that follow each other, over the revisions that both hold whole: those after the full's
/// compaction, up to its newest.
///
/// # Errors
/// The first revision that differs.
pub fn audit<R: Read>(
    full: &Database<'_>,
    segments: impl IntoIterator<Item = Result<SegmentReader<R>, SegmentError>>,
) -> Result<Agreement, AuditError> {
    let compacted = Compaction::of(full)?.revision();
    let last = newest(full)?;
    let mut agreement = Agreement {
        first: last + 1,
        last,
        rows: 0,
    };
    let Some(bucket) = full.bucket(KEY_BUCKET)? else {
        return Ok(agreement);
    };
    let mut rows = None;
    let (mut now, mut shared, mut seen) = (0, false, 0);
    'segments: for segment in segments {
        let mut segment = segment?;
        while let Some(item) = segment.next_item()? {
            match item {
                Item::Revision { revision, .. } => {
                    if revision > last {
                        break 'segments;
                    }
                    (now, shared) = (revision, revision > compacted);
                    if shared && rows.is_none() {
                        agreement.first = revision;
                        let from = RowKey {
                            revision: Revision {
                                main: revision,
                                sub: 0,
                            },
                            tombstone: false,
                        };
                        rows = Some(bucket.rows_from(&from.encode())?.peekable());
                    }
                }
                Item::Row { key, value } if shared => {
                    let differs = |problem| AuditError::Differs {
                        revision: now,
                        problem,
                    };
                    match rows.as_mut().and_then(Iterator::next).transpose()? {
                        Some(row) if row.key == key && row.value == value => agreement.rows += 1,
                        Some(row) if row.key == key => return Err(differs("a value is another")),
                        _ => return Err(differs("a row is missing, or is one too many")),
                    }
                }
                Item::Commit if shared => {
                    seen = now;
                    let next = rows.as_mut().and_then(|rows| rows.peek());
                    let next = next.and_then(|row| row.as_ref().ok());
                    let next = next.and_then(|row| RowKey::decode(row.key));
                    if next.is_some_and(|next| next.revision.main <= now) {
                        return Err(AuditError::Differs {
                            revision: now,
                            problem: "it has rows that were not recorded",
                        });
                    }
                }
                Item::Row { .. } | Item::Commit | Item::Idle(_) | Item::Lease { .. } => {}
            }
        }
    }
    agreement.last = if agreement.rows > 0 { seen } else { last };
    Ok(agreement)
}
