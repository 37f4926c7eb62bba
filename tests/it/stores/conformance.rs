//! The contract that every store keeps: what is stored is what is read, nothing is overwritten, listings are whole however long,
//! and what is wrong is named with its exit code.

use std::sync::Arc;

use etcdguardian::api::ErrorClass;
use etcdguardian::repository::{Copied, Repository, RepositoryError, SilentObserver};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;

use super::{CLUSTER, Place, azure, bytes, directory, gcs, get, manifest, minio, oss, put, s3};
use crate::support::{GcsFake, Minio, block_on};

const MIB: usize = 1024 * 1024;
/// What the uploads use as their smallest part.
const PART: usize = 8 * MIB;

/// Sizes around one part, two parts, and the boundary between.
const SIZES: [usize; 7] = [1, MIB, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 12345];

async fn what_is_stored_is_read(repository: &Repository) {
    for (number, size) in SIZES.into_iter().enumerate() {
        let id = format!("size-{size}");
        let body = bytes(size);
        let made = put(repository, &id, number as i64, &body).await.unwrap();
        assert_eq!(get(repository, &made.data_key).await, body, "{size}");
    }
    let catalog = repository.catalog(None).await.unwrap();
    assert_eq!(catalog.backups.len(), SIZES.len());
    assert!(catalog.damaged.is_empty(), "{:?}", catalog.damaged);
    for backup in &catalog.backups {
        repository.delete(backup).await.unwrap();
        // What is gone may be deleted again.
        repository.delete(backup).await.unwrap();
    }
    assert!(repository.catalog(None).await.unwrap().backups.is_empty());
    let gone = repository.read(&catalog.backups[0].data_key).await.err();
    assert_eq!(gone.unwrap().class(), ErrorClass::NotFound);
}

async fn nothing_is_overwritten(repository: &Repository) {
    let first = put(repository, "first", 1, b"one").await.unwrap();
    // Committed again, the same manifest is a reply that was lost; another one is a conflict.
    repository.commit(&first).await.unwrap();
    let mut other = first.clone();
    other.run_id = "another".to_owned();
    let refused = repository.commit(&other).await.unwrap_err();
    assert!(
        matches!(refused, RepositoryError::Conflict { .. }),
        "{refused}"
    );
    let again = put(repository, "first", 1, b"two").await.unwrap_err();
    assert!(matches!(again, RepositoryError::Conflict { .. }), "{again}");
    assert_eq!(get(repository, &first.data_key).await, b"one");
    // A manifest without its data is none.
    let lonely = manifest("lonely", 2, b"nothing");
    let missing = repository.commit(&lonely).await.unwrap_err();
    assert_eq!(missing.class(), ErrorClass::NotFound, "{missing}");
    let probe = repository.probe().await.unwrap();
    assert!(probe.create_only);
    assert!(probe.clock_ahead.abs() < jiff::SignedDuration::from_secs(60));
    repository.delete(&first).await.unwrap();
}

async fn a_long_listing_is_whole(repository: &Repository, many: i64) {
    let made: Vec<_> = futures::stream::iter(0..many)
        .map(|number| async move { put(repository, &format!("b{number:05}"), number, b"x").await })
        .buffer_unordered(16)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(made.len() as i64, many);
    let catalog = repository.catalog(Some(CLUSTER)).await.unwrap();
    let revisions: Vec<i64> = catalog.backups.iter().map(|b| b.revision).collect();
    assert_eq!(revisions, (0..many).collect::<Vec<_>>());
    assert!(catalog.damaged.is_empty());
}

async fn a_copy_arrives(repository: &Repository, target: &Repository) {
    let body = bytes(PART + 77);
    let made = put(repository, "original", 9, &body).await.unwrap();
    let copied = repository.copy_to(target, &made, &|_| {}).await.unwrap();
    assert_eq!(copied, Copied::Whole);
    assert_eq!(get(target, &made.data_key).await, body);
    let again = repository.copy_to(target, &made, &|_| {}).await.unwrap();
    assert_eq!(again, Copied::AlreadyThere);
    repository.delete(&made).await.unwrap();
    target.delete(&made).await.unwrap();
}

