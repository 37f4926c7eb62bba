//! The room `etcd` against real servers: every release, TLS, users, followers, broken networks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcdguardian::api::{ClusterConfig, ErrorClass, EtcdAuth, EtcdCertificates};
use etcdguardian::etcd::{
    ConnectOptions, Etcd, EtcdError, StatusSource, StreamProblem, StreamProgress,
};
use etcdguardian::secrets::{FolderSecrets, Secret, SecretError, Secrets};

use crate::support::{self, Pki, Toxiproxy};

const RELEASES: [&str; 4] = ["3.4", "3.5", "3.6", "3.7"];

#[derive(Default)]
struct Counted(AtomicU64, AtomicU64);

impl StreamProgress for Counted {
    fn bytes(&self, done: u64, total: u64) {
        self.0.store(done, Ordering::Relaxed);
        self.1.store(total, Ordering::Relaxed);
    }
}

/// Secrets without a folder.
pub struct Fixed(pub BTreeMap<String, BTreeMap<String, Vec<u8>>>);

#[async_trait::async_trait]
impl Secrets for Fixed {
    async fn read(&self, _: &str, name: &str) -> Result<Secret, SecretError> {
        match self.0.get(name) {
            Some(values) => Ok(Secret::new(name, values.clone())),
            None => Err(SecretError::NotFound {
                name: name.to_owned(),
                place: "the test".to_owned(),
            }),
        }
    }
}

fn user_secret(password: &str) -> Fixed {
    let values = [("username", "root"), ("password", password)]
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    Fixed([("user".to_owned(), values.into())].into())
}

pub fn certificates(ca: &Path, cert: &Path, key: &Path) -> EtcdCertificates {
    let text = |path: &Path| Some(path.display().to_string());
    EtcdCertificates {
        secret_name: None,
        ca: text(ca),
        cert: text(cert),
        key: text(key),
    }
}

async fn options(cluster: &ClusterConfig, secrets: &dyn Secrets) -> ConnectOptions {
    etcdguardian::init_tls();
    let mut options = ConnectOptions::resolve(cluster, "default", secrets)
        .await
        .unwrap();
    options.connect_timeout = Duration::from_secs(2);
    options.call_timeout = Duration::from_secs(5);
    options
}

fn plain(endpoints: Vec<String>) -> ClusterConfig {
    ClusterConfig {
        endpoints,
        ..ClusterConfig::default()
    }
}

async fn connect(cluster: &ClusterConfig) -> Result<Etcd, EtcdError> {
    Etcd::connect(&options(cluster, &FolderSecrets::new(None)).await).await
}

