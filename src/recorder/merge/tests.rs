//! What a merge refuses, on segments made here; what it comes to is held to real servers in tests/it.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use super::*;
use crate::recorder::group::Row;
use crate::recorder::segment::{Header, SegmentWriter};
use crate::snapshot::mvcc::Revision;

/// A database with one row of revision 2.
fn base() -> Vec<u8> {
    let mut builder = ImageBuilder::new(Cursor::new(Vec::new()), 4096).unwrap();
    let key = RowKey {
        revision: Revision { main: 2, sub: 0 },
        tombstone: false,
    };
    builder.bucket(KEY_BUCKET).unwrap();
    builder.row(&key.encode(), b"v").unwrap();
    builder.finish().unwrap().0.into_inner()
}

/// A segment of one revision, begun under an epoch.
fn segment(revision: i64, epoch: u64) -> Vec<u8> {
    let header = Header {
        cluster_id: "ab".to_owned(),
        member_id: "1".to_owned(),
        etcd_version: "3.6.1".to_owned(),
        base: "b".to_owned(),
        parent_sha256: "aa".to_owned(),
        epoch,
        first_revision: revision,
        raft_term: 2,
        started: Timestamp::UNIX_EPOCH,
    };
    let mut writer = SegmentWriter::create(Vec::new(), &header).unwrap();
    writer.begin(revision, Timestamp::UNIX_EPOCH).unwrap();
    let row = Row {
        tombstone: false,
        value: b"w".to_vec(),
        lease: 0,
    };
    writer.row(&row).unwrap();
    writer.commit().unwrap();
    writer.finish(2, None, None).unwrap().0
}

fn merged(epochs: &[u64]) -> Result<i64, MergeError> {
    let image = base();
    let database = Database::open(&image).unwrap();
    let segments: Vec<Vec<u8>> = (3..)
        .zip(epochs)
        .map(|(at, epoch)| segment(at, *epoch))
        .collect();
    let segments = segments
        .iter()
        .map(|bytes| SegmentReader::open(bytes.as_slice()));
    let out = Cursor::new(Vec::new());
    merge(&database, segments, Until::End, out).map(|(_, merged)| merged.revision)
}

#[test]
fn a_segment_of_an_older_epoch_than_the_one_before_it_is_refused() {
    assert_eq!(merged(&[0, 4, 4, 9]).unwrap(), 6);
    let refused = merged(&[4, 9, 8]).unwrap_err();
    assert!(
        matches!(
            refused,
            MergeError::Fenced {
                first: 5,
                epoch: 8,
                before: 9
            }
        ),
        "{refused}"
    );
    assert_eq!(refused.class(), ErrorClass::VerificationFailed);
    assert!(
        refused
            .to_string()
            .contains("restore to revision 4 at most"),
        "{refused}"
    );
}
