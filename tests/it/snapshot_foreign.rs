//! Files that etcd on Linux and amd64 does not make by itself, made with etcd and bbolt all the same: other page sizes, and
//! freelists that lie in the file.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcdguardian::snapshot::bolt::Database;
use etcdguardian::snapshot::bolt::build::ImageBuilder;
use etcdguardian::snapshot::bolt::page::NO_FREELIST;
use etcdguardian::snapshot::{Proof, Snapshot, prove};

use crate::snapshot_damage::with_digest;
use crate::snapshot_file::golden;
use crate::support::{Etcd, free_port, guardian, tool};

/// The same rows in pages of another size.
fn repaged(bytes: &[u8], page_size: u32) -> Vec<u8> {
    let database = Database::open(Snapshot::split(bytes).image).unwrap();
    let mut image = ImageBuilder::new(Cursor::new(Vec::new()), page_size).unwrap();
    for bucket in database.buckets() {
        let (name, bucket) = bucket.unwrap();
        image.bucket(name).unwrap();
        for row in bucket.rows() {
            let row = row.unwrap();
            image.row(row.key, row.value).unwrap();
        }
    }
    with_digest(&image.finish().unwrap().0.into_inner())
}

#[test]
fn etcd_writes_on_in_pages_of_any_size_and_the_result_is_proved() {
    let scratch = tempfile::tempdir().unwrap();
    for (page_size, on) in [
        (1024, "3.7"),
        (8192, "3.4"),
        (16_384, "3.5"),
        (65_536, "3.6"),
    ] {
        let source = scratch.path().join(format!("{page_size}.db"));
        let from = repaged(&golden("3.6"), page_size);
        assert!(prove(&from).ok());
        std::fs::write(&source, from).unwrap();
        let (dir, peer) = (
            scratch.path().join(page_size.to_string()),
            format!("http://127.0.0.1:{}", free_port()),
        );
        let words = [
            "restore",
            "--snapshot",
            source.to_str().unwrap(),
            "--data-dir",
            dir.to_str().unwrap(),
        ];
        let more = ["--name=m0", "--initial-advertise-peer-urls", &peer];
        guardian(&[&words[..], &more[..]].concat()).ok();
        // The golden snapshots' own user and password.
        let etcd = Etcd::of(on).auth("secret").restored(&[(dir, peer)]).start();
        etcd.fill("more/", 400, 300);
        etcd.fill("large/", 2, 200_000);
        etcd.ctl(&["del", "--prefix", "more/0000001"]);
        etcd.ctl(&[
            "compaction",
            &(etcd.revision() - 1).to_string(),
            "--physical",
        ]);
        etcd.fill("later/", 50, 50);
        let saved = scratch.path().join(format!("{page_size}-saved.db"));
        etcd.ctl(&["snapshot", "save", saved.to_str().unwrap()]);
        let bytes = std::fs::read(&saved).unwrap();
        let image = Database::open(Snapshot::split(&bytes).image).unwrap();
        assert_eq!(
            image.meta().page_size,
            page_size,
            "etcd {on} kept the page size"
        );
        let proof = prove(&bytes);
        assert_eq!(proof.findings, [], "{page_size} on {on}");
        assert_eq!(
            u64::from(proof.hash_kv.unwrap().hash),
            etcd.hash_kv(0).0,
            "{page_size} on {on}"
        );
    }
}

/// Runs bbolt; it must be content.
fn bbolt(words: &[&str], files: &[&Path]) {
    let ran = Command::new(tool("bbolt"))
        .args(words)
        .args(files)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "bbolt {words:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn proved(file: &PathBuf) -> (Proof, Vec<u8>) {
    let bytes = std::fs::read(file).unwrap();
    (prove(&bytes), bytes)
}

#[test]
fn a_freelist_in_the_file_is_read_and_each_lie_in_it_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let etcd = Etcd::start("3.6");
    for _ in 0..3 {
        etcd.fill("k/", 400, 500);
    }
    etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
    etcd.ctl(&["put", "a", "b"]);
    let saved = path("saved.db");
    etcd.ctl(&["snapshot", "save", saved.to_str().unwrap()]);
    let (plain, bytes) = proved(&saved);
    assert!(plain.ok());
    let image = Database::open(Snapshot::split(&bytes).image).unwrap();
    assert_eq!(
        image.meta().freelist,
        NO_FREELIST,
        "etcd on Linux writes none"
    );
    let truth = plain.status.unwrap();
    // bbolt's own repair writes the free pages down; its compaction leaves none, and a list of them.
    let (listed, compacted) = (path("listed.db"), path("compacted.db"));
    let image_only = path("image.db");
    std::fs::write(&image_only, Snapshot::split(&bytes).image).unwrap();
    bbolt(
        &[
            "surgery",
            "freelist",
            "rebuild",
            "--output",
            listed.to_str().unwrap(),
        ],
        &[&image_only],
    );
    bbolt(
        &["compact", "-o", compacted.to_str().unwrap()],
        &[&image_only],
    );
    for file in [&listed, &compacted] {
        let (proof, bytes) = proved(file);
        let image = Database::open(Snapshot::split(&bytes).image).unwrap();
        assert_ne!(image.meta().freelist, NO_FREELIST, "{}", file.display());
        assert!(proof.ok(), "{}: {:?}", file.display(), proof.findings);
        let codes: Vec<&str> = proof
            .findings
            .iter()
            .map(|found| found.code.as_str())
            .collect();
        assert_eq!(codes, ["DigestMissing"], "{}", file.display());
        let status = proof.status.unwrap();
        assert_eq!((status.hash, status.rows), (truth.hash, truth.rows));
        bbolt(&["check"], &[file]);
    }
    let (_, bytes) = proved(&listed);
    let database = Database::open(&bytes).unwrap();
    let at = usize::try_from(database.meta().freelist).unwrap() * 4096;
    let count = usize::from(u16::from_le_bytes(
        bytes[at + 10..at + 12].try_into().unwrap(),
    ));
    assert!(count > 50, "{count} free pages");
    let lie = |index: usize, page: u64| {
        let mut bytes = bytes.clone();
        bytes[at + 16 + index * 8..at + 24 + index * 8].copy_from_slice(&page.to_le_bytes());
        let findings = prove(&bytes).findings;
        findings
            .into_iter()
            .map(|found| found.code)
            .collect::<Vec<_>>()
    };
    let first = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
    assert!(lie(1, first).contains(&"FreelistDuplicate".to_owned()));
    assert!(lie(0, database.meta().root).contains(&"PageFreeInUse".to_owned()));
    assert!(lie(0, 1 << 40).contains(&"FreelistBroken".to_owned()));
    assert!(lie(0, 0).contains(&"FreelistBroken".to_owned()));
    // One page less in the list is a page lost, and no harm to any row.
    let mut fewer = bytes.clone();
    fewer[at + 10..at + 12].copy_from_slice(&(count as u16 - 1).to_le_bytes());
    let proof = prove(&fewer);
    assert!(
        proof.ok()
            && proof
                .findings
                .iter()
                .any(|found| found.code == "PageLeaked"),
        "{:?}",
        proof.findings
    );
}
