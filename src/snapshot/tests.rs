//! The proof of small databases, and the vectors of the format's description.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::built::{database, row, snapshot, value};
use super::mvcc::{KeyValue, RowKey};
use super::*;

/// The rows of etcd-format.md §10.
fn vector() -> Vec<(RowKey, Vec<u8>)> {
    vec![
        (row(2, 0, false), value("a", 2, 2, 1, "1", 0)),
        (row(3, 0, false), value("b", 3, 3, 1, "", 7587)),
        (row(3, 1, false), value("a", 2, 3, 2, "2", 0)),
        (row(4, 0, true), value("a", 0, 0, 0, "", 0)),
        (row(5, 0, false), value("a", 5, 5, 1, "3", 0)),
    ]
}

fn codes(proof: &Proof) -> Vec<&str> {
    proof
        .findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect()
}

#[test]
fn the_vectors_of_the_format_come_out() {
    let rows = vector();
    assert_eq!(hex::encode(&rows[1].1), "0a016210031803200130a33b");
    assert_eq!(
        hex::encode(rows[3].0.encode()),
        "00000000000000045f000000000000000074"
    );
    for page_size in [1024, 4096, 65_536] {
        let bytes = snapshot(&database(&rows, None, None), page_size);
        for (revision, compacted, hash) in [
            (5, -1, 3_047_979_491),
            (4, -1, 1_127_928_828),
            (3, -1, 183_055_470),
            (5, 3, 217_631_267),
            (4, 4, 4_148_526_892),
            (5, 4, 3_449_516_367_u32),
        ] {
            let found = hash_kv(&bytes, Some(revision), Some(compacted)).unwrap();
            assert_eq!(
                found.hash, hash,
                "revision {revision} compacted at {compacted}"
            );
        }
        let mut buckets = database(&rows, None, None);
        buckets.get_mut(&b"meta"[..]).unwrap().clear();
        assert_eq!(
            status(&snapshot(&buckets, page_size)).unwrap().hash,
            1_286_040_649
        );
    }
}

#[test]
fn a_good_snapshot_is_proved_and_described() {
    let mut buckets = database(&vector(), None, None);
    let lease = buckets.entry(b"lease".to_vec()).or_default();
    lease.insert(
        7587_i64.to_be_bytes().to_vec(),
        b"\x08\xa3\x3b\x10\x3c".to_vec(),
    );
    let bytes = snapshot(&buckets, 4096);
    let proof = prove(&bytes);
    assert_eq!(proof.findings, []);
    let status = proof.status.unwrap();
    assert_eq!((status.revision, status.compact_revision), (5, -1));
    assert_eq!((status.total_keys, status.rows, status.leases), (2, 5, 1));
    assert_eq!(status.digest, Digest::Ok);
    assert_eq!(
        (status.db_size, status.file_size),
        (bytes.len() as u64 - 32, bytes.len() as u64)
    );
    assert_eq!(proof.hash_kv.unwrap().hash, 3_047_979_491);
    // As a copy of the file in a data directory.
    let bare = prove(&bytes[..bytes.len() - 32]);
    assert_eq!(codes(&bare), ["DigestMissing"]);
    assert_eq!(bare.status.unwrap().digest, Digest::Missing);
}

#[test]
fn revisions_outside_the_file_are_refused() {
    let bytes = snapshot(&database(&vector(), Some(3), Some(3)), 4096);
    for (revision, compacted) in [(6, 3), (2, 2), (5, 2), (4, 5)] {
        let found = hash_kv(&bytes, Some(revision), Some(compacted));
        assert!(matches!(
            found,
            Err(SnapshotError::RevisionOutOfRange { .. })
        ));
    }
}

