//! `doctor` says which of its rights the operator lacks, and the chart's roles grant them all.

use serde_json::Value;

use super::roles;
use crate::support::{Kubernetes, guardian_command};

fn rights(cluster: &Kubernetes) -> Value {
    let output = guardian_command()
        .args([
            "doctor",
            "--endpoints",
            &cluster.etcd.endpoint(),
            "-o",
            "json",
        ])
        .env("KUBECONFIG", cluster.operator())
        .env("POD_NAMESPACE", "guardian")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let checks = report["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|check| check["name"] == "kubernetes rights");
    found.unwrap_or_else(|| panic!("{report}")).clone()
}

#[test]
fn doctor_names_each_right_that_is_missing_and_the_chart_grants_all() {
    let cluster = Kubernetes::start();
    let without = rights(&cluster);
    assert_eq!(without["ok"], false, "{without}");
    for right in [
        "create etcdbackups.etcdguardian.io everywhere",
        "patch etcdrestores/status.etcdguardian.io everywhere",
        "get secrets everywhere",
        "update leases.coordination.k8s.io in guardian",
    ] {
        assert!(
            without["message"].as_str().unwrap().contains(right),
            "{without}"
        );
    }
    assert!(without["fix"].as_str().unwrap().contains("rbac.create"));
    cluster.apply(&roles(&[]));
    let with = rights(&cluster);
    assert_eq!(with["state"], "ok", "{with}");
}
