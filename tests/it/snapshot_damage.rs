//! No damage to a snapshot goes unnoticed: a checker's finding, or a content that is what it was, or at the very least another
//! hash. And no file, however hostile, takes memory or time beyond its size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;

use etcdguardian::snapshot::bolt::Database;
use etcdguardian::snapshot::bolt::page::{META, NO_FREELIST, PAGE_HEADER, fnv1a64};
use etcdguardian::snapshot::{self, Digest, Proof, Snapshot, contents};

use crate::snapshot_file::{VERSIONS, golden};
use crate::support::guardian_command;

pub fn with_digest(image: &[u8]) -> Vec<u8> {
    let digest = ring::digest::digest(&ring::digest::SHA256, image);
    [image, digest.as_ref()].concat()
}

/// Everything that reads a file's bytes, run to its end; the proof.
fn read_all(bytes: &[u8]) -> Proof {
    let proof = snapshot::prove(bytes);
    let _ = snapshot::hash_kv(bytes, None, None);
    let _ = snapshot::hash_kv(bytes, Some(13), Some(12));
    let _ = contents::Contents::of(bytes, b"k/", None, 2);
    let _ = etcdguardian::restore::observe::source(bytes);
    proof
}

#[test]
fn any_changed_byte_and_any_cut_of_a_snapshot_is_an_error() {
    for version in VERSIONS {
        let good = golden(version);
        assert!(snapshot::prove(&good).ok());
        // A stride that is prime meets every kind of byte: metas, headers, elements, keys, values, free pages, digest.
        for at in (0..good.len()).step_by(101) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let proof = read_all(&bytes);
            assert!(!proof.ok(), "{version}: byte {at} was changed");
        }
        for length in (0..good.len())
            .step_by(509)
            .chain([good.len() - 1, 512, 4096, 8192])
        {
            let proof = read_all(&good[..length]);
            assert!(!proof.ok(), "{version}: cut to {length} bytes");
        }
    }
}

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Every bucket with its rows, as a reader finds them.
fn content(bytes: &[u8]) -> Option<Buckets> {
    let database = Database::open(Snapshot::split(bytes).image).ok()?;
    let mut buckets = Buckets::new();
    for bucket in database.buckets() {
        let (name, bucket) = bucket.ok()?;
        let rows = buckets.entry(name.to_vec()).or_default();
        for row in bucket.rows() {
            let row = row.ok()?;
            rows.insert(row.key.to_vec(), row.value.to_vec());
        }
    }
    Some(buckets)
}

/// A file that was damaged and got a digest of its own: the damage has a finding, or no row changed, or, where a change lies
/// inside a value and breaks no rule, the hash over all rows is another. Says which.
fn judge(what: &str, image: &[u8], truth: &(Proof, Buckets)) -> Verdict {
    let bytes = with_digest(image);
    let proof = read_all(&bytes);
    if !proof.ok() {
        let worst = &proof.findings[0];
        assert!(
            !worst.place.is_empty() && !worst.message.is_empty(),
            "{what}"
        );
        return Verdict::Named;
    }
    let (good, rows) = truth;
    let status = proof.status.as_ref().unwrap();
    assert_eq!(status.digest, Digest::Ok);
    let good = good.status.as_ref().unwrap();
    if content(&bytes).as_ref() == Some(rows) {
        assert_eq!(status.hash, good.hash, "{what}");
        return Verdict::Unharmed;
    }
    assert_ne!(
        status.hash, good.hash,
        "{what}: rows changed and nothing says so"
    );
    Verdict::HashedOtherwise
}

#[derive(PartialEq)]
enum Verdict {
    Named,
    Unharmed,
    HashedOtherwise,
}

/// Each page and each pair of pages: flipped, zeroed, cut off, swapped, copied over.
#[test]
fn any_damaged_page_below_a_right_digest_is_named_or_harmless() {
    for version in VERSIONS {
        let good = golden(version);
        let image = Snapshot::split(&good).image;
        let truth = (snapshot::prove(&good), content(&good).unwrap());
        let pages = image.len() / 4096;
        let page = |number: usize| number * 4096..(number + 1) * 4096;
        // A page without a header of its own lies inside a large value, where no rule reaches.
        let headed = |number: usize| image[page(number)][..8] == (number as u64).to_le_bytes();
        let damaged = |what: String, change: &dyn Fn(&mut Vec<u8>), may_hide: bool| {
            let mut bytes = image.to_vec();
            change(&mut bytes);
            let verdict = judge(&format!("{version}: {what}"), &bytes, &truth);
            assert!(
                verdict != Verdict::HashedOtherwise || may_hide,
                "{version}: {what} was not named"
            );
        };
        for first in 0..pages {
            let inside = !headed(first);
            damaged(
                format!("page {first} zeroed"),
                &|bytes| bytes[page(first)].fill(0),
                inside,
            );
            damaged(
                format!("cut before page {first}"),
                &|bytes| bytes.truncate(first * 4096),
                false,
            );
            damaged(
                format!("page {first} cut out"),
                &|bytes| drop(bytes.drain(page(first))),
                false,
            );
            damaged(
                format!("page {first} doubled"),
                &|bytes| {
                    let again = bytes[page(first)].to_vec();
                    bytes.splice(first * 4096..first * 4096, again);
                },
                false,
            );
            for second in (0..pages).filter(|second| *second != first) {
                let inside = inside || !headed(second);
                damaged(
                    format!("page {first} over {second}"),
                    &|bytes| {
                        bytes.copy_within(page(first), second * 4096);
                    },
                    inside,
                );
                if first < second {
                    damaged(
                        format!("pages {first} and {second} swapped"),
                        &|bytes| {
                            let kept = bytes[page(first)].to_vec();
                            bytes.copy_within(page(second), first * 4096);
                            bytes[page(second)].copy_from_slice(&kept);
                        },
                        inside,
                    );
                }
            }
        }
        // A changed byte of a value breaks no rule; of everything else the judge has an opinion.
        for at in (0..image.len()).step_by(37) {
            damaged(
                format!("byte {at} flipped"),
                &|bytes| bytes[at] = !bytes[at],
                true,
            );
        }
    }
}

