//! A chain through its life: it is held to the live cluster while it grows, becomes a full backup without etcd being read, is followed by
//! a real one when users change, and rests while nothing is written; and every verb takes its newest increment for what it leads to.

use serde_json::Value;

use crate::recorder::{boot, site_with, take, write};
use crate::recording::{condition, metric, status};
use crate::restore_boot::all_keys;
use crate::run::Site;
use crate::support::{Etcd, Ran, until};

fn shown(site: &Site, id: &Value) -> Value {
    let (id, url) = (id.as_str().unwrap(), site.url());
    let words = ["backup", "show", id, "--from", &url, "-o", "json"];
    site.guardian(&words).json()["manifest"].clone()
}

fn fulls(site: &Site) -> Vec<Value> {
    let mut backups = site.backups(&site.url());
    backups.retain(|one| one["kind"] == "Full");
    backups.sort_by_key(|one| one["revision"].as_i64());
    backups
}

/// Whether a check of a manifest says these words.
fn says(manifest: &Value, check: &str, words: &str) -> bool {
    let checks = manifest["checks"].as_array().unwrap();
    let found = checks.iter().find(|one| one["name"] == check);
    found.is_some_and(|one| one["message"].as_str().unwrap().contains(words))
}

fn compact(etcd: &Etcd) {
    etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
}

fn a_chain_becomes_a_full_backup(version: &str) {
    let etcd = Etcd::start(version);
    write(&etcd, 0);
    let site = site_with(
        &etcd,
        "  recording: {enabled: true}\n  fullEvery: {increments: 2, synthetic: true}\n",
    );
    let running = site.start();
    let first = site.wait_for_backups(&site.url(), 1).remove(0);
    for round in 1..=2 {
        write(&etcd, round);
        let made = take(&site);
        assert_eq!(made["kind"], "Increment", "{made}");
        assert_eq!(made["base"], first["id"]);
    }
    // The next one makes it three, and the chain is merged behind it, without what etcd has compacted by then.
    compact(&etcd);
    let compacted = etcd.revision();
    etcd.ctl(&["del", "/registry/pods/1/", "--prefix"]);
    write(&etcd, 3);
    let (newest, keys) = (etcd.revision(), all_keys(&etcd));
    let hash = etcd.hash_kv(newest).0;
    site.guardian(&["schedule", "trigger", "chain"]).ok();
    let merged = until("the merged full backup", || {
        let mut fulls = fulls(&site);
        (fulls.len() == 2).then(|| fulls.remove(1))
    });
    assert_eq!(merged["revision"].as_i64(), Some(newest));
    let manifest = shown(&site, &merged["id"]);
    assert_eq!(manifest["synthetic"]["base"], first["id"], "{manifest}");
    assert_eq!(manifest["synthetic"]["increments"], 3);
    assert_eq!(manifest["compactRevision"].as_i64(), Some(compacted));
    assert_eq!(manifest["level"], "Consistent");
    assert_eq!(manifest["hashKV"]["hash"].as_u64(), Some(hash));
    assert!(
        says(&manifest, "synthetic", "not read from etcd"),
        "{manifest}"
    );
    assert!(
        says(&manifest, "synthetic", "fullEvery allows 2"),
        "{manifest}"
    );
    // The recording goes on across it, though etcd has nothing of the time before any more.
    compact(&etcd);
    write(&etcd, 4);
    let late = (etcd.revision(), all_keys(&etcd));
    let next = take(&site);
    assert_eq!(next["kind"], "Increment", "{next}");
    assert_eq!(next["base"], merged["id"]);
    drop(running);
    // The old chain may go; what is left leads everywhere.
    let url = site.url();
    let prune = [
        "backup",
        "prune",
        "--from",
        &url,
        "--schedule",
        "chain",
        "--namespace",
        "default",
    ];
    let rules = ["--max-backups", "1", "--yes"];
    site.guardian(&[&prune[..], &rules[..]].concat()).ok();
    let left = site.backups(&url);
    assert_eq!(left.len(), 2, "{left:?}");
    site.guardian(&[
        "backup",
        "verify",
        merged["id"].as_str().unwrap(),
        "--from",
        &url,
        "--deep",
    ])
    .ok();
    for (revision, keys, hash) in [(newest, keys, Some(hash)), (late.0, late.1, None)] {
        let to = site.path(&format!("at-{revision}"));
        let (restored, booted) = boot(&site, version, &to, revision);
        assert_eq!(restored["revision"].as_i64(), Some(revision));
        assert_eq!(all_keys(&booted), keys, "keys at {revision} on {version}");
        if let Some(hash) = hash {
            assert_eq!(booted.hash_kv(revision).0, hash);
            let found = booted.ctl(&["lease", "list"]);
            assert!(found.contains("found 4 leases"), "{found}");
        }
    }
}

