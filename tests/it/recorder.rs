//! Increments of a real etcd, and the database at any recorded revision: restored, booted and compared key by key.

use std::path::Path;

use serde_json::Value;

use crate::run::Site;
use crate::support::{Etcd, Ran, free_port, until};

/// A site whose one schedule takes a full backup first and increments after it.
fn site(etcd: &Etcd) -> Site {
    site_with(etcd, "")
}

/// As [`site`], with more lines of the schedule's spec.
pub fn site_with(etcd: &Etcd, more: &str) -> Site {
    let site = Site::new(etcd, "");
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: chain}}\nspec:\n  schedule: '0 0 1 1 *'\n  immediate: true\n{more}  backupTemplate:\n    spec:\n      backupMode: Incremental\n      storageLocation: {}\n",
        site.local()
    );
    std::fs::write(site.path("manifests/chain.yaml"), text).unwrap();
    site
}

/// Takes one more backup and waits for it.
pub fn take(site: &Site) -> Value {
    let before = site.backups(&site.url()).len();
    site.guardian(&["schedule", "trigger", "chain"]).ok();
    let backups = site.wait_for_backups(&site.url(), before + 1);
    let newest = |one: &&Value| one["revision"].as_i64();
    backups.iter().max_by_key(newest).unwrap().clone()
}

/// Mixed writes: a transaction of several keys, one of them put and deleted, deletes, an empty and a large value, a lease.
pub fn write(etcd: &Etcd, round: usize) {
    etcd.fill(&format!("/registry/pods/{round}/"), 60, 200);
    etcd.fill(&format!("/registry/large/{round}/"), 1, 400_000);
    etcd.ctl(&[
        "del",
        "--prefix",
        &format!("/registry/pods/{round}/0000001"),
    ]);
    let lease = etcd.lease(3600);
    etcd.ctl(&[
        "put",
        &format!("/leases/{round}"),
        "held",
        &format!("--lease={lease}"),
    ]);
    etcd.ctl(&["put", "/counter", &round.to_string()]);
    etcd.ctl(&["put", &format!("/empty/{round}"), ""]);
}

