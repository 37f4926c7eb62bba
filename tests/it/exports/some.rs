//! Exports of some resources and some namespaces, by flags and by `exportResources`: whole, then by what changed of these alone.

use serde_json::{Value, json};

use super::{Taken, config_map};
use crate::run::Site;
use crate::support::{Etcd, Kubernetes, guardian};

fn lease(name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "shop"}, "spec": {"holderIdentity": name}})
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": {"a": name}})
}

impl Taken {
    /// Takes an export by what changed, with more flags; the backup and what was said.
    fn changes(&self, name: &str, more: &[&str]) -> (Value, String) {
        let (url, kubeconfig) = (self.url(), self.cluster.admin().display().to_string());
        let words = ["export", name, "--mode", "incremental", "--to", &url];
        let server = ["--kubeconfig", &kubeconfig, "-o", "json"];
        let ran = guardian(&[&words[..], &server, more].concat()).code(0);
        let said = ran.stderr.clone();
        (ran.json(), said)
    }

    /// Kind and name of every object of the namespace `shop` in a backup, with all that it builds on.
    fn holds(&self, backup: &str, kinds: &[&str]) -> Vec<String> {
        let mut all = Vec::new();
        for kind in kinds {
            let words = ["object", "ls", "-k", kind, "-n", "shop", "--backup", backup];
            let listed = self.from(&[&words[..], &["-o", "json"]].concat()).json();
            let names = listed["items"].as_array().unwrap().iter();
            all.extend(names.map(|one| format!("{kind} {}", one["name"].as_str().unwrap())));
        }
        all.retain(|one| !one.contains(" c") && !one.contains("kube-root-ca.crt"));
        all.sort();
        all
    }
}

fn kinds(export: &Value) -> Vec<&str> {
    let kinds = export["export"]["kinds"].as_object().unwrap();
    kinds.keys().map(String::as_str).collect()
}

#[test]
fn chosen_resources_are_exported_by_what_changed_of_them() {
    let taken = Taken::of(Kubernetes::start());
    for object in [lease("one"), lease("two"), secret("s")] {
        taken.cluster.create(&object);
    }
    let some = [
        "--include",
        "configmaps",
        "--include",
        "leases.coordination.k8s.io",
    ];
    let (first, said) = taken.changes("first", &some);
    assert!(said.contains("no verified export to continue"), "{said}");
    assert_eq!(kinds(&first), ["configmaps", "leases.coordination.k8s.io"]);
    taken.set("c1", "new");
    taken.delete("lease", "one");
    taken.delete("configmap", "c2");
    for object in [lease("three"), config_map("new", "1"), secret("t")] {
        taken.cluster.create(&object);
    }
    // What is asked for is the same, in whatever order.
    let turned = [some[2], some[3], some[0], some[1]];
    let (second, said) = taken.changes("second", &turned);
    assert_eq!(second["backup"]["base"], first["backup"]["id"], "{said}");
    let held = taken.holds("second", &["lease", "cm", "secret"]);
    assert_eq!(held, ["cm new", "lease three", "lease two"]);
    assert_eq!(second["export"]["kinds"]["configmaps"]["objects"], 2);
    let deleted = &second["export"]["deleted"];
    assert_eq!(deleted["configmaps"][0]["name"], "c2", "{deleted}");

    // Something else is asked for: nothing that is there tells what changed of it.
    let (other, said) = taken.changes("other", &["--include", "configmaps"]);
    assert_eq!(other["backup"]["base"], Value::Null);
    assert!(said.contains("was asked for other resources"), "{said}");
    let more = [
        "--add",
        "leases.coordination.k8s.io",
        "--exclude",
        "secrets",
    ];
    let (whole, _) = taken.changes("more", &more);
    assert!(kinds(&whole).contains(&"leases.coordination.k8s.io"));
    assert!(kinds(&whole).contains(&"namespaces"));
    assert!(!kinds(&whole).contains(&"secrets") && !kinds(&whole).contains(&"events"));
    taken.delete("lease", "two");
    taken.cluster.create(&secret("u"));
    let (next, _) = taken.changes("next", &more);
    assert_eq!(next["backup"]["base"], whole["backup"]["id"]);
    let held = taken.holds("next", &["lease", "cm", "secret"]);
    assert_eq!(held, ["cm new", "lease three"]);

    // And back: what was created, changed and deleted, and nothing of the rest.
    let new = Kubernetes::start();
    new.kubectl(&["create", "namespace", "shop"]);
    let kubeconfig = new.admin().display().to_string();
    let words = ["import", "--backup", "second", "--yes", "--kubeconfig"];
    taken.from(&[&words[..], &[&kubeconfig]].concat()).ok();
    let there = |kind: &str, name: &str| new.get(kind, "shop", name);
    assert_eq!(there("configmap", "c1").unwrap()["data"]["v"], "new");
    assert_eq!(there("configmap", "c3").unwrap()["data"]["v"], "old");
    assert_eq!(there("configmap", "new").unwrap()["data"]["v"], "1");
    assert_eq!(there("configmap", "c2"), None);
    for (name, is) in [("one", false), ("two", true), ("three", true)] {
        assert_eq!(there("lease", name).is_some(), is, "lease {name}");
    }
    assert_eq!(there("secret", "s"), None);
}

