//! `export` and `import`: the objects of a real kube-apiserver into a store, and into an empty one.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Kubernetes, Ran, guardian, until};

/// Objects of many kinds: namespaces, rights, configuration, owners, definitions with their objects.
fn fill(cluster: &Kubernetes) {
    let mut objects = Vec::new();
    for namespace in ["shop", "bank"] {
        cluster.kubectl(&["create", "namespace", namespace]);
        for index in 0..300 {
            objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("c{index}"), "namespace": namespace}, "data": {"n": index.to_string()}}));
        }
    }
    cluster.create(&json!({"apiVersion": "v1", "kind": "List", "items": objects}));
    cluster.create(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "cacti.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Cactus", "plural": "cacti", "singular": "cactus"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}));
    let cactus = json!({"apiVersion": "example.com/v1", "kind": "Cactus", "metadata": {"name": "saguaro", "namespace": "shop"},
        "spec": {"height": 12}});
    until("the new kind is served", || {
        cluster.try_create(&cactus).0.then_some(())
    });
    let owner = cluster.get("cactus", "shop", "saguaro").unwrap();
    for (name, controller) in [("kept", false), ("made-again", true)] {
        cluster.create(&json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": "dg=="},
            "metadata": {"name": name, "namespace": "shop", "ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Cactus",
                "name": "saguaro", "uid": owner["metadata"]["uid"], "controller": controller}]}}));
    }
    cluster.create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "shop:reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}));
    cluster.create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}));
    cluster.create(
        &json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop"},
        "involvedObject": {"namespace": "shop"}, "reason": "Test"}),
    );
}

fn run(cluster: &Kubernetes, store: &Path, words: &[&str]) -> Ran {
    let (kubeconfig, url) = (
        cluster.admin().display().to_string(),
        format!("file://{}", store.display()),
    );
    let flag = if words[0] == "export" {
        "--to"
    } else {
        "--from"
    };
    guardian(&[words, &[flag, &url, "--kubeconfig", &kubeconfig]].concat())
}

fn essence(cluster: &Kubernetes, kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = cluster.get(kind, namespace, name).unwrap();
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "generation",
    ] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object
}

#[test]
fn what_is_exported_comes_back_in_an_empty_cluster() {
    let (old, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    fill(&old);
    let exported = run(&old, store.path(), &["export", "before", "-o", "json"]).json();
    assert_eq!(exported["backup"]["kind"], "Export");
    assert_eq!(exported["backup"]["level"], "Verified");
    let kinds = &exported["export"]["kinds"];
    assert!(
        kinds["configmaps"]["objects"].as_u64().unwrap() >= 600,
        "{kinds}"
    );
    assert_eq!(kinds["configmaps"]["pinned"], true, "{kinds}");
    assert_eq!(kinds["cacti.example.com"]["objects"], 1);
    let skipped = exported["export"]["skipped"].as_array().unwrap();
    assert!(
        skipped.iter().any(|one| one["resource"] == "events"),
        "{skipped:?}"
    );
    let places = [
        ("configmap", "bank", "c299"),
        ("cactus", "shop", "saguaro"),
        ("clusterrole", "shop", "shop:reader"),
    ];
    let held: Vec<Value> = places
        .iter()
        .map(|(kind, namespace, name)| essence(&old, kind, namespace, name))
        .collect();
    drop(old);

    let new = Kubernetes::start();
    let planned = run(&new, store.path(), &["import", "--plan", "-o", "json"]).json();
    assert!(planned["items"].as_array().unwrap().len() > 600);
    assert_eq!(planned["madeAgain"], 1);
    run(&new, store.path(), &["import"]).code(5);
    assert_eq!(
        new.get("namespace", "shop", "shop"),
        None,
        "neither a plan nor a question changes anything"
    );
    run(&new, store.path(), &["import", "--yes"]).ok();
    for ((kind, namespace, name), held) in places.iter().zip(held) {
        assert_eq!(essence(&new, kind, namespace, name), held);
    }
    let owner = new.get("cactus", "shop", "saguaro").unwrap();
    let kept = new.get("secret", "shop", "kept").unwrap();
    assert_eq!(
        kept["metadata"]["ownerReferences"][0]["uid"], owner["metadata"]["uid"],
        "linked to the new owner"
    );
    assert_eq!(new.get("secret", "shop", "made-again"), None);
    assert_eq!(new.get("event", "shop", "e"), None);

    // A second run finds nothing to do; what differs stays unless told.
    let number = || {
        new.get("configmap", "shop", "c7").unwrap()["data"]["n"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    new.kubectl(&[
        "patch",
        "configmap",
        "-n",
        "shop",
        "c7",
        "--type=merge",
        "-p",
        r#"{"data":{"n":"changed"}}"#,
    ]);
    run(
        &new,
        store.path(),
        &["import", "--yes", "--existing", "fail"],
    )
    .code(5);
    run(&new, store.path(), &["import", "--yes"]).ok();
    assert_eq!(number(), "changed");
    run(
        &new,
        store.path(),
        &["import", "--yes", "--existing", "update"],
    )
    .ok();
    assert_eq!(number(), "7");
}

#[test]
fn some_namespaces_and_resources_are_exported_alone() {
    let (cluster, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    fill(&cluster);
    let exported = run(
        &cluster,
        store.path(),
        &["export", "-n", "shop", "-o", "json"],
    )
    .json();
    let kinds = &exported["export"]["kinds"];
    assert_eq!(kinds["namespaces"]["objects"], 1, "{kinds}");
    assert!(
        kinds
            .get("clusterroles.rbac.authorization.k8s.io")
            .is_none()
    );
    let exported = run(
        &cluster,
        store.path(),
        &["export", "--include", "events", "-o", "json"],
    )
    .json();
    assert_eq!(exported["export"]["kinds"].as_object().unwrap().len(), 1);
    assert!(
        exported["export"]["kinds"]["events"]["objects"]
            .as_u64()
            .unwrap()
            >= 1
    );
    run(&cluster, store.path(), &["import", "--backup", "nothing"]).code(4);
}
