//! What is run over any bytes: every parser of bytes from outside, with what must hold whatever they are. The targets of
//! libFuzzer call these, and so does tests/it/fuzz.rs, which mutates the seeds on any compiler.

use etcdguardian::recorder::segment::SegmentReader;
use etcdguardian::repository::{key::Key, manifest};
use etcdguardian::restore::observe;
use etcdguardian::snapshot::bolt::{Database, row_at};
use etcdguardian::snapshot::contents::{self, Contents};
use etcdguardian::snapshot::datadir::{read_log, read_raft_snapshot};
use etcdguardian::snapshot::mvcc::{Compaction, KeyValue, RowKey};
use etcdguardian::snapshot::{self, Snapshot};

/// What is run over any bytes.
pub type Target = fn(&[u8]);

/// The targets by name; the folder of seeds has the same.
pub const ALL: [(&str, Target); 7] = [
    ("snapshot", snapshot),
    ("bolt", bolt),
    ("rows", rows),
    ("log", log),
    ("raft_snapshot", raft_snapshot),
    ("manifest", manifest),
    ("segment", segment),
];

/// A snapshot file, through everything that the verbs and a restore do with one.
pub fn snapshot(bytes: &[u8]) {
    let proof = snapshot::prove(bytes);
    assert!(proof.findings.len() <= 1000);
    let hash = snapshot::hash_kv(bytes, None, None);
    let listed = Contents::of(bytes, b"", None, 2);
    // What was proved can be read, and all readers see the same.
    if let (true, Some(status)) = (proof.ok(), &proof.status) {
        assert_eq!(proof.hash_kv, hash.ok());
        let (contents, sums) = listed.expect("a proved file can be listed");
        assert_eq!(contents.rows().len() as u64, status.total_keys);
        assert_eq!(
            sums.iter().map(|sum| sum.keys).sum::<u64>(),
            status.total_keys
        );
        let source = observe::source(bytes).expect("a proved file can be restored");
        assert_eq!(source.revision, status.revision);
        assert_eq!(source.compact_revision, status.compact_revision);
        // What a raised revision asks for is the same by the shorter way.
        if let Some(known) = snapshot::prove_compacting(bytes).compacted_hash {
            let newest = Some(status.revision);
            assert_eq!(snapshot::hash_kv(bytes, newest, newest).ok(), Some(known));
        }
    }
    let _ = contents::get(bytes, b"k/1", Some(13));
    let _ = snapshot::hash_kv(bytes, Some(13), Some(12));
    let _ = observe::source(bytes);
}

/// A bbolt image, through each way of reading it.
pub fn bolt(bytes: &[u8]) {
    let image = Snapshot::split(bytes).image;
    let Ok(database) = Database::open(image) else {
        return;
    };
    let _ = Compaction::of(&database);
    // However its pages lie, no byte of a tree is read twice: that bounds time and memory.
    let bound = 2 * image.len() + 1024;
    let mut buckets = 0;
    for bucket in database.buckets() {
        let Ok((name, bucket)) = bucket else { break };
        buckets += name.len() + 16;
        assert!(buckets <= bound);
        let (mut read, mut last): (usize, &[u8]) = (0, &[]);
        for row in bucket.rows() {
            let Ok(row) = row else { break };
            assert!(row.key > last);
            last = row.key;
            read += row.key.len() + row.value.len() + 16;
            assert!(read <= bound);
            assert_eq!(row_at(image, row.element), Some((row.key, row.value)));
        }
        let _ = bucket.last();
        let _ = bucket.get(last);
        for key in [&b"\0\0\0\0\0\0\0\x05"[..], b"consistent_index", last] {
            if let Ok(rows) = bucket.rows_from(key) {
                let found = rows.take(3).flatten().all(|row| row.key >= key);
                assert!(found);
            }
        }
        let _ = database.bucket(name);
    }
}

/// The key and the value of a row.
pub fn rows(bytes: &[u8]) {
    let (head, tail) = bytes.split_at(bytes.len().min(18));
    for key in [head, head.get(..17).unwrap_or_default()] {
        if let Some(key_read) = RowKey::decode(key) {
            assert_eq!(key_read.encode(), key);
        }
    }
    for value in [bytes, tail, head] {
        if let Ok((row, canonical)) = KeyValue::decode_canonical(value) {
            let mut again = Vec::new();
            row.encode(&mut again);
            assert_eq!(KeyValue::decode(&again), Ok(row));
            assert_eq!(canonical, again == value);
        }
    }
}

/// A write-ahead log.
pub fn log(bytes: &[u8]) {
    if let Ok(log) = read_log(bytes) {
        assert!(log.length <= bytes.len());
        assert!(log.entries.len() <= bytes.len() / 16);
        assert!(bytes[log.length..].iter().all(|byte| *byte == 0));
        assert_eq!(read_log(&bytes[..log.length]), Ok(log));
    }
}

/// A raft snapshot file.
pub fn raft_snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = read_raft_snapshot(bytes) {
        assert!(snapshot.at.voters.len() <= bytes.len());
        assert!(snapshot.members.len() <= bytes.len());
    }
}

/// A manifest, and the key that it lies under: the first line is the key.
pub fn manifest(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (key, json) = bytes.split_at(end.map_or(0, |end| end + 1));
    let key = String::from_utf8_lossy(key);
    let Some(key) = Key::parse(key.trim_end()) else {
        return;
    };
    assert_eq!(Key::parse(&key.to_string()).as_ref(), Some(&key));
    if let Ok(read) = manifest::decode(&key, json) {
        let again = manifest::encode(&read).expect("what was read can be written");
        assert_eq!(manifest::decode(&key, &again).ok(), Some(read));
    }
}

/// A segment of increments.
pub fn segment(bytes: &[u8]) {
    let _ = etcdguardian::recorder::segment::recover(bytes);
    let Ok(mut reader) = SegmentReader::open(bytes) else {
        return;
    };
    let mut items = 0;
    while let Ok(Some(_)) = reader.next_item() {
        items += 1;
        assert!(items <= bytes.len());
    }
    if let Some(footer) = reader.footer() {
        assert_eq!(footer.totals, reader.totals());
    }
}
