//! Pins: a chain that somebody reads is deleted by nobody, whoever was first; what is deleted is whole, what is locked stays, and what
//! is left of the dead holds for a while only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcdguardian::api::{ErrorClass, RetentionPolicy};
use etcdguardian::repository::{Manifest, Repository, SilentObserver, increments_of};
use etcdguardian::retain::{self, Holds, Outcome, RetentionPlan, Scope};
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use serde_json::json;

use super::faults::Careless;
use super::{CLUSTER, Place, directory, get, manifest, oss, put, s3};
use crate::soak::load::Dice;
use crate::support::block_on;

/// A full backup of this revision, and so many increments on it.
async fn chain(repository: &Repository, revision: i64, length: i64) -> Vec<Manifest> {
    let base = put(repository, &format!("b{revision}"), revision, b"full")
        .await
        .unwrap();
    let mut made = vec![base.clone()];
    for step in 1..=length {
        let (parent, last) = (made.last().unwrap(), revision + step);
        let stored = format!("rows of {last}");
        let mut value = serde_json::to_value(manifest(&base.id, last, stored.as_bytes())).unwrap();
        value["id"] = format!("{}.{last}-{last}", base.id).into();
        value["kind"] = "Increment".into();
        value["startRevision"] = last.into();
        value["dataKey"] = format!("{CLUSTER}/v1/incr/{}/{last}-{last}.seg", base.id).into();
        value["chain"] = json!({"base": base.id, "parentSha256": parent.stored_sha256, "epoch": 1});
        let next: Manifest = serde_json::from_value(value).unwrap();
        let mut reader = stored.as_bytes();
        let size = stored.len() as u64;
        repository
            .store_stream(&next.data_key, size, "test", &mut reader, &|_| {})
            .await
            .unwrap();
        repository.commit(&next).await.unwrap();
        made.push(next);
    }
    made
}

/// What keeping only the newest chain comes to at `now`.
async fn plan(repository: &Repository, now: Timestamp) -> (RetentionPlan, Outcome) {
    let catalog = repository.catalog(None).await.unwrap();
    let policy: RetentionPolicy = serde_json::from_value(json!({"maxBackups": 1})).unwrap();
    let holds = Holds::of(repository, &catalog);
    let plan = retain::plan(&catalog.backups, &holds, &Scope::default(), &policy, now);
    let outcome = retain::run(repository, &catalog, &plan).await;
    (plan, outcome)
}

fn ids(backups: &[Manifest]) -> Vec<&str> {
    backups.iter().map(|backup| backup.id.as_str()).collect()
}

async fn read_all(repository: &Repository, chain: &[Manifest]) {
    for backup in chain {
        assert!(!get(repository, &backup.data_key).await.is_empty());
    }
}

async fn what_is_read_stays(repository: &Repository) {
    let old = chain(repository, 10, 3).await;
    chain(repository, 50, 1).await;
    let catalog = repository.catalog(None).await.unwrap();
    let read: Vec<&Manifest> = old.iter().collect();
    let before = retain::plan(
        &catalog.backups,
        &Holds::default(),
        &Scope::default(),
        &serde_json::from_value(json!({"maxBackups": 1})).unwrap(),
        Timestamp::now(),
    );
    assert_eq!(before.dropped.len(), 4);
    let work = async {
        // Retention had made its plan before, and carries it out now.
        let outcome = retain::run(repository, &catalog, &before).await;
        assert_eq!(outcome.deleted, Vec::<String>::new());
        assert!(
            outcome.failures[0].contains("a test has begun to read it"),
            "{:?}",
            outcome.failures
        );
        // Whoever plans now sees the reader.
        let (plan, _) = plan(repository, Timestamp::now()).await;
        assert!(
            plan.render().contains("a test reads it"),
            "{}",
            plan.render()
        );
        assert!(plan.dropped.is_empty());
        read_all(repository, &old).await;
        // One that died would hold for a quarter of an hour.
        let later = Timestamp::now() + SignedDuration::from_mins(16);
        let dead = repository.pin_on(&old[0], later).await.unwrap();
        assert_eq!(dead, None);
    };
    repository.pinned(&read, "a test", work).await.unwrap();
    let all = repository.catalog(None).await.unwrap();
    assert_eq!(
        (all.backups.len(), all.pins.len()),
        (6, 0),
        "{:?}",
        all.damaged
    );
    // The reader is gone, and so is the chain; who comes now is told so before reading anything.
    let (_, outcome) = plan(repository, Timestamp::now()).await;
    assert_eq!(outcome.deleted.len(), 4, "{:?}", outcome.failures);
    let late = repository.pinned(&read, "late", async { unreachable!("it is gone") });
    assert_eq!(late.await.unwrap_err().class(), ErrorClass::NotFound);
}

