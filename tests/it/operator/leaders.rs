//! Several replicas: one works, and when it dies in the middle of a backup another goes on, and nothing is made twice.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Site;
use crate::support::{Kubernetes, Toxiproxy, until, until_within};

/// A lease that another replica takes soon.
const QUICK: &str =
    "operator: {leaderElection: {leaseDuration: 4s, renewDeadline: 3s, retryPeriod: 500ms}}";

#[test]
fn the_leader_is_killed_in_mid_backup_again_and_again_and_no_slot_is_run_twice() {
    let site = Site::new(Kubernetes::start());
    site.cluster.etcd.fill("big/", 64, 60_000);
    let toxics = Toxiproxy::start();
    let slow = toxics.proxy("s3", site.store.port);
    toxics.upstream_toxic("s3", "bandwidth", r#"{"rate":400}"#);
    let mut replicas = BTreeMap::new();
    for name in ["a", "b"] {
        replicas.insert(name.to_owned(), site.operator(name, QUICK));
    }
    let storage = site.storage(slow);
    // Slots of the cron come while leaders die.
    site.schedule_to("guardian", "main", "schedule: '* * * * *'", "", &storage);
    for round in 0..3 {
        let value = format!("round-{round}");
        site.trigger("guardian", "main", &value);
        let child = format!("main-asked-{:08x}", crc32c::crc32c(value.as_bytes()));
        until("a backup is being stored", || {
            let running = site.cluster.list("etcdbackups", "guardian");
            let storing = running
                .iter()
                .any(|backup| backup["status"]["message"] == "stage store");
            storing.then_some(())
        });
        let leader = until("somebody leads", || site.leader());
        let name = leader.split('_').next().unwrap().to_owned();
        let mut dead = replicas.remove(&name).unwrap();
        dead.kill();
        drop(dead);
        // A new replica under the old name, as a Deployment would start it.
        let config = site.config(&name, QUICK);
        let again = site
            .cluster
            .start_operator(&config, site.folder.path(), &name);
        replicas.insert(name, again);
        // Through a slow store, after a lease has run out.
        until_within(Duration::from_secs(180), &child, || {
            let object = site.cluster.get("etcdbackup", "guardian", &child)?;
            assert_ne!(object["status"]["phase"], "Failed", "{object}");
            (object["status"]["phase"] == "Completed").then_some(())
        });
    }
    toxics.heal();
    site.cluster
        .merge("egs", "guardian", "main", "{\"spec\":{\"suspend\":true}}");
    until("nothing is under way", || {
        let all = site.cluster.list("etcdbackups", "guardian");
        all.iter()
            .all(|backup| backup["status"]["phase"] == "Completed")
            .then_some(())
    });
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for manifest in site.stored() {
        *times
            .entry(manifest["backupName"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert!(times.len() >= 3, "{times:?}");
    assert!(
        times.values().all(|count| *count == 1),
        "each slot once: {times:?}"
    );
    let objects = site.children("guardian", "main", "Completed");
    assert_eq!(
        objects.len(),
        times.len(),
        "an object a backup: {objects:?} {times:?}"
    );
    for name in objects {
        assert!(times.contains_key(&name), "{name} of {times:?}");
    }
}

#[test]
fn a_leader_that_is_told_to_end_releases_its_lease_and_one_that_loses_it_ends() {
    let site = Site::new(Kubernetes::start());
    let mut first = site.operator("first", QUICK);
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(143));
    assert_eq!(site.leader(), None, "the lease is free at once");
    let mut second = site.operator("second", QUICK);
    let lease = "{\"spec\":{\"holderIdentity\":\"a-thief\"}}";
    site.cluster
        .merge("lease", "guardian", "etcdguardian", lease);
    assert_eq!(second.wait().code(), Some(11), "{}", second.log_text());
    assert!(
        second.log_text().contains("the lease is lost"),
        "{}",
        second.log_text()
    );
}
