//! The resources in the API server: every sample applies, and every rule is refused in words that name the field.

use serde_json::Value;

use super::{Site, condition};
use crate::support::{Kubernetes, repository, until};

#[test]
fn every_sample_of_the_founding_documents_applies_unchanged() {
    let cluster = Kubernetes::start();
    let samples = repository("tests/samples/founding.yaml");
    let said = cluster.kubectl(&["apply", "-f", samples.to_str().unwrap()]);
    assert_eq!(said.matches("created").count(), 5, "{said}");
    let more = [
        "storageLocation: {provider: S3, bucket: b, region: r, endpoint: 'https://minio.example.com', credentialsSecret: c}",
        "storageLocation: {provider: S3, bucket: b}, encryption: {enabled: true, kmsKeyID: 'arn:aws:kms:us-east-1:1:key/k'}",
        "storageLocation: {provider: OSS, bucket: b}, encryption: {enabled: true, kmsKeyID: 'acs:kms:cn-hangzhou:1:key/k'}",
        "storageLocation: {provider: S3, bucket: b}, encryption: {enabled: true, encryptionSecret: my-encryption-key}",
    ];
    for (index, spec) in more.iter().enumerate() {
        cluster.apply(&object(
            "EtcdBackup",
            &format!("shape-{index}"),
            &format!("backupMode: Full, {spec}"),
        ));
    }
    for name in ["egb", "etcdbkp", "egr", "egs", "etcdguardian"] {
        cluster.kubectl(&["get", name, "-A"]);
    }
    let columns = cluster.kubectl(&["get", "egs", "-n", "guardian"]);
    let heads: Vec<&str> = columns.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        heads,
        [
            "NAME", "SCHEDULE", "AI", "SOURCE", "LAST", "NEXT", "READY", "AGE"
        ]
    );
    let defaults = cluster
        .get("etcdbackup", "etcd-guardian-system", "daily-backup")
        .unwrap();
    for (field, default) in [
        ("serviceAccountName", "default"),
        ("source", "Auto"),
        ("compression", "Zstd"),
        ("deletionPolicy", "Retain"),
        ("executor", "Job"),
    ] {
        assert_eq!(
            defaults["spec"][field], default,
            "{field}: defaults live in the schema"
        );
    }
}

#[test]
fn the_api_server_refuses_what_breaks_a_rule_and_says_which() {
    let cluster = Kubernetes::start();
    let store = "storageLocation: {provider: S3, bucket: b}";
    let wrong = [
        (
            "EtcdBackup",
            format!("backupMode: Full, {store}, encryption: {{enabled: true}}"),
            "exactly one of kmsKeyID and encryptionSecret",
        ),
        (
            "EtcdBackup",
            format!("backupMode: Half, {store}"),
            "supported values: \"Full\", \"Incremental\"",
        ),
        (
            "EtcdBackup",
            "backupMode: Full".to_owned(),
            "storageLocation",
        ),
        (
            "EtcdBackup",
            format!("backupMode: Full, {store}, activeDeadlineSeconds: 0"),
            "greater than or equal to 1",
        ),
        (
            "EtcdRestore",
            "restoreMode: Full".to_owned(),
            "exactly one of backupName and snapshotLocation",
        ),
        (
            "EtcdRestore",
            "restoreMode: PointInTime, backupName: b".to_owned(),
            "exactly one of targetRevision and targetTime",
        ),
        (
            "EtcdRestore",
            "restoreMode: Full, backupName: b, targetRevision: 7".to_owned(),
            "targetRevision and targetTime go with restoreMode PointInTime",
        ),
        (
            "EtcdRestore",
            "restoreMode: Full, backupName: b, etcdCluster: {members: [{name: m, peerURL: u, nodeName: node-1, podName: m-0}]}".to_owned(),
            "by nodeName or by podName, not by both",
        ),
    ];
    for (kind, spec, named) in wrong {
        let (ok, said) = cluster.try_apply(&object(kind, "wrong", &spec));
        assert!(!ok && said.contains(named), "{kind} {spec}: {said}");
    }
    cluster.apply(&object(
        "EtcdBackup",
        "fixed",
        &format!("backupMode: Full, {store}"),
    ));
    let (ok, said) = cluster.try_apply(&object(
        "EtcdBackup",
        "fixed",
        &format!("backupMode: Incremental, {store}"),
    ));
    assert!(
        !ok && said.contains("spec is immutable: create a new EtcdBackup instead"),
        "{said}"
    );
}

