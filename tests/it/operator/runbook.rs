//! The API server's own etcd is restored by hand: each line of the runbook that an EtcdRestore prints, followed as it stands.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Site;
use super::restores::JOBS;
use crate::support::{Kubernetes, guardian_command, tool};

/// The commands of a runbook, each with the place it is for.
fn commands(runbook: &str) -> Vec<(&str, &str)> {
    let steps = runbook.lines().filter_map(|line| {
        let (number, rest) = line.split_once(". ")?;
        number.parse::<u8>().ok()?;
        Some(rest)
    });
    steps
        .map(|step| match step.split_once(": ") {
            Some((place, command)) => (place, command),
            None => ("", step),
        })
        .collect()
}

#[test]
fn the_runbook_brings_the_api_servers_own_etcd_back() {
    let mut site = Site::new(Kubernetes::start());
    let operator = site.operator("one", JOBS);
    let kept = ["create", "configmap", "kept", "-n", "team-a"];
    site.cluster.kubectl(&kept);
    let spec = format!(
        "executor: InProcess, storageLocation: {}",
        site.storage(site.store.port)
    );
    site.backup("guardian", "daily", &spec);
    site.ended("guardian", "daily");
    site.cluster
        .kubectl(&["create", "configmap", "later", "-n", "team-a"]);
    let members = site.cluster.etcd.ctl(&["member", "list", "-w", "json"]);
    let members: Value = serde_json::from_str(&members).unwrap();
    let member = &members["members"][0];
    site.restore(
        "own",
        &format!(
            "etcdCluster: {{endpoints: ['{}'], members: [{{name: {}, peerURL: '{}', nodeName: node-1, dataDir: '{}'}}]}}",
            site.cluster.etcd.endpoint(),
            member["name"].as_str().unwrap(),
            member["peerURLs"][0].as_str().unwrap(),
            site.cluster.etcd.data_dir(0).display()
        ),
    );
    let planned = site
        .cluster
        .wait_phase("egr", "guardian", "own", &["Planned", "Failed"]);
    drop(operator);
    let node = tempfile::tempdir().unwrap();
    let manifests = node.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    for name in ["etcd.yaml", "kube-apiserver.yaml"] {
        std::fs::write(manifests.join(name), name).unwrap();
    }
    let runbook = planned["status"]["message"].as_str().unwrap();
    let runbook = runbook.replace("/etc/kubernetes", node.path().to_str().unwrap());
    let steps = commands(&runbook);
    let places: Vec<&str> = steps.iter().map(|(place, _)| *place).collect();
    assert_eq!(
        places,
        [
            "on every node",
            "on node node-1",
            "when all are done, on every node",
            ""
        ],
        "{runbook}"
    );
    let binary = guardian_command();
    let folders = [Path::new(binary.get_program()), &tool("kubectl")].map(|one| {
        let folder = one.parent().unwrap().to_str().unwrap();
        folder.to_owned()
    });
    let path = format!("{}:{}", folders.join(":"), std::env::var("PATH").unwrap());
    let mut runs = true;
    for (_, command) in steps {
        let output = Command::new("sh")
            .args(["-c", command])
            .env("PATH", &path)
            .env("KUBECONFIG", site.cluster.admin())
            .env("AWS_ACCESS_KEY_ID", "vgw")
            .env("AWS_SECRET_ACCESS_KEY", "vgwsecret")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
        // What the kubelet does of itself.
        let wanted = manifests.join("etcd.yaml").exists();
        if runs && !wanted {
            site.cluster.stop();
        } else if !runs && wanted {
            site.cluster.start_again();
        }
        runs = wanted;
    }
    assert!(runs);
    assert!(site.cluster.get("configmap", "team-a", "kept").is_some());
    assert!(site.cluster.get("configmap", "team-a", "later").is_none());
    site.cluster
        .kubectl(&["create", "configmap", "new", "-n", "team-a"]);
}
