//! `export` and `import`: the objects of a real kube-apiserver into a store, and into an empty one.

mod limits;
pub mod many;

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
    let versions: Vec<Value> = ["v1", "v1beta1", "v1alpha1"]
        .iter()
        .map(|name| {
            json!({"name": name, "served": true, "storage": *name == "v1", "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {"height": {"type": "integer"}}}}}}})
        })
        .collect();
    cluster.create(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "cacti.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Cactus", "plural": "cacti", "singular": "cactus"},
            "versions": versions}}));
    let cactus = json!({"apiVersion": "example.com/v1", "kind": "Cactus", "metadata": {"name": "saguaro", "namespace": "shop"},
        "spec": {"height": 12}});
    until("the new kind is served", || {
        cluster.try_create(&cactus).0.then_some(())
    });
    let owner = cluster.get("cactus", "shop", "saguaro").unwrap();
    for (name, controller) in [("kept", false), ("controlled", true)] {
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
    let address = |cluster: &Kubernetes| {
        let service = cluster.get("service", "shop", "web").unwrap();
        service["spec"]["clusterIP"].clone()
    };
    let had = address(&old);
    drop(old);

    let new = Kubernetes::start();
    let planned = run(&new, store.path(), &["import", "--plan", "-o", "json"]).json();
    let found = planned["findings"].as_array().unwrap();
    let codes: Vec<&Value> = found.iter().map(|one| &one["code"]).collect();
    assert_eq!(
        codes,
        ["DefinitionMissing"],
        "two clusters of one kind: {found:?}"
    );
    assert!(
        found[0]["message"]
            .to_string()
            .contains("cacti.example.com")
    );
    assert!(planned["items"].as_array().unwrap().len() > 600);
    assert_eq!(planned["madeAgain"], 0, "{planned}");
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
    // What a controller of its own kind owns may hold what only that knows.
    for name in ["kept", "controlled"] {
        let kept = new.get("secret", "shop", name).unwrap();
        assert_eq!(
            kept["metadata"]["ownerReferences"][0]["uid"], owner["metadata"]["uid"],
            "linked to the new owner"
        );
    }
    assert_eq!(new.get("event", "shop", "e"), None);

    // A second run finds nothing to do; what differs stays unless told.
    let number = || {
        new.get("configmap", "shop", "c7").unwrap()["data"]["n"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    new.merge("configmap", "shop", "c7", r#"{"data":{"n":"changed"}}"#);
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
    // Addresses are the cluster's to give, unless they are to be kept.
    new.kubectl(&["delete", "service", "-n", "shop", "web"]);
    run(&new, store.path(), &["import", "--yes", "--keep-addresses"]).ok();
    assert_eq!(address(&new), had);
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

#[test]
fn backup_create_exports_where_no_etcd_is_named_and_objects_come_out_of_the_bundle() {
    let (cluster, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    fill(&cluster);
    let url = format!("file://{}", store.path().display());
    let kubeconfig = cluster.admin().display().to_string();
    let create = |name: &str, more: &[&str]| {
        let words = [
            "backup",
            "create",
            name,
            "--to",
            &url,
            "--kubeconfig",
            &kubeconfig,
            "-o",
            "json",
        ];
        guardian(&[&words[..], more].concat())
    };
    let first = create("first", &[]).json();
    assert_eq!(
        (&first["kind"], &first["level"]),
        (&json!("Export"), &json!("Verified")),
        "{first}"
    );
    let asked = create("asked", &["--source", "direct"]).code(5);
    assert!(
        asked.stderr.contains("no endpoint is named"),
        "{}",
        asked.stderr
    );

    cluster.kubectl(&["delete", "configmap", "-n", "shop", "c1"]);
    cluster.merge("cactus", "shop", "saguaro", r#"{"spec":{"height":13}}"#);
    cluster.create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new", "namespace": "shop"}}));
    create("second", &["--source", "proxy"]).ok();
    let object = |words: &[&str]| guardian(&[&["object"], words, &["--from", &url]].concat());
    let listed = object(&["ls", "-n", "shop", "-k", "cacti", "-o", "json"]).json();
    assert_eq!(listed["items"][0]["name"], "saguaro", "{listed}");
    let before = object(&[
        "get", "saguaro", "-k", "Cactus", "--backup", "first", "-o", "json",
    ])
    .json();
    assert_eq!(before["spec"]["height"], 12);
    let differs = object(&["diff", "first", "second", "-n", "shop", "-o", "json"]).json();
    let items = differs["items"].as_array().unwrap();
    let change = |name: &str| {
        items
            .iter()
            .find(|item| item["name"] == name)
            .unwrap_or_else(|| panic!("{differs}"))
    };
    assert_eq!(change("new")["change"], "created");
    assert_eq!(change("c1")["change"], "deleted");
    assert_eq!(change("saguaro")["fields"], json!(["spec.height"]));
    assert_eq!(items.len(), 3, "{differs}");
    object(&[
        "restore",
        "c1",
        "-k",
        "cm",
        "-n",
        "shop",
        "--backup",
        "first",
        "--yes",
        "--kubeconfig",
        &kubeconfig,
    ])
    .ok();
    assert_eq!(
        cluster.get("configmap", "shop", "c1").unwrap()["data"]["n"],
        "1"
    );
    object(&[
        "restore",
        "c1",
        "-k",
        "cm",
        "-n",
        "shop",
        "--to-revision",
        "5",
        "--plan",
        "--kubeconfig",
        &kubeconfig,
    ])
    .code(5);
}

#[test]
fn what_is_served_in_another_version_only_is_imported_in_that() {
    let (old, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    fill(&old);
    run(
        &old,
        store.path(),
        &["export", "-n", "shop", "--include", "cacti.example.com"],
    )
    .ok();
    drop(old);
    let new = Kubernetes::start();
    new.kubectl(&["create", "namespace", "shop"]);
    let definition = |name: &str, field: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "cacti.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Cactus", "plural": "cacti", "singular": "cactus"},
                "versions": [{"name": name, "served": true, "storage": true, "schema": {"openAPIV3Schema":
                    {"type": "object", "properties": {"spec": {"type": "object", "properties": {field: {"type": "integer"}}}}}}}]}})
    };
    let missing = run(&new, store.path(), &["import", "--plan", "-o", "json"]).json();
    assert_eq!(missing["findings"][0]["code"], "KindNotServed", "{missing}");
    assert_eq!(missing["findings"][0]["blocks"], true);
    // Another version, whose fields are others: the server says so, and nothing is lost silently.
    new.create(&definition("v2", "girth"));
    let planned = until("v2 is served", || {
        let planned = run(&new, store.path(), &["import", "--plan", "-o", "json"]).json();
        (planned["items"][0]["action"] == "refused").then_some(planned)
    });
    assert!(
        planned["items"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("height"),
        "{planned}"
    );
    new.kubectl(&["delete", "crd", "cacti.example.com"]);
    until("the definition is gone", || {
        new.get("crd", "", "cacti.example.com")
            .is_none()
            .then_some(())
    });
    new.create(&definition("v2", "height"));
    let planned = until("v2 is served again", || {
        let planned = run(&new, store.path(), &["import", "--plan", "-o", "json"]).json();
        (planned["items"][0]["action"] == "create").then_some(planned)
    });
    assert!(
        planned["items"][0]["notes"]
            .to_string()
            .contains("applied as example.com/v2"),
        "{planned}"
    );
    let found = &planned["findings"][0];
    assert_eq!(found["code"], "VersionNotServed", "{planned}");
    assert!(
        found["message"]
            .to_string()
            .contains("1 objects are of example.com/v1 Cactus"),
        "{found}"
    );
    run(&new, store.path(), &["import", "--yes"]).ok();
    assert_eq!(
        new.get("cactus", "shop", "saguaro").unwrap()["spec"]["height"],
        12
    );
}
