//! `object ls|get|restore`: objects as a real kube-apiserver stored them, out of snapshots and chains, and back into the server.

mod stored;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::backup::Desk;
use crate::run::Site;
use crate::support::{Etcd, Kubernetes, Ran, dense, guardian, tool, until};

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "shop"}},
        "data": {"answer": value, "switch": "off", "lines": "a\nb: c\n", "octal": "0755", "empty": ""}})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "example.com/web:1", "ports": [{"containerPort": 8080}],
                "resources": {"limits": {"memory": "128Mi", "cpu": "500m"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}]}}}})
}

/// Fills a cluster with a namespace `shop` and objects of several kinds in it.
fn shop(cluster: &Kubernetes) {
    cluster.kubectl(&["create", "namespace", "shop"]);
    let create = |mut object: Value| {
        object["metadata"]["namespace"] = "shop".into();
        cluster.create(&object);
    };
    create(config_map("settings", "42"));
    create(deployment());
    create(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"password": "aHVudGVyMg=="}}),
    );
    create(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
    );
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "cacti.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Cactus", "plural": "cacti", "singular": "cactus", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {"height": {"type": "integer"}}}}}}}]}});
    cluster.create(&definition);
    let cactus = json!({"apiVersion": "example.com/v1", "kind": "Cactus", "metadata": {"name": "saguaro", "namespace": "shop"},
        "spec": {"height": 12}});
    until("the new kind is served", || {
        cluster.try_create(&cactus).0.then_some(())
    });
}

/// A snapshot file of the server's etcd.
struct Snapshot(tempfile::TempDir);

impl Snapshot {
    fn of(etcd: &Etcd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("snapshot.db");
        etcd.ctl(&["snapshot", "save", file.to_str().unwrap()]);
        Self(folder)
    }

    fn object(&self, words: &[&str]) -> Ran {
        let file = self.0.path().join("snapshot.db").display().to_string();
        let mut all = vec!["object"];
        all.extend(words);
        all.extend(["--snapshot", &file]);
        guardian(&all)
    }
}

/// Without what differs between two lives of one object.
fn essence(mut object: Value) -> Value {
    object["status"].take();
    let meta = object["metadata"].as_object_mut().unwrap();
    meta.retain(|name, _| ["name", "namespace", "labels"].contains(&name.as_str()));
    object
}

