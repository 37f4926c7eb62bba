//! The Velero pair, against Velero's real resource definitions. The tests play its server's part, writing the status that it would write;
//! `velero_server` runs the server itself.

use serde_json::{Value, json};

use super::{Site, condition};
use crate::support::{Kubernetes, guardian, tools_dir, until};

fn with_velero() -> Site {
    let site = Site::with_roles(Kubernetes::start(), &[]);
    install(&site);
    site
}

/// Velero's definitions, an available place for its backups, and the operator's rights on them.
pub fn install(site: &Site) {
    let cluster = &site.cluster;
    cluster.kubectl(&["create", "namespace", "velero"]);
    let definitions = tools_dir().join("velero-crds").display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &definitions]);
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=60s",
    ]);
    cluster.apply(&super::roles(&["velero.integration.enabled=true"]));
    cluster.apply("apiVersion: velero.io/v1\nkind: BackupStorageLocation\nmetadata: {name: default, namespace: velero}\nspec: {provider: aws, default: true, objectStorage: {bucket: vault, prefix: velero}}\n");
    play(
        site,
        "backupstoragelocation",
        "default",
        &json!({"phase": "Available"}),
    );
}

/// Writes a status as Velero's server would.
fn play(site: &Site, kind: &str, name: &str, status: &Value) {
    let patch = json!({ "status": status }).to_string();
    let kind = format!("{kind}.velero.io");
    site.cluster.merge(&kind, "velero", name, &patch);
}

fn back_up(site: &Site, name: &str, velero: &str) {
    back_up_within(site, name, velero, 3600);
}

/// The same, with seconds that it may take.
fn back_up_within(site: &Site, name: &str, velero: &str, seconds: u32) {
    let storage = site.storage(site.store.port);
    let spec = format!(
        "executor: InProcess, activeDeadlineSeconds: {seconds}, storageLocation: {storage}, veleroIntegration: {{enabled: true, {velero}}}"
    );
    site.backup("guardian", name, &spec);
}

/// Velero's Backup of an object, once it is there.
fn half(site: &Site, name: &str) -> Value {
    until("Velero's Backup", || {
        let object = site.cluster.get("etcdbackup", "guardian", name)?;
        let half = object["status"]["veleroBackupName"].as_str()?.to_owned();
        object["status"]["veleroBackupUID"].as_str()?;
        site.cluster.get("backup.velero.io", "velero", &half)
    })
}

fn failed(site: &Site, name: &str, reason: &str) {
    let done = site.ended("guardian", name);
    assert_eq!(
        condition(&done, "VeleroBackup"),
        format!("False/{reason}"),
        "{done}"
    );
    assert_eq!(
        condition(&done, "Succeeded"),
        "True/Completed",
        "the backup itself stands"
    );
    site.wait_event("guardian", name, reason);
}

#[test]
fn a_backup_gets_its_velero_half_and_says_what_became_of_it() {
    let site = with_velero();
    let _operator = site.operator("one", "");
    back_up(
        &site,
        "good",
        "template: {includedNamespaces: [team-a], ttl: 24h0m0s}",
    );
    let made = half(&site, "good");
    assert_eq!(made["spec"]["includedNamespaces"], json!(["team-a"]));
    let object = site.cluster.get("etcdbackup", "guardian", "good").unwrap();
    assert_eq!(
        made["metadata"]["labels"]["etcdguardian.io/backup-ref"],
        object["metadata"]["uid"]
    );
    assert_eq!(
        object["status"]["phase"], "TriggeringVelero",
        "it is waited for"
    );
    play(
        &site,
        "backup",
        made["metadata"]["name"].as_str().unwrap(),
        &json!({"phase": "Completed"}),
    );
    let done = site.ended("guardian", "good");
    assert_eq!(condition(&done, "VeleroBackup"), "True/Completed", "{done}");
    let status = &done["status"];
    assert_eq!(status["veleroBackupUID"], made["metadata"]["uid"]);
    assert_eq!(status["veleroBackupPhase"], "Completed");
    let place = status["veleroBackupLocation"].as_str().unwrap();
    assert!(place.starts_with("vault/velero/backups/good-"), "{place}");

    back_up(&site, "part", "backupName: part");
    half(&site, "part");
    play(
        &site,
        "backup",
        "part",
        &json!({"phase": "PartiallyFailed", "errors": 3}),
    );
    failed(&site, "part", "VeleroPartiallyFailed");

    back_up(&site, "gone", "backupName: gone");
    half(&site, "gone");
    site.cluster
        .kubectl(&["delete", "backup.velero.io", "-n", "velero", "gone"]);
    failed(&site, "gone", "VeleroBackupDeleted");

    // Its server has no place to put backups, and says nothing about ours.
    let unavailable = json!({"phase": "Unavailable"});
    play(&site, "backupstoragelocation", "default", &unavailable);
    back_up_within(&site, "unready", "backupName: unready", 15);
    failed(&site, "unready", "VeleroNotReady");

    back_up(
        &site,
        "wrong",
        "backupName: wrong, template: {includedNamespaces: everything}",
    );
    failed(&site, "wrong", "VeleroTemplateInvalid");
    back_up(&site, "nowhere", "namespace: elsewhere");
    let done = site.ended("guardian", "nowhere");
    let said = condition(&done, "VeleroBackup");
    assert!(
        said == "False/VeleroForbidden" || said == "False/VeleroNotInstalled",
        "{done}"
    );
}

#[test]
fn a_cluster_without_velero_says_so() {
    let site = Site::new(Kubernetes::start());
    site.cluster.kubectl(&["create", "namespace", "velero"]);
    site.cluster
        .apply(&super::roles(&["velero.integration.enabled=true"]));
    let _operator = site.operator("one", "");
    back_up(&site, "alone", "backupName: alone");
    failed(&site, "alone", "VeleroNotInstalled");
}

#[test]
fn what_velero_install_renders_is_applied_to_a_cluster() {
    let site = with_velero();
    let credentials = site.folder.path().join("credentials");
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
        "vault",
        "--oss-region",
        "cn-hangzhou",
        "--credentials-file",
        credentials.to_str().unwrap(),
        "--enable-etcd-integration",
        "--guardian-service-account",
        "guardian/etcdguardian",
        "--apply",
        "--yes",
        "--kubeconfig",
    ];
    let kubeconfig = site.cluster.admin().display().to_string();
    // The location of `with_velero` was made by another hand.
    site.cluster.kubectl(&[
        "delete",
        "backupstoragelocation.velero.io",
        "-n",
        "velero",
        "default",
    ]);
    guardian(&[&words[..], &[&kubeconfig]].concat()).ok();
    let location = site
        .cluster
        .get("backupstoragelocation.velero.io", "velero", "default")
        .unwrap();
    assert_eq!(
        location["spec"]["objectStorage"]["bucket"], "vault",
        "{location}"
    );
    assert!(site.cluster.get("deployment", "velero", "velero").is_some());
    assert!(
        site.cluster
            .get("role", "velero", "etcdguardian-velero")
            .is_some()
    );
    guardian(&[&words[..], &[&kubeconfig]].concat()).ok();
}
