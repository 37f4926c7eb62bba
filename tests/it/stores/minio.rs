//! What a real S3 server has that versitygw has not: encryption with its own and with named keys, together with locks, read back by
//! other people's tools; and sessions that end in the middle of an upload.

use std::path::Path;
use std::time::Duration;

use etcdguardian::api::ErrorClass;
use etcdguardian::repository::RepositoryError;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::others_tools::is_opened;
use super::{Place, bytes, manifest, put};
use crate::backup::{Desk, cluster, files};
use crate::support::{Etcd, Issuer, Minio, block_on, location};

/// A location in MinIO's bucket `backups`, reached on this port, with what else it wants.
fn at(port: u16, extra: serde_json::Value, keys: &[(&str, &str)]) -> Place {
    let mut wanted = json!({
        "provider": "S3", "bucket": "backups", "prefix": "team/a", "region": "us-east-1",
        "endpoint": format!("http://127.0.0.1:{port}"), "credentialsSecret": "store",
        "addressing": "Path",
    });
    for (name, value) in extra.as_object().unwrap() {
        wanted[name] = value.clone();
    }
    Place::new("MinIO", location(wanted), keys, Box::new(()))
}

pub const KEYS: [(&str, &str); 2] = [
    ("access-key-id", "guardian"),
    ("secret-access-key", "guardiansecret"),
];

/// How curl makes a bucket whose objects may be locked.
const LOCKED: [&str; 4] = ["-X", "PUT", "-H", "x-amz-bucket-object-lock-enabled: true"];

pub fn place(server: &Minio) -> Place {
    at(server.port, json!({}), &KEYS)
}

/// Whether these bytes lie in a file below a folder as they are.
fn lies_below(folder: &Path, bytes: &[u8]) -> bool {
    files(folder).iter().any(|file| {
        let held = std::fs::read(file).unwrap();
        held.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn what_the_store_encrypts_and_locks_is_read_by_other_tools() {
    let server = Minio::start(&[]);
    server.curl(&LOCKED, "/backups");
    let locked = json!({"mode": "Compliance", "retain": "1d"});
    for (number, (encryption, answers)) in [
        (None, None),
        (Some(json!({"type": "AES256"})), Some("AES256")),
        (
            Some(json!({"type": "KMS", "kmsKeyID": "store-key"})),
            Some("aws:kms"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut extra = json!({"objectLock": locked});
        if let Some(encryption) = &encryption {
            extra["serverSideEncryption"] = encryption.clone();
        }
        let place = at(server.port, extra, &KEYS);
        // One object goes at once, one in parts.
        for size in [200_000 + number, (9 << 20) + number] {
            let body = bytes(size);
            let id = format!("b{number}-{size}");
            let made = block_on(async {
                let repository = place.open().await.unwrap();
                put(&repository, &id, 1, &body).await.unwrap()
            });
            let path = format!("/backups/team/a/{}", made.data_key);
            let head = String::from_utf8(server.curl(&["-I"], &path)).unwrap();
            let head = head.to_lowercase();
            let says = |line: &str| head.contains(&line.to_lowercase());
            assert!(says("x-amz-object-lock-mode: COMPLIANCE"), "{head}");
            match answers {
                Some(answers) => assert!(
                    says(&format!("x-amz-server-side-encryption: {answers}")),
                    "{head}"
                ),
                None => assert!(!says("x-amz-server-side-encryption"), "{head}"),
            }
            assert_eq!(answers == Some("aws:kms"), says("store-key"), "{head}");
            assert!(server.curl(&[], &path) == body, "{id}: curl reads it");
            // The disk has them only where nobody asked for encryption.
            let plain = lies_below(&server.data().join("backups"), &body[1000..1064]);
            assert_eq!(plain, encryption.is_none(), "{id}");
        }
    }
}

#[test]
fn a_sealed_locked_and_encrypted_backup_is_opened_without_this_program() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 40, 500_000);
    let server = Minio::start(&[]);
    server.curl(&LOCKED, "/backups");
    let store = format!(
        "store: {{provider: S3, bucket: backups, region: us-east-1, endpoint: '{}', credentialsSecret: minio, addressing: Path, objectLock: {{mode: Compliance, retain: 1d}}, serverSideEncryption: {{type: KMS, kmsKeyID: store-key}}}}\n",
        server.url
    );
    let desk = Desk::new(&cluster(&etcd.endpoints()), &store);
    let (identity, _) = desk.seal();
    let folder = desk.path("secrets/minio");
    std::fs::create_dir_all(&folder).unwrap();
    for (key, value) in KEYS {
        std::fs::write(folder.join(key), value).unwrap();
    }
    desk.create_sealed();
    let bucket = format!("{}/backups", server.url);
    is_opened(&desk, &identity, "guardian:guardiansecret", &bucket);
}

#[test]
fn a_session_that_ends_in_mid_upload_is_wrong_credentials_and_the_next_one_works() {
    let issuer = block_on(Issuer::start());
    let server = Minio::start_believing(&["backups"], &issuer);
    let place = at(server.port, json!({}), &[]);
    let keep = |keys: &[String; 3]| {
        let [id, secret, token] = keys;
        place.write(&[
            ("access-key-id", id),
            ("secret-access-key", secret),
            ("session-token", token),
        ]);
    };
    let body = bytes(40 << 20);
    let short = server.session(&issuer.token(10));
    keep(&short);
    let error = block_on(async {
        let repository = place.open().await.unwrap();
        // Two parts arrive; what comes after them comes when the session is over.
        let (mut feed, mut reader) = tokio::io::duplex(1 << 20);
        let key = manifest("cut", 1, &body).data_key;
        let size = body.len() as u64;
        let upload = repository.store_stream(&key, size, "test", &mut reader, &|_| {});
        let fed = async {
            let (first, rest) = body.split_at(20 << 20);
            feed.write_all(first).await.unwrap();
            while repository.catalog(None).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            feed.write_all(rest).await.unwrap();
            feed.shutdown().await.unwrap();
            std::future::pending::<()>().await
        };
        tokio::select! {
            stored = upload => stored.err().unwrap(),
            () = fed => unreachable!(),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the session does not end"),
        }
    });
    assert!(
        matches!(error, RepositoryError::Refused { .. }),
        "{error:?}"
    );
    assert_eq!(error.class(), ErrorClass::Credentials);
    let words = format!("{error} {error:?}");
    for secret in &short[1..] {
        assert!(!words.contains(secret), "{words}");
    }
    keep(&server.session(&issuer.token(600)));
    block_on(async {
        let repository = place.open().await.unwrap();
        assert!(repository.catalog(None).await.unwrap().backups.is_empty());
        let made = put(&repository, "cut", 1, &body).await.unwrap();
        assert_eq!(repository.catalog(None).await.unwrap().backups, [made]);
    });
}
