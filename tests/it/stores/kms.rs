//! Backups sealed with a key that a key management service wraps: made, proved, restored and opened by hand; and every way in which
//! the service can say no. The contract server recomputes AWS's and Alibaba's signatures.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::backup::{Desk, cluster, data_file, files};
use crate::support::{Etcd, KmsFake, Ran, free_port, tool};

pub const AWS_KEY: &str = "arn:aws:kms:eu-central-1:1:key/k1";
const AWS_OTHER: &str = "arn:aws:kms:eu-central-1:1:key/k2";
pub const ALIBABA_KEY: &str = "acs:kms:cn-test:1:key/k1";

/// A desk with a schedule whose backups are sealed with this key.
pub fn desk(etcd: &Etcd, key: &str) -> Desk {
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    std::fs::create_dir_all(desk.path("manifests")).unwrap();
    desk.add(&format!(
        "manifests: {}\n",
        desk.path("manifests").display()
    ));
    let manifest = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: s}}\nspec:\n  schedule: '@hourly'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {{provider: Local, bucket: {}}}\n      encryption: {{enabled: true, kmsKeyID: '{key}'}}\n",
        desk.path("store").display()
    );
    std::fs::write(desk.path("manifests/s.yaml"), manifest).unwrap();
    desk
}

/// Runs the binary against the contract server, with keys of both clouds in the environment.
pub fn run(desk: &Desk, url: &str, words: &[&str]) -> Ran {
    run_with(desk, url, ["awssecret", "testsecret"], words)
}

fn run_with(desk: &Desk, url: &str, secrets: [&str; 2], words: &[&str]) -> Ran {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", secrets[0]),
        ("AWS_ENDPOINT_URL_KMS", url),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAItest"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secrets[1]),
        ("ALIBABA_CLOUD_KMS_ENDPOINT", url),
    ];
    desk.run_as(&variables, words)
}

pub const CREATE: [&str; 6] = ["backup", "create", "--from-schedule", "s", "-o", "json"];

pub fn manifest_file(made: &Value) -> std::path::PathBuf {
    data_file(made).with_file_name("manifest.json")
}

fn restore_words<'a>(store: &'a str, to: &'a str) -> [&'a str; 6] {
    ["restore", "--from", store, "--data-dir", to, "--yes"]
}

fn is_restored(folder: &Path) -> bool {
    folder.join("member/snap/db").is_file()
}

fn seals_and_opens(key: &str) {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 20, 100);
    let kms = KmsFake::start();
    let desk = desk(&etcd, key);
    let made = run(&desk, &kms.url, &CREATE).json();
    assert_eq!(made["level"], "Consistent", "{made}");
    assert_eq!(made["sealed"], true);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(manifest_file(&made)).unwrap()).unwrap();
    let wrapped = &manifest["seal"]["kms"];
    assert_eq!(wrapped["keyID"], key);
    assert_eq!(wrapped["context"]["etcdguardian-backup"], made["id"]);
    assert_eq!(
        wrapped["context"]["etcdguardian-cluster"],
        made["clusterId"]
    );

    let store = format!("file://{}", desk.path("store").display());
    let verify = ["backup", "verify", "latest", "--deep", "--from", &store];
    run(&desk, &kms.url, &verify).ok();
    // The service's own rotation changes nothing for what is there.
    kms.tell(r#"{"rotate":"k1"}"#);
    let to = desk.path("restored").display().to_string();
    run(&desk, &kms.url, &restore_words(&store, &to)).ok();
    assert!(is_restored(&desk.path("restored")));

    // With the unwrapped identity, age and zstd alone open it.
    let identity = desk.path("unwrapped.key");
    let (from, out) = (
        manifest_file(&made).display().to_string(),
        identity.display().to_string(),
    );
    run(&desk, &kms.url, &["keygen", "--unwrap", &from, &out]).ok();
    let plain = desk.path("plain.zst");
    let opened = Command::new(tool("age"))
        .args(["-d", "-i", &out, "-o"])
        .arg(&plain)
        .arg(data_file(&made))
        .status()
        .unwrap();
    assert!(opened.success());
    let decoded = Command::new("zstd")
        .args(["-d", "-q", "-c"])
        .arg(&plain)
        .output()
        .unwrap();
    let digest = super::sha256(&decoded.stdout);
    assert_eq!(manifest["plainSha256"], digest);
    // And so does the binary, with the manifest beside the file.
    let stored = data_file(&made).display().to_string();
    let by_hand = desk.path("by-hand.db").display().to_string();
    let unseal = ["unseal", &stored, "--manifest", &from, "-O", &by_hand];
    run(&desk, &kms.url, &unseal).ok();
    assert_eq!(super::sha256(&std::fs::read(&by_hand).unwrap()), digest);

    // The next backup has a key of its own.
    let again = run(&desk, &kms.url, &CREATE).json();
    let second: Value =
        serde_json::from_slice(&std::fs::read(manifest_file(&again)).unwrap()).unwrap();
    assert_ne!(second["seal"]["kms"]["wrapped"], wrapped["wrapped"]);
    assert_ne!(second["seal"]["recipients"], manifest["seal"]["recipients"]);
}

#[test]
fn aws_kms_seals_and_opens() {
    seals_and_opens(AWS_KEY);
}

#[test]
fn alibaba_kms_seals_and_opens() {
    seals_and_opens(ALIBABA_KEY);
}

