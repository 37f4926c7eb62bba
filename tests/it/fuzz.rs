//! Every parser of bytes from outside over mutated seeds, so many rounds and no more: no panic, no hang, whatever the bytes.
//! `fuzz/run.sh` runs the same targets under libFuzzer for as long as one likes; FUZZ_ROUNDS multiplies the rounds here.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;

use etcdguardian::recorder::{group, segment};
use etcdguardian::repository::{Manifest, manifest};
use etcdguardian::snapshot::bolt::build::ImageBuilder;
use etcdguardian::snapshot::bolt::page::{META, Meta, PAGE_HEADER, fnv1a64};
use etcdguardian::snapshot::datadir::{Cluster, raft_snapshot, read_log, write_ahead_log};
use etcdguardian::snapshot::mvcc::{KeyValue, Revision, RowKey};

use crate::snapshot_damage::with_digest;
use crate::snapshot_file::{VERSIONS, golden};
use crate::support::repository;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Repeatable noise: xorshift.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0xfff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// A few changes of the kinds that disks, transfers and enemies make.
fn mutate(seed: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + noise.below(4) {
        if bytes.is_empty() {
            break;
        }
        let block = [1, 8, 16, 512, 1024, 4096][noise.below(6)].min(bytes.len());
        let from = noise.below(bytes.len() - block + 1) / block * block;
        let to = noise.below(bytes.len() - block + 1) / block * block;
        match noise.below(9) {
            0 => bytes[from] ^= 1 << noise.below(8),
            1 => bytes[from] = noise.next() as u8,
            2 | 3 => {
                let width = [1, 2, 4, 8][noise.below(4)].min(bytes.len());
                let at = noise.below(bytes.len() - width + 1) / width * width;
                let number = NUMBERS[noise.below(NUMBERS.len())].to_le_bytes();
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => bytes.truncate(from),
            5 => bytes[from..from + block].fill(0),
            6 => bytes.copy_within(from..from + block, to),
            7 => {
                let first = bytes[from..from + block].to_vec();
                bytes.copy_within(to..to + block, from);
                bytes[to..to + block].copy_from_slice(&first);
            }
            _ => {
                let piece = bytes[from..from + block].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// Checksums made right again, so that what lies behind them is reached.
fn mend(name: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    match name {
        "snapshot" | "bolt" => {
            for page_size in [0, 1024, 4096] {
                let meta = bytes.get_mut(page_size + PAGE_HEADER..);
                if let Some(record) = meta.and_then(|meta| meta.get_mut(..META)) {
                    let sum = fnv1a64(&record[..META - 8]);
                    record[META - 8..].copy_from_slice(&sum.to_le_bytes());
                }
            }
            let length = bytes.len() / 512 * 512;
            with_digest(&bytes[..length])
        }
        "raft_snapshot" if bytes.len() > 8 => {
            // Its checksum is the first field: a tag and five bytes at most.
            let data = bytes[8..].to_vec();
            let mut mended = vec![0x08];
            put_varint(&mut mended, u64::from(crc32c::crc32c(&data)));
            mended.push(0x12);
            put_varint(&mut mended, data.len() as u64);
            mended.extend(data);
            mended
        }
        _ => bytes,
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A log of records whose content was mutated, each with its right length, padding and running checksum.
fn mended_log(seed: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut records = Vec::new();
    let mut rest = seed;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let length = (u64::from_le_bytes(*word) & 0xff_ffff) as usize;
        if length == 0 {
            break;
        }
        let (record, tail) = tail.split_at(length);
        // type, checksum, data: the tags are one byte each, and so is the type.
        let mut data = &record[3..];
        while data[0] & 0x80 != 0 {
            data = &data[1..];
        }
        let data = data.get(1..).filter(|data| !data.is_empty());
        let data = data.map(|data| {
            let skip = 1
                + data[1..]
                    .iter()
                    .take_while(|byte| **byte & 0x80 != 0)
                    .count()
                + 1;
            data[skip..].to_vec()
        });
        records.push((record[1], data));
        rest = tail.get((8 - length % 8) % 8..).unwrap_or_default();
    }
    match noise.below(4) {
        0 => drop(records.remove(noise.below(records.len()))),
        1 => {
            let again = records[noise.below(records.len())].clone();
            records.insert(noise.below(records.len()), again);
        }
        _ => {
            let at = noise.below(records.len());
            if let (_, Some(data)) = &mut records[at] {
                *data = mutate(data, noise);
            }
        }
    }
    let (mut log, mut sum) = (Vec::new(), 0);
    for (kind, data) in records {
        sum = crc32c::crc32c_append(sum, data.as_deref().unwrap_or_default());
        let mut record = vec![0x08, kind, 0x10];
        put_varint(&mut record, u64::from(sum));
        if let Some(data) = data {
            record.push(0x1a);
            put_varint(&mut record, data.len() as u64);
            record.extend(data);
        }
        let padding = (8 - record.len() % 8) % 8;
        let mark = if padding == 0 {
            0
        } else {
            0x80 | padding as u64
        };
        log.extend_from_slice(&(record.len() as u64 | mark << 56).to_le_bytes());
        record.resize(record.len() + padding, 0);
        log.extend(record);
    }
    log
}

/// The seeds of a target: what lies in the repository, and for images the golden snapshots.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = repository("fuzz/seeds").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no seeds");
    let mut seeds: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    if name == "snapshot" || name == "bolt" {
        seeds.extend(VERSIONS.map(golden));
    }
    seeds
}

fn rounds(name: &str) -> usize {
    let more: usize = std::env::var("FUZZ_ROUNDS").map_or(1, |more| more.parse().unwrap());
    more * match name {
        "snapshot" => 1_200,
        "bolt" => 2_400,
        "rows" => 20_000,
        _ => 4_000,
    }
}

#[test]
fn no_bytes_make_a_parser_panic_or_hang() {
    std::thread::scope(|scope| {
        for (index, (name, target)) in targets::ALL.into_iter().enumerate() {
            scope.spawn(move || {
                let seeds = seeds(name);
                let mut noise = Noise(0x9e37_79b9_7f4a_7c15 + index as u64);
                for seed in &seeds {
                    target(seed);
                }
                for round in 0..rounds(name) {
                    let seed = &seeds[round % seeds.len()];
                    let bytes = match (name, noise.below(4)) {
                        ("log", 0..3) => mended_log(seed, &mut noise),
                        (_, 0) => mutate(seed, &mut noise),
                        _ => mend(name, mutate(seed, &mut noise)),
                    };
                    let done = std::panic::catch_unwind(|| target(&bytes));
                    if done.is_err() {
                        let file = std::env::temp_dir().join(format!("{name}-{round}.crash"));
                        std::fs::write(&file, &bytes).unwrap();
                        panic!("{name}, round {round}: see {}", file.display());
                    }
                }
            });
        }
    });
}

#[test]
fn the_mutations_of_a_log_get_past_its_checksums() {
    let mut noise = Noise(7);
    let seeds = seeds("log");
    let accepted = (0..200)
        .filter(|round| read_log(&mended_log(&seeds[round % seeds.len()], &mut noise)).is_ok())
        .count();
    assert!((20..200).contains(&accepted), "{accepted} of 200");
}

/// An image of pages of this size with so many keys, each changed twice, some of them deleted.
fn image(page_size: u32, keys: i64, bytes: usize) -> Vec<u8> {
    let mut rows = BTreeMap::new();
    for key in 0..keys {
        let name = format!("k/{key}");
        for (version, main) in (1..=2).zip([2 + key, 2 + keys + key]) {
            let revision = Revision { main, sub: 0 };
            let (mut value, filling) = (Vec::new(), "v".repeat(bytes + key as usize));
            let kv = KeyValue {
                key: name.as_bytes(),
                create_revision: 2 + key,
                mod_revision: main,
                version,
                value: filling.as_bytes(),
                lease: key % 3,
            };
            let tombstone = version == 2 && key % 5 == 0;
            let kv = if tombstone {
                KeyValue {
                    key: kv.key,
                    ..KeyValue::default()
                }
            } else {
                kv
            };
            kv.encode(&mut value);
            rows.insert(
                RowKey {
                    revision,
                    tombstone,
                }
                .encode(),
                value,
            );
        }
    }
    let mut builder = ImageBuilder::new(Cursor::new(Vec::new()), page_size).unwrap();
    builder.bucket(b"alarm").unwrap();
    builder.row(b"\x08\x07\x10\x01", b"").unwrap();
    builder.bucket(b"key").unwrap();
    for (key, value) in &rows {
        builder.row(key, value).unwrap();
    }
    builder.bucket(b"lease").unwrap();
    builder
        .row(&1_i64.to_be_bytes(), b"\x08\x01\x10\x3c")
        .unwrap();
    builder.bucket(b"members").unwrap();
    builder
        .row(b"7", br#"{"id":7,"peerURLs":["http://a:1"],"name":"a"}"#)
        .unwrap();
    builder.bucket(b"meta").unwrap();
    builder
        .row(b"confState", br#"{"voters":[7],"auto_leave":false}"#)
        .unwrap();
    builder
        .row(b"consistent_index", &9_u64.to_be_bytes())
        .unwrap();
    builder.row(b"storageVersion", b"3.6.0").unwrap();
    builder.row(b"term", &2_u64.to_be_bytes()).unwrap();
    let image = builder.finish().unwrap().0.into_inner();
    assert!(Meta::decode(&image[PAGE_HEADER..]).is_ok());
    image
}

/// Writes fuzz/seeds anew: `cargo test --test it fuzz::make_the_seeds -- --ignored`.
#[test]
#[ignore = "it writes into the repository"]
fn make_the_seeds() {
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = repository("fuzz/seeds").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    for (name, page_size, keys, bytes) in [
        ("tree", 1024, 40, 60),
        ("inline", 4096, 3, 5),
        ("large", 1024, 6, 3000),
    ] {
        let image = image(page_size, keys, bytes);
        write("snapshot", name, &with_digest(&image));
        write("bolt", name, &image);
    }
    for (name, words) in [
        ("one", "default=http://localhost:2380"),
        (
            "three",
            "a=http://a:1,b=http://b:1,b=http://b:2,c=https://[::1]:3",
        ),
    ] {
        let cluster = Cluster::parse(words, "token").unwrap();
        let mut log = write_ahead_log(&cluster, &cluster.members[0]);
        log.resize(log.len() + 64, 0);
        write("log", name, &log);
        write("raft_snapshot", name, &raft_snapshot(&cluster));
    }
    let (id, sha) = ("20260101T000000Z-9", "ab".repeat(32));
    let mut json = serde_json::json!({
        "formatVersion": 1, "id": id, "kind": "Full", "clusterId": "00000000000000ab", "clusterName": "c",
        "memberId": "1", "etcdVersion": "3.6.0", "backupName": "b", "namespace": "default", "runId": "r",
        "created": "2026-01-01T00:00:00Z", "completed": "2026-01-01T00:00:01Z", "revision": 9,
        "compactRevision": 5, "keyCount": 1, "dataKey": format!("00000000000000ab/v1/full/{id}/snapshot.db.zst"),
        "rawSize": 1, "storedSize": 1, "plainSha256": sha, "storedSha256": sha, "compression": "Zstd",
        "level": "Verified", "toolVersion": "0", "checks": [{"name": "digest", "ok": true, "message": "m"}],
        "hashKV": {"hash": 1, "revision": 9, "compactRevision": 5},
    });
    let keyed = |json: &serde_json::Value| {
        let manifest: Manifest = serde_json::from_value(json.clone()).unwrap();
        let key = manifest::check(&manifest).unwrap();
        format!("{key}\n{json}")
    };
    write("manifest", "full", keyed(&json).as_bytes());
    json["kind"] = "Increment".into();
    json["id"] = format!("{id}.10-20").into();
    (json["startRevision"], json["revision"]) = (10.into(), 20.into());
    json["dataKey"] = format!("00000000000000ab/v1/incr/{id}/10-20.seg.zst").into();
    json["chain"] = serde_json::json!({"base": id, "parentSha256": sha, "epoch": 1});
    write("manifest", "increment", keyed(&json).as_bytes());
    let row = |tombstone| RowKey {
        revision: Revision { main: 7, sub: 1 },
        tombstone,
    };
    write(
        "rows",
        "put",
        &[
            row(false).encode(),
            b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011".to_vec(),
        ]
        .concat(),
    );
    write(
        "rows",
        "leased",
        b"\x0a\x01b\x10\x03\x18\x03\x20\x01\x30\xa3\x3b",
    );
    write(
        "rows",
        "deleted",
        &[row(true).encode(), b"\x0a\x01a".to_vec()].concat(),
    );
    let at = |millis: i64| jiff::Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap();
    let header = segment::Header {
        cluster_id: "00000000000000ab".to_owned(),
        member_id: "1".to_owned(),
        etcd_version: "3.6.1".to_owned(),
        base: "20260101T000000Z-1".to_owned(),
        parent_sha256: "aa".to_owned(),
        epoch: 3,
        first_revision: 2,
        raft_term: 2,
        started: at(0),
    };
    let mut writer = segment::SegmentWriter::create(Vec::new(), &header).unwrap();
    for revision in 2..6 {
        writer.begin(revision, at(revision * 10)).unwrap();
        for tombstone in [false, true] {
            let value = b"\x0a\x01a".to_vec();
            writer
                .row(&group::Row {
                    tombstone,
                    value,
                    lease: 0,
                })
                .unwrap();
        }
        writer.commit().unwrap();
    }
    writer.lease(77, 60).unwrap();
    writer.idle(at(1_000_000)).unwrap();
    write(
        "segment",
        "four",
        &writer.finish(4, Some(1), None).unwrap().0,
    );
}
