//! The standing watch as its owners see it: what it publishes by itself, what status, metrics and alerts say of it, and that what is
//! lost with etcd is never more than they had said.

use std::time::Duration;

use serde_json::Value;

use crate::recorder::{boot, site_with, take, write};
use crate::run::Site;
use crate::soak::load::Dice;
use crate::support::{Etcd, http, until};

/// What the status file says of the one schedule.
pub fn status(site: &Site) -> Value {
    let said = site.guardian(&["status", "-o", "json"]).stdout;
    let said: Value = serde_json::from_str(&said).unwrap_or_default();
    said["schedules"][0]["status"].clone()
}

pub fn condition(site: &Site) -> Value {
    let conditions = status(site)["conditions"].clone();
    let all = conditions.as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|one| one["type"] == "Recording");
    found.unwrap_or_default()
}

pub fn metric(site: &Site, name: &str) -> Option<f64> {
    let config = std::fs::read_to_string(site.config()).unwrap();
    let port = config.split_once("serve: {listen: '127.0.0.1:").unwrap().1;
    let port = port.split_once('\'').unwrap().0.parse().unwrap();
    let text = http("GET", port, "/metrics", "")?.body;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn increments(site: &Site) -> Vec<Value> {
    let mut backups = site.backups(&site.url());
    backups.retain(|one| one["kind"] == "Increment");
    backups
}

#[test]
fn what_is_recorded_is_published_by_its_age_and_status_says_how_far() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true, segmentMaxAge: 1s}\n");
    let _running = site.start();
    site.wait_for_backups(&site.url(), 1);
    write(&etcd, 1);
    let newest = etcd.revision();
    until("an increment that nobody asked for", || {
        let made = increments(&site);
        let reached = made.iter().filter_map(|one| one["revision"].as_i64()).max();
        (reached == Some(newest)).then_some(())
    });
    let said = until("the condition", || {
        let said = condition(&site);
        let text = said["message"].as_str()?.to_owned();
        let whole = text.contains("all of it is in the store");
        let far = text.contains(&format!("revision {newest}"));
        (said["status"] == "True" && whole && far).then_some(text)
    });
    assert!(said.contains("can be restored"), "{said}");
    until("the lag in the metrics", || {
        (metric(&site, "etcdguardian_recorder_lag_revisions")? == 0.0).then_some(())
    });
    // Every moment since the first full backup.
    let mut fulls = site.backups(&site.url());
    fulls.retain(|one| one["kind"] == "Full");
    let first = fulls.remove(0);
    let from = until("recoverableFrom", || {
        status(&site)["recoverableFrom"].as_str().map(str::to_owned)
    });
    assert_eq!(from[..19], first["time"].as_str().unwrap()[..19]);
}

#[test]
fn what_is_recorded_is_published_by_its_bytes() {
    let etcd = Etcd::start("3.4");
    let site = site_with(
        &etcd,
        "  recording: {enabled: true, segmentMaxBytes: 100000}\n",
    );
    let _running = site.start();
    site.wait_for_backups(&site.url(), 1);
    etcd.fill("/few/", 10, 1_000);
    etcd.fill("/many/", 200, 1_000);
    let newest = etcd.revision();
    until("an increment that nobody asked for", || {
        let made = increments(&site);
        let reached = made.iter().filter_map(|one| one["revision"].as_i64()).max();
        (reached >= Some(newest - 1)).then_some(())
    });
}

#[test]
fn a_hole_is_shown_and_a_new_full_is_taken_at_once() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let mut running = site.start();
    site.wait_for_backups(&site.url(), 1);
    write(&etcd, 1);
    let last = take(&site);
    running.kill();
    write(&etcd, 2);
    etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
    write(&etcd, 3);
    let again = site.start();
    // Nobody asks for it.
    let backups = site.wait_for_backups(&site.url(), 3);
    let newest = backups
        .iter()
        .max_by_key(|one| one["revision"].as_i64())
        .unwrap();
    assert_eq!(newest["kind"], "Full", "{newest}");
    let said = until("the hole in the condition", || {
        let said = condition(&site);
        let text = said["message"].as_str()?.to_owned();
        text.contains("are in no backup").then_some(text)
    });
    let first_lost = last["revision"].as_i64().unwrap() + 1;
    assert!(
        said.contains(&format!("revisions {first_lost} to ")),
        "{said}"
    );
    let from = status(&site)["recoverableFrom"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(from[..19], newest["time"].as_str().unwrap()[..19]);
    until("the alert", || {
        let said = site.guardian(&["status", "-o", "json"]).stdout;
        (said.contains("RecorderGap") || again.log_text().contains("RecorderGap")).then_some(())
    });
    // The recording goes on: the next one is an increment.
    write(&etcd, 4);
    assert_eq!(take(&site)["kind"], "Increment");
}