/// As API servers before 1.25: the rules are not checked.
pub fn without_cel(cluster: &Kubernetes) {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("x-kubernetes-validations");
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let text = cluster.kubectl(&["get", "crd", "-o", "json"]);
    let mut all: Value = serde_json::from_str(&text).unwrap();
    strip(&mut all);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crds.json");
    std::fs::write(&file, all.to_string()).unwrap();
    cluster.kubectl(&["replace", "-f", file.to_str().unwrap()]);
}

#[test]
fn the_operator_repeats_every_rule_where_the_api_server_knows_none() {
    let site = Site::new(Kubernetes::start());
    let cluster = &site.cluster;
    without_cel(cluster);
    let taken = |kind: &str, name: &str, spec: &str| {
        until("the API server has forgotten the rules", || {
            cluster.try_apply(&object(kind, name, spec)).0.then_some(())
        });
    };
    let _operator = site.operator("one", "");
    let store = "storageLocation: {provider: S3, bucket: b, region: r, credentialsSecret: none}";
    let own = "etcdEndpoints: ['http://127.0.0.1:1']";
    let encryption = "encryption: {enabled: true}";
    let full = format!("backupMode: Full, {own}, {store}");
    let template = format!("backupTemplate: {{spec: {{{full}, {encryption}}}}}");
    let cluster_of = "etcdCluster: {statefulSet: {name: etcd}}";
    for (kind, name, spec, named) in [
        (
            "EtcdBackup",
            "sealed",
            format!("{full}, {encryption}"),
            "spec.encryption: enabled needs exactly one",
        ),
        (
            "EtcdBackupSchedule",
            "sealed",
            format!("schedule: '@daily', {template}"),
            "spec.backupTemplate.spec.encryption: enabled needs exactly one",
        ),
        (
            "EtcdRestore",
            "sealed",
            format!("restoreMode: Full, backupName: b, {cluster_of}, {encryption}"),
            "spec.encryption: enabled needs exactly one",
        ),
        (
            "EtcdRestore",
            "sourceless",
            format!("restoreMode: Full, {cluster_of}"),
            "exactly one of backupName and snapshotLocation",
        ),
        (
            "EtcdRestore",
            "pointless",
            format!("restoreMode: PointInTime, backupName: b, {cluster_of}"),
            "exactly one of targetRevision and targetTime",
        ),
        (
            "EtcdRestore",
            "aimless",
            format!("restoreMode: Full, targetRevision: 7, backupName: b, {cluster_of}"),
            "spec.targetRevision: goes with restoreMode PointInTime",
        ),
    ] {
        taken(kind, name, &spec);
        let refused = cluster.wait_phase(kind, "team-a", name, &["Rejected", "Failed"]);
        let succeeded = if kind == "EtcdBackupSchedule" {
            "Ready"
        } else {
            "Succeeded"
        };
        assert_eq!(condition(&refused, succeeded), "False/SpecInvalid");
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{kind} {name}: {message}");
    }
    // Between two attempts.
    taken("EtcdBackup", "changed", &full);
    until("the first attempt", || {
        let object = cluster.get("egb", "team-a", "changed")?;
        object["status"]["nextAttemptTime"]
            .is_string()
            .then_some(())
    });
    taken(
        "EtcdBackup",
        "changed",
        &full.replace("Full", "Incremental"),
    );
    let refused = cluster.wait_phase("egb", "team-a", "changed", &["Rejected"]);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec: is immutable: create a new EtcdBackup"),
        "{message}"
    );
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: team-a}}\nspec: {{{spec}}}\n"
    )
}