#[test]
fn a_key_that_cannot_be_used_fails_the_backup_before_it_starts() {
    let etcd = Etcd::start("3.6");
    for key in [AWS_KEY, ALIBABA_KEY] {
        let kms = KmsFake::start();
        let desk = desk(&etcd, key);
        let nowhere = format!("http://127.0.0.1:{}", free_port());
        let gone = run(&desk, &nowhere, &CREATE).code(10);
        assert!(gone.stderr.contains(key), "{}", gone.stderr);
        kms.tell(r#"{"key":"k1","state":"Disabled"}"#);
        let disabled = run(&desk, &kms.url, &CREATE).code(12);
        assert!(disabled.stderr.contains(key), "{}", disabled.stderr);
        assert!(disabled.stderr.contains("Disabled"), "{}", disabled.stderr);
        kms.tell(r#"{"key":"k1","state":"Enabled"}"#);
        let wrong = ["another-secret"; 2];
        let said = run_with(&desk, &kms.url, wrong, &CREATE).code(12).stderr;
        assert!(said.contains("ignature"), "{said}");
        assert!(!said.contains("another-secret"), "{said}");
        assert!(files(&desk.path("store")).is_empty(), "nothing was begun");
        // A service that is ill for a moment is asked again.
        let fault =
            r#"{"fault":{"action":"GenerateDataKey","status":503,"code":"Busy","count":2}}"#;
        kms.tell(fault);
        run(&desk, &kms.url, &CREATE).ok();
    }
}

#[test]
fn the_wrong_key_is_named_and_a_replica_is_not_wrong() {
    let etcd = Etcd::start("3.6");
    let kms = KmsFake::start();
    let desk = desk(&etcd, AWS_KEY);
    run(&desk, &kms.url, &CREATE).ok();
    let store = format!("file://{}", desk.path("store").display());
    let to = desk.path("restored").display().to_string();
    let with = |key: &'static str| [&restore_words(&store, &to)[..], &["--kms-key", key]].concat();
    let wrong = run(&desk, &kms.url, &with(AWS_OTHER)).code(12);
    assert!(wrong.stderr.contains(AWS_KEY), "{}", wrong.stderr);
    assert!(!is_restored(&desk.path("restored")));
    let nonsense = run(&desk, &kms.url, &with("mykey")).code(2);
    assert!(
        nonsense.stderr.contains("arn:aws:kms:"),
        "{}",
        nonsense.stderr
    );
    // Without any identity there is no asking.
    kms.tell(
        r#"{"fault":{"action":"Decrypt","status":400,"code":"AccessDeniedException","count":1}}"#,
    );
    let denied = run(&desk, &kms.url, &restore_words(&store, &to)).code(12);
    assert!(denied.stderr.contains(AWS_KEY), "{}", denied.stderr);
    run(
        &desk,
        &kms.url,
        &with("arn:aws:kms:us-west-2:1:key/mrk-replica"),
    )
    .ok();
    assert!(is_restored(&desk.path("restored")));
}

#[test]
fn alibabas_key_is_named_and_its_replica_in_another_region_opens() {
    let etcd = Etcd::start("3.6");
    let kms = KmsFake::start();
    let desk = desk(&etcd, ALIBABA_KEY);
    run(&desk, &kms.url, &CREATE).ok();
    let store = format!("file://{}", desk.path("store").display());
    let to = desk.path("restored").display().to_string();
    let with = |key: &'static str| [&restore_words(&store, &to)[..], &["--kms-key", key]].concat();
    // The service takes the key that wrapped it, whichever is asked for; it may be switched off.
    kms.tell(r#"{"key":"k1","state":"Disabled"}"#);
    let off = run(&desk, &kms.url, &restore_words(&store, &to)).code(12);
    assert!(off.stderr.contains(ALIBABA_KEY), "{}", off.stderr);
    assert!(!is_restored(&desk.path("restored")));
    kms.tell(r#"{"key":"k1","state":"Enabled"}"#);
    run(&desk, &kms.url, &with("acs:kms:cn-other:1:key/mrk-replica")).ok();
    assert!(is_restored(&desk.path("restored")));
}

#[test]
fn doctor_tries_the_keys_of_the_schedules() {
    let etcd = Etcd::start("3.6");
    let kms = KmsFake::start();
    let desk = desk(&etcd, AWS_KEY);
    let well = run(&desk, &kms.url, &["doctor"]).ok();
    assert!(well.contains(AWS_KEY), "{well}");
    kms.tell(r#"{"key":"k1","state":"Disabled"}"#);
    let ill = run(&desk, &kms.url, &["doctor"]).code(12);
    assert!(ill.stdout.contains(AWS_KEY), "{}", ill.stdout);
}

#[test]
fn public_keys_alone_seal_and_the_proof_is_no_less() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    let (key, public) = desk.seal();
    let made = desk.create_sealed();
    assert_eq!(made["level"], "Consistent", "{made}");
    let store = format!("file://{}", desk.path("store").display());
    let deep = ["backup", "verify", "latest", "--deep", "--from", &store];
    desk.run(&deep).code(12);
    desk.run(&[&deep[..], &["--identity", &key]].concat()).ok();
    let shown = desk.run(&["backup", "show", "latest", "-o", "json"]).json();
    let recipients = shown["manifest"]["seal"]["recipients"].as_array().unwrap();
    assert_eq!(recipients.len(), 1, "only the keys that are kept are named");
    assert_eq!(recipients[0], public);
}
