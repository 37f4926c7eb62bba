//! What was stored is what is proved: bytes that change in the store, and a cluster that contradicts the snapshot.

use std::sync::Arc;

use etcdguardian::api::{ClusterConfig, ErrorClass};
use etcdguardian::export::ApiServer;
use etcdguardian::export::resources::Selection;
use etcdguardian::pipeline::{self, Part, PipelineError, Progress, Request, Services, Stage};
use etcdguardian::repository::SilentObserver;
use etcdguardian::secrets::FolderSecrets;
use jiff::Timestamp;

use super::{Desk, cluster, data_file, files, flip, objects, s3};
use crate::support::{Etcd, Toxiproxy, Versitygw};

#[test]
fn a_byte_that_changed_in_the_store_is_found_with_and_without_the_key() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 500, 1_000);
    let desk = Desk::local(&etcd);
    let made = desk.create();
    let file = data_file(&made);
    let whole = std::fs::read(&file).unwrap();
    for deep in [false, true] {
        let words = ["backup", "verify", "latest", "-o", "json", "--deep"];
        let words = &words[..words.len() - usize::from(!deep)];
        flip(&file);
        let found = desk.run(words).code(3);
        let report: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!(report["ok"], false);
        assert_eq!(report["level"], "Stored");
        assert_eq!(report["checks"][0]["name"], "stored");
        assert!(
            found.stderr.contains("must not be relied on"),
            "{}",
            found.stderr
        );
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let cut = desk.run(words).code(3);
        assert!(cut.stderr.contains("bytes"), "{}", cut.stderr);
        std::fs::write(&file, &whole).unwrap();
        desk.run(words).ok();
    }
    std::fs::remove_file(&file).unwrap();
    let id = made["id"].as_str().unwrap();
    desk.run(&["backup", "verify", id]).code(3);
    desk.run(&["backup", "verify", "20200101T000000Z-1"])
        .code(4);
}

/// Does something when a stage begins.
struct At<F: Fn() + Send + Sync>(Stage, F);

impl<F: Fn() + Send + Sync> Progress for At<F> {
    fn stage(&self, stage: Stage) {
        if stage == self.0 {
            (self.1)();
        }
    }

    fn bytes(&self, _: u64, _: u64) {}
}

async fn back_up(desk: &Desk, endpoint: &str, location: &str, at: &dyn Progress) -> Outcome {
    etcdguardian::init_tls();
    let spec = format!("{{backupMode: Full, storageLocation: {location}}}");
    let request = Request {
        spec: serde_saphyr::from_str(&spec).unwrap(),
        namespace: "default".to_owned(),
        name: "b".to_owned(),
        schedule: None,
        run_id: "r".to_owned(),
        cluster_name: "test".to_owned(),
        cluster: ClusterConfig {
            endpoints: vec![endpoint.to_owned()],
            ..ClusterConfig::default()
        },
        export: Selection::default(),
        makes_velero_pair: false,
        part: Part::Whole,
        scratch: desk.path("state"),
        started: Timestamp::now(),
    };
    let services = Services {
        secrets: Arc::new(FolderSecrets::new(Some(desk.path("secrets")))),
        observer: Arc::new(SilentObserver),
        commands: Arc::new(pipeline::hooks::OnThisHost),
        api: ApiServer::Inferred,
    };
    pipeline::run(&request, &services, at).await
}

type Outcome = Result<pipeline::Completed, PipelineError>;

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changes_before_the_reading_back_fails_the_backup() {
    let etcd = Etcd::start("3.6");
    etcd.put_many("k/", 500, 1_000).await;
    let store = Versitygw::start(&["backups"]);
    let desk = Desk::new(&cluster(&etcd.endpoints()), &s3(store.port));
    let location = s3(store.port);
    let location = location.trim().strip_prefix("store: ").unwrap();
    let spoil = At(Stage::Verify, || {
        let stored = objects(&store);
        assert_eq!(stored.len(), 1, "data without a manifest");
        flip(&stored[0]);
    });
    let error = back_up(&desk, &etcd.endpoint(), location, &spoil)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::VerificationFailed, "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(objects(&store).is_empty(), "what is not proved is not kept");
    assert!(files(&desk.path("state")).is_empty());
    let calm = At(Stage::Verify, || {});
    assert!(
        back_up(&desk, &etcd.endpoint(), location, &calm)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_contradicts_the_snapshot_fails_it_and_one_that_went_on_does_not() {
    let (etcd, other) = (Etcd::start("3.6"), Etcd::start("3.6"));
    etcd.put_many("k/", 200, 100).await;
    other.put_many("k/", 200, 101).await;
    assert_eq!(etcd.revision(), other.revision());
    let desk = Desk::local(&etcd);
    let location = format!(
        "{{provider: Local, bucket: {}}}",
        desk.path("store").display()
    );
    let proxy = Toxiproxy::start();
    let port = |etcd: &Etcd| {
        etcd.endpoint()
            .rsplit(':')
            .next()
            .unwrap()
            .parse::<u16>()
            .unwrap()
    };
    let through = format!("http://127.0.0.1:{}", proxy.proxy("etcd", port(&etcd)));
    // The stream came from one database and the hash comes from another at the same revision.
    let swap = At(Stage::Check, || proxy.redirect("etcd", port(&other)));
    let error = back_up(&desk, &through, &location, &swap)
        .await
        .unwrap_err();
    assert!(matches!(error, PipelineError::NotSound { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::VerificationFailed);
    assert!(error.to_string().contains("hashkv"), "{error}");
    assert!(files(&desk.path("store")).is_empty(), "nothing was stored");
    // A compaction past the snapshot makes the hashes incomparable, which is no fault.
    proxy.redirect("etcd", port(&etcd));
    let gone = At(Stage::Check, || {
        etcd.ctl(&["put", "a", "b"]);
        etcd.ctl(&["put", "a", "c"]);
        let revision = etcd.revision().to_string();
        etcd.ctl(&["compaction", &revision, "--physical"]);
    });
    let made = back_up(&desk, &through, &location, &gone).await.unwrap();
    assert_eq!(made.manifest.level.to_string(), "Verified");
    let check = made
        .manifest
        .checks
        .iter()
        .find(|check| check.name == "hashkv")
        .unwrap();
    assert!(
        check.ok && check.message.starts_with("incomparable"),
        "{check:?}"
    );
}