fn on(place: &Place) {
    block_on(async { what_is_read_stays(&place.open().await.unwrap()).await });
}

#[test]
fn in_a_directory_what_is_read_stays() {
    let place = directory();
    on(&place);
    let store = std::path::Path::new(&place.location.bucket)
        .join(CLUSTER)
        .join("v1/pin");
    assert!(!store.exists(), "no empty folders are left");
}

#[test]
fn in_s3_what_is_read_stays() {
    on(&s3());
}

#[test]
fn in_oss_what_is_read_stays() {
    on(&oss());
}

/// Readers and retention at the same moment, in any order of their requests: whoever has begun to read comes to the end.
#[test]
fn whoever_has_begun_to_read_comes_to_the_end() {
    let seed = u64::from(std::process::id());
    eprintln!("the dice begin with {seed}");
    block_on(async {
        let (mut read, mut refused) = (0, 0);
        for round in 0..200 {
            let place = directory();
            let store = Arc::new(InMemory::new());
            let repository = Repository::over(store, &place.location, Arc::new(SilentObserver));
            let repository = Arc::new(repository);
            let old = chain(&repository, 10, 3).await;
            chain(&repository, 50, 0).await;
            let mut dice = Dice(seed ^ round);
            let (first, second) = (dice.roll(30), dice.roll(30));
            let turns = |count: u64| async move {
                for _ in 0..count {
                    tokio::task::yield_now().await;
                }
            };
            let reader = {
                let (repository, old) = (Arc::clone(&repository), old.clone());
                tokio::spawn(async move {
                    turns(first).await;
                    let chain: Vec<&Manifest> = old.iter().collect();
                    let work = async {
                        for backup in &old {
                            turns(second % 7).await;
                            read_all(&repository, std::slice::from_ref(backup)).await;
                        }
                    };
                    repository.pinned(&chain, "a reader", work).await
                })
            };
            turns(second).await;
            plan(&repository, Timestamp::now()).await;
            match reader.await.expect("what was begun is read to its end") {
                Ok(()) => read += 1,
                Err(error) => {
                    assert_eq!(error.class(), ErrorClass::NotFound);
                    refused += 1;
                }
            }
        }
        assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
    });
}

#[test]
fn what_the_store_does_not_let_go_stays_with_all_that_it_builds_on() {
    block_on(async {
        for seed in 0..40 {
            let mut dice = Dice(seed);
            let store = Arc::new(Careless::default());
            let place = directory();
            let keeper = Arc::clone(&store);
            let repository = Repository::over(store, &place.location, Arc::new(SilentObserver));
            let mut all = chain(&repository, 10, 4).await;
            all.extend(chain(&repository, 30, 4).await);
            chain(&repository, 50, 0).await;
            // Any of them may be under a legal hold, manifest and data alike.
            let held: Vec<&Manifest> = all.iter().filter(|_| dice.roll(5) == 0).collect();
            for backup in &held {
                let number = backup.revision;
                keeper.keep(&format!("{number}-{number}."));
                keeper.keep(&format!("/full/{}/", backup.id));
            }
            let (_, outcome) = plan(&repository, Timestamp::now()).await;
            assert_eq!(outcome.failures.is_empty(), held.is_empty());
            let left = repository.catalog(None).await.unwrap();
            assert!(left.damaged.is_empty(), "{:?}", left.damaged);
            for backup in &held {
                assert!(
                    ids(&left.backups).contains(&backup.id.as_str()),
                    "{}",
                    backup.id
                );
            }
            for backup in left.backups.iter().filter(|one| one.chain.is_some()) {
                let base = &backup.chain.as_ref().unwrap().base;
                let base = left.backups.iter().find(|one| one.id == *base).unwrap();
                let leads = increments_of(base, &left.backups);
                assert!(
                    leads.iter().any(|one| one.id == backup.id),
                    "{} leads nowhere",
                    backup.id
                );
            }
            read_all(&repository, &left.backups).await;
        }
    });
}

