//! What is in the values themselves: those that are encrypted, and those that go back as they are stored.

use serde_json::Value;

use super::{Snapshot, essence, shop};
use crate::support::Kubernetes;

#[test]
fn encryption_at_rest_is_said_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("encryption.yaml");
    std::fs::write(
        &file,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}\n",
    )
    .unwrap();
    let cluster =
        Kubernetes::with_flags(&[&format!("--encryption-provider-config={}", file.display())]);
    shop(&cluster);
    let taken = Snapshot::of(&cluster.etcd);
    let listed = taken.object(&["ls", "-n", "shop", "-k", "secret"]).ok();
    assert!(listed.contains("encrypted: aescbc, key key1"), "{listed}");
    let refused = taken
        .object(&["get", "db", "-n", "shop", "-k", "secret"])
        .code(12);
    assert!(refused.stderr.contains("key1"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"));
}

#[test]
fn built_in_objects_go_back_as_they_are_stored() {
    let cluster = Kubernetes::start();
    shop(&cluster);
    let objects = [
        ("deployment", "web"),
        ("secret", "db"),
        ("configmap", "settings"),
    ];
    let there = |kind: &str, namespace: &str, name: &str| cluster.get(kind, namespace, name);
    let live = objects.map(|(kind, name)| there(kind, "shop", name).unwrap());
    let taken = Snapshot::of(&cluster.etcd);
    let kubeconfig = cluster.admin().display().to_string();
    let restore = |kind: &str, name: &str, more: &[&str]| {
        let words = [
            "restore",
            name,
            "-k",
            kind,
            "-n",
            "shop",
            "--stored-form",
            "--kubeconfig",
            &kubeconfig,
        ];
        taken.object(&[&words[..], more].concat())
    };
    // Nothing that is there is touched.
    let refused = restore("deployment", "web", &["--yes"]).code(5);
    assert!(refused.stderr.contains("it is there"), "{}", refused.stderr);
    for ((kind, name), before) in objects.into_iter().zip(live) {
        cluster.kubectl(&["delete", kind, "-n", "shop", name]);
        let plan = restore(kind, name, &["--plan"]).ok();
        assert!(plan.contains("create"), "{plan}");
        assert_eq!(there(kind, "shop", name), None, "a plan changes nothing");
        restore(kind, name, &["--yes"]).ok();
        let now = there(kind, "shop", name).unwrap();
        let uid = |object: &Value| object["metadata"]["uid"].clone();
        assert_ne!(uid(&now), uid(&before), "it is a new one");
        assert_eq!(essence(now), essence(before));
    }
    let elsewhere = ["--into-namespace", "drill", "--create-namespace", "--yes"];
    restore("deployment", "web", &elsewhere).ok();
    let moved = there("deployment", "drill", "web").unwrap();
    assert_eq!(moved["spec"]["replicas"], 3);
    // A custom resource is stored in JSON, and applied as that.
    let other = restore("cacti", "saguaro", &["--yes"]).code(2);
    assert!(other.stderr.contains("--stored-form"), "{}", other.stderr);
}
