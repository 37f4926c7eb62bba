//! Snapshots of live servers, with everything in them that etcd knows, before, during and after a compaction and a
//! defragmentation: our hash and status are the server's and etcdutl's, wherever etcdutl can answer; and what was restored of
//! the last one boots with its users.

use std::path::{Path, PathBuf};
use std::process::Command;

use etcd_client::{AlarmAction, AlarmType, Txn, TxnOp};
use etcdguardian::snapshot::bolt::Database;
use etcdguardian::snapshot::mvcc::Compaction;
use etcdguardian::snapshot::{Digest, Severity, Snapshot, hash_kv, prove};
use serde_json::Value;

use crate::snapshot_file::VERSIONS;
use crate::support::{Etcd, free_port, guardian, tool, until};

const PASSWORD: &str = "correct horse";

/// etcdutl's answer as JSON.
fn etcdutl(version: &str, words: &[&str], file: &Path) -> Value {
    let output = Command::new(tool(&format!("etcdutl-{version}")))
        .args(words)
        .args(["-w", "json"])
        .arg(file)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

struct Scene {
    etcd: Etcd,
    version: &'static str,
    scratch: tempfile::TempDir,
}

impl Scene {
    /// A server with leases, a user, roles, large values, a learner, and transactions that touch a key twice.
    async fn set(version: &'static str) -> Self {
        let batch = match version {
            "3.7" => "--compaction-batch-limit=5",
            _ => "--experimental-compaction-batch-limit=5",
        };
        let etcd = Etcd::of(version).auth(PASSWORD).arg(batch).start();
        for _ in 0..3 {
            etcd.put_many("k/", 500, 60).await;
        }
        etcd.put_many("large/", 2, 400_000).await;
        let mut client = etcd.client().await;
        let lease = client.lease_grant(3600, None).await.unwrap().id();
        let leased = etcd_client::PutOptions::new().with_lease(lease);
        client
            .put("leased/a", "v", Some(leased.clone()))
            .await
            .unwrap();
        client.put("leased/b", "", Some(leased)).await.unwrap();
        for round in 0..3 {
            // A put and its deletion by a later sibling: two rows of one key in one revision.
            let put = |key: &str, value: &str| TxnOp::put(key, value, None);
            let within = |op| TxnOp::txn(Txn::new().and_then([op]));
            let twice = [
                within(put("twice", "v")),
                put(&format!("beside/{round}"), "w"),
                within(TxnOp::delete("twice", None)),
            ];
            client.txn(Txn::new().and_then(twice)).await.unwrap();
        }
        client.put("twice", "stays", None).await.unwrap();
        client.delete("k/00000017", None).await.unwrap();
        etcd.ctl(&["role", "add", "reader"]);
        etcd.ctl(&[
            "role",
            "grant-permission",
            "reader",
            "read",
            "k/",
            "--prefix",
        ]);
        etcd.ctl(&["user", "add", "alice:secret"]);
        etcd.ctl(&["user", "grant-role", "alice", "reader"]);
        // It never starts: a learner is no part of the quorum.
        let peer = format!("--peer-urls=http://127.0.0.1:{}", free_port());
        etcd.ctl(&["member", "add", "learner", "--learner", &peer]);
        let scratch = tempfile::tempdir().unwrap();
        Self {
            etcd,
            version,
            scratch,
        }
    }

    /// Takes a snapshot and holds it to what the server and etcdutl say; gives the file and its compaction marks.
    fn agrees(&self, when: &str) -> (PathBuf, Compaction) {
        let context = format!("{} {when}", self.version);
        let file = self.scratch.path().join(when);
        self.etcd.ctl(&["snapshot", "save", file.to_str().unwrap()]);
        let revision = self.etcd.revision();
        let bytes = std::fs::read(&file).unwrap();
        let proof = prove(&bytes);
        let errors: Vec<_> = proof
            .findings
            .iter()
            .filter(|found| found.severity == Severity::Error)
            .collect();
        assert!(errors.is_empty(), "{context}: {errors:?}");
        let status = proof.status.clone().unwrap();
        assert_eq!(
            (status.revision, status.digest),
            (revision, Digest::Ok),
            "{context}"
        );
        assert_eq!((status.leases, status.auth_enabled), (1, true), "{context}");
        let (_, compacted) = self.etcd.hash_kv(0);
        // At the compact revision itself etcd answers with what it hashed while it compacted.
        let earlier = [revision, revision - 1, revision - 4];
        for at in [0]
            .into_iter()
            .chain(earlier.into_iter().filter(|at| *at > compacted))
        {
            let (hash, compacted) = self.etcd.hash_kv(at);
            let at = if at == 0 { revision } else { at };
            let compacted = if compacted == 0 { -1 } else { compacted };
            let own = hash_kv(&bytes, Some(at), Some(compacted)).unwrap();
            let asked = format!("{context}: HashKV at {at} compacted at {compacted}");
            assert_eq!(u64::from(own.hash), hash, "{asked}");
        }
        let keys = self.etcd.ctl(&["get", "", "--from-key", "--keys-only"]);
        let keys = keys.lines().filter(|key| !key.is_empty()).count();
        assert_eq!(keys as u64, status.total_keys, "{context}");
        for utility in ["3.5", "3.6", "3.7"] {
            let said = etcdutl(utility, &["snapshot", "status"], &file);
            assert_eq!(said["hash"], status.hash, "{context}: etcdutl {utility}");
            // It knows the last row only, which a compaction at the newest revision may have taken away.
            let last = said["revision"].as_i64().unwrap();
            let tail_may_be_gone = status.compact_revision == status.revision;
            assert!(
                last == revision || (tail_may_be_gone && last < revision),
                "{context}: etcdutl {utility} says revision {last}, and it is {revision}"
            );
            assert_eq!(
                said["totalSize"], status.db_size,
                "{context}: etcdutl {utility}"
            );
            if utility != "3.5" {
                assert_eq!(
                    said["totalKey"], status.total_keys,
                    "{context}: etcdutl {utility}"
                );
            }
        }
        // It writes to the file, and 3.6 panics at leases.
        let copy = self.scratch.path().join("copy");
        std::fs::copy(&file, &copy).unwrap();
        let said = etcdutl("3.7", &["hashkv"], &copy);
        assert_eq!(
            said["hash"],
            proof.hash_kv.unwrap().hash,
            "{context}: etcdutl hashkv"
        );
        let checked = Command::new(tool("bbolt"))
            .arg("check")
            .arg(&file)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{context}: bbolt check");
        let image = Database::open(Snapshot::split(&bytes).image).unwrap();
        let compaction = Compaction::of(&image).unwrap();
        (file, compaction)
    }
}

async fn agrees_at_every_stage(version: &'static str) {
    let scene = Scene::set(version).await;
    let (before, compaction) = tokio::task::block_in_place(|| scene.agrees("before"));
    assert_eq!(compaction, Compaction::default());
    let etcd = &scene.etcd;
    let mut client = etcd.client().await;
    client.compact(etcd.revision() - 5, None).await.unwrap();
    tokio::task::block_in_place(|| {
        let (_, compaction) = scene.agrees("during");
        assert!(
            !compaction.is_finished(),
            "{version}: the compaction was over at once"
        );
        let done = until("the compaction", || {
            let (file, compaction) = scene.agrees("waiting");
            compaction.is_finished().then_some(file)
        });
        assert!(done.exists());
        scene.agrees("compacted");
        etcd.ctl(&["defrag"]);
        scene.agrees("defragmented");
    });
    // The tombstone at the compact revision itself, which releases treat in two ways.
    client.delete("k/00000018", None).await.unwrap();
    client.compact(etcd.revision(), None).await.unwrap();
    tokio::task::block_in_place(|| scene.agrees("at-a-tombstone"));
    client
        .alarm(AlarmAction::Activate, AlarmType::Nospace, None)
        .await
        .unwrap();
    tokio::task::block_in_place(|| {
        let (file, _) = scene.agrees("alarmed");
        let path = file.to_str().unwrap();
        let status = guardian(&["snapshot", "status", path, "-o", "json"]).json();
        assert_eq!(status["alarms"], serde_json::json!(["NOSPACE"]));
        let difference = guardian(&[
            "snapshot",
            "diff",
            before.to_str().unwrap(),
            path,
            "-o",
            "json",
        ])
        .json();
        assert_eq!(difference["deleted"], serde_json::json!(["k/00000018"]));
        boots_with_its_users(&scene, &file);
    });
}

/// The alarm is gone, the learner is gone, the users are there, on every release.
fn boots_with_its_users(scene: &Scene, file: &Path) {
    let hash = scene.etcd.hash_kv(0).0;
    for on in VERSIONS {
        let (dir, peer) = (
            scene.scratch.path().join(on),
            format!("http://127.0.0.1:{}", free_port()),
        );
        let words = [
            "restore",
            "--snapshot",
            file.to_str().unwrap(),
            "--data-dir",
            dir.to_str().unwrap(),
        ];
        let more = [
            "--name=m0",
            "--initial-advertise-peer-urls",
            &peer,
            "-o",
            "json",
        ];
        let said = guardian(&[&words[..], &more[..]].concat()).json();
        assert!(
            said["notes"].to_string().contains("user management is on"),
            "{said}"
        );
        let etcd = Etcd::of(on).auth(PASSWORD).restored(&[(dir, peer)]).start();
        assert_eq!(etcd.hash_kv(0).0, hash, "{} on {on}", scene.version);
        let alice = |words: &[&str]| {
            let mut command = Command::new(tool(&format!("etcdctl-{on}")));
            command.env("ETCDCTL_API", "3").args([
                "--user=alice:secret",
                "--dial-timeout=30s",
                "--command-timeout=60s",
                "--endpoints",
                &etcd.endpoint(),
            ]);
            command.args(words).output().unwrap()
        };
        assert!(
            alice(&["get", "k/00000001"]).status.success(),
            "{} on {on}",
            scene.version
        );
        assert!(
            !alice(&["put", "k/00000001", "x"]).status.success(),
            "{} on {on}",
            scene.version
        );
        assert!(
            etcd.ctl_command()
                .arg("get")
                .arg("twice")
                .output()
                .unwrap()
                .stdout
                .starts_with(b"twice\nstays")
        );
        etcd.ctl(&["put", "written-after", "x"]);
        assert_eq!(etcd.ctl(&["alarm", "list"]).trim(), "");
        assert_eq!(etcd.ctl(&["member", "list"]).lines().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_3_4_agree_with_it_and_with_etcdutl_at_every_stage() {
    agrees_at_every_stage("3.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_3_5_agree_with_it_and_with_etcdutl_at_every_stage() {
    agrees_at_every_stage("3.5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_3_6_agree_with_it_and_with_etcdutl_at_every_stage() {
    agrees_at_every_stage("3.6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_3_7_agree_with_it_and_with_etcdutl_at_every_stage() {
    agrees_at_every_stage("3.7").await;
}
