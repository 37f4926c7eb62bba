//! A segment gives back what was written, and tells what was damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::recorder::group::Row;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn header() -> Header {
    Header {
        cluster_id: "00000000000000ab".to_owned(),
        member_id: "1".to_owned(),
        etcd_version: "3.6.1".to_owned(),
        base: "20260101T000000Z-1".to_owned(),
        parent_sha256: "aa".to_owned(),
        epoch: 3,
        first_revision: 2,
        raft_term: 2,
        started: at(0),
    }
}

fn row(tombstone: bool, value: &[u8]) -> Row {
    Row {
        tombstone,
        value: value.to_vec(),
        lease: 0,
    }
}

/// One put to a revision, a lease and a notice between, and its last revision with a tombstone.
fn write(revisions: i64) -> (Vec<u8>, Finished) {
    let mut writer = SegmentWriter::create(Vec::new(), &header()).unwrap();
    for revision in 2..2 + revisions {
        writer.begin(revision, at(revision * 10)).unwrap();
        writer.row(&row(false, b"value")).unwrap();
        writer.row(&row(true, b"gone")).unwrap();
        writer.commit().unwrap();
    }
    writer.lease(77, 60).unwrap();
    writer.idle(at(1_000_000)).unwrap();
    writer.finish(4, Some(1), None).unwrap()
}

type KeyValue = (Vec<u8>, Vec<u8>);

/// Every row's key and value, and the times of the revisions.
fn read(bytes: &[u8]) -> Result<(Vec<KeyValue>, Footer), SegmentError> {
    let mut reader = SegmentReader::open(bytes)?;
    let mut rows = Vec::new();
    while let Some(item) = reader.next_item()? {
        if let Item::Row { key, value } = item {
            rows.push((key.to_vec(), value.to_vec()));
        }
    }
    Ok((rows, reader.footer().unwrap().clone()))
}

#[test]
fn what_is_written_is_read_and_the_digest_is_that_of_the_bytes() {
    let (bytes, finished) = write(3);
    let (rows, footer) = read(&bytes).unwrap();
    assert_eq!(footer, finished.footer);
    assert_eq!(finished.bytes, bytes.len() as u64);
    let sha = ring::digest::digest(&ring::digest::SHA256, &bytes);
    assert_eq!(finished.sha256, hex::encode(sha));
    assert_eq!(rows.len(), 6);
    assert_eq!(
        hex::encode(&rows[1].0),
        "00000000000000025f000000000000000174"
    );
    let hashed = rows.iter().fold(0, |crc, (key, value)| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value)
    });
    assert_eq!(footer.totals.rows_crc32c, hashed);
    assert_eq!(footer.totals.last_revision, 4);
    assert_eq!(footer.totals.first_time, Some(at(20)));
    assert_eq!(footer.totals.covered_to, at(1_000_000));
}

#[test]
fn an_empty_segment_covers_time_and_no_revision() {
    let (bytes, _) = write(0);
    let (rows, footer) = read(&bytes).unwrap();
    assert!(rows.is_empty());
    assert_eq!(
        (footer.totals.last_revision, footer.totals.revisions),
        (1, 0)
    );
}

#[test]
fn a_clock_that_goes_back_is_not_believed() {
    let mut writer = SegmentWriter::create(Vec::new(), &header()).unwrap();
    for (revision, time) in [(2, 500), (3, -90_000)] {
        writer.begin(revision, at(time)).unwrap();
        writer.row(&row(false, b"v")).unwrap();
        writer.commit().unwrap();
    }
    let (bytes, finished) = writer.finish(2, None, None).unwrap();
    assert_eq!(finished.footer.totals.covered_to, at(500));
    read(&bytes).unwrap();
}

#[test]
fn a_newer_format_is_named() {
    let (mut bytes, _) = write(1);
    bytes[7] = 9;
    assert!(matches!(
        read(&bytes),
        Err(SegmentError::Version { found: 9 })
    ));
}

#[test]
fn an_aborted_revision_leaves_no_trace() {
    let mut writer = SegmentWriter::create(Vec::new(), &header()).unwrap();
    writer.begin(2, at(1)).unwrap();
    writer.row(&row(false, b"half")).unwrap();
    let length = writer.abort().unwrap();
    writer.output().truncate(usize::try_from(length).unwrap());
    writer.begin(2, at(1)).unwrap();
    writer.row(&row(false, b"whole")).unwrap();
    writer.commit().unwrap();
    let (bytes, _) = writer.finish(2, None, None).unwrap();
    let (rows, _) = read(&bytes).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1, b"whole");
}

proptest! {
    /// Cut anywhere, a segment is refused by the reader, and recovery finds whole revisions and can go on.
    #[test]
    fn a_cut_segment_is_refused_and_recovered_to_a_commit(cut in 0usize..2_000) {
        let (whole, _) = write(9);
        let cut = cut % whole.len();
        let torn = &whole[..cut];
        prop_assert!(read(torn).is_err());
        if let Ok(recovered) = recover(torn) {
            let length = usize::try_from(recovered.length).unwrap();
            prop_assert!(length <= cut);
            prop_assert_eq!(recovered.totals.rows, recovered.totals.revisions * 2);
            let next = recovered.totals.last_revision + 1;
            let mut writer = recovered.resume(torn[..length].to_vec());
            writer.begin(next, at(2_000_000)).unwrap();
            writer.row(&row(false, b"later")).unwrap();
            writer.commit().unwrap();
            let (bytes, finished) = writer.finish(2, None, None).unwrap();
            let (rows, footer) = read(&bytes).unwrap();
            prop_assert_eq!(&rows.last().unwrap().1, b"later");
            prop_assert_eq!(footer, finished.footer);
        }
    }

    /// Any changed byte is noticed.
    #[test]
    fn a_changed_byte_is_noticed(place in 0usize..2_000, change in 1u8..) {
        let (mut bytes, _) = write(9);
        let place = place % bytes.len();
        bytes[place] ^= change;
        prop_assert!(read(&bytes).is_err());
    }

    /// Whatever the bytes are: an error or rows, never a panic.
    #[test]
    fn garbage_never_panics(tail in prop::collection::vec(any::<u8>(), 0..400), keep in 0usize..400) {
        let (whole, _) = write(2);
        let mut bytes = whole[..keep.min(whole.len())].to_vec();
        bytes.extend(tail);
        let _ = read(&bytes);
        let _ = recover(bytes.as_slice());
    }
}
