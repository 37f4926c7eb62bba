//! What is decided about EtcdBackups: YAML and what was seen in, steps out.
#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};

use super::plan::{Seen, Step, Stored, Work, awaits, decide, made_here, warning};
use super::status::Draft;
use crate::api::{EtcdBackup, validate_backup};
use crate::operator::job::{Purpose, job_of};
use crate::operator::report::{Finished, Outcome};
use crate::operator::secrets::foreign_names;
use crate::operator::work::Handed;
use crate::pipeline::Part;

const NOW: &str = "2026-11-20T09:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn backup(spec: &str, rest: &str) -> EtcdBackup {
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: b, namespace: team, uid: u{rest}\nspec: {{backupMode: Full, {spec}}}\n"
    );
    serde_saphyr::from_str(&text).unwrap()
}

const OWN: &str = "etcdEndpoints: ['https://e:2379'], storageLocation: {provider: S3, bucket: b, credentialsSecret: s}";

fn pending() -> EtcdBackup {
    backup(OWN, "}")
}

fn running(attempts: i64, labels: &str) -> EtcdBackup {
    backup(
        OWN,
        &format!("{labels}}}\nstatus: {{phase: Running, runID: r, attempts: {attempts}}}"),
    )
}

fn seen(backup: &EtcdBackup, work: Work, stored: Stored) -> Seen<'_> {
    let mut problems = validate_backup(backup);
    problems.extend(foreign_names(&backup.spec, "spec"));
    Seen {
        backup,
        problems,
        trusted: false,
        operator_namespace: "guardian",
        work,
        stored,
    }
}

fn failed(reason: &str) -> Work {
    Work::Ended(Outcome::Failed {
        reason: reason.to_owned(),
        message: "no".to_owned(),
    })
}

fn lost() -> Work {
    Work::Lost {
        reason: "OOMKilled".to_owned(),
        message: "killed".to_owned(),
    }
}

fn finished() -> Box<Finished> {
    let manifest = serde_json::json!({
        "formatVersion": 1, "id": "i", "kind": "Full", "clusterId": "00000000000000aa", "clusterName": "etcd",
        "memberId": "1", "etcdVersion": "3.6.0", "backupName": "b", "namespace": "team", "runId": "r",
        "created": NOW, "completed": NOW, "revision": 7, "compactRevision": -1, "keyCount": 3, "dataKey": "k",
        "rawSize": 20, "storedSize": 10, "plainSha256": "aa", "storedSha256": "bb", "compression": "Zstd",
        "level": "Consistent", "toolVersion": "0",
    });
    Box::new(Finished {
        manifest: serde_json::from_value(manifest).unwrap(),
        location: "s3://b/k".to_owned(),
        warnings: Vec::new(),
        stages: Vec::new(),
        retired: Vec::new(),
        remark: None,
    })
}

#[test]
fn a_valid_backup_is_begun_and_an_ended_one_is_let_be() {
    let step = decide(&seen(&pending(), Work::None, Stored::NotAsked), now());
    assert!(matches!(step, Step::Begin { attempt: 1 }), "{step:?}");
    for phase in ["Completed", "Failed", "Rejected"] {
        let ended = backup(OWN, &format!("}}\nstatus: {{phase: {phase}}}"));
        let step = decide(&seen(&ended, Work::None, Stored::NotAsked), now());
        assert!(matches!(step, Step::Nothing), "{phase}: {step:?}");
    }
}

#[test]
fn a_schedule_of_an_old_manifest_is_accepted_and_what_is_meant_is_said() {
    let old = backup(&format!("{OWN}, schedule: '0 2 * * *'"), "}");
    let step = decide(&seen(&old, Work::None, Stored::NotAsked), now());
    assert!(matches!(step, Step::Begin { attempt: 1 }), "{step:?}");
    let said = warning(&old.spec).unwrap();
    assert!(said.starts_with("spec.schedule has no effect"), "{said}");
    assert!(said.contains("create an EtcdBackupSchedule"), "{said}");
    assert_eq!(warning(&pending().spec), None);
}

#[test]
fn what_can_never_be_stored_or_sealed_is_rejected_with_its_field() {
    for (spec, named) in [
        (
            OWN.replace("S3", "GCS").replace(
                "bucket: b",
                "bucket: b, objectLock: {mode: Governance, retain: 1d}",
            ),
            "spec.storageLocation.objectLock: is for provider S3",
        ),
        (
            format!("{OWN}, encryption: {{enabled: true, kmsKeyID: foo}}"),
            "spec.encryption.kmsKeyID: 'foo' names no key",
        ),
    ] {
        let wrong = backup(&spec, "}");
        match decide(&seen(&wrong, Work::None, Stored::NotAsked), now()) {
            Step::Reject { reason, message } => {
                assert_eq!(reason, "SpecInvalid");
                assert!(message.starts_with(named), "{message}");
            }
            other => panic!("{spec}: {other:?}"),
        }
    }
}

