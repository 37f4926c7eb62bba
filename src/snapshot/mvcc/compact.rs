//! A database compacted at a revision, as etcd's own compaction would leave it: of what came up to it, the newest row of each live key;
//! all of what came later (etcd-format.md §6.11).

use std::io::{Seek, Write};

use super::hash::rows_up_to;
use super::ledger::Ledger;
use super::revision::RowKey;
use super::{KEY_BUCKET, KeyValue, META_BUCKET};
use crate::snapshot::SnapshotError;
use crate::snapshot::bolt::Database;
use crate::snapshot::bolt::build::{BuildError, ImageBuilder};

/// The marks of a compaction that is over, in the order of the bucket.
const MARKS: [&[u8]; 2] = [b"finishedCompactRev", b"scheduledCompactRev"];

/// Why a database could not be compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It is broken.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The output broke, or rows are out of order.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Writes the image of `database` compacted at `revision`, which must not be beyond its newest. Memory is that of its live keys, 14 bytes
/// each.
///
/// # Errors
/// When it is broken; `out` is then worthless.
pub fn compacted<W: Write + Seek>(
    database: &Database<'_>,
    revision: i64,
    out: W,
) -> Result<W, CompactError> {
    let mut alive = Ledger::new(database.image());
    for row in rows_up_to(database, revision)? {
        let (row, key) = row?;
        if let Ok(kv) = KeyValue::decode(row.value) {
            if key.tombstone {
                alive.remove(kv.key);
            } else {
                alive.put(kv.key, row.element, false);
            }
        }
    }
    let mark = RowKey::first_of(revision).encode();
    let mut builder = ImageBuilder::new(out, database.meta().page_size)?;
    for bucket in database.buckets() {
        let (name, rows) = bucket.map_err(SnapshotError::from)?;
        builder.bucket(name)?;
        let mut missing: &[&[u8]] = if name == META_BUCKET { &MARKS } else { &[] };
        for row in rows.rows() {
            let row = row.map_err(SnapshotError::from)?;
            if name == KEY_BUCKET {
                let Some(key) = RowKey::decode(row.key) else {
                    continue;
                };
                let holds = |kv: KeyValue<'_>| alive.holds(kv.key, row.element);
                let kept = key.revision.main > revision
                    || (!key.tombstone && KeyValue::decode(row.value).is_ok_and(holds));
                if kept {
                    builder.row(row.key, row.value)?;
                }
                continue;
            }
            while let Some((next, rest)) = missing.split_first()
                && *next <= row.key
            {
                builder.row(next, &mark)?;
                missing = rest;
            }
            if name != META_BUCKET || !MARKS.contains(&row.key) {
                builder.row(row.key, row.value)?;
            }
        }
        for next in missing {
            builder.row(next, &mark)?;
        }
    }
    Ok(builder.finish()?.0)
}
