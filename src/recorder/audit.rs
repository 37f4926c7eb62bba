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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::recorder::group::Row;
    use crate::recorder::segment::{Header, SegmentWriter};
    use crate::snapshot::bolt::build::ImageBuilder;

    /// A database with `rows` of (revision, ordinal, value), compacted at 3.
    fn full(rows: &[(i64, i64, &[u8])]) -> Vec<u8> {
        let mut builder = ImageBuilder::new(Cursor::new(Vec::new()), 4096).unwrap();
        let key = |main, sub| RowKey {
            revision: Revision { main, sub },
            tombstone: false,
        };
        builder.bucket(b"key").unwrap();
        for &(main, sub, value) in rows {
            builder.row(&key(main, sub).encode(), value).unwrap();
        }
        builder.bucket(b"meta").unwrap();
        for name in ["finishedCompactRev", "scheduledCompactRev"] {
            builder.row(name.as_bytes(), &key(3, 0).encode()).unwrap();
        }
        builder.finish().unwrap().0.into_inner()
    }

    /// A segment with these rows from revision `first` on.
    fn segment(first: i64, revisions: &[&[&[u8]]]) -> Vec<u8> {
        let header = Header {
            cluster_id: "ab".to_owned(),
            member_id: "1".to_owned(),
            etcd_version: "3.6.1".to_owned(),
            base: "b".to_owned(),
            parent_sha256: "aa".to_owned(),
            epoch: 1,
            first_revision: first,
            raft_term: 2,
            started: Timestamp::UNIX_EPOCH,
        };
        let mut writer = SegmentWriter::create(Vec::new(), &header).unwrap();
        for (revision, rows) in (first..).zip(revisions) {
            writer.begin(revision, Timestamp::UNIX_EPOCH).unwrap();
            for row in *rows {
                let row = Row {
                    tombstone: false,
                    value: row.to_vec(),
                    lease: 0,
                };
                writer.row(&row).unwrap();
            }
            writer.commit().unwrap();
        }
        writer.finish(2, None, None).unwrap().0
    }

    fn compare(full: &[u8], segments: &[Vec<u8>]) -> Result<Agreement, AuditError> {
        let database = Database::open(full).unwrap();
        audit(
            &database,
            segments
                .iter()
                .map(|bytes| SegmentReader::open(bytes.as_slice())),
        )
    }

    const ROWS: [(i64, i64, &[u8]); 5] = [
        (2, 0, b"kept"),
        (4, 0, b"a"),
        (4, 1, b"b"),
        (5, 0, b"c"),
        (6, 0, b"d"),
    ];

    #[test]
    fn what_both_hold_is_compared_and_nothing_else() {
        let full = full(&ROWS);
        // Rows up to the compaction may be gone, and what came after the full is not in it.
        let one = segment(2, &[&[b"kept"], &[b"gone"], &[b"a", b"b"]]);
        let two = segment(5, &[&[b"c"], &[b"d"], &[b"later"]]);
        let agreement = compare(&full, &[one.clone(), two]).unwrap();
        assert_eq!((agreement.first, agreement.last, agreement.rows), (4, 6, 4));
        let agreement = compare(&full, &[one]).unwrap();
        assert_eq!((agreement.first, agreement.last, agreement.rows), (4, 4, 2));
        assert_eq!(
            compare(&full, &[segment(7, &[&[b"later"]])]).unwrap().rows,
            0
        );
    }

    #[test]
    fn the_first_revision_that_differs_is_named() {
        let full = full(&ROWS);
        let cases: [&[&[&[u8]]]; 4] = [
            &[&[b"a", b"b"], &[b"X"], &[b"d"]],
            &[&[b"a", b"b"], &[b"c", b"lost"], &[b"d"]],
            &[&[b"a"], &[b"c"], &[b"d"]],
            &[&[b"b", b"a"], &[b"c"], &[b"d"]],
        ];
        for (case, wanted) in cases.into_iter().zip([5, 5, 4, 4]) {
            match compare(&full, &[segment(4, case)]) {
                Err(AuditError::Differs { revision, .. }) => assert_eq!(revision, wanted),
                other => unreachable!("{other:?}"),
            }
        }
    }

    proptest! {
        /// One changed value, wherever it is, is found at its revision.
        #[test]
        fn any_changed_value_is_found(values in proptest::collection::vec(any::<u8>(), 1..30), at in any::<prop::sample::Index>()) {
            let texts: Vec<Vec<u8>> = values.iter().map(|value| vec![*value, 1]).collect();
            let rows: Vec<(i64, i64, &[u8])> = (4..).zip(&texts).map(|(main, text)| (main, 0, text.as_slice())).collect();
            let full = full(&rows);
            let place = at.index(texts.len());
            let mut other = texts.clone();
            other[place][0] ^= 1;
            let slices: Vec<[&[u8]; 1]> = other.iter().map(|text| [text.as_slice()]).collect();
            let revisions: Vec<&[&[u8]]> = slices.iter().map(|one| one.as_slice()).collect();
            match compare(&full, &[segment(4, &revisions)]) {
                Err(AuditError::Differs { revision, .. }) => prop_assert_eq!(revision, 4 + place as i64),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