#[test]
fn a_namespace_that_is_not_trusted_gets_nothing_that_is_the_operators() {
    let cases = [
        (
            "storageLocation: {provider: S3, bucket: b, credentialsSecret: s}",
            "NotAllowed",
            "configured etcd",
        ),
        (
            "etcdEndpoints: ['https://e:2379'], storageLocation: {provider: S3, bucket: b}",
            "NotAllowed",
            "cloud identity",
        ),
        (
            "etcdEndpoints: ['https://e:2379'], storageLocation: {provider: S3, bucket: b, credentialsSecret: s}, replicateTo: [{storageLocation: {provider: S3, bucket: c}}]",
            "NotAllowed",
            "cloud identity",
        ),
        (
            "etcdEndpoints: ['https://e:2379'], storageLocation: {provider: Local, bucket: /b}",
            "NotAllowed",
            "directory",
        ),
        (
            "etcdEndpoints: ['https://e:2379'], etcdCertificates: {cert: /etc/secret/tls.crt}, storageLocation: {provider: S3, bucket: b, credentialsSecret: s}",
            "SpecInvalid",
            "etcdCertificates.cert",
        ),
        (
            "etcdEndpoints: ['https://e:2379'], etcdAuth: {secretName: 'operator:root'}, storageLocation: {provider: S3, bucket: b, credentialsSecret: s}",
            "SpecInvalid",
            "etcdAuth.secretName",
        ),
    ];
    for (spec, wanted, named) in cases {
        let backup = backup(spec, "}");
        match decide(&seen(&backup, Work::None, Stored::NotAsked), now()) {
            Step::Reject { reason, message } => {
                assert_eq!(reason, wanted, "{message}");
                assert!(message.contains(named), "{message}");
            }
            other => panic!("{spec}: {other:?}"),
        }
        let mut trusted = seen(&backup, Work::None, Stored::NotAsked);
        trusted.trusted = true;
        let step = decide(&trusted, now());
        assert_eq!(
            matches!(step, Step::Begin { .. }),
            wanted == "NotAllowed",
            "{step:?}"
        );
    }
}

