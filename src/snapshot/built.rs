//! Small snapshots that the tests build row by row.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Cursor;

use super::bolt::build::ImageBuilder;
use super::mvcc::{KeyValue, Revision, RowKey};

/// The buckets of an image, each with its rows.
pub(super) type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A snapshot of buckets, with its digest.
pub(super) fn snapshot(buckets: &Buckets, page_size: u32) -> Vec<u8> {
    let mut image = ImageBuilder::new(Cursor::new(Vec::new()), page_size).unwrap();
    for (name, rows) in buckets {
        image.bucket(name).unwrap();
        for (key, value) in rows {
            image.row(key, value).unwrap();
        }
    }
    let mut bytes = image.finish().unwrap().0.into_inner();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    bytes.extend_from_slice(digest.as_ref());
    bytes
}

/// The buckets of a database with these rows and marks.
pub(super) fn database(
    rows: &[(RowKey, Vec<u8>)],
    scheduled: Option<i64>,
    finished: Option<i64>,
) -> Buckets {
    let mut buckets = Buckets::new();
    let rows = rows
        .iter()
        .map(|(key, value)| (key.encode(), value.clone()));
    buckets.insert(b"key".to_vec(), rows.collect());
    let meta = buckets.entry(b"meta".to_vec()).or_default();
    meta.insert(b"consistent_index".to_vec(), 9_u64.to_be_bytes().to_vec());
    for (mark, at) in [
        ("scheduledCompactRev", scheduled),
        ("finishedCompactRev", finished),
    ] {
        if let Some(at) = at {
            meta.insert(mark.into(), RowKey::first_of(at).encode());
        }
    }
    buckets
}

pub(super) fn row(main: i64, sub: i64, tombstone: bool) -> RowKey {
    let revision = Revision { main, sub };
    RowKey {
        revision,
        tombstone,
    }
}

pub(super) fn value(
    key: &str,
    create: i64,
    modified: i64,
    version: i64,
    value: &str,
    lease: i64,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    KeyValue {
        key: key.as_bytes(),
        create_revision: create,
        mod_revision: modified,
        version,
        value: value.as_bytes(),
        lease,
    }
    .encode(&mut bytes);
    bytes
}