#[test]
fn a_chain_becomes_a_full_backup_that_boots_on_3_4() {
    a_chain_becomes_a_full_backup("3.4");
}

#[test]
fn a_chain_becomes_a_full_backup_that_boots_on_3_6() {
    a_chain_becomes_a_full_backup("3.6");
}

#[test]
fn a_chain_becomes_a_full_backup_that_boots_on_3_7() {
    a_chain_becomes_a_full_backup("3.7");
}

#[test]
fn an_idle_cluster_gets_no_full_backup_and_stays_recoverable_to_now() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let running = site.start();
    site.wait_for_backups(&site.url(), 1);
    write(&etcd, 1);
    let last = take(&site);
    let recoverable = || {
        let said = status(&site)["recoverableTo"].as_str()?.to_owned();
        said.parse::<jiff::Timestamp>().ok()
    };
    let before = until("recoverableTo", recoverable);
    for round in 0..2 {
        site.guardian(&["schedule", "trigger", "chain"]).ok();
        until("a run that stored nothing", || {
            let seen = running.log_text().matches("nothing to store").count();
            (seen > round).then_some(())
        });
    }
    assert_eq!(site.backups(&site.url()).len(), 2, "nothing was stored");
    until("recoverableTo moves on", || {
        (recoverable()? > before).then_some(())
    });
    let said = status(&site);
    assert_eq!(said["backupHistory"][0]["status"], "Completed", "{said}");
    write(&etcd, 2);
    let next = take(&site);
    assert_eq!(next["kind"], "Increment", "{next}");
    assert_eq!(
        next["startRevision"].as_i64(),
        last["revision"].as_i64().map(|revision| revision + 1)
    );
}

#[test]
fn changed_users_are_followed_by_a_full_backup_at_once() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let running = site.start();
    let first = site.wait_for_backups(&site.url(), 1).remove(0);
    let manifest = shown(&site, &first["id"]);
    let revision = manifest["authRevision"].as_u64().expect("the file says it");
    write(&etcd, 1);
    assert_eq!(take(&site)["kind"], "Increment");
    etcd.ctl(&["user", "add", "reader:secret"]);
    etcd.ctl(&["role", "add", "reading"]);
    // Nobody asks for it.
    let full = until("a second full backup", || {
        let mut fulls = fulls(&site);
        (fulls.len() == 2).then(|| fulls.remove(1))
    });
    let manifest = shown(&site, &full["id"]);
    assert_eq!(
        manifest["authRevision"].as_u64(),
        Some(revision + 2),
        "{manifest}"
    );
    until("the reason in the log", || {
        let log = running.log_text();
        (log.contains("BackupPromotedToFull: users or roles were changed")).then_some(())
    });
    write(&etcd, 2);
    assert_eq!(
        take(&site)["base"],
        full["id"],
        "the recording goes on behind it"
    );
}

#[test]
fn alarms_are_told() {
    let etcd = Etcd::of("3.6").arg("--quota-backend-bytes=8000000").start();
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let _running = site.start();
    site.wait_for_backups(&site.url(), 1);
    until("no alarm in the metrics", || {
        (metric(&site, "etcdguardian_etcd_alarms")? == 0.0).then_some(())
    });
    let large = "x".repeat(100_000);
    let mut full = false;
    for number in 0..200 {
        let key = format!("/large/{number}");
        let mut command = etcd.ctl_command();
        let put = command.args(["put", &key, &large]).output().unwrap();
        full = !put.status.success();
        if full {
            break;
        }
    }
    assert!(full, "the quota is reached");
    until("the alarm in the condition and the metrics", || {
        let said = condition(&site);
        let told = said["message"].as_str()?.contains("NOSPACE of member");
        (told && metric(&site, "etcdguardian_etcd_alarms")? == 1.0).then_some(())
    });
}