/// Each row: a change to the vector's rows, and the code that must be among the findings.
#[test]
fn broken_histories_are_named() {
    type Change = fn(&mut Vec<(RowKey, Vec<u8>)>);
    let cases: [(&str, Change); 12] = [
        ("RevisionGap", |rows| drop(rows.remove(1))),
        ("RevisionGap", |rows| drop(rows.remove(0))),
        ("RowFieldsWrong", |rows| {
            rows[4].1 = value("a", 5, 4, 1, "3", 0)
        }),
        ("RowFieldsWrong", |rows| {
            rows[4].1 = value("a", 5, 5, 2, "3", 0)
        }),
        ("RowFieldsWrong", |rows| {
            rows[4].1 = value("a", 0, 5, 1, "3", 0)
        }),
        ("RowFieldsWrong", |rows| {
            rows[4].1 = value("", 5, 5, 1, "3", 0)
        }),
        ("PredecessorMissing", |rows| {
            rows[4].1 = value("a", 2, 5, 3, "3", 0)
        }),
        ("HistoryBroken", |rows| {
            rows[2].1 = value("b", 2, 3, 2, "2", 0)
        }),
        ("PredecessorMissing", |rows| {
            rows[3].1 = value("c", 0, 0, 0, "", 0)
        }),
        ("TombstoneMalformed", |rows| {
            rows[3].1 = value("a", 0, 4, 0, "", 0)
        }),
        ("RowUnreadable", |rows| {
            rows[4].1.pop();
        }),
        ("RowNotCanonical", |rows| {
            rows[4].1.extend_from_slice(b"\x30\x00")
        }),
    ];
    for (code, change) in cases {
        let mut rows = vector();
        change(&mut rows);
        let proof = prove(&snapshot(&database(&rows, None, None), 4096));
        assert!(
            codes(&proof).contains(&code),
            "{code}: {:?}",
            proof.findings
        );
        assert_eq!(proof.ok(), code == "RowNotCanonical", "{code}");
    }
}

#[test]
fn broken_records_are_named() {
    let cases: [(&str, &str, &[u8], &[u8]); 12] = [
        ("RecordMalformed", "meta", b"term", &[0; 8]),
        ("RecordMalformed", "meta", b"consistent_index", &[1; 7]),
        (
            "CompactionMarksWrong",
            "meta",
            b"finishedCompactRev",
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0",
        ),
        (
            "RecordMalformed",
            "lease",
            &[0, 0, 0, 0, 0, 0, 0, 1],
            b"\x08\x02\x10\x3c",
        ),
        ("RecordMalformed", "meta", b"storageVersion", b"3.x"),
        ("AlarmRaised", "alarm", b"\x08\x07\x10\x01", b""),
        ("RecordMalformed", "auth", b"authEnabled", b"\x02"),
        ("RootMissing", "auth", b"authEnabled", b"\x01"),
        ("RoleMissing", "authUsers", b"u", b"\x0a\x01u\x1a\x01r"),
        ("RecordMalformed", "members", b"2", b"{\"id\":1}"),
        ("BucketUnknown", "mine", b"x", b"y"),
        ("RecordMalformed", "cluster", b"clusterVersion", b"3"),
    ];
    for (code, bucket, key, value) in cases {
        let mut buckets = database(&vector(), None, None);
        let rows = buckets.entry(bucket.into()).or_default();
        rows.insert(key.to_vec(), value.to_vec());
        let proof = prove(&snapshot(&buckets, 4096));
        assert!(
            codes(&proof).contains(&code),
            "{code}: {:?}",
            proof.findings
        );
    }
}

#[test]
fn keys_whose_lease_is_missing_are_named_while_they_live() {
    let mut rows = vector();
    let proof = prove(&snapshot(&database(&rows, None, None), 4096));
    assert_eq!(codes(&proof), ["LeaseMissing"]);
    assert_eq!(proof.findings[0].place, "key b");
    rows.push((row(6, 0, true), value("b", 0, 0, 0, "", 0)));
    assert_eq!(
        prove(&snapshot(&database(&rows, None, None), 4096)).findings,
        []
    );
}