/// The whole contract; `many` backups make more than two pages of a listing.
fn keeps_the_contract(place: &Place, many: i64) {
    block_on(async {
        let repository = place.open().await.unwrap();
        assert!(repository.catalog(None).await.unwrap().backups.is_empty());
        what_is_stored_is_read(&repository).await;
        nothing_is_overwritten(&repository).await;
        let other = directory();
        let target = other.open().await.unwrap();
        a_copy_arrives(&repository, &target).await;
        a_copy_arrives(&target, &repository).await;
        a_long_listing_is_whole(&repository, many).await;
    });
}

/// Whom a store does not know is refused with the code for credentials; a bucket that is not there has a name for it.
fn names_what_is_wrong(place: &Place, wrong: &[(&str, &str)], right: &[(&str, &str)]) {
    block_on(async {
        let mut elsewhere = place.location.clone();
        elsewhere.bucket = "not-there".to_owned();
        let missing = place.open_at(&elsewhere).await.unwrap();
        let error = put(&missing, "x", 1, b"x").await.unwrap_err();
        assert!(
            matches!(error, RepositoryError::NoBucket { .. }),
            "{}: {error:?}",
            place.name
        );
        assert!(error.to_string().contains("not-there"), "{error}");
        if wrong.is_empty() {
            return;
        }
        place.write(wrong);
        let stranger = place.open().await.unwrap();
        let error = put(&stranger, "x", 1, b"x").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Credentials, "{error:?}");
        assert_eq!(error.class().exit_code(), 12);
        for (_, value) in wrong {
            assert!(!format!("{error} {error:?}").contains(value), "{error:?}");
        }
        // The Secret is read anew at each opening: a rotated one is seen without a restart.
        place.write(right);
        let friend = place.open().await.unwrap();
        put(&friend, "x", 1, b"x").await.unwrap();
    });
}

#[test]
fn a_directory_keeps_the_contract() {
    keeps_the_contract(&directory(), 1_100);
}

#[test]
fn memory_keeps_the_contract() {
    block_on(async {
        let place = directory();
        let over = || {
            let store = Arc::new(InMemory::new());
            Repository::over(store, &place.location, Arc::new(SilentObserver))
        };
        let (repository, target) = (over(), over());
        what_is_stored_is_read(&repository).await;
        nothing_is_overwritten(&repository).await;
        a_copy_arrives(&repository, &target).await;
        a_long_listing_is_whole(&repository, 100_000).await;
    });
}

#[test]
fn s3_keeps_the_contract() {
    let place = s3();
    names_what_is_wrong(
        &place,
        &[("secret-access-key", "wrong-secret-of-s3")],
        &[("secret-access-key", "vgwsecret")],
    );
    keeps_the_contract(&s3(), 1_100);
}

#[test]
fn minio_keeps_the_contract() {
    let server = Minio::start(&["backups"]);
    let place = minio::place(&server);
    names_what_is_wrong(
        &place,
        &[("secret-access-key", "wrong-secret-of-minio")],
        &[("secret-access-key", "guardiansecret")],
    );
    let fresh = Minio::start(&["backups"]);
    keeps_the_contract(&minio::place(&fresh), 1_100);
}

#[test]
fn gcs_keeps_the_contract() {
    let place = gcs();
    let server: &GcsFake = place.server();
    names_what_is_wrong(
        &place,
        &[("service-account.json", &server.stranger())],
        &[("service-account.json", &server.account())],
    );
    keeps_the_contract(&gcs(), 1_100);
}

#[test]
fn azure_keeps_the_contract() {
    let place = azure();
    let right = std::fs::read_to_string(place.secrets.path().join("store/account-key")).unwrap();
    names_what_is_wrong(
        &place,
        &[(
            "account-key",
            "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=",
        )],
        &[("account-key", &right)],
    );
    keeps_the_contract(&azure(), 1_100);
}

#[test]
fn oss_keeps_the_contract() {
    let place = oss();
    names_what_is_wrong(
        &place,
        &[("access-key-secret", "wrong-secret-of-oss")],
        &[("access-key-secret", "testsecret")],
    );
    keeps_the_contract(&oss(), 1_100);
}
