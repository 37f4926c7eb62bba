//! Pods of GKE and of Azure store without a key: their identity's token is asked for, checked, asked for anew before it ends; and one
//! that ends before its time, in the middle of an upload, fails that backup by name and no other.

use crate::backup::{Desk, cluster};
use crate::support::{Azurite, Etcd, GcsFake, KmsFake, OssGate, Pki, Toxiproxy, block_on};
use etcdguardian::api::ErrorClass;
use etcdguardian::repository::RepositoryError;

use super::{oss_of, put};

/// A desk over an etcd whose backups take more than one part.
fn desk(store: &str) -> (Etcd, Desk) {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 40, 500_000);
    let desk = Desk::new(
        &cluster(&etcd.endpoints()),
        &format!("store: {{{store}}}\n"),
    );
    (etcd, desk)
}

/// Tokens that live for two seconds outlast an upload of six; one that dies before it said so fails that backup, and the next one
/// works. `life` says how long tokens say they live, and do.
fn outlives_its_tokens(
    desk: &Desk,
    slow: &Toxiproxy,
    variables: &[(&str, &str)],
    life: impl Fn(u32, u32),
) {
    const CREATE: [&str; 4] = ["backup", "create", "-o", "json"];
    slow.upstream_toxic("store", "bandwidth", r#"{"rate":2000}"#);
    life(2, 2);
    let made = desk.run_as(variables, &CREATE).json();
    assert_eq!(made["level"], "Consistent", "{made}");
    life(3600, 2);
    let broken = desk.run_as(variables, &CREATE).code(12);
    assert!(broken.stderr.contains("://backups"), "{}", broken.stderr);
    slow.heal();
    life(3600, 3600);
    desk.run_as(variables, &CREATE).ok();
    let listed = desk
        .run_as(variables, &["backup", "list", "-o", "json"])
        .json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    desk.run_as(variables, &["backup", "verify", "latest", "--deep"])
        .ok();
}

#[test]
fn a_pod_of_gke_stores_with_tokens_of_its_metadata_server() {
    let gcs = GcsFake::start("backups");
    let slow = Toxiproxy::start();
    let port = slow.proxy("store", gcs.port());
    let (_etcd, desk) = desk(&format!(
        "provider: GCS, bucket: backups, endpoint: 'http://127.0.0.1:{port}'"
    ));
    let host = format!("127.0.0.1:{}", gcs.port());
    let variables = [("GCE_METADATA_HOST", host.as_str())];
    outlives_its_tokens(&desk, &slow, &variables, |told, real| gcs.life(told, real));
    // A machine that is none of Google's is told so.
    let nowhere = [
        ("GCE_METADATA_HOST", "127.0.0.1:9"),
        ("GCE_METADATA_IP", "127.0.0.1:9"),
    ];
    let none = desk.run_as(&nowhere, &["backup", "list"]);
    assert_ne!(none.code, 0, "{}", none.stdout);
}

#[test]
fn a_pod_of_azure_changes_its_federated_token_for_one_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::create(&folder.path().join("pki"));
    let (azure, tenant) = (
        Azurite::start_oauth(&["backups"], &pki),
        KmsFake::start_tls(&pki),
    );
    let slow = Toxiproxy::start();
    let port = slow.proxy("store", azure.port());
    let (_etcd, desk) = desk(&format!(
        "provider: Azure, bucket: backups, endpoint: 'https://127.0.0.1:{port}/guardian'"
    ));
    let file = folder.path().join("token");
    std::fs::write(&file, "azure-pod-token").unwrap();
    let (file_text, authority) = (file.display().to_string(), pki.ca.display().to_string());
    let variables = [
        ("AZURE_CLIENT_ID", "client-1"),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_FEDERATED_TOKEN_FILE", file_text.as_str()),
        ("AZURE_AUTHORITY_HOST", tenant.url.as_str()),
        ("AZURE_STORAGE_ACCOUNT_NAME", "guardian"),
        ("SSL_CERT_FILE", authority.as_str()),
    ];
    outlives_its_tokens(&desk, &slow, &variables, |told, real| {
        tenant.tell(&format!(r#"{{"life":{{"told":{told},"real":{real}}}}}"#));
    });
    std::fs::write(&file, "forged").unwrap();
    let refused = desk.run_as(&variables, &["backup", "list"]).code(12);
    assert!(!refused.stderr.contains("forged"), "{}", refused.stderr);
}

#[test]
fn a_clock_that_is_an_hour_off_is_named() {
    let place = oss_of(OssGate::start(&["backups"]));
    let gate: &OssGate = place.server();
    block_on(async {
        let repository = place.open().await.unwrap();
        for ahead in [3600, -3600] {
            gate.clock(ahead);
            let error = put(&repository, "x", 1, b"x").await.unwrap_err();
            assert!(matches!(error, RepositoryError::Clock { .. }), "{error:?}");
            assert_eq!(error.class(), ErrorClass::Credentials);
            assert!(error.to_string().contains("clock"), "{error}");
        }
        gate.clock(600);
        put(&repository, "x", 1, b"x").await.unwrap();
    });
}