#[test]
fn the_row_of_a_revision_bump_is_hashed_but_is_no_key() {
    let mut rows = vector();
    rows.push((row(1000, 0, false), Vec::new()));
    let bytes = snapshot(&database(&rows, Some(1000), None), 4096);
    let proof = prove(&bytes);
    assert!(proof.ok(), "{:?}", proof.findings);
    let status = proof.status.unwrap();
    assert_eq!((status.revision, status.compact_revision), (1000, 1000));
    assert_eq!(status.total_keys, 2);
    assert_eq!(proof.hash_kv.unwrap(), hash_kv(&bytes, None, None).unwrap());
}

#[test]
fn a_hash_that_members_may_differ_in_is_said_to_be_so() {
    let rows = vec![
        (row(2, 0, false), value("a", 2, 2, 1, "1", 0)),
        (row(3, 0, true), value("a", 0, 0, 0, "", 0)),
    ];
    let bytes = snapshot(&database(&rows, Some(3), None), 4096);
    assert_eq!(codes(&prove(&bytes)), ["HashIndeterminate"]);
    let image = bolt::Database::open(Snapshot::split(&bytes).image).unwrap();
    assert!(
        mvcc::hash::hash_kv(&image, None, None)
            .unwrap()
            .indeterminate
    );
}

#[test]
fn a_skim_sees_what_a_proof_sees_and_stumbles_over_the_same_pages() {
    // A leaf alone, and a tree that two threads share.
    let many: Vec<_> = (0..300)
        .map(|key| {
            let main = key + 2;
            let name = format!("k{key}");
            (
                row(main, 0, false),
                value(&name, main, main, 1, "some value", 0),
            )
        })
        .collect();
    for (rows, scheduled) in [(vector(), Some(3)), (many, None)] {
        let bytes = snapshot(&database(&rows, scheduled, None), 1024);
        let proof = prove(&bytes);
        let status = proof.status.unwrap();
        let image = Snapshot::split(&bytes).image;
        let skimmed = skim(image).unwrap();
        assert_eq!(
            (skimmed.hash, Some(skimmed.rows_checksum)),
            (status.hash, proof.rows_checksum)
        );
        let newest = rows.last().unwrap().0.revision.main;
        assert_eq!(
            revisions(&bytes).unwrap(),
            (newest, scheduled.unwrap_or(-1))
        );
        for page in 2..image.len() / 1024 {
            let mut broken = image.to_vec();
            broken[page * 1024..][..8].fill(0xff);
            let error = skim(&broken).unwrap_err().to_string();
            assert!(error.contains(&format!("page {page}")), "{error}");
            // Another page of the same kind in its place is in use twice, or holds keys of elsewhere.
            for other in (2..image.len() / 1024).filter(|other| *other != page) {
                let mut doubled = image.to_vec();
                doubled.copy_within(other * 1024 + 8..(other + 1) * 1024, page * 1024 + 8);
                assert!(
                    skim(&doubled).map_or(true, |doubled| doubled != skimmed),
                    "page {other} over {page}"
                );
            }
        }
        let mut changed = image.to_vec();
        let at = changed
            .windows(4)
            .position(|bytes| bytes == b"\x18\x02\x20\x01");
        changed[at.unwrap() + 1] = 3;
        assert_ne!(skim(&changed).unwrap(), skimmed);
    }
}

/// One change of a random history.
#[derive(Debug, Clone)]
enum Change {
    Put(u8, usize),
    Delete(u8),
}

