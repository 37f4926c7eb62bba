//! What an export leaves out, and says so: what its user may not list, and what other servers hold.

use serde_json::{Value, json};

use super::run;
use crate::support::{Kubernetes, guardian, until};

fn skipped(exported: &Value) -> Vec<(String, String)> {
    let all = exported["export"]["skipped"].as_array().unwrap();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    all.iter()
        .map(|one| (text(one, "resource"), text(one, "reason")))
        .collect()
}

fn definition(cluster: &Kubernetes) {
    cluster.create(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "stars.far.example.com"},
        "spec": {"group": "far.example.com", "scope": "Namespaced", "names": {"kind": "Star", "plural": "stars", "singular": "star"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}));
}

#[test]
fn aggregated_apis_are_left_out_by_name_whether_their_server_answers_or_not() {
    let (near, far) = (Kubernetes::start(), Kubernetes::start());
    let store = tempfile::tempdir().unwrap();
    definition(&far);
    // The aggregator comes to it as nobody.
    far.kubectl(&[
        "create",
        "clusterrolebinding",
        "anybody",
        "--clusterrole=system:discovery",
        "--user=system:anonymous",
    ]);
    let config = std::fs::read_to_string(far.admin()).unwrap();
    let (_, port) = config.split_once("https://127.0.0.1:").unwrap();
    let port: u16 = port.split('\'').next().unwrap().parse().unwrap();
    near.create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "far", "namespace": "team-a"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}}));
    // The one answers; behind the other there never was a server.
    for (group, service) in [("far.example.com", "far"), ("gone.example.com", "gone")] {
        near.create(&json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("v1.{group}")},
            "spec": {"group": group, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
                "insecureSkipTLSVerify": true, "service": {"name": service, "namespace": "team-a", "port": port}}}));
    }
    let left_out = until("both are left out", || {
        let exported = run(&near, store.path(), &["export", "-o", "json"]).json();
        let all = skipped(&exported);
        let reason = |resource: &str| {
            let found = all.iter().find(|(name, _)| name == resource);
            found.map(|(_, reason)| reason.clone())
        };
        let (far, gone) = (
            reason("stars.far.example.com"),
            reason("*.gone.example.com"),
        );
        Some([far?, gone?])
    });
    for reason in left_out {
        assert!(reason.contains("aggregated API"), "{reason}");
    }
}

#[test]
fn what_may_not_be_listed_is_named_with_the_servers_words_and_an_import_says_so() {
    let (cluster, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    for (verb, resource) in [("get", "namespaces"), ("list", "configmaps")] {
        let role = format!("may-{verb}");
        let (verb, resource) = (format!("--verb={verb}"), format!("--resource={resource}"));
        cluster.kubectl(&["create", "clusterrole", &role, &verb, &resource]);
        cluster.kubectl(&[
            "create",
            "clusterrolebinding",
            &role,
            &format!("--clusterrole={role}"),
            "--serviceaccount=guardian:etcdguardian",
        ]);
    }
    let url = format!("file://{}", store.path().display());
    let kubeconfig = cluster.operator().display().to_string();
    let words = ["export", "--to", &url, "--kubeconfig", &kubeconfig];
    let exported = guardian(&[&words[..], &["-o", "json"]].concat()).json();
    let kinds = exported["export"]["kinds"].as_object().unwrap();
    assert!(kinds["configmaps"]["objects"].as_u64().unwrap() > 0);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    let skipped = skipped(&exported);
    let reason = |resource: &str| {
        let found = skipped.iter().find(|(name, _)| name == resource);
        found
            .unwrap_or_else(|| panic!("{resource}: {skipped:?}"))
            .1
            .clone()
    };
    let secrets = reason("secrets");
    assert!(
        secrets.starts_with("not allowed: ")
            && secrets.contains("cannot list resource \"secrets\""),
        "{secrets}"
    );
    assert_eq!(reason("tokenreviews.authentication.k8s.io"), "not listable");
    let planned = run(&cluster, store.path(), &["import", "--plan", "-o", "json"]).json();
    let found = planned["findings"].as_array().unwrap();
    let incomplete = found.iter().find(|one| one["code"] == "ExportIncomplete");
    let incomplete = incomplete.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(incomplete["blocks"], true);
}
