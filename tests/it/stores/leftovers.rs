//! Uploads whose process went away without a word: the sweep aborts them when they are a day old, and not before.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use super::{Place, azure, bytes, directory, gcs, manifest, oss, put, s3};
use crate::support::{Versitygw, block_on};

/// Begins an upload, and ends with its whole runtime in the middle of it, as a killed process does.
fn break_off(place: &Place) {
    let doomed = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let repository = doomed.block_on(place.open()).unwrap();
    let key = manifest("broken", 1, b"x").data_key;
    doomed.spawn(async move {
        let mut endless = tokio::io::repeat(1).take(1 << 30);
        let told = move |_| told.notify_one();
        let upload = repository.store_stream(&key, 1 << 30, "endless", &mut endless, &told);
        upload.await
    });
    doomed.block_on(begun.notified());
    doomed.shutdown_background();
}

fn is_swept_when_it_is_old(place: &Place) {
    break_off(place);
    block_on(async {
        let repository = place.open().await.unwrap();
        let whole = put(&repository, "whole", 2, b"x").await.unwrap();
        let now = Timestamp::now();
        let (swept, manifests) = repository.sweep(now).await.unwrap();
        assert_eq!((swept, manifests), (Vec::new(), 1), "{}", place.name);
        let later = now + SignedDuration::from_hours(25);
        let (swept, _) = repository.sweep(later).await.unwrap();
        assert_eq!(swept.len(), 1, "{}: {swept:?}", place.name);
        assert!(swept[0].contains("/full/broken/snapshot.db"), "{swept:?}");
        let (again, _) = repository.sweep(later).await.unwrap();
        assert_eq!(again, Vec::<String>::new(), "{}", place.name);
        assert_eq!(repository.catalog(None).await.unwrap().backups, [whole]);
    });
}

#[test]
fn s3_forgets_what_was_never_finished() {
    let place = s3();
    let server: &Versitygw = place.server();
    break_off(&place);
    assert_eq!(server.unfinished("backups").len(), 1);
    block_on(async {
        let repository = place.open().await.unwrap();
        let later = Timestamp::now() + SignedDuration::from_hours(25);
        assert_eq!(repository.sweep(later).await.unwrap().0.len(), 1);
    });
    assert_eq!(server.unfinished("backups"), Vec::<String>::new());
    is_swept_when_it_is_old(&place);
}

#[test]
fn s3_forgets_more_than_a_page_of_them_and_nothing_of_others() {
    let place = s3();
    let server: &Versitygw = place.server();
    block_on(async {
        use object_store::aws::AmazonS3Builder;
        use object_store::multipart::MultipartStore;
        etcdguardian::init_tls();
        let bare = AmazonS3Builder::new()
            .with_bucket_name("backups")
            .with_endpoint(&server.url)
            .with_region("us-east-1")
            .with_allow_http(true)
            .with_access_key_id("vgw")
            .with_secret_access_key("vgwsecret")
            .build()
            .unwrap();
        let ours = manifest("broken", 1, b"x").data_key;
        for number in 0..1_100 {
            let path = format!("team/a/{ours}").replace("broken", &format!("b{number}"));
            bare.create_multipart(&path.into()).await.unwrap();
        }
        for foreign in [
            "team/a/notes",
            "team/b/cdf818194e3a8c32/v1/full/x/snapshot.db",
        ] {
            bare.create_multipart(&foreign.into()).await.unwrap();
        }
        let repository = place.open().await.unwrap();
        let later = Timestamp::now() + SignedDuration::from_hours(25);
        // Some servers refuse their own marker of the second page: what is left then is the next sweep's.
        let first = repository.sweep(later).await.unwrap().0.len();
        let second = repository.sweep(later).await.unwrap().0.len();
        assert!(first >= 1_000, "{first}");
        assert_eq!(first + second, 1_100);
    });
    let mut left = server.unfinished("backups");
    left.sort();
    let foreign = [
        "team/a/notes",
        "team/b/cdf818194e3a8c32/v1/full/x/snapshot.db",
    ];
    assert_eq!(left, foreign);
}

#[test]
fn oss_forgets_what_was_never_finished() {
    is_swept_when_it_is_old(&oss());
}

#[test]
fn google_forgets_what_was_never_finished() {
    is_swept_when_it_is_old(&gcs());
}

#[test]
fn azure_shows_nothing_of_what_was_never_finished() {
    // Blocks that nobody committed are no object, and go after a week by themselves.
    let place = azure();
    break_off(&place);
    block_on(async {
        let repository = place.open().await.unwrap();
        let whole = put(&repository, "whole", 2, b"x").await.unwrap();
        let later = Timestamp::now() + SignedDuration::from_hours(25);
        assert_eq!(
            repository.sweep(later).await.unwrap().0,
            Vec::<String>::new()
        );
        assert_eq!(repository.catalog(None).await.unwrap().backups, [whole]);
        // Nor is it in the way of the same object, as of a copy that is taken up again.
        let body = bytes(9 << 20);
        put(&repository, "broken", 1, &body).await.unwrap();
    });
}

#[test]
fn a_directory_forgets_what_was_never_renamed() {
    let place = directory();
    let root = std::path::PathBuf::from(&place.location.bucket);
    let leftover = |id: &str, hours: u64| {
        let key = format!("{}#1", manifest(id, 1, b"x").data_key);
        let file = root.join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"half").unwrap();
        let written = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
        let handle = std::fs::File::options().write(true).open(&file).unwrap();
        handle.set_modified(written).unwrap();
        file
    };
    let (old, young) = (leftover("old", 25), leftover("young", 23));
    block_on(async {
        let repository = place.open().await.unwrap();
        let whole = put(&repository, "whole", 2, b"x").await.unwrap();
        let (swept, _) = repository.sweep(Timestamp::now()).await.unwrap();
        assert_eq!(swept.len(), 1, "{swept:?}");
        assert_eq!(repository.catalog(None).await.unwrap().backups, [whole]);
    });
    assert!(!old.parent().unwrap().exists(), "its folder goes with it");
    assert!(young.exists());
}

#[test]
fn s3_forgets_the_objects_of_trials_that_were_cut_short() {
    let place = s3();
    let server: &Versitygw = place.server();
    let trial = format!("team/a/doctor-{}", "0a".repeat(16));
    let others = ["team/a/doctor-notes", "team/a/sub/doctor-notes"];
    for key in [trial.as_str()].iter().chain(&others) {
        let file = server.file("backups", key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"x").unwrap();
    }
    block_on(async {
        let repository = place.open().await.unwrap();
        let now = Timestamp::now();
        let swept = async |at| repository.sweep(at).await.unwrap().0;
        assert_eq!(swept(now).await, Vec::<String>::new(), "it may be going on");
        let later = now + SignedDuration::from_hours(25);
        assert_eq!(swept(later).await, [format!("{trial} (a trial)")]);
        assert!(!server.file("backups", &trial).exists());
        for other in others {
            assert!(server.file("backups", other).exists(), "{other}");
        }
    });
}
