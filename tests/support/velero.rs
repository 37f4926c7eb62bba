//! Velero's real server beside a bare API server, with its plugin for S3 and a store.

use std::path::Path;
use std::process::Command;

use super::{Kubernetes, Process, Versitygw, free_port, tool, tools_dir};

/// A running server of Velero in namespace `velero`, whose BackupStorageLocation `default` is bucket `vault`, prefix `velero`.
pub struct Velero {
    _process: Process,
}

impl Velero {
    /// Defines its resources, starts it, and waits until its store is Available.
    pub fn start(cluster: &Kubernetes, store: &Versitygw, folder: &Path) -> Self {
        let definitions = tools_dir().join("velero-crds").display().to_string();
        cluster.kubectl(&["create", "namespace", "velero"]);
        cluster.kubectl(&["apply", "--server-side", "-f", &definitions]);
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ]);
        let (plugins, credentials) = (folder.join("plugins"), folder.join("velero-credentials"));
        std::fs::create_dir_all(&plugins).expect("a folder");
        let plugin = "velero-plugin-for-aws";
        std::os::unix::fs::symlink(tool(plugin), plugins.join(plugin)).expect("link the plugin");
        let keys = "[default]\naws_access_key_id=vgw\naws_secret_access_key=vgwsecret\n";
        std::fs::write(&credentials, keys).expect("write the credentials");
        cluster.apply(&location("default", "vault", &store.url, true));
        // Its restores look at the Deployment that it should run in.
        cluster.apply("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: velero, namespace: velero}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: velero}}\n  template: {metadata: {labels: {app: velero}}, spec: {containers: [{name: velero, image: 'velero/velero:v1.18.3'}]}}\n");
        let mut command = Command::new(tool("velero"));
        command
            .arg("server")
            .arg(format!("--kubeconfig={}", cluster.admin().display()))
            .args(["--namespace=velero", "--default-backup-ttl=24h"])
            .arg(format!("--plugin-dir={}", plugins.display()))
            .arg(format!("--metrics-address=127.0.0.1:{}", free_port()))
            .arg(format!("--profiler-address=127.0.0.1:{}", free_port()))
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("HOME", folder);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text == "aws_ca_bundle" || text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        let mut process = Process::start("velero", &mut command, &folder.join("velero.log"));
        process.wait_ready(|| {
            let location = cluster.get("backupstoragelocation.velero.io", "velero", "default");
            location.is_some_and(|location| location["status"]["phase"] == "Available")
        });
        Self { _process: process }
    }
}

/// A BackupStorageLocation.
pub fn location(name: &str, bucket: &str, url: &str, default: bool) -> String {
    format!(
        "apiVersion: velero.io/v1\nkind: BackupStorageLocation\nmetadata: {{name: {name}, namespace: velero}}\nspec: {{provider: velero.io/aws, default: {default}, objectStorage: {{bucket: {bucket}, prefix: velero}}, config: {{region: us-east-1, s3ForcePathStyle: 'true', s3Url: '{url}'}}}}\n"
    )
}
