//! EtcdBackups: made, proved, refused, repeated; one that is bad holds up no other.

use super::{Site, condition};
use crate::support::{Kubernetes, until};

#[test]
fn a_backup_completes_and_its_status_tells_the_truth() {
    let site = Site::new(Kubernetes::start());
    let operator = site.operator("one", "");
    let spec = format!(
        "executor: InProcess, storageLocation: {}",
        site.storage(site.store.port)
    );
    site.backup("guardian", "daily", &spec);
    let done = site.ended("guardian", "daily");
    let status = &done["status"];
    assert_eq!(status["phase"], "Completed", "{status}");
    assert_eq!(
        status["validationResult"]["level"], "Consistent",
        "{status}"
    );
    for kind in ["Succeeded", "SnapshotTaken", "Stored", "Verified"] {
        assert!(
            condition(&done, kind).starts_with("True/"),
            "{kind}: {status}"
        );
    }
    let stored = site.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0]["runId"], status["runID"]);
    assert_eq!(stored[0]["revision"], status["etcdRevision"]);
    assert_eq!(stored[0]["backupName"], "daily");
    for reason in ["BackupStarted", "BackupCompleted"] {
        site.wait_event("guardian", "daily", reason);
    }
    let log = operator.log_text();
    assert!(log.contains("audit") && log.contains("completed"), "{log}");
    assert!(!log.contains("vgwsecret"), "no Secret in the log");
    let row = site
        .cluster
        .kubectl(&["get", "egb", "-n", "guardian", "--no-headers"]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        (cells[1], cells[2], cells[5]),
        ("Completed", "Full", "Consistent"),
        "{row}"
    );
}

#[test]
fn another_namespace_uses_its_own_things_and_none_of_the_operators() {
    let site = Site::new(Kubernetes::start());
    let operator = site.operator("one", "");
    let storage = site.storage(site.store.port);
    let etcd = site.cluster.etcd.endpoint();
    site.backup(
        "team-a",
        "no-endpoint",
        &format!("executor: InProcess, storageLocation: {storage}"),
    );
    site.backup("team-a", "no-secret", &format!("executor: InProcess, etcdEndpoints: ['{etcd}'], storageLocation: {{provider: S3, bucket: backups}}"));
    site.backup("team-a", "a-file", &format!("executor: InProcess, etcdEndpoints: ['{etcd}'], etcdAuth: {{secretName: 'operator:x'}}, storageLocation: {storage}"));
    site.backup(
        "team-a",
        "own",
        &format!("executor: InProcess, etcdEndpoints: ['{etcd}'], storageLocation: {storage}"),
    );
    for (name, reason, named) in [
        (
            "no-endpoint",
            "NotAllowed",
            "the operator's configured etcd",
        ),
        ("no-secret", "NotAllowed", "the operator's cloud identity"),
        ("a-file", "SpecInvalid", "spec.etcdAuth.secretName"),
    ] {
        let refused = site.ended("team-a", name);
        assert_eq!(refused["status"]["phase"], "Rejected", "{refused}");
        assert_eq!(condition(&refused, "Succeeded"), format!("False/{reason}"));
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(site.ended("team-a", "own")["status"]["phase"], "Completed");
    drop(operator);
    let _operator = site.operator("two", "operator: {trustedNamespaces: [team-a]}");
    site.backup(
        "team-a",
        "trusted",
        &format!("executor: InProcess, storageLocation: {storage}"),
    );
    assert_eq!(
        site.ended("team-a", "trusted")["status"]["phase"],
        "Completed"
    );
}

#[test]
fn a_bad_object_holds_up_no_other_and_says_what_to_do_next() {
    let site = Site::new(Kubernetes::start());
    let _operator = site.operator("one", "operator: {concurrency: 2}");
    let nowhere = "executor: InProcess, storageLocation: {provider: S3, bucket: backups, region: r, endpoint: 'http://127.0.0.1:9', addressing: Path, credentialsSecret: s3}";
    site.backup("guardian", "dead-store", nowhere);
    site.backup("guardian", "no-such-secret", "executor: InProcess, storageLocation: {provider: S3, bucket: b, region: r, credentialsSecret: none}");
    site.backup(
        "guardian",
        "sealed",
        &format!(
            "executor: InProcess, encryption: {{enabled: true, kmsKeyID: not-a-key}}, storageLocation: {}",
            site.storage(site.store.port)
        ),
    );
    let good = format!(
        "executor: InProcess, schedule: '@daily', storageLocation: {}",
        site.storage(site.store.port)
    );
    site.backup("guardian", "good", &good);
    let done = site.ended("guardian", "good");
    assert_eq!(done["status"]["phase"], "Completed");
    let warning = done["status"]["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("create an EtcdBackupSchedule"), "{done}");
    site.wait_event("guardian", "good", "ScheduleIgnored");
    let refused = site.ended("guardian", "sealed");
    assert_eq!(refused["status"]["phase"], "Rejected");
    assert_eq!(condition(&refused, "Succeeded"), "False/SpecInvalid");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec.encryption.kmsKeyID: 'not-a-key' names no key: write arn:"),
        "{message}"
    );
    until("the attempt without a Secret waits for another", || {
        let object = site
            .cluster
            .get("etcdbackup", "guardian", "no-such-secret")?;
        let waits = object["status"]["nextAttemptTime"].is_string();
        (waits && condition(&object, "Succeeded") == "Unknown/CredentialsInvalid").then_some(())
    });
    site.wait_event("guardian", "no-such-secret", "CredentialsInvalid");
    let described = site
        .cluster
        .kubectl(&["describe", "egb", "-n", "guardian", "sealed"]);
    for part in ["Phase:", "Rejected", "names no key: write", "SpecInvalid"] {
        assert!(described.contains(part), "{part}: {described}");
    }
}

#[test]
fn stored_data_goes_with_an_object_that_says_so() {
    let site = Site::new(Kubernetes::start());
    let _operator = site.operator("one", "");
    let spec = format!(
        "executor: InProcess, deletionPolicy: Delete, storageLocation: {}",
        site.storage(site.store.port)
    );
    for name in ["first", "second"] {
        site.backup("guardian", name, &spec);
        assert_eq!(site.ended("guardian", name)["status"]["phase"], "Completed");
    }
    site.cluster
        .kubectl(&["delete", "egb", "-n", "guardian", "first", "--timeout=60s"]);
    let names: Vec<String> = site
        .stored()
        .iter()
        .map(|m| m["backupName"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["second"]);
    site.cluster
        .kubectl(&["delete", "egb", "-n", "guardian", "second", "--timeout=60s"]);
    assert_eq!(
        site.stored().len(),
        1,
        "the last verified full backup stays"
    );
    site.wait_event("guardian", "second", "StoredBackupKept");
}
