//! The resources in the API server: every sample applies, and every rule is refused in words that name the field.

use crate::support::{Kubernetes, repository};

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
    assert_eq!(
        defaults["spec"]["serviceAccountName"], "default",
        "defaults live in the schema"
    );
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

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: team-a}}\nspec: {{{spec}}}\n"
    )
}