/// Numbers that claim more than there is, each under a right checksum and digest.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let good = golden("3.6");
    let image = Snapshot::split(&good).image;
    let meta = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = image.to_vec();
        for page in [0, 4096] {
            let record: Range<usize> = page + PAGE_HEADER..page + PAGE_HEADER + META;
            change(&mut bytes[record.clone()]);
            let sum = fnv1a64(&bytes[record.start..record.end - 8]);
            bytes[record.end - 8..record.end].copy_from_slice(&sum.to_le_bytes());
        }
        with_digest(&bytes)
    };
    let put = |bytes: &mut [u8], at: usize, number: u64| {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    let root = u64::from_le_bytes(
        image[PAGE_HEADER + 16..PAGE_HEADER + 24]
            .try_into()
            .unwrap(),
    );
    let root = root as usize * 4096;
    let page = |at: usize, bytes: &[u8]| {
        let mut image = image.to_vec();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        with_digest(&image)
    };
    // A freelist of 2^60 pages, in a page of its own behind the others.
    let mut listed = image.to_vec();
    let free = (listed.len() / 4096) as u64;
    listed.resize(listed.len() + 4096, 0);
    let at = free as usize * 4096;
    put(&mut listed, at, free);
    listed[at + 8] = 0x10;
    listed[at + 10..at + 12].fill(0xff);
    put(&mut listed, at + 16, 1 << 60);
    for page in [0, 4096] {
        put(&mut listed, page + PAGE_HEADER + 32, free);
        put(&mut listed, page + PAGE_HEADER + 40, free + 1);
        let record = page + PAGE_HEADER..page + PAGE_HEADER + META;
        let sum = fnv1a64(&listed[record.start..record.end - 8]);
        put(&mut listed, record.end - 8, sum);
    }
    vec![
        ("pages without end", meta(&|meta| put(meta, 40, u64::MAX))),
        ("2^52 pages", meta(&|meta| put(meta, 40, 1 << 52))),
        (
            "a freelist far away",
            meta(&|meta| put(meta, 32, NO_FREELIST - 1)),
        ),
        ("a root far away", meta(&|meta| put(meta, 16, 1 << 60))),
        ("a root that is a meta page", meta(&|meta| put(meta, 16, 1))),
        ("a long freelist", with_digest(&listed)),
        ("overflow without end", page(root + 12, &[0xff; 4])),
        ("elements without end", page(root + 10, &[0xff; 2])),
        ("a huge bucket header", page(root + 16, &[0xff; 16])),
        ("noise", with_digest(&[0x5a; 65_536])),
    ]
}

#[test]
fn a_hostile_file_takes_no_memory() {
    let scratch = tempfile::tempdir().unwrap();
    for (what, bytes) in hostile() {
        let file = scratch.path().join("snapshot.db");
        std::fs::write(&file, bytes).unwrap();
        for verb in ["check", "status", "hashkv", "ls"] {
            // Half a gigabyte of addresses: stacks and arenas of the threads take most of them.
            let plain = guardian_command();
            let mut limited = Command::new("sh");
            limited
                .args(["-c", "ulimit -v 524288; exec \"$@\"", "sh"])
                .arg(plain.get_program())
                .args(["snapshot", verb])
                .arg(&file)
                .env("NO_COLOR", "1");
            let ran = limited.output().unwrap();
            let words = String::from_utf8_lossy(&ran.stderr);
            assert!(
                matches!(ran.status.code(), Some(0 | 3)),
                "{what}, {verb}: {:?} {words}",
                ran.status
            );
            assert!(!words.contains("panicked"), "{what}, {verb}: {words}");
            if verb == "check" {
                assert_eq!(ran.status.code(), Some(3), "{what} is damage");
            }
        }
    }
}
