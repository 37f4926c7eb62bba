//! `report`, `velero install` and `list`: what they print, and what they never print.

use serde_json::Value;

use crate::backup::Desk;
use crate::support::{Etcd, guardian};

#[test]
fn a_report_tells_of_everything_but_secrets() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    let headers = desk.path("headers");
    std::fs::write(&headers, "Authorization: Bearer very-secret-token\n").unwrap();
    desk.add(&format!(
        "alerts:\n  channels:\n  - {{name: ops, webhook: {{url: 'http://127.0.0.1:1/hook/very-private-path', headersFile: '{}'}}}}\n",
        headers.display()
    ));
    let manifests = desk.path("schedules");
    std::fs::create_dir(&manifests).unwrap();
    std::fs::write(
        manifests.join("main.yaml"),
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {name: main}\nspec:\n  schedule: '@daily'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {provider: Local, bucket: /b}\n      hooks: {preBackup: [{name: quiesce, type: HTTP, http: {url: 'https://me:hook-password@quiesce.example.com/run/private-hook'}}]}\n",
    )
    .unwrap();
    std::fs::write(manifests.join("broken.yaml"), "a: [").unwrap();
    desk.add(&format!("manifests: '{}'\n", manifests.display()));
    let sealed = desk.path("secrets/seal");
    std::fs::create_dir(&sealed).unwrap();
    std::fs::write(sealed.join("passphrase"), "of a seal, long enough").unwrap();
    desk.run(&["backup", "create", "--encryption-secret", "seal"])
        .ok();
    let file = desk.path("report.json");
    desk.run(&["report", "--to", file.to_str().unwrap()]).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let backups = report["store"]["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 1);
    assert_eq!(backups[0]["level"], "Consistent");
    assert!(backups[0]["seal"].is_null(), "how it is sealed stays here");
    assert_eq!(report["config"]["cluster"]["name"], "test");
    let schedule = &report["manifests"]["main.yaml"][0];
    assert_eq!(schedule["spec"]["schedule"], "@daily");
    assert!(
        report["manifests"]["broken.yaml"]["error"].is_string(),
        "{text}"
    );
    assert!(
        report["doctor"]["checks"].as_array().unwrap().len() > 3,
        "{text}"
    );
    for secret in [
        "very-secret-token",
        "very-private-path",
        "vgwsecret",
        "correct horse",
        "hunter2",
        "private-hook",
        "hook-password",
        "of a seal",
    ] {
        assert!(!text.contains(secret), "{secret} is in the report");
    }
    // A report is never written over another file.
    desk.run(&["report", "--no-doctor", "--to", file.to_str().unwrap()])
        .code(1);
}

#[test]
fn velero_is_rendered_for_oss_with_the_rights_of_the_pair() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::write(
        &credentials,
        "[default]\naws_access_key_id=a\naws_secret_access_key=b\n",
    )
    .unwrap();
    let words = [
        "velero",
        "install",
        "--storage-provider",
        "oss",
        "--oss-bucket",
        "backups",
        "--oss-region",
        "cn-hangzhou",
        "--enable-etcd-integration",
        "--credentials-file",
        credentials.to_str().unwrap(),
        "-o",
        "json",
    ];
    let list = guardian(&words).json();
    let of_kind = |kind: &str| {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .find(|item| item["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
            .clone()
    };
    let location = of_kind("BackupStorageLocation");
    assert_eq!(location["spec"]["objectStorage"]["bucket"], "backups");
    assert_eq!(
        location["spec"]["config"]["s3Url"],
        "https://oss-cn-hangzhou.aliyuncs.com"
    );
    assert_eq!(location["spec"]["config"]["s3ForcePathStyle"], "false");
    assert!(
        of_kind("Secret")["stringData"]["cloud"]
            .as_str()
            .unwrap()
            .contains("aws_access_key_id=a")
    );
    assert_eq!(of_kind("Role")["metadata"]["namespace"], "velero");
    assert_eq!(
        of_kind("RoleBinding")["subjects"][0]["name"],
        "etcdguardian"
    );
    let yaml = guardian(&words[..words.len() - 2]).ok();
    assert_eq!(
        yaml.matches("\n---\n").count() + 1,
        list["items"].as_array().unwrap().len()
    );
    guardian(&[
        "velero",
        "install",
        "--storage-provider",
        "oss",
        "--oss-bucket",
        "b",
    ])
    .code(2);
}

#[test]
fn backups_are_listed_from_the_store_and_restores_need_a_server() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    let backup = desk.create();
    let listed = desk.run(&["list", "backups", "-o", "json"]).json();
    assert_eq!(listed["items"][0]["id"], backup["id"]);
    let missing = desk.path("no-kubeconfig").display().to_string();
    let refused = desk
        .run(&["list", "restores", "--kubeconfig", &missing])
        .code(2);
    assert!(
        refused.stderr.contains("--kubeconfig"),
        "{}",
        refused.stderr
    );
}

#[test]
fn mistakes_on_the_command_line_are_json_where_json_is_wanted() {
    for words in [
        ["snapshot", "status", "-o", "json"].as_slice(),
        &["snapshot", "status", "x", "--bogus", "--output=json"],
        &[
            "schedule", "simulate", "--traces", "x", "--policy", "y", "-ojson",
        ],
    ] {
        let ran = guardian(words).code(2);
        let said: Value = serde_json::from_str(&ran.stderr)
            .unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
        assert_eq!(said["error"]["class"], "Usage", "{said}");
        assert!(ran.stdout.is_empty());
    }
    let ran = guardian(&["snapshot", "status"]).code(2);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}
