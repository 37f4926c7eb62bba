//! The operator against a real API server, with the rights that the chart gives it and no more.

mod attacks;
mod backups;
mod history;
mod idle;
mod increments;
mod jobs;
mod leaders;
mod refused;
mod resources;
mod restores;
mod rights;
mod runbook;
mod schedules;
mod screens;
mod secrets;
mod tenant_hooks;
mod tenant_restores;
mod tenants;
mod velero;
mod velero_server;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Kubernetes, Process, Versitygw, repository, tool, until};

/// A cluster, a store, and operators between them.
pub struct Site {
    pub cluster: Kubernetes,
    pub store: Versitygw,
    folder: TempDir,
}

impl Site {
    /// The store's credentials lie in both namespaces as Secret `s3`.
    pub fn new(cluster: Kubernetes) -> Self {
        Self::with_roles(cluster, &[])
    }

    /// The same with these values of the chart's, as `rbac.exports=true`.
    pub fn with_roles(cluster: Kubernetes, values: &[&str]) -> Self {
        let site = Self {
            cluster,
            store: Versitygw::start(&["backups"]),
            folder: tempfile::tempdir().unwrap(),
        };
        for namespace in ["guardian", "team-a"] {
            site.cluster.kubectl(&[
                "create",
                "secret",
                "generic",
                "s3",
                "-n",
                namespace,
                "--from-literal=access-key-id=vgw",
                "--from-literal=secret-access-key=vgwsecret",
            ]);
        }
        site.cluster.apply(&roles(values));
        site
    }

    /// The storageLocation of the store, or of what stands in front of it.
    pub fn storage(&self, port: u16) -> String {
        format!(
            "{{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', addressing: Path, credentialsSecret: s3}}"
        )
    }

    /// An operator whose own etcd is the API server's; `more` goes into its config.
    pub fn operator(&self, name: &str, more: &str) -> Process {
        let config = self.config(name, more);
        let mut operator = self
            .cluster
            .start_operator(&config, self.folder.path(), name);
        operator.wait_ready(|| self.leader().is_some());
        operator
    }

    pub fn config(&self, name: &str, more: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{name}.yaml"));
        let text = format!(
            "cluster: {{name: test, endpoints: ['{}']}}\nstateDir: {}\nserve: {{listen: ''}}\n{more}\n",
            self.cluster.etcd.endpoint(),
            self.folder.path().join(format!("state-{name}")).display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Who holds the lease.
    pub fn leader(&self) -> Option<String> {
        let lease = self.cluster.get("lease", "guardian", "etcdguardian")?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        (!holder.is_empty()).then_some(holder)
    }

    /// An EtcdBackup.
    pub fn backup(&self, namespace: &str, name: &str, spec: &str) {
        self.cluster.apply(&format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{backupMode: Full, {spec}}}\n"
        ));
    }

    /// Waits for the end of an EtcdBackup.
    pub fn ended(&self, namespace: &str, name: &str) -> Value {
        let phases = ["Completed", "Failed", "Rejected"];
        self.cluster
            .wait_phase("etcdbackup", namespace, name, &phases)
    }

    /// The manifests in the store.
    pub fn stored(&self) -> Vec<Value> {
        let root = self.store.file("backups", "");
        let mut found = Vec::new();
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|name| name == "manifest.json") {
                    let text = std::fs::read_to_string(path).unwrap();
                    found.extend(serde_json::from_str::<Value>(&text));
                }
            }
        }
        found
    }

    /// The reasons of the events of an object.
    pub fn events(&self, namespace: &str, name: &str) -> Vec<String> {
        let events = self.cluster.list("events.events.k8s.io", namespace);
        events
            .iter()
            .filter(|event| event["regarding"]["name"] == name)
            .filter_map(|event| event["reason"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits for an event of an object.
    pub fn wait_event(&self, namespace: &str, name: &str, reason: &str) {
        until(&format!("event {reason} of {name}"), || {
            self.events(namespace, name)
                .iter()
                .any(|one| one == reason)
                .then_some(())
        });
    }
}

/// The chart's roles, rendered for namespace `guardian`.
fn roles(values: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(tool("helm"))
        .args([
            "template",
            "etcdguardian",
            "etcdguardian",
            "--namespace",
            "guardian",
            "--kube-version",
            "1.34.0",
            "--show-only",
            "templates/rbac.yaml",
        ])
        .args(values.iter().flat_map(|value| ["--set", value]))
        .current_dir(repository("charts"))
        .env("HELM_CACHE_HOME", home.path())
        .env("HELM_CONFIG_HOME", home.path())
        .env("HELM_DATA_HOME", home.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The condition of a type, as `status/reason`.
pub fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .map(|condition| {
            format!(
                "{}/{}",
                condition["status"].as_str().unwrap(),
                condition["reason"].as_str().unwrap()
            )
        })
        .unwrap_or_default()
}
