//! What a schedule's children look like, and which objects stay.
#![allow(clippy::unwrap_used)]

use kube::ResourceExt;

use super::plan::{Sync, child, end, found_child, is_ours, of_objects, shown, sync};
use crate::api::{BackupHistoryEntry, ErrorClass, EtcdBackup, EtcdBackupSchedule};
use crate::engine::GoodBackup;

fn schedule(name: &str) -> EtcdBackupSchedule {
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: {name}, namespace: n}}\nspec:\n  schedule: '0 * * * *'\n  backupTemplate:\n    metadata: {{labels: {{team: a}}, annotations: {{etcdguardian.io/catalogue-id: forged}}}}\n    spec: {{backupMode: Full, storageLocation: {{provider: Local, bucket: /b}}}}\n"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn good(id: &str) -> GoodBackup {
    serde_json::from_value(serde_json::json!({
        "id": id, "name": format!("s-{id}"), "runId": "r", "clusterId": "aa", "revision": 1,
        "taken": "2026-11-20T09:00:00Z", "completed": "2026-11-20T09:00:05Z", "level": "Verified",
        "rawSize": 2, "storedSize": 1, "location": "file:///b",
    }))
    .unwrap()
}

fn with_status(mut object: EtcdBackup, status: serde_json::Value) -> EtcdBackup {
    object.status = Some(serde_json::from_value(status).unwrap());
    object
}

#[test]
fn a_child_carries_the_template_and_our_labels_alone() {
    let made = child(&schedule("s"), "s-1", "the slot has come");
    assert_eq!(made.labels().get("team").map(String::as_str), Some("a"));
    assert!(is_ours(&made, "s"));
    assert!(!is_ours(&made, "other"));
    assert!(
        !made
            .annotations()
            .contains_key("etcdguardian.io/catalogue-id"),
        "a template cannot forge one"
    );
    let long = "l".repeat(200);
    assert!(
        is_ours(&child(&schedule(&long), "x", "y"), &long),
        "long names fit a label too"
    );
}

#[test]
fn the_end_of_a_child_is_read_from_its_status_and_a_stranger_is_refused() {
    let made = child(&schedule("s"), "s-1", "due");
    assert!(end(&made, "s").is_none());
    let running = with_status(made.clone(), serde_json::json!({"phase": "Running"}));
    assert!(end(&running, "s").is_none());
    let failed = with_status(
        made.clone(),
        serde_json::json!({"phase": "Failed", "message": "m",
        "conditions": [{"type": "Succeeded", "status": "False", "reason": "StoreUnavailable", "message": "m", "lastTransitionTime": "2026-11-20T09:00:00Z"}]}),
    );
    assert_eq!(
        end(&failed, "s").unwrap().unwrap_err().class,
        ErrorClass::StoreUnavailable
    );
    let done = with_status(
        made.clone(),
        serde_json::json!({"phase": "Completed", "backupID": "i", "etcdRevision": 7,
        "snapshotTime": "2026-11-20T09:00:00Z", "validationResult": {"valid": true, "level": "Consistent"}}),
    );
    let backup = end(&done, "s").unwrap().unwrap().backup;
    assert_eq!((backup.revision, backup.level.as_str()), (7, "Consistent"));
    assert_eq!(
        end(&done, "other").unwrap().unwrap_err().class,
        ErrorClass::Refused
    );
}

#[test]
fn objects_show_the_newest_of_the_catalogue() {
    let stored: Vec<GoodBackup> = ["1", "2", "3"].iter().map(|id| good(id)).collect();
    assert_eq!(
        sync(&[], &stored, 2, 5),
        Sync {
            create: vec![1, 2],
            delete: vec![]
        }
    );
    let object = |id: &str| {
        let made = found_child(&schedule("s"), &good(id));
        with_status(
            made,
            serde_json::json!({"phase": "Completed", "backupID": id}),
        )
    };
    let objects = [object("1"), object("2"), object("gone")];
    assert_eq!(
        sync(&objects, &stored, 2, 5),
        Sync {
            create: vec![2],
            delete: vec![0, 2]
        }
    );
    let mut carries = object("1");
    carries.metadata.finalizers = Some(vec!["etcdguardian.io/stored-backup".to_owned()]);
    assert_eq!(
        sync(&[carries, object("2"), object("3")], &stored, 2, 5),
        Sync::default(),
        "an object that takes data with it stays"
    );
    let failed = |name: &str| {
        with_status(
            child(&schedule("s"), name, "due"),
            serde_json::json!({"phase": "Failed"}),
        )
    };
    let kept = sync(&[failed("a"), failed("b")], &[], 2, 1);
    assert_eq!(kept.delete.len(), 1);
}

#[test]
fn a_status_that_differs_in_the_changes_at_risk_alone_is_known_as_such() {
    let status = |exposure: i64, at: &str, message: &str| {
        serde_json::from_value(serde_json::json!({
            "message": message,
            "decision": {"source": "Cron", "intervalSeconds": 1, "at": at, "exposure": exposure},
        }))
        .unwrap()
    };
    let day = "2026-11-20T09:00:00Z";
    let one = shown(&status(1, day, "m")).unwrap();
    let more = shown(&status(2, day, "m")).unwrap();
    assert!(one != more && one.but_exposure(&more) && one.but_decision(&more));
    let later = shown(&status(1, "2026-11-21T09:00:00Z", "m")).unwrap();
    assert!(!one.but_exposure(&later) && one.but_decision(&later));
    let other = shown(&status(1, day, "n")).unwrap();
    assert!(!one.but_exposure(&other) && !one.but_decision(&other));
}

#[test]
fn the_history_names_objects_by_their_uid_and_no_run_for_one() {
    let entry = |name: &str, uid: &str| BackupHistoryEntry {
        name: name.to_owned(),
        uid: uid.to_owned(),
        creation_timestamp: None,
        status: "Completed".to_owned(),
    };
    let objects = [("s-1".to_owned(), "uid-1".to_owned())].into();
    let shown = of_objects(&[entry("s-2", "run-2"), entry("s-1", "run-1")], &objects);
    assert_eq!(shown, [entry("s-2", ""), entry("s-1", "uid-1")]);
}
