//! A base and its segments → the snapshot that etcd would have given at a revision. Pure concatenation: no etcd is involved,
//! and every row keeps its revision, version and lease (etcd-format.md §6.11, §6.12).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, Write};

use jiff::Timestamp;

use super::segment::{Item, SegmentError, SegmentReader};
use crate::api::ErrorClass;
use crate::snapshot::bolt::build::{BuildError, ImageBuilder};
use crate::snapshot::bolt::{Bucket, Database, Fault};
use crate::snapshot::mvcc::proto::put_varint;
use crate::snapshot::mvcc::{Compaction, KEY_BUCKET, KeyValue, LEASE_BUCKET, RowKey};

/// Where the merge ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// With the last revision of the last segment.
    End,
    /// With this revision, which must be there.
    Revision(i64),
    /// With the last revision that came at or before this time.
    Time(Timestamp),
}

/// What was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The newest revision.
    pub revision: i64,
    /// When it came, if a segment held it.
    pub at: Option<Timestamp>,
    /// Revisions taken from segments.
    pub added_revisions: u64,
    /// Rows taken from segments.
    pub added_rows: u64,
    /// Leases that live keys name, the base does not hold and the recording does.
    pub added_leases: u64,
    /// Bytes of the image.
    pub length: u64,
}

/// Why a base and segments cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The base is broken.
    #[error("the base is not a readable snapshot: {0}; restore from an older one")]
    Base(#[from] Fault),
    /// A segment is broken.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The output broke, or rows are out of order.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A revision is missing between the base and a segment, or between two segments.
    #[error(
        "revisions {first} to {last} are in no increment: restore to {recoverable} at most, or from a newer base"
    )]
    Hole {
        /// First missing revision.
        first: i64,
        /// Last missing revision.
        last: i64,
        /// The revision before the hole.
        recoverable: i64,
    },
    /// A segment was begun under an older epoch than the one before it.
    #[error(
        "the segment from revision {first} on was begun under epoch {epoch}, and the one before it under {before}: its recorder had lost the chain; restore to revision {} at most",
        first - 1
    )]
    Fenced {
        /// Its first revision.
        first: i64,
        /// Its epoch.
        epoch: u64,
        /// The epoch before.
        before: u64,
    },
    /// The wanted revision is not covered.
    #[error(
        "revision {wanted} is not covered: the base and its increments hold {oldest} to {newest}"
    )]
    OutOfRange {
        /// What was asked.
        wanted: i64,
        /// The oldest that can be had.
        oldest: i64,
        /// The newest that can be had.
        newest: i64,
    },
}

impl MergeError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Base(_) => ErrorClass::VerificationFailed,
            Self::Segment(error) => error.class(),
            Self::Build(_) => ErrorClass::Failed,
            Self::Fenced { .. } => ErrorClass::VerificationFailed,
            Self::Hole { .. } | Self::OutOfRange { .. } => ErrorClass::NotFound,
        }
    }
}

/// Writes the image of `base` with the rows of `segments`, in their order, up to `until`. What segments share with the base or
/// with each other is taken once. Memory grows with the live keys that have leases, and with nothing else.
///
/// # Errors
/// When something is broken or missing; `out` is then worthless.
pub fn merge<R: Read, W: Write + Seek>(
    base: &Database<'_>,
    segments: impl IntoIterator<Item = Result<SegmentReader<R>, SegmentError>>,
    until: Until,
    out: W,
) -> Result<(W, Merged), MergeError> {
    let oldest = Compaction::of(base)?.revision();
    let newest = newest(base)?;
    let kept_to = match until {
        Until::Revision(wanted) if wanted < oldest.max(1) => {
            return Err(MergeError::OutOfRange {
                wanted,
                oldest: oldest.max(1),
                newest,
            });
        }
        Until::Revision(wanted) => wanted,
        Until::End | Until::Time(_) => i64::MAX,
    };
    let mut merge = Merge {
        builder: ImageBuilder::new(out, base.meta().page_size)?,
        until,
        kept_to,
        current: newest.min(kept_to),
        at: None,
        added_revisions: 0,
        added_rows: 0,
        leased: Leased::default(),
        granted: HashMap::new(),
        epoch: 0,
    };
    let mut segments = Some(segments);
    let mut added_leases = 0;
    for bucket in base.buckets() {
        let (name, rows) = bucket?;
        merge.builder.bucket(name)?;
        if name == KEY_BUCKET {
            merge.base_rows(&rows)?;
            for segment in segments.take().into_iter().flatten() {
                if merge.segment(segment?)? {
                    break;
                }
            }
            merge.check_reached(oldest)?;
        } else if name == LEASE_BUCKET {
            added_leases = merge.leases(&rows)?;
        } else {
            for row in rows.rows() {
                let row = row?;
                merge.builder.row(row.key, row.value)?;
            }
        }
    }
    let merged = Merged {
        revision: merge.current,
        at: merge.at,
        added_revisions: merge.added_revisions,
        added_rows: merge.added_rows,
        added_leases,
        length: 0,
    };
    let (out, length) = merge.builder.finish()?;
    Ok((out, Merged { length, ..merged }))
}