#[test]
fn a_reader_that_may_not_write_reads_all_the_same() {
    block_on(async {
        let store = Arc::new(Careless::default());
        let place = directory();
        let keeper = Arc::clone(&store);
        let repository = Repository::over(store, &place.location, Arc::new(SilentObserver));
        let old = chain(&repository, 10, 1).await;
        keeper.refuse_writes();
        let read: Vec<&Manifest> = old.iter().collect();
        let work = read_all(&repository, &old);
        repository.pinned(&read, "a test", work).await.unwrap();
    });
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_pin_is_written_anew_while_its_reader_lives() {
    let place = directory();
    block_on(async {
        let repository = place.open().await.unwrap();
        let old = chain(&repository, 10, 0).await;
        let seen = AtomicUsize::new(0);
        let folder = std::path::Path::new(&place.location.bucket);
        let folder = folder.join(CLUSTER).join("v1/pin").join(&old[0].id);
        let work = async {
            let mut last = String::new();
            let end = tokio::time::Instant::now() + Duration::from_secs(120);
            while seen.load(Ordering::SeqCst) < 3 && tokio::time::Instant::now() < end {
                // A folder is not read at one instant: what is renamed and removed meanwhile may both be missed, though not twice.
                let mut names = names_in(&folder);
                if names.is_empty() {
                    names = names_in(&folder);
                }
                assert!(!names.is_empty(), "there is always one");
                if let Some(newest) = names.pop().filter(|newest| *newest != last) {
                    seen.fetch_add(1, Ordering::SeqCst);
                    last = newest;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let every = Duration::from_millis(50);
        let read = [&old[0]];
        let pinned = repository.pinned_every(every, &read, "a test", work);
        pinned.await.unwrap();
        assert!(seen.load(Ordering::SeqCst) >= 3);
        assert!(!folder.exists());
    });
}

#[test]
fn no_pin_is_left_where_the_work_ends_while_one_is_written() {
    let place = directory();
    block_on(async {
        let repository = place.open().await.unwrap();
        let old = chain(&repository, 10, 0).await;
        let folder = std::path::Path::new(&place.location.bucket);
        let folder = folder.join(CLUSTER).join("v1/pin").join(&old[0].id);
        for _ in 0..20 {
            // Ends as the second pin is seen, before whoever wrote it has heard so.
            let work = async {
                let end = tokio::time::Instant::now() + Duration::from_secs(60);
                while names_in(&folder).len() < 2 && tokio::time::Instant::now() < end {
                    tokio::task::yield_now().await;
                }
            };
            let read = [&old[0]];
            let pinned = repository.pinned_every(Duration::from_millis(5), &read, "a test", work);
            pinned.await.unwrap();
            assert!(!folder.exists(), "{:?}", names_in(&folder));
        }
    });
}

#[test]
fn what_is_read_is_not_swept_either() {
    let place = directory();
    block_on(async {
        let repository = place.open().await.unwrap();
        let old = chain(&repository, 10, 0).await;
        let file = std::path::Path::new(&place.location.bucket).join(&old[0].data_key);
        let work = async {
            // Retention has taken the manifest away and was killed; to the sweep the data is an orphan of yesterday.
            repository.unlist(&old[0]).await.unwrap();
            let yesterday = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
            let handle = std::fs::File::options().write(true).open(&file).unwrap();
            handle.set_modified(yesterday).unwrap();
            let (swept, _) = repository.sweep(Timestamp::now()).await.unwrap();
            assert_eq!(swept, Vec::<String>::new());
            read_all(&repository, &old).await;
        };
        repository.pinned(&[&old[0]], "a test", work).await.unwrap();
        let (swept, _) = repository.sweep(Timestamp::now()).await.unwrap();
        assert_eq!(swept.len(), 1, "nobody reads it any more: {swept:?}");
        assert!(!file.exists());
    });
}