fn failure(outcome: Result<Etcd, EtcdError>) -> EtcdError {
    outcome.err().expect("a failure")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_release_gives_status_hash_and_a_whole_snapshot() {
    for release in RELEASES {
        let server = support::Etcd::start(release);
        server.put_many("k/", 500, 2_000).await;
        let etcd = connect(&plain(vec![server.endpoint()])).await.unwrap();
        let status = etcd.status().await.unwrap();
        assert_eq!(status.revision, server.revision(), "{release}");
        assert!(status.version.starts_with(release), "{}", status.version);
        assert_eq!(status.leader, status.member_id);

        let (hash, compact) = server.hash_kv(0);
        let live = etcd.hash_kv(status.revision).await.unwrap();
        assert_eq!(u64::from(live.hash.hash), hash, "{release}");
        assert_eq!(live.hash.revision, status.revision);
        assert!(live.hash.compact_revision.max(0) == compact.max(0));
        let future = etcd.hash_kv(status.revision + 1_000).await.unwrap_err();
        assert!(
            matches!(future, EtcdError::Behind { .. }),
            "{release}: {future}"
        );

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("snapshot.db");
        let seen = Counted::default();
        let drained = etcd.drain_snapshot(&file, &seen).await.unwrap();
        let length = std::fs::metadata(&file).unwrap().len();
        assert_eq!(length, drained.bytes, "{release}");
        assert_eq!(
            length % 512,
            32,
            "{release}: the digest is behind the database"
        );
        assert_eq!(seen.0.load(Ordering::Relaxed), length - 32);
        assert_eq!(seen.1.load(Ordering::Relaxed), length - 32);
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        // Nothing was written to etcd.
        assert_eq!(server.revision(), status.revision, "{release}");
        // etcd's own tool restores it, which checks the digest.
        if release != "3.4" {
            let restored = std::process::Command::new(support::tool(&format!("etcdutl-{release}")))
                .args(["snapshot", "restore"])
                .arg(&file)
                .arg(format!(
                    "--data-dir={}",
                    folder.path().join("restored").display()
                ))
                .output()
                .unwrap();
            assert!(restored.status.success(), "{release}: {restored:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_revision_is_named() {
    let server = support::Etcd::start("3.6");
    server.put_many("k/", 1_000, 10).await;
    server.ctl(&["compaction", "8"]);
    let etcd = connect(&plain(vec![server.endpoint()])).await.unwrap();
    let error = etcd.hash_kv(3).await.unwrap_err();
    assert!(
        matches!(error, EtcdError::Compacted { revision: 3, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_works_and_what_is_wrong_with_it_is_said() {
    let server = support::Etcd::of("3.6").tls().start();
    let pki = server.pki.as_ref().unwrap();
    let mut cluster = plain(vec![server.endpoint()]);
    cluster.certificates = Some(certificates(&pki.ca, &pki.client_cert, &pki.client_key));
    let etcd = connect(&cluster).await.unwrap();
    assert!(etcd.status().await.is_ok());
    let holders: Vec<String> = etcd
        .certificates()
        .await
        .into_iter()
        .map(|c| c.holder)
        .collect();
    assert_eq!(holders, ["client".to_owned(), server.endpoint()]);

    let folder = tempfile::tempdir().unwrap();
    let other = Pki::create(folder.path());
    let cases = [
        // Another authority's CA: we do not trust the server.
        (
            Some(&other.ca),
            Some((&pki.client_cert, &pki.client_key)),
            "not trusted",
        ),
        // Another authority's client certificate: the server does not trust us.
        (
            Some(&pki.ca),
            Some((&other.client_cert, &other.client_key)),
            "refused",
        ),
        // None at all.
        (Some(&pki.ca), None, "refused"),
        // The system's roots do not know our authority.
        (
            None,
            Some((&pki.client_cert, &pki.client_key)),
            "not trusted",
        ),
    ];
    for (ca, identity, word) in cases {
        let text = |path: &std::path::PathBuf| path.display().to_string();
        cluster.certificates = Some(EtcdCertificates {
            secret_name: None,
            ca: ca.map(text),
            cert: identity.map(|(cert, _)| text(cert)),
            key: identity.map(|(_, key)| text(key)),
        });
        let error = failure(connect(&cluster).await);
        assert_eq!(error.class(), ErrorClass::Credentials, "{error}");
        let words = error.to_string();
        assert!(
            words.contains(word) && words.contains(&server.endpoint()),
            "{words}"
        );
    }
    // The wrong scheme.
    let error = failure(connect(&plain(vec![server.endpoint().replace("https", "http")])).await);
    assert_eq!(error.class(), ErrorClass::EtcdUnavailable, "{error}");
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_and_a_wrong_password_is_named_without_being_shown() {
    for release in RELEASES {
        let server = support::Etcd::of(release).auth("correct horse").start();
        let mut cluster = plain(vec![server.endpoint()]);
        cluster.auth = Some(EtcdAuth {
            secret_name: "user".to_owned(),
        });
        let good = options(&cluster, &user_secret("correct horse")).await;
        let etcd = Etcd::connect(&good).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let drained = etcd
            .drain_snapshot(&folder.path().join("f"), &Counted::default())
            .await;
        assert!(drained.is_ok(), "{release}: {drained:?}");
        assert!(etcd.hash_kv(0).await.is_ok(), "{release}");

        let bad = options(&cluster, &user_secret("hunter2")).await;
        let error = failure(Etcd::connect(&bad).await);
        assert_eq!(error.class(), ErrorClass::Credentials, "{release}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        // Without a user the status may be had on old releases, the snapshot never.
        let none = plain(vec![server.endpoint()]);
        let refused = match connect(&none).await {
            Err(error) => error,
            Ok(etcd) => etcd
                .drain_snapshot(&folder.path().join("g"), &Counted::default())
                .await
                .unwrap_err(),
        };
        assert_eq!(
            refused.class(),
            ErrorClass::Credentials,
            "{release}: {refused}"
        );
        assert!(!folder.path().join("g").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_asked_and_when_it_dies_the_next_one() {
    let mut server = support::Etcd::of("3.6").members(3).start();
    server.put_many("k/", 300, 100).await;
    let dead = format!("http://127.0.0.1:{}", support::free_port());
    let mut endpoints = server.endpoints();
    endpoints.push(dead.clone());
    let etcd = connect(&plain(endpoints.clone())).await.unwrap();
    let members = etcd.members().await;
    let reasons: Vec<bool> = members.iter().map(|(_, status)| status.is_ok()).collect();
    assert_eq!(reasons, [true, true, true, false]);
    let folder = tempfile::tempdir().unwrap();
    let first = etcd
        .drain_snapshot(&folder.path().join("one"), &Counted::default())
        .await
        .unwrap();
    assert_ne!(first.member.member_id, first.member.leader, "a follower");
    let hash = etcd.hash_kv(first.member.revision).await.unwrap();
    assert_ne!(hash.member_id, first.member.leader, "a follower");

    let victim = endpoints
        .iter()
        .position(|e| *e == first.member.endpoint)
        .unwrap();
    server.process(victim).kill();
    let second = etcd
        .drain_snapshot(&folder.path().join("two"), &Counted::default())
        .await
        .unwrap();
    assert_ne!(second.member.member_id, first.member.member_id);
    etcd.require_leader().await.unwrap();

    // With two of three gone, the last member answers but knows no leader.
    let other = (0..3).find(|&index| index != victim).unwrap();
    server.process(other).kill();
    let mut outcome = etcd.require_leader().await;
    for _ in 0..100 {
        if outcome.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        outcome = etcd.require_leader().await;
    }
    let error = outcome.unwrap_err();
    assert!(matches!(error, EtcdError::NoLeader { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::EtcdUnavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unavailable_with_every_endpoint_named() {
    let endpoints: Vec<String> = (0..2)
        .map(|_| format!("http://127.0.0.1:{}", support::free_port()))
        .collect();
    let error = failure(connect(&plain(endpoints.clone())).await);
    assert_eq!(error.class(), ErrorClass::EtcdUnavailable);
    for endpoint in endpoints {
        assert!(error.to_string().contains(&endpoint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_and_a_cut_stream_are_no_snapshot() {
    let server = support::Etcd::start("3.5");
    server.put_many("k/", 2_000, 5_000).await;
    let proxy = Toxiproxy::start();
    let port: u16 = server
        .endpoint()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let through = proxy.proxy("etcd", port);
    let cluster = plain(vec![format!("http://127.0.0.1:{through}")]);
    let mut options = options(&cluster, &FolderSecrets::new(None)).await;
    options.stall_timeout = Duration::from_secs(2);
    let folder = tempfile::tempdir().unwrap();

    // Silent after a megabyte: the connection stays open and nothing comes.
    let etcd = Etcd::connect(&options).await.unwrap();
    let file = folder.path().join("stalled");
    let gone_silent = SilentAfter {
        proxy: &proxy,
        at: 1_000_000,
        done: AtomicU64::new(0),
    };
    let error = etcd.drain_snapshot(&file, &gone_silent).await.unwrap_err();
    assert!(
        matches!(
            error,
            EtcdError::Stream {
                problem: StreamProblem::Stalled(2),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Timeout);
    assert!(!file.exists());
    proxy.heal();

    // Cut after two megabytes.
    let etcd = Etcd::connect(&options).await.unwrap();
    proxy.toxic("etcd", "limit_data", r#"{"bytes": 2000000}"#);
    let file = folder.path().join("cut");
    let error = etcd
        .drain_snapshot(&file, &Counted::default())
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::EtcdUnavailable, "{error}");
    assert!(!file.exists());
    proxy.heal();
    let etcd = Etcd::connect(&options).await.unwrap();
    assert!(
        etcd.drain_snapshot(&file, &Counted::default())
            .await
            .is_ok()
    );
}

/// Makes the network swallow everything once so many bytes arrived.
struct SilentAfter<'a> {
    proxy: &'a Toxiproxy,
    at: u64,
    done: AtomicU64,
}

impl StreamProgress for SilentAfter<'_> {
    fn bytes(&self, done: u64, _: u64) {
        if done >= self.at && self.done.swap(done, Ordering::Relaxed) == 0 {
            self.proxy.toxic("etcd", "timeout", r#"{"timeout": 0}"#);
        }
    }
}