/// The revision of a database: the larger of its last row's and its compaction marks'.
///
/// # Errors
/// When it is broken.
pub fn newest(base: &Database<'_>) -> Result<i64, Fault> {
    let last = match base.bucket(KEY_BUCKET)? {
        Some(rows) => rows.last()?,
        None => None,
    };
    let last = last.and_then(|row| RowKey::decode(row.key));
    let last = last.map_or(1, |key| key.revision.main);
    Ok(last.max(Compaction::of(base)?.revision()))
}

struct Merge<W> {
    builder: ImageBuilder<W>,
    until: Until,
    kept_to: i64,
    current: i64,
    at: Option<Timestamp>,
    added_revisions: u64,
    added_rows: u64,
    leased: Leased,
    granted: HashMap<i64, i64>,
    /// Of the newest segment.
    epoch: u64,
}

impl<W: Write + Seek> Merge<W> {
    fn base_rows(&mut self, rows: &Bucket<'_>) -> Result<(), MergeError> {
        for row in rows.rows() {
            let row = row?;
            let main = row
                .key
                .first_chunk()
                .map_or(i64::MAX, |main| i64::from_be_bytes(*main));
            // Rows are in order of their revisions.
            if main > self.kept_to {
                break;
            }
            self.leased.see(row.value);
            self.builder.row(row.key, row.value)?;
        }
        Ok(())
    }

    /// Takes a segment in; whether the end is reached.
    fn segment<R: Read>(&mut self, mut segment: SegmentReader<R>) -> Result<bool, MergeError> {
        let header = segment.header();
        if header.epoch < self.epoch {
            return Err(MergeError::Fenced {
                first: header.first_revision,
                epoch: header.epoch,
                before: self.epoch,
            });
        }
        self.epoch = header.epoch;
        let mut taking = false;
        while let Some(item) = segment.next_item()? {
            match item {
                Item::Revision { revision, at } => {
                    taking = revision > self.current;
                    if !taking {
                        continue;
                    }
                    let beyond = match self.until {
                        Until::End => false,
                        Until::Revision(wanted) => revision > wanted,
                        Until::Time(time) => at > time,
                    };
                    if beyond {
                        return Ok(true);
                    }
                    if revision != self.current + 1 {
                        return Err(MergeError::Hole {
                            first: self.current + 1,
                            last: revision - 1,
                            recoverable: self.current,
                        });
                    }
                    self.current = revision;
                    self.at = Some(at);
                    self.added_revisions += 1;
                }
                Item::Row { key, value } if taking => {
                    self.leased.see(value);
                    self.builder.row(key, value)?;
                    self.added_rows += 1;
                }
                Item::Row { .. } | Item::Commit | Item::Idle(_) => {}
                Item::Lease { id, ttl } => {
                    self.granted.insert(id, ttl);
                }
            }
        }
        Ok(false)
    }

    fn check_reached(&self, oldest: i64) -> Result<(), MergeError> {
        match self.until {
            Until::Revision(wanted) if wanted > self.current => Err(MergeError::OutOfRange {
                wanted,
                oldest: oldest.max(1),
                newest: self.current,
            }),
            _ => Ok(()),
        }
    }

    /// The leases of the base, and those that were granted later and are needed; a lease without its row would never end.
    fn leases(&mut self, rows: &Bucket<'_>) -> Result<u64, MergeError> {
        let mut missing: BTreeMap<[u8; 8], Vec<u8>> = BTreeMap::new();
        for id in self.leased.ids() {
            if let Some(&ttl) = self.granted.get(&id) {
                missing.insert(id.to_be_bytes(), lease_row(id, ttl));
            }
        }
        let mut added = 0;
        for row in rows.rows() {
            let row = row?;
            while let Some(entry) = missing.first_entry() {
                if entry.key().as_slice() >= row.key {
                    break;
                }
                self.builder.row(entry.key(), entry.get())?;
                entry.remove();
                added += 1;
            }
            if let Ok(key) = row.key.try_into() {
                let key: [u8; 8] = key;
                missing.remove(&key);
            }
            self.builder.row(row.key, row.value)?;
        }
        for (key, value) in &missing {
            self.builder.row(key, value)?;
            added += 1;
        }
        Ok(added)
    }
}

/// A row of the bucket `lease`: etcd's `Lease{ID, TTL}`.
fn lease_row(id: i64, ttl: i64) -> Vec<u8> {
    let mut value = vec![0x08];
    put_varint(&mut value, id.cast_unsigned());
    value.push(0x10);
    put_varint(&mut value, ttl.cast_unsigned());
    value
}

/// The leases of live keys, by a 64-bit hash of the key: a collision costs at most a lease row too few or too many.
#[derive(Default)]
struct Leased {
    of_key: HashMap<u64, i64>,
    hasher: RandomState,
}

impl Leased {
    fn see(&mut self, value: &[u8]) {
        // What is no KeyValue is found when the result is proved.
        let Ok(row) = KeyValue::decode(value) else {
            return;
        };
        if row.lease != 0 {
            self.of_key.insert(self.hasher.hash_one(row.key), row.lease);
        } else if !self.of_key.is_empty() {
            self.of_key.remove(&self.hasher.hash_one(row.key));
        }
    }

    fn ids(&self) -> impl Iterator<Item = i64> + '_ {
        self.of_key.values().copied()
    }
}

#[cfg(test)]
mod tests;
