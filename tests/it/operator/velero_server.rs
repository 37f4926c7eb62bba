//! The Velero pair beside Velero's real server: backups that it completes, half completes and refuses, and what it brings back once etcd
//! is restored.

use serde_json::{Value, json};

use super::restores::JOBS;
use super::tenants::running_pod;
use super::{Site, condition};
use crate::support::velero::{Velero, location};
use crate::support::{Kubernetes, Toxiproxy, Versitygw, free_port};

fn back_up(site: &Site, name: &str, template: &str) -> Value {
    let storage = site.storage(site.store.port);
    let spec = format!(
        "executor: InProcess, storageLocation: {storage}, veleroIntegration: {{enabled: true, template: {{snapshotVolumes: false, includedNamespaces: [team-a], {template}}}}}"
    );
    site.backup("guardian", name, &spec);
    site.ended("guardian", name)
}

/// A site whose Velero keeps its half in a store of its own.
fn with_velero(cluster: Kubernetes) -> (Site, Versitygw, Velero) {
    let site = Site::new(cluster);
    let vault = Versitygw::start(&["vault"]);
    let velero = Velero::start(&site.cluster, &vault, site.folder.path());
    site.cluster
        .apply(&super::roles(&["velero.integration.enabled=true"]));
    (site, vault, velero)
}

fn config_map(site: &Site, name: &str) {
    site.cluster
        .create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "team-a"}, "data": {"of": "before"}}));
}

#[test]
fn a_pair_is_made_with_veleros_real_server_and_brings_its_half_back_once_etcd_is() {
    let (site, vault, _velero) = with_velero(Kubernetes::with_controllers());
    let _operator = site.operator("one", JOBS);
    config_map(&site, "volume");
    let done = back_up(&site, "daily", "");
    assert_eq!(condition(&done, "VeleroBackup"), "True/Completed", "{done}");
    let status = &done["status"];
    let half = status["veleroBackupName"].as_str().unwrap();
    let place = status["veleroBackupLocation"].as_str().unwrap();
    assert_eq!(place, format!("vault/velero/backups/{half}"));
    let file = vault.file("vault", &format!("velero/backups/{half}/{half}.tar.gz"));
    assert!(
        file.exists(),
        "what the location names is there: {}",
        file.display()
    );

    let host = tempfile::tempdir().unwrap();
    let data_dir = host.path().join("data");
    let toxics = Toxiproxy::start();
    let (endpoint, peer) = (
        toxics.proxy("etcd", free_port()),
        format!("http://127.0.0.1:{}", free_port()),
    );
    let cluster = format!(
        "etcdCluster: {{endpoints: ['http://127.0.0.1:{endpoint}'], members: [{{name: m0, peerURL: '{peer}', dataDir: {}}}]}}",
        data_dir.display()
    );
    site.cluster
        .kubectl(&["delete", "configmap", "-n", "team-a", "volume"]);
    let velero = "veleroIntegration: {enabled: true, template: {includedNamespaces: [team-a]}}";
    site.restore("back", &format!("{cluster}, {velero}"));
    let _restored = site.carry_out("back", host.path(), (&data_dir, &peer), &toxics);
    let done = site
        .cluster
        .wait_phase("egr", "guardian", "back", &["Completed", "Failed"]);
    assert_eq!(
        condition(&done, "VeleroRestore"),
        "True/Completed",
        "{done}"
    );
    assert_eq!(condition(&done, "Succeeded"), "True/Completed", "{done}");
    let status = &done["status"];
    assert_eq!(status["veleroRestorePhase"], "Completed");
    let name = status["veleroRestoreName"].as_str().unwrap();
    let made = site
        .cluster
        .get("restore.velero.io", "velero", name)
        .unwrap();
    assert_eq!(made["spec"]["backupName"], half);
    assert_eq!(made["metadata"]["uid"], status["veleroRestoreUID"]);
    let back = site.cluster.get("configmap", "team-a", "volume").unwrap();
    assert_eq!(back["data"]["of"], "before", "Velero brought it back");
    site.wait_event("guardian", "back", "VeleroRestoreCompleted");
}

#[test]
fn what_veleros_real_server_refuses_or_half_does_is_a_condition() {
    let (site, vault, _velero) = with_velero(Kubernetes::start());
    let _operator = site.operator("one", "");
    // A hook in a pod that no kubelet runs: Velero backs the objects up and counts an error.
    running_pod(&site, "team-a");
    let hook = "hooks: {resources: [{name: h, includedNamespaces: [team-a], pre: [{exec: {command: ['true'], onError: Fail}}]}]}";
    let done = back_up(&site, "part", hook);
    assert_eq!(
        condition(&done, "VeleroBackup"),
        "False/VeleroPartiallyFailed",
        "{done}"
    );
    assert_eq!(
        condition(&done, "Succeeded"),
        "True/Completed",
        "ours stands: {done}"
    );

    // A location that is not Available.
    site.cluster
        .apply(&location("nowhere", "no-such-bucket", &vault.url, false));
    let done = back_up(&site, "unready", "storageLocation: nowhere");
    assert_eq!(
        condition(&done, "VeleroBackup"),
        "False/VeleroFailedValidation",
        "{done}"
    );
    let message = done["status"]["message"].as_str().unwrap();
    assert!(message.contains("nowhere"), "{message}");
}