/// A site whose newest backup is an increment that was compared with the live cluster, and the revision of it.
fn with_increments(etcd: &Etcd) -> (Site, i64) {
    write(etcd, 0);
    let site = site_with(etcd, "");
    let running = site.start();
    site.wait_for_backups(&site.url(), 1);
    write(etcd, 1);
    let first = take(&site);
    assert_eq!(first["level"], "Consistent", "{first}");
    let manifest = shown(&site, &first["id"]);
    assert!(
        says(&manifest, "live-hashkv", "as the live cluster has it"),
        "{manifest}"
    );
    write(etcd, 2);
    let second = take(&site);
    assert_eq!(second["level"], "Verified", "{second}");
    let manifest = shown(&site, &second["id"]);
    assert!(says(&manifest, "live-hashkv", "not compared"), "{manifest}");
    drop(running);
    (site, etcd.revision())
}

#[test]
fn every_verb_takes_the_latest_increment_for_what_it_leads_to() {
    let etcd = Etcd::start("3.6");
    let (site, newest) = with_increments(&etcd);
    let url = site.url();
    let run = |words: &[&str]| -> Ran { site.guardian(&[words, &["-o", "json"]].concat()) };
    let shallow = run(&["backup", "verify", "latest", "--from", &url]).json();
    assert_eq!(shallow["ok"], true);
    let deep = run(&["backup", "verify", "latest", "--from", &url, "--deep"]).json();
    assert_eq!(
        (&deep["ok"], &deep["level"]),
        (&true.into(), &"Consistent".into()),
        "{deep}"
    );
    let keys = all_keys(&etcd).as_array().unwrap().len();
    assert!(
        says(&deep, "chain", &format!("{keys} keys at revision {newest}")),
        "{deep}"
    );
    let file = run(&["snapshot", "status", &url]).json();
    assert_eq!(file["revision"].as_i64(), Some(newest));
    assert_eq!(file["totalKeys"].as_u64(), Some(keys as u64));
    let hash = run(&["snapshot", "hashkv", &format!("{url}#latest")]).json();
    assert_eq!(hash["hash"].as_u64(), Some(etcd.hash_kv(newest).0));
    let drilled = run(&["drill", "--from", &url, "--backup", "latest", "--no-boot"]).json();
    assert_eq!(drilled["revision"].as_i64(), Some(newest), "{drilled}");
    run(&["object", "ls", "--from", &url, "--backup", "latest"]).ok();
    let to = site.path("latest");
    let peer = format!("http://127.0.0.1:{}", crate::support::free_port());
    let member = [
        "--name=m0",
        "--initial-advertise-peer-urls",
        &peer,
        "--backup",
        "latest",
    ];
    let restored = crate::recorder::restore(&site, &to, &member).json();
    assert_eq!(restored["revision"].as_i64(), Some(newest));
    let booted = Etcd::of("3.6").restored(&[(to, peer)]).start();
    assert_eq!(all_keys(&booted), all_keys(&etcd));
}

#[test]
fn an_increment_of_an_older_epoch_than_its_parent_is_refused_with_the_reason() {
    let etcd = Etcd::start("3.6");
    let (site, newest) = with_increments(&etcd);
    let mut increments = site.backups(&site.url());
    increments.retain(|one| one["kind"] == "Increment");
    increments.sort_by_key(|one| one["revision"].as_i64());
    let data = increments[1]["location"]
        .as_str()
        .unwrap()
        .trim_start_matches("file://");
    let file = data.split_once(".seg").unwrap().0.to_owned() + ".json";
    let text = std::fs::read_to_string(&file).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    let epoch = manifest["chain"]["epoch"].as_u64().unwrap();
    assert!(epoch > 1, "the lease's own, {epoch}");
    manifest["chain"]["epoch"] = 0.into();
    std::fs::write(&file, manifest.to_string()).unwrap();
    let words = ["--to-revision", &newest.to_string()];
    let refused = crate::recorder::restore(&site, &site.path("out"), &words).code(4);
    assert!(
        refused.stderr.contains("its writer had lost the chain"),
        "{}",
        refused.stderr
    );
    let named = ["--backup", increments[1]["id"].as_str().unwrap()];
    let refused = crate::recorder::restore(&site, &site.path("out"), &named).code(4);
    assert!(
        refused.stderr.contains("was written under epoch 0"),
        "{}",
        refused.stderr
    );
    assert!(!site.path("out").exists());
}
