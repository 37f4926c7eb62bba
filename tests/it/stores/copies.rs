//! Copies between buckets of one server: the server makes them, and what arrived is read back; where it does not, the bytes go the
//! long way. And copies that break off: what arrived whole is not sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcdguardian::repository::{Copied, Repository, RepositoryError, StoreObserver};
use etcdguardian::secrets::FolderSecrets;
use serde_json::json;

use super::{Place, bytes, directory, get, oss_of, put, s3};
use crate::backup::flip;
use crate::support::{OssGate, Versitygw, block_on, location};

/// Counts what is read of a store.
#[derive(Default)]
struct Reads(AtomicUsize);

impl StoreObserver for Reads {
    fn request(&self, operation: &'static str, _: bool) {
        if operation == "get" {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The bucket of a place, and another one beside it, each with what is read of it.
async fn pair(place: &Place) -> [(Repository, Arc<Reads>); 2] {
    let mut beside = serde_json::to_value(&place.location).unwrap();
    beside["bucket"] = json!("copies");
    beside["prefix"] = json!("team/b");
    let open = |at| async move {
        let secrets = FolderSecrets::new(Some(place.secrets.path().to_owned()));
        let reads = Arc::new(Reads::default());
        let observer = Arc::clone(&reads) as Arc<dyn StoreObserver>;
        let opened = Repository::open(&at, "default", &secrets, observer).await;
        (opened.unwrap(), reads)
    };
    let here = open(place.location.clone()).await;
    [here, open(location(beside)).await]
}

#[test]
fn a_server_copies_between_its_own_buckets_and_what_arrived_is_read_back() {
    let server = Versitygw::start(&["backups", "copies"]);
    let wanted = json!({
        "provider": "S3", "bucket": "backups", "prefix": "team/a", "region": "us-east-1",
        "endpoint": server.url, "credentialsSecret": "store", "addressing": "Path",
    });
    let keys = [("access-key-id", "vgw"), ("secret-access-key", "vgwsecret")];
    let place = Place::new("S3", location(wanted), &keys, Box::new(()));
    block_on(async {
        let [(source, read_here), (target, read_there)] = pair(&place).await;
        let body = bytes((9 << 20) + 5);
        let made = put(&source, "x", 1, &body).await.unwrap();
        let before = read_here.0.load(Ordering::SeqCst);
        let copied = source.copy_to(&target, &made, &|_| {}).await.unwrap();
        assert_eq!(copied, Copied::Whole);
        assert_eq!(
            read_here.0.load(Ordering::SeqCst),
            before,
            "not through here"
        );
        assert!(
            read_there.0.load(Ordering::SeqCst) > 0,
            "what arrived is read"
        );
        assert_eq!(get(&target, &made.data_key).await, body);

        // The server copies what is damaged as it is: that is seen, and nothing of it stays.
        let made = put(&source, "y", 2, &bytes(9 << 20)).await.unwrap();
        flip(&server.file("backups", &format!("team/a/{}", made.data_key)));
        let error = source.copy_to(&target, &made, &|_| {}).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("s3://backups"), "{error}");
        assert!(target.read(&made.data_key).await.is_err());
        assert_eq!(target.catalog(None).await.unwrap().backups.len(), 1);
    });
}

#[test]
fn what_a_server_does_not_copy_goes_the_long_way() {
    let place = oss_of(OssGate::start(&["backups", "copies"]));
    let gate: &OssGate = place.server();
    block_on(async {
        let [(source, read), (target, _)] = pair(&place).await;
        for (number, status) in [(1, Some(501)), (2, Some(403)), (3, None)] {
            let body = bytes((9 << 20) + number);
            let id = format!("b{number}");
            let made = put(&source, &id, 1, &body).await.unwrap();
            if let Some(status) = status {
                let rule = json!({"match": "PUT http://copies.s3.*snapshot", "status": status});
                gate.fault(&rule.to_string());
            }
            let before = read.0.load(Ordering::SeqCst);
            let copied = source.copy_to(&target, &made, &|_| {}).await.unwrap();
            assert_eq!(copied, Copied::Whole);
            let by_here = read.0.load(Ordering::SeqCst) > before;
            assert_eq!(by_here, status.is_some(), "{status:?}");
            assert_eq!(get(&target, &made.data_key).await, body);
        }
    });
    let requests = gate.requests();
    let asked = requests.iter().filter(|request| {
        let source = request["headers"]["x-amz-copy-source"].as_str();
        source.is_some_and(|source| source.starts_with("/backups/team/a/"))
    });
    assert_eq!(asked.count(), 3);
}

/// Counts what is written to a store.
#[derive(Default)]
struct Writes(AtomicUsize);

impl StoreObserver for Writes {
    fn request(&self, operation: &'static str, _: bool) {
        if ["put", "multipart"].contains(&operation) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn a_copy_that_broke_off_sends_no_whole_object_again() {
    let (here, there) = (directory(), s3());
    let body = bytes(40 << 20);
    block_on(async {
        let source = here.open().await.unwrap();
        let secrets = FolderSecrets::new(Some(there.secrets.path().to_owned()));
        let writes = Arc::new(Writes::default());
        let observer = Arc::clone(&writes) as Arc<dyn StoreObserver>;
        let opened = Repository::open(&there.location, "default", &secrets, observer).await;
        let target = opened.unwrap();
        let mut made = Vec::new();
        for (revision, id) in (1..).zip(["arrived", "broken", "unsaid"]) {
            made.push(put(&source, id, revision, &body).await.unwrap());
        }
        let [arrived, broken, unsaid] = &made[..] else {
            unreachable!()
        };
        source.copy_to(&target, arrived, &|_| {}).await.unwrap();
        // The second breaks off when a part of it has arrived; the third before its manifest is written.
        let begun = tokio::sync::Notify::new();
        {
            let told = |_| begun.notify_one();
            let copy = source.copy_to(&target, broken, &told);
            tokio::select! {
                ended = copy => panic!("{ended:?}"),
                () = begun.notified() => {}
            }
        }
        let size = body.len() as u64;
        target
            .store_stream(&unsaid.data_key, size, "test", &mut &body[..], &|_| {})
            .await
            .unwrap();
        assert_eq!(target.catalog(None).await.unwrap().backups.len(), 1);
        // A manifest is one write; beside it 40 MiB are five parts, begun and ended.
        for (backup, did, written) in [
            (arrived, Copied::AlreadyThere, 0),
            (broken, Copied::Whole, 8),
            (unsaid, Copied::Finished, 1),
        ] {
            let before = writes.0.load(Ordering::SeqCst);
            let sent = AtomicUsize::new(0);
            let progress = |bytes| _ = sent.fetch_max(bytes as usize, Ordering::SeqCst);
            let copied = source.copy_to(&target, backup, &progress).await.unwrap();
            assert_eq!(copied, did, "{}", backup.id);
            let now = writes.0.load(Ordering::SeqCst);
            assert_eq!(now - before, written, "{}", backup.id);
            let all = did == Copied::Whole;
            assert_eq!(sent.into_inner() == body.len(), all, "{}", backup.id);
            assert!(get(&target, &backup.data_key).await == body);
        }
    });
}