#[test]
fn a_namespace_alone_is_exported_by_what_changed_in_it() {
    let taken = Taken::of(Kubernetes::start());
    let (first, _) = taken.changes("first", &["-n", "shop"]);
    let cluster = &taken.cluster;
    let words = ["create", "configmap", "elsewhere", "-n", "guardian"];
    cluster.kubectl(&words);
    taken.set("c1", "new");
    taken.delete("configmap", "c2");
    taken.delete("fern", "one");
    // The last write of all: of a kind whose last change is elsewhere a server says no version, and it would be listed anew.
    cluster.kubectl(&["label", "namespace", "shop", "tier=gold"]);
    let (second, said) = taken.changes("second", &["-n", "shop"]);
    assert_eq!(second["backup"]["base"], first["backup"]["id"], "{said}");
    let counted = |resource: &str| second["export"]["kinds"][resource]["objects"].clone();
    assert_eq!(counted("configmaps"), 1, "{second}");
    assert_eq!(counted("namespaces"), 1, "{second}");
    let differ = taken.differs("first", "second");
    let mut differ: Vec<String> = differ
        .iter()
        .map(|one| format!("{} {}", one["change"], one["name"]))
        .collect();
    differ.sort();
    let expected = [
        r#""changed" "c1""#,
        r#""changed" "shop""#,
        r#""deleted" "c2""#,
        r#""deleted" "one""#,
    ];
    assert_eq!(differ, expected);
    let words = ["object", "get", "shop", "-k", "ns", "--backup", "second"];
    let shop = taken.from(&[&words[..], &["-o", "json"]].concat()).json();
    assert_eq!(shop["metadata"]["labels"]["tier"], "gold");
}

#[test]
fn export_resources_of_a_schedule_choose_what_its_exports_hold() {
    let (taken, etcd) = (Taken::of(Kubernetes::start()), Etcd::start("3.6"));
    taken.cluster.create(&secret("s"));
    let site = Site::new(&etcd, "");
    site.schedule("managed", &site.local(), "");
    let file = site.path("manifests/managed.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let write = |resources: &str| {
        let spec = format!(
            "backupMode: Incremental\n      source: Proxy\n      exportResources: {resources}"
        );
        std::fs::write(&file, text.replace("backupMode: Full", &spec)).unwrap();
    };
    let config = site.config().display().to_string();
    let kubeconfig = taken.cluster.admin().display().to_string();
    let create = |name: &str| {
        let words = ["backup", "create", name, "--from-schedule", "managed"];
        let more = [
            "--config",
            &config,
            "--kubeconfig",
            &kubeconfig,
            "-o",
            "json",
        ];
        guardian(&[&words[..], &more].concat())
    };
    let held = |backup: &str, kind: &str| {
        let url = site.url();
        let words = [
            "object", "ls", "-k", kind, "--backup", backup, "--from", &url,
        ];
        let listed = guardian(&[&words[..], &["-o", "json"]].concat()).json();
        listed["items"].as_array().unwrap().len()
    };
    write("{include: [configmaps]}");
    let first = create("first").json();
    taken.set("c1", "new");
    taken.delete("configmap", "c2");
    let second = create("second").json();
    assert_eq!(second["base"], first["id"], "{second}");
    assert_eq!(held("first", "cm"), held("second", "cm") + 1);
    assert_eq!((held("second", "secret"), held("second", "ns")), (0, 0));
    write("{exclude: [secrets], add: [events]}");
    let third = create("third").json();
    assert_eq!(third["base"], Value::Null, "{third}");
    assert_eq!(held("third", "secret"), 0);
    assert!(held("third", "ns") > 0);
    write("{include: [configmaps], add: [events]}");
    let wrong = create("wrong").code(4);
    assert!(wrong.stderr.contains("exportResources"), "{}", wrong.stderr);
}