fn all_at(etcd: &Etcd, revision: i64) -> Value {
    let rev = format!("--rev={revision}");
    let text = etcd.ctl(&["get", "", "--prefix", &rev, "-w", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["kvs"].clone()
}

pub fn restore(site: &Site, to: &Path, more: &[&str]) -> Ran {
    let (url, to) = (site.url(), to.display().to_string());
    let mut words = vec![
        "restore",
        "--from",
        &url,
        "--data-dir",
        &to,
        "--exact",
        "-o",
        "json",
    ];
    words.extend(more);
    site.guardian(&words)
}

/// Restores to a revision and boots a member on it.
pub fn boot(site: &Site, version: &str, to: &Path, revision: i64) -> (Value, Etcd) {
    let peer = format!("http://127.0.0.1:{}", free_port());
    let revision = revision.to_string();
    let words = [
        "--to-revision",
        &revision,
        "--name=m0",
        "--initial-advertise-peer-urls",
        &peer,
    ];
    let restored = restore(site, to, &words).json();
    let members = [(to.to_owned(), peer)];
    (restored, Etcd::of(version).restored(&members).start())
}

fn increments_lead_to_every_revision(version: &str) {
    let etcd = Etcd::start(version);
    write(&etcd, 0);
    let site = site(&etcd);
    let running = site.start();
    let full = site.wait_for_backups(&site.url(), 1).remove(0);
    assert_eq!(full["kind"], "Full");
    let mut wanted = Vec::new();
    let mut last = full;
    for round in 1..=2 {
        write(&etcd, round);
        let newest = etcd.revision();
        // Before and after the put that attached the round's lease.
        for (revision, leases) in [
            (newest - 4, round),
            (newest - 2, round + 1),
            (newest, round + 1),
        ] {
            let hash = etcd.hash_kv(revision).0;
            wanted.push((revision, leases, all_at(&etcd, revision), hash));
        }
        let increment = take(&site);
        assert_eq!(increment["kind"], "Increment", "{increment}");
        assert_eq!(
            increment["base"],
            last["base"]
                .as_str()
                .map_or(last["id"].clone(), Value::from)
        );
        assert_eq!(
            increment["startRevision"].as_i64(),
            last["revision"].as_i64().map(|r| r + 1)
        );
        assert_eq!(increment["revision"].as_i64(), Some(newest));
        // The first of a chain is compared with the live cluster, and the next ten minutes later.
        let level = if round == 1 { "Consistent" } else { "Verified" };
        assert_eq!(increment["level"], level);
        last = increment;
    }
    drop(running);
    for (revision, leases, keys, hash) in wanted {
        let to = site.path(&format!("at-{revision}"));
        let (restored, booted) = boot(&site, version, &to, revision);
        assert_eq!(restored["revision"].as_i64(), Some(revision));
        assert_eq!(
            restored["hash"].as_u64(),
            Some(hash),
            "HashKV at {revision}"
        );
        assert_eq!(all_at(&booted, 0), keys, "keys at {revision} on {version}");
        assert_eq!(booted.hash_kv(revision).0, hash);
        let found = booted.ctl(&["lease", "list"]);
        assert!(found.contains(&format!("found {leases} leases")), "{found}");
    }
    let beyond = (etcd.revision() + 1).to_string();
    restore(&site, &site.path("beyond"), &["--to-revision", &beyond]).code(4);
    assert!(!site.path("beyond").exists());
}

#[test]
fn increments_lead_to_every_revision_of_3_4() {
    increments_lead_to_every_revision("3.4");
}

#[test]
fn increments_lead_to_every_revision_of_3_6() {
    increments_lead_to_every_revision("3.6");
}

#[test]
fn increments_lead_to_every_revision_of_3_7() {
    increments_lead_to_every_revision("3.7");
}

#[test]
fn what_was_compacted_unrecorded_is_a_gap_with_a_name_and_a_new_full() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site(&etcd);
    let full = {
        let ran = site.guardian(&["run", "--once"]);
        ran.ok();
        site.backups(&site.url()).remove(0)
    };
    write(&etcd, 1);
    etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
    let running = site.start();
    let newest = take(&site);
    assert_eq!(
        newest["kind"], "Full",
        "a chain with a hole must not go on: {newest}"
    );
    assert!(newest["revision"].as_i64() > full["revision"].as_i64());
    until("the reason in the log", || {
        let log = running.log_text();
        (log.contains("BackupPromotedToFull") && log.contains("compacted")).then_some(())
    });
}

#[test]
fn a_chain_without_its_middle_is_refused_and_nothing_is_written() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site(&etcd);
    let running = site.start();
    site.wait_for_backups(&site.url(), 1);
    write(&etcd, 1);
    let middle = take(&site);
    write(&etcd, 2);
    let last = take(&site);
    drop(running);
    let key = middle["location"]
        .as_str()
        .unwrap()
        .trim_start_matches("file://");
    let manifest = key.split_once(".seg").unwrap().0.to_owned() + ".json";
    std::fs::remove_file(manifest).unwrap();
    let revision = last["revision"].to_string();
    restore(&site, &site.path("out"), &["--to-revision", &revision]).code(4);
    assert!(!site.path("out").exists());
}

#[test]
fn a_standing_watch_outlives_compactions_and_kill_9_and_loses_no_revision() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let mut running = site.start();
    let full = site.wait_for_backups(&site.url(), 1).remove(0);
    let recorded = |mark: &str| {
        until("the rows on disk", || {
            let file = site.path("state/recording/default_chain/open.part");
            let bytes = std::fs::read(file).unwrap_or_default();
            let found = bytes
                .windows(mark.len())
                .any(|part| part == mark.as_bytes());
            found.then_some(())
        });
    };
    let compact = || etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
    write(&etcd, 1);
    let early = etcd.revision();
    let early = (early, all_at(&etcd, early));
    recorded("/empty/1");
    // A watch of the moment could not read any of it any more.
    compact();
    let first = take(&site);
    assert_eq!(first["kind"], "Increment", "{first}");
    assert_eq!(
        first["startRevision"].as_i64(),
        full["revision"].as_i64().map(|r| r + 1)
    );
    write(&etcd, 2);
    let middle = etcd.revision();
    let middle = (middle, all_at(&etcd, middle));
    recorded("/empty/2");
    running.kill();
    compact();
    write(&etcd, 3);
    let late = etcd.revision();
    let late = (late, all_at(&etcd, late));
    let again = site.start();
    let second = take(&site);
    assert_eq!(second["kind"], "Increment", "{second}");
    assert_eq!(
        second["startRevision"].as_i64(),
        first["revision"].as_i64().map(|r| r + 1)
    );
    assert_eq!(second["revision"].as_i64(), Some(late.0));
    drop(again);
    for (revision, keys) in [early, middle, late] {
        let to = site.path(&format!("at-{revision}"));
        let (_, booted) = boot(&site, "3.6", &to, revision);
        assert_eq!(all_at(&booted, 0), keys, "keys at {revision}");
    }
}