#[test]
fn objects_of_a_real_server_come_out_of_a_snapshot_and_go_back() {
    let cluster = Kubernetes::start();
    shop(&cluster);
    let objects = [
        ("configmap", "settings"),
        ("deploy", "web"),
        ("secrets", "db"),
        ("ct", "saguaro"),
        ("Service", "web"),
    ];
    let there = |kind: &str, name: &str| cluster.get(kind, "shop", name);
    let live: Vec<Value> = objects
        .iter()
        .map(|(kind, name)| there(kind, name).unwrap())
        .collect();
    let taken = Snapshot::of(&cluster.etcd);

    let all = taken.object(&["ls", "-o", "json"]).json();
    assert_eq!(all["others"], json!([]), "every value is an object");
    let items = all["items"].as_array().unwrap();
    let kinds: BTreeSet<&str> = items
        .iter()
        .map(|item| item["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.len() > 12, "{kinds:?}");
    for ((kind, name), live) in objects.iter().zip(&live) {
        let words = ["get", name, "-k", kind, "-n", "shop"];
        // What is stored is what the server answers.
        let raw = [&words[..], &["--raw", "-o", "json"]].concat();
        let mut raw = taken.object(&raw).json();
        raw["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(dense(raw), dense(live.clone()), "{kind}");
        let text = taken.object(&words).ok();
        for word in ["uid:", "resourceVersion:", "managedFields", "status:"] {
            assert!(!text.contains(word), "{text}");
        }
    }

    for (kind, name) in objects {
        cluster.kubectl(&["delete", kind, "-n", "shop", name]);
    }
    let kubeconfig = cluster.admin().display().to_string();
    for ((kind, name), before) in objects.into_iter().zip(live) {
        let words = [
            "restore",
            name,
            "-k",
            kind,
            "-n",
            "shop",
            "--kubeconfig",
            &kubeconfig,
        ];
        let with = |more: &'static str| taken.object(&[&words[..], &[more]].concat());
        let plan = with("--plan").ok();
        assert!(plan.contains("create"), "{plan}");
        let asked = taken.object(&words).code(5);
        assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
        assert_eq!(
            there(kind, name),
            None,
            "neither a plan nor a question changes anything"
        );
        with("--yes").ok();
        let (mut now, mut before) = (essence(there(kind, name).unwrap()), essence(before));
        if kind == "Service" {
            for object in [&mut now, &mut before] {
                assert_ne!(object["spec"]["ports"][0]["nodePort"].take(), Value::Null);
                object["spec"]["clusterIP"].take();
                object["spec"]["clusterIPs"].take();
            }
        }
        assert_eq!(now, before);
        let again = with("--plan").ok();
        assert!(again.contains("unchanged"), "{again}");
    }
}

#[test]
fn yaml_that_is_printed_is_what_was_stored() {
    let etcd = Etcd::start("3.6");
    let tricky = json!({"y": "y", "yes": "yes", "null": "null", "number": "1e3", "time": "2001-01-01", "colon": "a: b",
        "hash": "a #b", "star": "*x", "tab": "\t", "quote": "'\"", "end": "x\n\n", "space": " x ", "dash": "- a",
        "unicode": "é\u{1f980}", "tilde": "~", "on": "on", "sexagesimal": "12:30:45", "hex": "0x1F", "under": "1_000",
        "lines": "a\n  b\n\nc", "leading": "\n x", "octal": "0755", "empty": "", "brace": "{a: b}"});
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tricky"}, "data": tricky});
    etcd.ctl(&[
        "put",
        "/registry/configmaps/shop/tricky",
        &object.to_string(),
    ]);
    let text = Snapshot::of(&etcd).object(&["get", "tricky"]).ok();
    // kubectl reads YAML 1.1, in which more words are no text.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.yaml");
    std::fs::write(&file, &text).unwrap();
    let read = std::process::Command::new(tool("kubectl"))
        .args(["annotate", "--local", "-o", "json", "checked=yes", "-f"])
        .arg(&file)
        .arg("--kubeconfig=/dev/null")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    let read: Value =
        serde_json::from_slice(&read.stdout).unwrap_or_else(|_| panic!("{said}\n{text}"));
    assert_eq!(read["data"], tricky, "{text}");
}

#[test]
fn a_deleted_object_comes_back_by_one_command_and_conflicts_are_said() {
    let cluster = Kubernetes::start();
    shop(&cluster);
    let answer = |namespace: &str| {
        let object = cluster.get("configmap", namespace, "settings").unwrap();
        object["data"]["answer"].as_str().unwrap().to_owned()
    };
    let set = |value: &str| {
        let patch = json!({"data": {"answer": value}}).to_string();
        cluster.merge("configmap", "shop", "settings", &patch);
    };
    set("43");
    cluster.kubectl(&["delete", "configmap", "-n", "shop", "settings"]);
    let taken = Snapshot::of(&cluster.etcd);
    let missing = taken.object(&["get", "settings", "-n", "shop"]).code(4);
    assert!(missing.stderr.contains("--deleted"), "{}", missing.stderr);
    let kubeconfig = cluster.admin().display().to_string();
    let words = [
        "restore",
        "settings",
        "--deleted",
        "-n",
        "shop",
        "--kubeconfig",
        &kubeconfig,
        "--yes",
    ];
    taken.object(&words).ok();
    assert_eq!(answer("shop"), "43", "as it last was");

    // Somebody else changes it; the plan names the field, and only --force-conflicts takes it over.
    set("44");
    let refused = taken.object(&words).code(5);
    assert!(
        refused.stderr.contains("--force-conflicts"),
        "{}",
        refused.stderr
    );
    assert_eq!(answer("shop"), "44");
    let said = taken.object(&[&words[..], &["--force-conflicts"]].concat());
    assert!(said.stderr.contains("data.answer"), "{}", said.stderr);
    said.ok();
    assert_eq!(answer("shop"), "43");

    // Into a namespace that is not there yet.
    let elsewhere = [
        "restore",
        "-k",
        "cm",
        "settings",
        "--deleted",
        "--into-namespace",
        "drill",
        "--kubeconfig",
        &kubeconfig,
        "--yes",
    ];
    let refused = taken.object(&elsewhere).code(5);
    assert!(
        refused.stderr.contains("--create-namespace"),
        "{}",
        refused.stderr
    );
    taken
        .object(&[&elsewhere[..], &["--create-namespace"]].concat())
        .ok();
    assert_eq!(answer("drill"), "43");
}

/// An etcd with one object in a form that needs no server, which changes at each call.
fn put(etcd: &Etcd, value: &str) {
    let mut object = config_map("settings", value);
    object["metadata"]["namespace"] = "shop".into();
    etcd.ctl(&[
        "put",
        "/registry/configmaps/shop/settings",
        &object.to_string(),
    ]);
}

#[test]
fn a_moment_chooses_the_backup_and_says_when_nothing_was_recorded() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    put(&etcd, "first");
    let first = desk.create();
    etcd.ctl(&["del", "/registry/configmaps/shop/settings"]);
    etcd.ctl(&["compaction", &etcd.revision().to_string(), "--physical"]);
    let second = desk.create();
    let get = |more: &[&str]| {
        desk.run(
            &[
                &["object", "get", "settings", "-n", "shop", "-o", "json"],
                more,
            ]
            .concat(),
        )
    };
    get(&[]).code(4);
    get(&["--deleted"]).code(4);
    let at = second["time"].as_str().unwrap();
    let between = at.parse::<jiff::Timestamp>().unwrap() - jiff::SignedDuration::from_millis(1);
    let found = get(&["--at", &between.to_string()]);
    assert!(
        found.stderr.contains(first["id"].as_str().unwrap()),
        "{}",
        found.stderr
    );
    assert_eq!(found.json()["data"]["answer"], "first");
    get(&["--at", "2001-01-01T00:00:00Z"]).code(4);
    get(&["--backup", first["id"].as_str().unwrap()]).ok();
}

#[test]
fn an_object_comes_out_of_a_chain_at_any_revision() {
    let etcd = Etcd::start("3.6");
    let site = Site::new(&etcd, "");
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: chain}}\nspec:\n  schedule: '0 0 1 1 *'\n  immediate: true\n  backupTemplate:\n    spec:\n      backupMode: Incremental\n      storageLocation: {}\n",
        site.local()
    );
    std::fs::write(site.path("manifests/chain.yaml"), text).unwrap();
    put(&etcd, "base");
    let _running = site.start();
    site.wait_for_backups(&site.url(), 1);
    put(&etcd, "changed");
    let changed = etcd.revision();
    etcd.ctl(&["del", "/registry/configmaps/shop/settings"]);
    site.guardian(&["schedule", "trigger", "chain"]).ok();
    let backups = site.wait_for_backups(&site.url(), 2);
    assert!(
        backups.iter().any(|one| one["kind"] == "Increment"),
        "{backups:?}"
    );
    let url = site.url();
    let answer = |more: &[&str]| {
        let words = ["object", "get", "settings", "--from", &url, "-o", "json"];
        guardian(&[&words[..], more].concat())
    };
    assert_eq!(answer(&["--deleted"]).json()["data"]["answer"], "changed");
    let revision = (changed - 1).to_string();
    assert_eq!(
        answer(&["--to-revision", &revision]).json()["data"]["answer"],
        "base"
    );
    answer(&[]).code(4);
}

