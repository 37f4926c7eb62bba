//! A snapshot that holds little free space keeps its pages in a restore, and boots like any other.

use std::path::Path;
use std::process::Command;

use crate::restore_boot::{VERSIONS, all_keys, takes_writes};
use crate::support::{Etcd, free_port, guardian, tool};

/// bbolt's page size, and the pages before the first that a tree may have.
const PAGE: usize = 4096;
const METAS: usize = 2 * PAGE;

/// The part of the snapshot's pages that lie in the restored database as they were.
fn kept(snapshot: &Path, restored: &Path) -> f64 {
    let (before, after) = (
        std::fs::read(snapshot).unwrap(),
        std::fs::read(restored).unwrap(),
    );
    let pages = |bytes: &[u8]| {
        bytes[METAS..]
            .chunks_exact(PAGE)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (before, after) = (pages(&before), pages(&after));
    let same = before
        .iter()
        .zip(&after)
        .filter(|(one, other)| one == other);
    same.count() as f64 / before.len() as f64
}

fn restores(from: &str, prefix: &str, bump: i64) {
    let scratch = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(from);
    etcd.fill(prefix, 3000, 400);
    let lease = etcd.lease(3600);
    etcd.ctl(&[
        "put",
        &format!("{prefix}leased"),
        "v",
        &format!("--lease={lease}"),
    ]);
    etcd.ctl(&["del", &format!("{prefix}00000007")]);
    etcd.ctl(&["defrag"]);
    let file = scratch.path().join("snapshot.db");
    etcd.ctl(&["snapshot", "save", file.to_str().unwrap()]);
    let (keys, revision) = (all_keys(&etcd), etcd.revision());
    drop(etcd);
    for on in VERSIONS {
        let dir = scratch.path().join(on);
        let peer = format!("http://127.0.0.1:{}", free_port());
        let said = guardian(&[
            "restore",
            "-o",
            "json",
            "--snapshot",
            file.to_str().unwrap(),
            "--data-dir",
            dir.to_str().unwrap(),
            "--name=m0",
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .json();
        assert_eq!(said["revision"], revision + bump);
        let database = dir.join("member/snap/db");
        let part = kept(&file, &database);
        assert!(part > 0.99, "{part} of the pages were kept");
        let checked = Command::new(tool("bbolt"))
            .arg("check")
            .arg(&database)
            .output();
        let checked = checked.unwrap();
        let words = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{from}: bbolt check: {words}");
        let etcd = Etcd::of(on).restored(&[(dir, peer)]).start();
        assert_eq!(all_keys(&etcd), keys, "{from} on {on}");
        assert_eq!(said["hash"], etcd.hash_kv(0).0, "{from} on {on}");
        assert!(etcd.ctl(&["lease", "list"]).contains("found 1 leases"));
        takes_writes(&etcd, revision + bump);
        // Enough, a hundred keys at a time, that the page which was written for the last row is split.
        etcd.fill(&format!("{prefix}more/"), 500, 400);
        assert_eq!(etcd.revision(), revision + bump + 1 + 5);
        etcd.ctl(&["defrag"]);
    }
}

#[test]
fn pages_stay_where_they_are_from_3_4() {
    restores("3.4", "k/", 0);
}

#[test]
fn pages_stay_where_they_are_from_3_6_and_kubernetes_gets_its_raised_revision() {
    restores("3.6", "/registry/pods/", 1_000_000_000);
}
