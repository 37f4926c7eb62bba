//! A chain beside its live cluster: what etcd contradicts is told and not built on, changed users are followed under TLS and passwords,
//! and an increment is a small part of a full backup.

use std::path::Path;

use serde_json::Value;

use crate::recorder::{boot, restore, site_with, take, write};
use crate::recording::condition;
use crate::restore_boot::all_keys;
use crate::run::Site;
use crate::support::{Etcd, until};

fn shown(site: &Site, id: &Value) -> Value {
    let (id, url) = (id.as_str().unwrap(), site.url());
    let words = ["backup", "show", id, "--from", &url, "-o", "json"];
    site.guardian(&words).json()["manifest"].clone()
}

fn newest_full(site: &Site) -> Value {
    let mut fulls = site.backups(&site.url());
    fulls.retain(|one| one["kind"] == "Full");
    fulls.sort_by_key(|one| one["revision"].as_i64());
    fulls.pop().unwrap()
}

/// Bytes of the segment that the recorder of a site has written to its disk.
fn spilled(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| {
        let path = entry.path();
        match path.file_name() {
            _ if path.is_dir() => spilled(&path),
            Some(name) if name == "open.part" => entry.metadata().map_or(0, |file| file.len()),
            _ => 0,
        }
    });
    sizes.sum()
}

/// Replaces a value's bytes in the file of a member that is down; how often it was there.
fn forge(etcd: &Etcd, old: &[u8], new: &[u8]) -> usize {
    let path = etcd.data_dir(0).join("member/snap/db");
    let mut bytes = std::fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - old.len())
        .filter(|at| bytes[*at..].starts_with(old))
        .collect();
    for at in &places {
        bytes[*at..*at + new.len()].copy_from_slice(new);
    }
    std::fs::write(&path, bytes).unwrap();
    places.len()
}

#[test]
fn a_record_that_the_live_cluster_contradicts_is_told_and_not_built_on() {
    const WRITTEN: &[u8] = b"what its writer was told was written";
    const FORGED: &[u8] = b"what a broken disk has made of it...";
    let mut etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let running = site.start();
    let first = site.wait_for_backups(&site.url(), 1).remove(0);
    etcd.ctl(&["put", "/witness", std::str::from_utf8(WRITTEN).unwrap()]);
    // What is on the disk of these has the witness before it.
    etcd.fill("/registry/large/after/", 4, 400_000);
    until("the recorder to have the witness", || {
        (spilled(&site.path("state")) > 400_000).then_some(())
    });
    // etcd has it in its file, which a defragmentation writes anew and whole.
    etcd.ctl(&["defrag"]);
    etcd.process(0).kill();
    assert!(
        forge(&etcd, WRITTEN, FORGED) > 0,
        "the value is in the file"
    );
    etcd.restart(0);
    assert!(etcd.ctl(&["get", "/witness"]).contains("a broken disk"));

    site.guardian(&["schedule", "trigger", "chain"]).ok();
    let full = until("a full backup in the increment's place", || {
        let full = newest_full(&site);
        (full["id"] != first["id"]).then_some(full)
    });
    until("the reason in the log", || {
        running.log_text().contains("ChainDisagrees").then_some(())
    });
    // Nothing of the contradicted record was published.
    let of_first = |one: &Value| one["kind"] == "Increment" && one["base"] == first["id"];
    let published = site.backups(&site.url());
    assert!(!published.iter().any(of_first), "{published:?}");
    let said = until("the alert", || {
        let alerts = site.page()["alerts"].to_string();
        alerts.contains("RecorderGap").then_some(alerts)
    });
    assert!(
        said.contains("base and increments come to HashKV")
            && said.contains("the live cluster has"),
        "{said}"
    );
    // The chain goes on, from what etcd has now.
    write(&etcd, 2);
    assert_eq!(take(&site)["base"], full["id"]);
    let (_, booted) = boot(&site, "3.6", &site.path("again"), etcd.revision());
    assert_eq!(all_keys(&booted), all_keys(&etcd));
}

#[test]
fn changed_users_are_followed_under_tls_and_passwords() {
    let etcd = Etcd::of("3.6").tls().auth("right").start();
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    site.signs_in(etcd.pki.as_ref().unwrap(), "right");
    let running = site.start();
    let first = site.wait_for_backups(&site.url(), 1).remove(0);
    let before = shown(&site, &first["id"])["authRevision"].as_u64().unwrap();
    write(&etcd, 1);
    assert_eq!(take(&site)["kind"], "Increment");
    etcd.ctl(&["user", "add", "reader:hunter2"]);
    etcd.ctl(&["role", "add", "reading"]);
    etcd.ctl(&[
        "role",
        "grant-permission",
        "reading",
        "read",
        "",
        "--prefix",
    ]);
    etcd.ctl(&["user", "grant-role", "reader", "reading"]);
    let full = until("a full backup that nobody asked for", || {
        let full = newest_full(&site);
        let has = shown(&site, &full["id"])["authRevision"].as_u64()?;
        (has == before + 4).then_some(full)
    });
    let log = running.log_text();
    assert!(
        log.contains("BackupPromotedToFull: users or roles were changed"),
        "{log}"
    );
    assert!(
        !log.contains("right\"") && !log.contains("hunter2"),
        "{log}"
    );
    write(&etcd, 2);
    assert_eq!(take(&site)["base"], full["id"]);
    assert_eq!(condition(&site)["status"], "True");
}

/// The reference workload: 4,000 objects of two kibibytes; a twentieth of them is written again before the increment.
#[test]
fn an_increment_is_a_small_part_of_a_full_backup() {
    let etcd = Etcd::start("3.6");
    etcd.fill("/registry/configmaps/shop/", 4_000, 2_048);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let running = site.start();
    let full = site.wait_for_backups(&site.url(), 1).remove(0);
    etcd.fill("/registry/configmaps/shop/", 200, 2_048);
    let increment = take(&site);
    assert_eq!(increment["kind"], "Increment");
    let stored = |one: &Value| shown(&site, &one["id"])["storedSize"].as_u64().unwrap();
    let (whole, part) = (stored(&full), stored(&increment));
    eprintln!(
        "an increment of 200 writes: {part} bytes; the full backup of 4,000 objects: {whole}"
    );
    assert!(part * 10 < whole, "{part} of {whole} bytes");
    drop(running);
    restore(&site, &site.path("all"), &[]).ok();
}