/// The rows that etcd would write for transactions of changes, and the compaction's survivors by the plainest reading.
fn history(changes: &[Vec<Change>]) -> Vec<(RowKey, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut live: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
    let mut main = 1;
    for transaction in changes {
        let mut sub = 0;
        let mut touched = Vec::new();
        for change in transaction {
            let (Change::Put(key, _) | Change::Delete(key)) = change;
            if touched.contains(key) {
                continue;
            }
            let name = format!("key-{key}");
            match change {
                Change::Put(_, size) => {
                    let (create, version) = live.get(key).copied().unwrap_or((main + 1, 0));
                    live.insert(*key, (create, version + 1));
                    let text = "v".repeat(*size);
                    let kv = value(&name, create, main + 1, version + 1, &text, 0);
                    rows.push((row(main + 1, sub, false), kv));
                }
                Change::Delete(_) if live.remove(key).is_some() => {
                    rows.push((row(main + 1, sub, true), value(&name, 0, 0, 0, "", 0)));
                }
                Change::Delete(_) => continue,
            }
            touched.push(*key);
            sub += 1;
        }
        main += i64::from(sub > 0);
    }
    rows
}

/// HashKV in the words of etcd-format.md §4.1, with no care for speed.
fn plain_hash(rows: &[(RowKey, Vec<u8>)], at: i64, compacted: i64) -> u32 {
    let mut newest = BTreeMap::new();
    for (key, bytes) in rows.iter().filter(|(key, _)| key.revision.main <= at) {
        newest.insert(KeyValue::decode(bytes).unwrap().key.to_vec(), *key);
    }
    let keep: Vec<RowKey> = newest.into_values().filter(|key| !key.tombstone).collect();
    let mut sum = crc32c::crc32c(b"key");
    for (key, bytes) in rows.iter().filter(|(key, _)| key.revision.main <= at) {
        let main = key.revision.main;
        let dropped = main <= compacted && !keep.is_empty() && !keep.contains(key);
        let gone = main == compacted && key.tombstone;
        if !dropped && !gone {
            sum = crc32c::crc32c_append(sum, &key.encode());
            sum = crc32c::crc32c_append(sum, bytes);
        }
    }
    sum
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0_u8..12, 0_usize..1500).prop_map(|(key, size)| Change::Put(key, size)),
        (0_u8..12).prop_map(Change::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn histories_of_etcd_have_no_findings_and_hash_as_described(
        changes in proptest::collection::vec(proptest::collection::vec(change(), 1..4), 1..60),
        page_size in prop_oneof![Just(1024_u32), Just(4096), Just(65_536)],
        at in 0.0..1.0_f64,
        compacted in 0.0..1.0_f64,
    ) {
        let rows = history(&changes);
        let newest = rows.last().map_or(1, |(key, _)| key.revision.main);
        let bytes = snapshot(&database(&rows, None, None), page_size);
        let proof = prove(&bytes);
        prop_assert_eq!(&proof.findings, &[]);
        prop_assert_eq!(proof.hash_kv.unwrap().hash, plain_hash(&rows, newest, -1));
        let compacting = prove_compacting(&bytes);
        if let Some(compacted) = compacting.compacted_hash {
            prop_assert_eq!((compacted.revision, compacted.compact_revision), (newest, newest));
            prop_assert_eq!(compacted.hash, plain_hash(&rows, newest, newest));
        }
        let alive = proof.status.as_ref().unwrap().total_keys > 0;
        prop_assert_eq!(compacting.compacted_hash.is_some(), alive);
        prop_assert_eq!(Proof { compacted_hash: None, ..compacting }, proof);
        let at = 1 + ((newest - 1) as f64 * at) as i64;
        let compacted = (at as f64 * compacted) as i64;
        let found = hash_kv(&bytes, Some(at), Some(compacted)).unwrap();
        prop_assert_eq!(found.hash, plain_hash(&rows, at, compacted));
        // The same rows, with a compaction that was begun but has deleted nothing yet.
        let begun = prove(&snapshot(&database(&rows, Some(compacted), None), page_size));
        prop_assert!(begun.ok(), "{:?}", begun.findings);
        prop_assert_eq!(begun.hash_kv.unwrap().hash, plain_hash(&rows, newest, compacted));
    }
}
