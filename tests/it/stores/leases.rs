//! The lease on a chain: one writer at a time, a dead one is taken over, and the one that was taken over finds that out.

use std::sync::Arc;
use std::time::Duration;

use etcdguardian::api::ErrorClass;
use etcdguardian::repository::{LeaseTimes, Repository, SilentObserver};

use super::{CLUSTER, Place, directory, oss, s3};
use crate::backup::Desk;
use crate::support::{Etcd, block_on, guardian_command};

const TIMES: LeaseTimes = LeaseTimes {
    renew: Duration::from_millis(200),
    dead: Duration::from_secs(3),
    patience: Duration::from_secs(6),
};

async fn one_writer_at_a_time(repository: Arc<Repository>) {
    let take = |who: &'static str, times| repository.lease(CLUSTER, "base", who, 0, times);
    let first = take("first", TIMES).await.unwrap();
    let before = first.epoch();
    assert!(before >= 1);
    // Who is alive is waited for in vain.
    let refused = take("second", TIMES).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Locked);
    assert_eq!(refused.class().exit_code(), 11);
    assert!(refused.to_string().contains("first"), "{refused}");
    first.confirm().await.unwrap();
    assert!(first.epoch() > before, "it was renewed meanwhile");
    // Another chain is no matter.
    let other = repository
        .lease(CLUSTER, "other", "third", 0, TIMES)
        .await
        .unwrap();
    other.release().await;
    // What is given back is there at once, with a higher epoch.
    let last = first.epoch();
    first.release().await;
    let second = take("second", TIMES).await.unwrap();
    assert!(second.epoch() > last);
    // One that shows no life is taken over, and fenced off.
    let still = LeaseTimes {
        renew: Duration::from_secs(3600),
        ..TIMES
    };
    second.release().await;
    let stale = take("stale", still).await.unwrap();
    let heir = take("heir", TIMES).await.unwrap();
    assert!(heir.epoch() > stale.epoch());
    let fenced = stale.confirm().await.unwrap_err();
    assert_eq!(fenced.class(), ErrorClass::Locked);
    assert!(fenced.to_string().contains("heir"), "{fenced}");
    heir.confirm().await.unwrap();
    heir.release().await;
    // An epoch that the chain has reached is never taken again.
    let floor = repository
        .lease(CLUSTER, "base", "later", 1000, TIMES)
        .await
        .unwrap();
    assert_eq!(floor.epoch(), 1001);
    floor.release().await;
}

/// Many at once: each that gets the lease is alone with it.
async fn nobody_shares(repository: Arc<Repository>) {
    let holders = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (repository, holders) = (Arc::clone(&repository), Arc::clone(&holders));
        tasks.spawn(async move {
            let patient = LeaseTimes {
                patience: Duration::from_secs(60),
                ..TIMES
            };
            let lease = repository
                .lease(CLUSTER, "crowd", "one of many", 0, patient)
                .await
                .unwrap();
            let before = holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            assert_eq!(before, 0, "two hold one lease");
            tokio::time::sleep(Duration::from_millis(50)).await;
            lease.confirm().await.unwrap();
            holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            let epoch = lease.epoch();
            lease.release().await;
            epoch
        });
    }
    let mut epochs = tasks.join_all().await;
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 6, "each has an epoch of its own");
}

fn on(place: &Place) {
    block_on(async {
        let repository = Arc::new(place.open().await.unwrap());
        one_writer_at_a_time(Arc::clone(&repository)).await;
        nobody_shares(repository).await;
    });
}

#[test]
fn a_directory_has_leases() {
    on(&directory());
}

#[test]
fn s3_has_leases() {
    on(&s3());
}

#[test]
fn oss_has_leases() {
    on(&oss());
}

#[test]
fn a_renewal_that_was_carried_out_after_it_was_given_up_is_given_back_too() {
    let place = directory();
    block_on(async {
        let repository = Arc::new(place.open().await.unwrap());
        let long = LeaseTimes {
            renew: Duration::from_secs(3600),
            dead: Duration::from_secs(3600),
            patience: Duration::from_secs(1),
        };
        let take = |who| repository.lease(CLUSTER, "base", who, 0, long);
        let lease = take("first").await.unwrap();
        let epoch = lease.epoch();
        // What the store made of a request whose sender had stopped waiting.
        let folder = std::path::Path::new(&place.location.bucket);
        let folder = folder.join(CLUSTER).join("v1/lock/base");
        let record = |epoch: u64| folder.join(format!("{epoch}.json"));
        std::fs::copy(record(epoch), record(epoch + 1)).unwrap();
        lease.release().await;
        let second = take("second").await.unwrap();
        assert_eq!(second.epoch(), epoch + 3, "taken, renewed, given back");
        second.release().await;
    });
}

#[test]
fn where_conditions_are_ignored_the_later_writer_has_the_lease_and_the_earlier_is_fenced_off() {
    block_on(async {
        let store = Arc::new(super::faults::Careless::default());
        let place = directory();
        let repository = Arc::new(Repository::over(
            store,
            &place.location,
            Arc::new(SilentObserver),
        ));
        let still = LeaseTimes {
            renew: Duration::from_secs(3600),
            dead: Duration::ZERO,
            ..TIMES
        };
        let early = repository
            .lease(CLUSTER, "b", "early", 0, still)
            .await
            .unwrap();
        let late = repository
            .lease(CLUSTER, "b", "late", 0, still)
            .await
            .unwrap();
        assert!(early.confirm().await.is_err());
        late.confirm().await.unwrap();
    });
}

#[test]
fn writers_at_the_same_time_make_one_chain() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 50, 100);
    let desk = Desk::local(&etcd);
    desk.create();
    let config = desk.path("guardian.yaml").display().to_string();
    let mut writers = Vec::new();
    for round in 0..4 {
        etcd.ctl(&["put", "round", &round.to_string()]);
        let words = [
            "backup",
            "create",
            "--mode",
            "incremental",
            "--config",
            &config,
        ];
        let writer = guardian_command()
            .args(words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        writers.push(writer);
    }
    for writer in writers {
        let ended = writer.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}");
    }
    let items = desk.items();
    let increments: Vec<&serde_json::Value> = items
        .iter()
        .rev()
        .filter(|item| item["kind"] == "Increment")
        .collect();
    assert!(!increments.is_empty(), "{items:?}");
    // Listed from the oldest: each begins where the one before ended, and has a later epoch.
    let mut seen: std::collections::BTreeMap<String, (i64, u64)> = Default::default();
    for item in &increments {
        let base = item["base"].as_str().unwrap().to_owned();
        let first = item["startRevision"].as_i64().unwrap();
        let id = item["id"].as_str().unwrap();
        let shown = desk.run(&["backup", "show", id, "-o", "json"]).json();
        let epoch = shown["manifest"]["chain"]["epoch"].as_u64().unwrap();
        if let Some((last, earlier)) = seen.get(&base) {
            assert_eq!(first, last + 1, "{increments:?}");
            assert!(epoch > *earlier, "{epoch} after {earlier}");
        }
        seen.insert(base, (item["revision"].as_i64().unwrap(), epoch));
    }
    let to = desk.path("restored").display().to_string();
    let store = format!("file://{}", desk.path("store").display());
    let words = [
        "restore",
        "--from",
        &store,
        "--data-dir",
        &to,
        "--exact",
        "--yes",
    ];
    desk.run(&words).ok();
}