#[test]
fn rules_are_held_without_the_api_servers_help() {
    let wrong = backup(
        "etcdEndpoints: [e], storageLocation: {provider: S3, bucket: b}, encryption: {enabled: true}",
        "}",
    );
    match decide(&seen(&wrong, Work::None, Stored::NotAsked), now()) {
        Step::Reject {
            reason: "SpecInvalid",
            message,
        } => {
            assert!(
                message.contains("spec.encryption: enabled needs exactly one"),
                "{message}"
            );
            assert!(message.contains("spec.etcdEndpoints[0]"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_attempt_is_repeated_within_limits_and_a_refused_one_is_not() {
    let single = running(1, "");
    match decide(
        &seen(&single, failed("StoreUnavailable"), Stored::NotAsked),
        now(),
    ) {
        Step::RetryAt { at, .. } => assert_eq!(at, now() + SignedDuration::from_secs(30)),
        other => panic!("{other:?}"),
    }
    let cases = [
        (running(5, ""), failed("StoreUnavailable")),
        (running(1, ""), failed("Refused")),
        (
            running(1, ", labels: {etcdguardian.io/schedule: s}"),
            failed("StoreUnavailable"),
        ),
        (
            running(3, ", labels: {etcdguardian.io/schedule: s}"),
            lost(),
        ),
    ];
    for (backup, work) in cases {
        let step = decide(&seen(&backup, work, Stored::Absent), now());
        assert!(matches!(step, Step::Fail { .. }), "{step:?}");
    }
}

#[test]
fn whoever_died_after_the_manifest_has_made_a_backup_and_before_it_none() {
    for work in [Work::None, lost()] {
        let backup = running(1, ", labels: {etcdguardian.io/schedule: s}");
        let step = decide(&seen(&backup, work.clone(), Stored::NotAsked), now());
        assert!(matches!(step, Step::AskStore), "{step:?}");
        let step = decide(
            &seen(&backup, work.clone(), Stored::Unknown("no".into())),
            now(),
        );
        assert!(matches!(step, Step::StoreSilent(_)), "{step:?}");
        let step = decide(
            &seen(&backup, work.clone(), Stored::There(finished())),
            now(),
        );
        assert!(matches!(step, Step::Complete(_)), "{step:?}");
        match decide(&seen(&backup, work, Stored::Absent), now()) {
            Step::RetryAt { at, .. } => assert_eq!(at, now(), "the work was not at fault"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn stored_data_goes_with_the_object_only_where_it_says_so() {
    let policy = format!("{OWN}, deletionPolicy: Delete");
    let fresh = backup(&policy, "}");
    assert!(matches!(
        decide(&seen(&fresh, Work::None, Stored::NotAsked), now()),
        Step::AddFinalizer
    ));
    let rest = format!(
        ", finalizers: [etcdguardian.io/stored-backup], deletionTimestamp: '{NOW}'}}\nstatus: {{phase: Completed, runID: r, backupID: i}}"
    );
    let going = backup(&policy, &rest);
    assert!(matches!(
        decide(&seen(&going, Work::None, Stored::NotAsked), now()),
        Step::DeleteStored
    ));
    let retained = backup(OWN, &rest);
    assert!(matches!(
        decide(&seen(&retained, Work::None, Stored::NotAsked), now()),
        Step::RemoveFinalizer
    ));
}

#[test]
fn the_status_of_a_whole_run_reads_well() {
    let mut object = pending();
    object.metadata.generation = Some(1);
    let begun = Draft::of(&object, now()).begun("r", 1, None);
    object.status = Some(begun);
    object.status = Some(Draft::of(&object, now()).in_stage("verify"));
    let status = object.status.clone().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Verifying"));
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .map(|c| format!("{}={}", c.type_, c.status))
        .collect();
    assert_eq!(
        conditions,
        [
            "Succeeded=Unknown",
            "SnapshotTaken=True",
            "Stored=True",
            "Verified=Unknown"
        ]
    );
    let failed =
        Draft::of(&object, now()).failed("CredentialsInvalid", "secret 's' does not exist");
    let message = failed.message.unwrap();
    assert!(
        message.starts_with("secret 's' does not exist -- next: mend the Secret"),
        "{message}"
    );
    let done = Draft::of(&object, now()).completed(&finished(), false);
    assert_eq!(done.backup_id.as_deref(), Some("i"));
    assert_eq!(
        done.message.as_deref(),
        Some("revision 7 is in the store, consistent")
    );
    assert!(
        done.conditions
            .iter()
            .all(|condition| condition.status == "True")
    );
}

#[test]
fn increments_are_made_where_the_watch_stands_and_all_else_in_jobs() {
    let mode = |words: &str| {
        let mut object = backup(&format!("{words} {OWN}"), "}");
        object.spec.backup_mode = crate::api::BackupMode::Incremental;
        object.spec
    };
    let increment = mode("");
    assert_eq!(made_here(&increment, true, true), Some(Part::Increment));
    assert_eq!(made_here(&increment, true, false), None);
    assert_eq!(made_here(&increment, false, true), Some(Part::Whole));
    let here = mode("executor: InProcess,");
    assert_eq!(made_here(&here, true, true), Some(Part::Whole));
    for other in ["source: Proxy,", "namespaceSelector: {},"] {
        assert_eq!(made_here(&mode(other), true, true), None, "{other}");
    }
    assert_eq!(made_here(&pending().spec, true, true), None, "a full one");
    let waits = running(1, "");
    assert!(awaits(&waits, "r") && !awaits(&waits, "another") && !awaits(&pending(), "r"));
}

#[test]
fn a_job_is_told_what_is_left_for_it() {
    let mut purpose = Purpose::backup(&pending(), "r", 1);
    let args = |purpose: &Purpose| {
        let job = job_of(purpose, &crate::api::JobConfig::default(), &[]);
        let pod = job.spec.unwrap().template.spec.unwrap();
        pod.containers[0].args.clone().unwrap()
    };
    assert!(!args(&purpose).contains(&"--handed".to_owned()));
    let rules =
        r#"{"part": {"Full": "it is old"}, "fullEvery": {"increments": 3}, "drilledPace": 1.5}"#;
    purpose.handed = serde_json::from_str(rules).unwrap();
    let told = args(&purpose);
    let at = told.iter().position(|arg| arg == "--handed").unwrap();
    let read: Handed = serde_json::from_str(&told[at + 1]).unwrap();
    assert_eq!(read, purpose.handed);
    assert_eq!(read.part, Part::Full("it is old".to_owned()));
    assert_eq!(read.recording().full_every.unwrap().increments, Some(3));
}