#[test]
fn an_owner_that_is_there_gets_its_object_back_and_cbor_is_read() {
    // An alpha feature of the server's: custom resources as CBOR.
    let cluster = Kubernetes::with_flags(&["--feature-gates=CBORServingAndStorage=true"]);
    shop(&cluster);
    let owner = cluster.get("deployment", "shop", "web").unwrap();
    let mut owned = config_map("owned", "1");
    owned["metadata"]["namespace"] = "shop".into();
    owned["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": owner["metadata"]["uid"]},
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gone", "uid": "11111111-2222-3333-4444-555555555555"}]);
    cluster.create(&owned);
    let taken = Snapshot::of(&cluster.etcd);
    let raw = cluster.etcd.ctl(&[
        "get",
        "/registry/example.com/cacti/shop/saguaro",
        "-w",
        "json",
    ]);
    let raw: Value = serde_json::from_str(&raw).unwrap();
    // `2dn3` is base64 of the first three bytes of CBOR's own mark.
    assert!(
        raw["kvs"][0]["value"].as_str().unwrap().starts_with("2dn3"),
        "stored as CBOR: {raw}"
    );
    let cactus = taken
        .object(&["get", "saguaro", "-k", "ct", "-n", "shop", "-o", "json"])
        .json();
    assert_eq!(cactus["spec"], json!({"height": 12}), "{cactus}");

    // What the cluster that it is restored into must fit.
    let (file, data) = (
        taken.0.path().join("snapshot.db"),
        taken.0.path().join("data"),
    );
    let [file, data] = [file, data].map(|path| path.display().to_string());
    let planned = guardian(&[
        "restore",
        "--snapshot",
        &file,
        "--data-dir",
        &data,
        "--plan",
    ])
    .ok();
    assert!(
        planned.contains("services have addresses of 10.96.0.0/24"),
        "{planned}"
    );

    cluster.kubectl(&["delete", "configmap", "-n", "shop", "owned"]);
    let kubeconfig = cluster.admin().display().to_string();
    let words = [
        "restore",
        "owned",
        "-k",
        "cm",
        "-n",
        "shop",
        "--yes",
        "--kubeconfig",
        &kubeconfig,
    ];
    let restored = taken.object(&words);
    let said = format!("{}{}", restored.stderr, restored.stdout);
    restored.ok();
    let back = cluster.get("configmap", "shop", "owned").unwrap();
    let owners = back["metadata"]["ownerReferences"].as_array().unwrap();
    assert_eq!(owners.len(), 1, "{back}");
    assert_eq!(owners[0]["uid"], owner["metadata"]["uid"]);
    assert!(
        said.contains("Deployment gone is left out")
            && !said.contains("Deployment web is left out"),
        "{said}"
    );
}