#[test]
fn a_new_full_leaves_no_moment_out_and_is_held_to_what_was_recorded() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(
        &etcd,
        "  recording: {enabled: true}\n  fullEvery: {increments: 1}\n",
    );
    let running = site.start();
    site.wait_for_backups(&site.url(), 1);
    write(&etcd, 1);
    let first = take(&site);
    assert_eq!(first["kind"], "Increment");
    write(&etcd, 2);
    let between = (etcd.revision(), jiff::Timestamp::now());
    // The old chain's last increment ends at the same revision, and the full is committed after it.
    site.guardian(&["schedule", "trigger", "chain"]).ok();
    let full = until("the second full backup", || {
        let mut fulls = site.backups(&site.url());
        fulls.retain(|one| one["kind"] == "Full");
        let newest = fulls.iter().max_by_key(|one| one["revision"].as_i64());
        newest.filter(|_| fulls.len() == 2).cloned()
    });
    let increments = increments(&site);
    let reached = increments.iter().filter_map(|one| one["revision"].as_i64());
    assert_eq!(reached.max(), full["revision"].as_i64());
    // All that had been recorded is compacted now: only what was kept across the full can go on.
    etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
    write(&etcd, 3);
    let last = take(&site);
    assert_eq!(last["kind"], "Increment", "{last}");
    assert_eq!(last["base"], full["id"]);
    drop(running);
    // The old chain was led up to the full: the moment before it is there.
    let moment = between.1.to_string();
    let to = site.path("moment");
    let restored = crate::recorder::restore(&site, &to, &["--to-time", &moment]).json();
    assert_eq!(restored["revision"].as_i64(), Some(between.0));
    let shown = site.guardian(&[
        "backup",
        "show",
        full["id"].as_str().unwrap(),
        "--from",
        &site.url(),
        "-o",
        "json",
    ]);
    let shown = shown.ok();
    assert!(shown.contains("are those that were recorded on"), "{shown}");
    let folder = std::fs::read_dir(site.path("store")).unwrap().count();
    assert_eq!(folder, 1, "one cluster");
}

/// etcd and the recorder die at a random moment, the recorder perhaps once before: the store alone is left.
#[test]
fn what_is_lost_with_etcd_is_no_more_than_status_had_said() {
    let seed = u64::from(std::process::id());
    eprintln!("the dice begin with {seed}");
    let mut dice = Dice(seed);
    for round in 0..4 {
        let mut etcd = Etcd::start("3.6");
        let site = site_with(&etcd, "  recording: {enabled: true, segmentMaxAge: 1s}\n");
        let mut running = site.start();
        site.wait_for_backups(&site.url(), 1);
        let start = std::time::Instant::now();
        let end = start + Duration::from_millis(1_500 + dice.roll(4_000));
        let mut killed_at =
            (round % 2 == 1).then(|| start + Duration::from_millis(dice.roll(2_000)));
        let mut acknowledged = Vec::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut client = etcd.client().await;
            let mut number = 0;
            while std::time::Instant::now() < end {
                if killed_at
                    .take_if(|at| *at <= std::time::Instant::now())
                    .is_some()
                {
                    running.kill();
                    running = site.start();
                }
                let key = format!("/written/{number:06}");
                let answer = client.put(key, vec![b'x'; 300], None).await.unwrap();
                let revision = answer.header().unwrap().revision();
                acknowledged.push((revision, jiff::Timestamp::now()));
                number += 1;
            }
        });
        etcd.process(0).kill();
        running.kill();
        let told = status(&site);
        let said = told["recoverableTo"].as_str();
        let said: jiff::Timestamp = said.unwrap_or_else(|| panic!("{told}")).parse().unwrap();
        let backups = site.backups(&site.url());
        let reached = backups
            .iter()
            .filter_map(|one| one["revision"].as_i64())
            .max();
        let reached = reached.unwrap();
        let lost: Vec<_> = acknowledged.iter().filter(|one| one.0 > reached).collect();
        eprintln!(
            "round {round}: {} writes, {} lost, up to revision {reached}",
            acknowledged.len(),
            lost.len()
        );
        for (revision, at) in &lost {
            assert!(
                *at > said,
                "revision {revision} of {at} is lost, and status said {said}"
            );
        }
        let to = site.path("restored");
        let (restored, booted) = boot(&site, "3.6", &to, reached);
        assert_eq!(restored["revision"].as_i64(), Some(reached));
        let kept = acknowledged.iter().filter(|one| one.0 <= reached).count();
        let count = booted.ctl(&[
            "get",
            "/written/",
            "--prefix",
            "--count-only",
            "-w",
            "fields",
        ]);
        assert!(
            count.contains(&format!("\"Count\" : {kept}")),
            "{kept} kept, and {count}"
        );
    }
}

#[test]
fn small_increments_become_a_larger_one_that_leads_to_the_same_revisions() {
    let etcd = Etcd::start("3.6");
    write(&etcd, 0);
    let site = site_with(&etcd, "  recording: {enabled: true}\n");
    let running = site.start();
    site.wait_for_backups(&site.url(), 1);
    let mut made = Vec::new();
    for number in 0..26 {
        etcd.ctl(&["put", "/counter", &number.to_string()]);
        site.guardian(&["schedule", "trigger", "chain"]).ok();
        let newest = etcd.revision();
        let one = until("the increment", || {
            let all = increments(&site);
            all.into_iter()
                .find(|one| one["revision"].as_i64() == Some(newest))
        });
        made.push((number, one));
    }
    let all = increments(&site);
    let merged: Vec<&Value> = all
        .iter()
        .filter(|one| made.iter().all(|(_, small)| small["id"] != one["id"]))
        .collect();
    assert_eq!(merged.len(), 1, "{all:?}");
    drop(running);
    // The small ones go, as retention lets them after an hour; what is left leads everywhere.
    for (_, small) in &made[..24] {
        let key = small["location"]
            .as_str()
            .unwrap()
            .trim_start_matches("file://");
        let manifest = key.split_once(".seg").unwrap().0.to_owned() + ".json";
        std::fs::remove_file(manifest).unwrap();
        std::fs::remove_file(key).unwrap();
    }
    for index in [3, 20, 25] {
        let (number, small) = &made[index];
        let to = site.path(&format!("at-{index}"));
        let (_, booted) = boot(&site, "3.6", &to, small["revision"].as_i64().unwrap());
        let value = booted.ctl(&["get", "/counter", "--print-value-only"]);
        assert_eq!(value.trim(), number.to_string());
    }
}
