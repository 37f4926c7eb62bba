//! HashKV, as etcd's `Maintenance.HashKV` computes it, for any revision and compact revision that the rows reach to
//! (etcd-format.md §4.1).

use super::KEY_BUCKET;
use super::compaction::Compaction;
use super::crc::Crc;
use super::key_value::KeyValue;
use super::ledger::Ledger;
use super::revision::RowKey;
use crate::snapshot::bolt::{Database, Fault, Row, row_data};
use crate::snapshot::{HashKv, SnapshotError};

/// A HashKV value, and whether another member could answer otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Computed {
    /// The value.
    pub hash_kv: HashKv,
    /// No key was alive at the revision: then etcd hashes whatever rows its compaction has not deleted yet, and members that
    /// hold the same data may differ.
    pub indeterminate: bool,
}

/// HashKV at `revision` (the newest unless given) as if compacted at `compact_revision` (the file's own unless given).
///
/// # Errors
/// When the rows cannot be read, or do not reach to these revisions.
pub fn hash_kv(
    database: &Database<'_>,
    revision: Option<i64>,
    compact_revision: Option<i64>,
) -> Result<Computed, SnapshotError> {
    let own = Compaction::of(database)?.revision();
    let newest = newest_revision(database)?;
    let at = revision.unwrap_or(newest);
    let compacted = compact_revision.unwrap_or(own);
    let out_of_range = |wanted| SnapshotError::RevisionOutOfRange {
        wanted,
        oldest: own.max(1),
        newest,
    };
    if at > newest || at < own {
        return Err(out_of_range(at));
    }
    if compacted > at || compacted < own {
        return Err(out_of_range(compacted));
    }
    let mut ledger = Ledger::new(database.image());
    let mut rest = Crc::new(database.image());
    for row in rows_up_to(database, at)? {
        let (row, key) = row?;
        if key.revision.main > compacted {
            rest.piece(row.data, row.key.len() + row.value.len());
        }
        // A row that etcd could not read has no key to be alive.
        if let Ok(kv) = KeyValue::decode(row.value) {
            if key.tombstone {
                ledger.remove(kv.key);
            } else {
                ledger.put(kv.key, row.element, false);
            }
        }
    }
    let mut crc = compacted_part(database, &ledger, compacted)?;
    let indeterminate = ledger.len() == 0 && crc.has_rows;
    crc.crc.append(&rest);
    Ok(Computed {
        hash_kv: HashKv {
            hash: crc.crc.finish(),
            revision: at,
            compact_revision: compacted,
        },
        indeterminate,
    })
}

/// The checksum of the bucket's name and the rows up to the compact revision.
pub(super) struct CompactedPart<'a> {
    pub crc: Crc<'a>,
    /// Whether there are such rows.
    pub has_rows: bool,
}

/// Hashes the rows up to the compact revision that are alive by the ledger; all of them when it is empty, as etcd does.
pub(super) fn compacted_part<'a>(
    database: &Database<'a>,
    alive: &Ledger<'a>,
    compacted: i64,
) -> Result<CompactedPart<'a>, SnapshotError> {
    let mut part = CompactedPart {
        crc: Crc::new(database.image()),
        has_rows: false,
    };
    part.crc.word(KEY_BUCKET);
    for row in rows_up_to(database, compacted)? {
        let (row, key) = row?;
        part.has_rows = true;
        if key.tombstone && key.revision.main == compacted {
            continue;
        }
        let kept = alive.len() == 0
            || (!key.tombstone
                && KeyValue::decode(row.value).is_ok_and(|kv| alive.holds(kv.key, row.element)));
        if kept {
            part.crc.piece(row.data, row.key.len() + row.value.len());
        }
    }
    Ok(part)
}

/// HashKV as it is once everything is compacted at the newest revision: of the live keys' newest rows alone, whose `elements` are
/// given in the order of the image. Nothing when no key is alive, or not all of these rows are found.
pub(super) fn of_the_living(
    database: &Database<'_>,
    elements: &[usize],
    revision: i64,
) -> Result<Option<HashKv>, Fault> {
    let image = database.image();
    let mut crc = Crc::new(image);
    crc.word(KEY_BUCKET);
    let mut found = 0;
    let Some(bucket) = database.bucket(KEY_BUCKET)? else {
        return Ok(None);
    };
    for node in bucket.nodes() {
        let (node, _) = node?;
        if !node.is_leaf() {
            continue;
        }
        let here = node.elements();
        let first = elements.partition_point(|element| *element < here.start);
        let behind = elements.get(first..).unwrap_or_default();
        for element in behind.iter().take_while(|element| **element < here.end) {
            let row = row_data(image, *element).unwrap_or_default();
            crc.piece(row.start, row.len());
            found += 1;
        }
    }
    Ok((found > 0 && found == elements.len()).then(|| HashKv {
        hash: crc.finish(),
        revision,
        compact_revision: revision,
    }))
}

pub(in crate::snapshot) type KeyedRow<'a> = Result<(Row<'a>, RowKey), SnapshotError>;

/// The rows of the bucket `key` whose main revision is at most `last`.
pub(in crate::snapshot) fn rows_up_to<'a>(
    database: &Database<'a>,
    last: i64,
) -> Result<impl Iterator<Item = KeyedRow<'a>> + use<'a>, SnapshotError> {
    let bucket = database.bucket(KEY_BUCKET)?;
    let bucket =
        bucket.ok_or_else(|| Fault::new("BucketMissing", "bucket key", "it is missing"))?;
    let rows = bucket.rows().map(|row| {
        let row = row?;
        let key = RowKey::decode(row.key).ok_or_else(|| {
            let place = format!("row {}", row.key.escape_ascii());
            Fault::new("RowKeyMalformed", place, "its key is not a revision")
        })?;
        Ok((row, key))
    });
    Ok(rows.take_while(move |row| {
        row.as_ref()
            .map_or(true, |(_, key)| key.revision.main <= last)
    }))
}

/// The newest revision: the larger of the last row's and the compaction marks' (etcd-format.md §3.5).
pub(in crate::snapshot) fn newest_revision(database: &Database<'_>) -> Result<i64, Fault> {
    Ok(newest_row(database)?.max(Compaction::of(database)?.revision()))
}

/// The main revision of the last row, found by going down the right side of the tree; 1 without rows, as in a new etcd.
fn newest_row(database: &Database<'_>) -> Result<i64, Fault> {
    let Some(bucket) = database.bucket(KEY_BUCKET)? else {
        return Ok(1);
    };
    let last = bucket.last()?;
    Ok(last
        .and_then(|row| RowKey::decode(row.key))
        .map_or(1, |key| key.revision.main))
}
