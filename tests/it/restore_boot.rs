//! A snapshot of any etcd, restored to one member or three, boots on any etcd, with every key, the same HashKV, and takes writes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Etcd, free_port, guardian, tool};

pub const VERSIONS: [&str; 4] = ["3.4", "3.5", "3.6", "3.7"];

/// A snapshot of a real etcd, and what that etcd said of itself.
pub struct Taken {
    pub scratch: TempDir,
    pub file: PathBuf,
    pub revision: i64,
    pub hash: u64,
    pub keys: Value,
    /// HashKV at an earlier revision, after the compaction.
    pub earlier: (i64, u64),
}

impl Taken {
    /// A snapshot with leases, deletes, large values, transactions and a compaction in its past.
    pub fn of(version: &str, prefix: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(version);
        etcd.fill(prefix, 300, 100);
        etcd.fill(prefix, 120, 90);
        etcd.fill(&format!("{prefix}large/"), 2, 300_000);
        let lease = etcd.lease(3600);
        etcd.ctl(&[
            "put",
            &format!("{prefix}leased"),
            "v",
            &format!("--lease={lease}"),
        ]);
        etcd.ctl(&["del", &format!("{prefix}00000007")]);
        etcd.ctl(&[
            "compaction",
            &(etcd.revision() - 3).to_string(),
            "--physical",
        ]);
        etcd.ctl(&["del", "--prefix", &format!("{prefix}0000001")]);
        let earlier = etcd.revision();
        let earlier = (earlier, etcd.hash_kv(earlier).0);
        etcd.fill(&format!("{prefix}late/"), 20, 10);
        etcd.ctl(&["del", &format!("{prefix}late/00000003")]);
        let file = scratch.path().join("snapshot.db");
        etcd.ctl(&["snapshot", "save", file.to_str().unwrap()]);
        Self {
            file,
            revision: etcd.revision(),
            hash: etcd.hash_kv(0).0,
            keys: all_keys(&etcd),
            earlier,
            scratch,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn restore(&self, to: &Path, more: &[&str]) -> Value {
        let mut words = vec![
            "restore",
            "-o",
            "json",
            "--snapshot",
            self.file.to_str().unwrap(),
            "--data-dir",
            to.to_str().unwrap(),
        ];
        words.extend(more);
        guardian(&words).json()
    }
}

/// Every key with its value and revisions.
pub fn all_keys(etcd: &Etcd) -> Value {
    let text = etcd.ctl(&["get", "", "--from-key", "-w", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["kvs"].as_array().unwrap().len() > 100);
    answer["kvs"].clone()
}

pub fn takes_writes(etcd: &Etcd, revision: i64) {
    etcd.ctl(&["put", "written-after", "x"]);
    assert_eq!(etcd.revision(), revision + 1);
    assert!(etcd.ctl(&["get", "written-after"]).contains('x'));
}

fn boots_everywhere(from: &str) {
    let taken = Taken::of(from, "k/");
    for on in VERSIONS {
        let dir = taken.path(&format!("on-{on}"));
        let peer = format!("http://127.0.0.1:{}", free_port());
        let said = taken.restore(&dir, &["--name=m0", "--initial-advertise-peer-urls", &peer]);
        assert_eq!(said["revision"], taken.revision);
        assert_eq!(said["hash"], taken.hash, "{from} restored");
        assert_eq!(said["keys"], taken.keys.as_array().unwrap().len());
        assert_eq!(said["dataDirs"][0], dir.to_str().unwrap());
        let etcd = Etcd::of(on).restored(&[(dir, peer)]).start();
        assert_eq!(etcd.hash_kv(0).0, taken.hash, "{from} on {on}");
        assert_eq!(all_keys(&etcd), taken.keys, "{from} on {on}");
        assert!(etcd.ctl(&["lease", "list"]).contains("found 1 leases"));
        takes_writes(&etcd, taken.revision);
        drop(etcd);
        three_boot(&taken, from, on);
    }
}

/// Three members of one restore form one cluster.
fn three_boot(taken: &Taken, from: &str, on: &str) {
    let dir = taken.path(&format!("three-{on}"));
    let (initial, peers) = three_members();
    let said = taken.restore(&dir, &["--all-members", "--initial-cluster", &initial]);
    assert_eq!(said["dataDirs"].as_array().unwrap().len(), 3);
    let members: Vec<(PathBuf, String)> = peers
        .iter()
        .enumerate()
        .map(|(index, peer)| (dir.join(format!("m{index}")), peer.clone()))
        .collect();
    let database = |folder: &Path| std::fs::read(folder.join("member/snap/db")).unwrap();
    for (folder, _) in &members[1..] {
        assert!(database(folder) == database(&members[0].0), "{from}");
        let about = std::fs::metadata(folder.join("member/snap/db")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }
    let etcd = Etcd::of(on).restored(&members).start();
    assert_eq!(etcd.hashes(), [taken.hash; 3], "{from} on {on}");
    assert_eq!(all_keys(&etcd), taken.keys, "{from} on {on}");
    let listed = etcd.ctl(&["member", "list"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    takes_writes(&etcd, taken.revision);
}

#[test]
fn a_snapshot_of_3_4_boots_everywhere() {
    boots_everywhere("3.4");
}

#[test]
fn a_snapshot_of_3_5_boots_everywhere() {
    boots_everywhere("3.5");
}

#[test]
fn a_snapshot_of_3_6_boots_everywhere() {
    boots_everywhere("3.6");
}

#[test]
fn a_snapshot_of_3_7_boots_everywhere() {
    boots_everywhere("3.7");
}

/// Words for `--initial-cluster` on free ports, and the peer URLs.
fn three_members() -> (String, Vec<String>) {
    let peers: Vec<String> = (0..3)
        .map(|_| format!("http://127.0.0.1:{}", free_port()))
        .collect();
    let pairs: Vec<String> = peers
        .iter()
        .enumerate()
        .map(|(index, peer)| format!("m{index}={peer}"))
        .collect();
    (pairs.join(","), peers)
}

#[test]
fn kubernetes_starts_above_every_revision_that_its_clients_saw() {
    let taken = Taken::of("3.5", "/registry/pods/");
    for on in VERSIONS {
        let dir = taken.path(&format!("kube-{on}"));
        let peer = format!("http://127.0.0.1:{}", free_port());
        let said = taken.restore(&dir, &["--name=m0", "--initial-advertise-peer-urls", &peer]);
        let revision = taken.revision + 1_000_000_000;
        assert_eq!(said["revision"], revision);
        assert_eq!(said["revisions"]["policy"], "BumpAndCompact");
        let etcd = Etcd::of(on).restored(&[(dir, peer)]).start();
        assert_eq!(etcd.revision(), revision);
        assert_eq!(all_keys(&etcd), taken.keys, "on {on}");
        assert_eq!(said["hash"], etcd.hash_kv(0).0, "on {on}");
        let old = etcd.ctl_command().args(["get", "a", "--rev=5"]).output();
        let words = String::from_utf8(old.unwrap().stderr).unwrap();
        assert!(words.contains("compacted"), "{words}");
        takes_writes(&etcd, revision);
    }
    let dir = taken.path("exact");
    assert_eq!(taken.restore(&dir, &["--exact"])["hash"], taken.hash);
}

#[test]
fn an_earlier_revision_of_one_snapshot_is_what_etcd_was_then() {
    let taken = Taken::of("3.6", "k/");
    let (revision, hash) = taken.earlier;
    let dir = taken.path("earlier");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let to = revision.to_string();
    let said = taken.restore(
        &dir,
        &[
            "--to-revision",
            &to,
            "--name=m0",
            "--initial-advertise-peer-urls",
            &peer,
        ],
    );
    assert_eq!(said["revision"], revision);
    assert_eq!(said["hash"], hash);
    let etcd = Etcd::of("3.7").restored(&[(dir, peer)]).start();
    assert_eq!(etcd.hash_kv(0).0, hash);
    takes_writes(&etcd, revision);
}

/// The first bytes of a member's log.
fn log_head(dir: &Path) -> Vec<u8> {
    let mut bytes =
        std::fs::read(dir.join("member/wal/0000000000000000-0000000000000000.wal")).unwrap();
    assert_eq!(bytes.len(), 64_000_000);
    bytes.truncate(2000);
    bytes
}

#[test]
fn the_log_is_that_of_etcdutl_and_etcdutl_takes_the_database() {
    let taken = Taken::of("3.6", "k/");
    let (initial, peers) = three_members();
    for (index, peer) in peers.iter().enumerate() {
        let member = format!("m{index}");
        let theirs = taken.path(&format!("theirs-{member}"));
        let made = Command::new(tool("etcdutl-3.6"))
            .args(["snapshot", "restore", "--initial-cluster-token=t"])
            .arg(&taken.file)
            .args(["--name", &member, "--initial-cluster", &initial])
            .args(["--initial-advertise-peer-urls", peer])
            .arg("--data-dir")
            .arg(&theirs)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let ours = taken.path(&format!("ours-{member}"));
        let words = [
            "--name",
            &member,
            "--initial-cluster",
            &initial,
            "--initial-cluster-token=t",
        ];
        taken.restore(&ours, &words);
        assert_eq!(log_head(&ours), log_head(&theirs));
    }
    let database = taken.path("ours-m0").join("member/snap/db");
    for version in ["3.5", "3.6", "3.7"] {
        let utility = || Command::new(tool(&format!("etcdutl-{version}")));
        let status = utility()
            .args(["snapshot", "status", "-w", "json"])
            .arg(&database)
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["revision"], taken.revision);
        let again = utility()
            .args(["snapshot", "restore", "--skip-hash-check", "--data-dir"])
            .arg(taken.path(&format!("again-{version}")))
            .arg(&database)
            .output()
            .unwrap();
        assert!(again.status.success(), "{version}");
    }
}
