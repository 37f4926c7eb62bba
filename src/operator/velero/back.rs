//! Velero's Restore of a pair, made once etcd is back: what it looks like, and what its state says. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::half::{Half, There, name_for};
use super::plan::namespace_of;
use crate::api::{EtcdBackup, EtcdRestore};

/// On Velero's Restore: the uid of the EtcdRestore that it belongs to.
const RESTORE_REF: &str = "etcdguardian.io/restore-ref";
/// On Velero's Restore: namespace and name of the EtcdRestore.
const RESTORE_NAME: &str = "etcdguardian.io/restore-name";
/// Volumes take their time; a restore of them that takes longer hangs.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Whether a restore wants one.
pub fn asked(restore: &EtcdRestore) -> bool {
    let velero = restore.spec.velero_integration.as_ref();
    velero.is_some_and(|velero| velero.enabled)
}

/// The name of Velero's Restore: that of the spec, else one that no other EtcdRestore has.
pub fn name_of(restore: &EtcdRestore) -> String {
    let velero = restore.spec.velero_integration.as_ref();
    name_for(
        velero.and_then(|velero| velero.restore_name.clone()),
        restore,
    )
}

/// Velero's Restore as we make it, or why there is nothing to restore from.
pub fn wanted(restore: &EtcdRestore, backup: &EtcdBackup) -> Result<Value, Box<Half>> {
    let status = backup.status.clone().unwrap_or_default();
    let phase = status.velero_backup_phase.unwrap_or_default();
    let Some(name) = status.velero_backup_name else {
        return Err(missing(&format!(
            "EtcdBackup {} has no Velero half: it was taken without veleroIntegration",
            backup.name_any()
        )));
    };
    if !matches!(phase.as_str(), "Completed" | "PartiallyFailed") {
        return Err(missing(&format!(
            "Velero's Backup {name} did not end well ({phase}): nothing can be restored from it"
        )));
    }
    let velero = restore.spec.velero_integration.clone().unwrap_or_default();
    let mut spec = velero.template.unwrap_or_default();
    spec.entry("restorePVs".to_owned()).or_insert(json!(true));
    spec.insert("backupName".to_owned(), json!(name));
    Ok(json!({
        "apiVersion": "velero.io/v1", "kind": "Restore",
        "metadata": {
            "name": name_of(restore), "namespace": namespace_of(backup),
            "labels": { RESTORE_REF: restore.uid().unwrap_or_default() },
            "annotations": { RESTORE_NAME: format!("{}/{}", restore.namespace().unwrap_or_default(), restore.name_any()) },
        },
        "spec": spec,
    }))
}

fn missing(why: &str) -> Box<Half> {
    Box::new(Half::failed("VeleroBackupMissing", why))
}

/// What the state of Velero's Restore says; `object` is none when it is not there.
pub fn judge(restore: &EtcdRestore, object: Option<&Value>, now: Timestamp) -> Half {
    let name = name_of(restore);
    let deleted = || {
        Half::failed(
            "VeleroRestoreDeleted",
            &format!("Velero's Restore {name} was deleted before it ended"),
        )
    };
    let Some(object) = object else {
        return deleted();
    };
    if object["metadata"]["labels"][RESTORE_REF].as_str() != restore.uid().as_deref() {
        return Half::failed(
            "VeleroNameTaken",
            &format!(
                "a Velero Restore {name} is there that is not this object's: nothing is done to it; choose another veleroIntegration.restoreName"
            ),
        );
    }
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let uid = text("/metadata/uid").map(str::to_owned);
    let known = restore
        .status
        .as_ref()
        .and_then(|status| status.velero_restore_uid.clone());
    if known.is_some() && known != uid {
        return deleted();
    }
    let there = There {
        kind: "Restore",
        name: &name,
        object,
        uid,
        location: None,
    };
    if let Some(end) = there.end() {
        return end;
    }
    let made = text("/metadata/creationTimestamp").and_then(|text| text.parse().ok());
    if now.duration_since(made.unwrap_or(now)) >= LONGEST {
        return there.ended(false, "VeleroTimeout", "is not done after a day");
    }
    there.waiting("etcd is back; ", "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn restore() -> EtcdRestore {
        serde_json::from_value(json!({
            "apiVersion": "etcdguardian.io/v1alpha1", "kind": "EtcdRestore",
            "metadata": {"name": "back", "namespace": "guardian", "uid": "0123456789"},
            "spec": {"restoreMode": "Full", "backupName": "daily",
                "veleroIntegration": {"enabled": true, "template": {"includedNamespaces": ["shop"]}}},
            "status": {"veleroRestoreUID": "u"},
        }))
        .unwrap()
    }

    fn backup(status: Value) -> EtcdBackup {
        serde_json::from_value(json!({
            "apiVersion": "etcdguardian.io/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "daily", "namespace": "guardian", "uid": "b"},
            "spec": {"backupMode": "Full", "storageLocation": {"provider": "S3", "bucket": "b"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_restore_is_made_of_a_half_that_is_there_and_of_no_other() {
        let good = backup(json!({"veleroBackupName": "v", "veleroBackupPhase": "Completed"}));
        let made = wanted(&restore(), &good).unwrap();
        assert_eq!(
            made["spec"],
            json!({"backupName": "v", "restorePVs": true, "includedNamespaces": ["shop"]})
        );
        assert_eq!(made["metadata"]["name"], "back-01234567");
        for status in [
            json!({}),
            json!({"veleroBackupName": "v", "veleroBackupPhase": "Failed"}),
        ] {
            let none = wanted(&restore(), &backup(status)).unwrap_err();
            assert!(
                matches!(*none, Half::Ended { ref reason, whole: false, .. } if reason == "VeleroBackupMissing")
            );
        }
    }

    #[test]
    fn every_end_of_veleros_restore_has_its_reason() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let object = |status: Value, uid: &str, mark: &str| json!({"metadata": {"uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {RESTORE_REF: mark}}, "status": status});
        let said = |object: Option<Value>, now| match judge(&restore(), object.as_ref(), now) {
            Half::Waiting { .. } => "waits".to_owned(),
            Half::Ended { reason, .. } => reason,
        };
        let mine = "0123456789";
        for (object, at, expected) in [
            (
                Some(object(json!({"phase": "Completed"}), "u", mine)),
                now,
                "Completed",
            ),
            (
                Some(object(json!({"phase": "PartiallyFailed"}), "u", mine)),
                now,
                "VeleroPartiallyFailed",
            ),
            (
                Some(object(json!({"phase": "Failed"}), "u", mine)),
                now,
                "VeleroFailed",
            ),
            (
                Some(object(json!({"phase": "FailedValidation"}), "u", mine)),
                now,
                "VeleroFailedValidation",
            ),
            (
                Some(object(json!({"phase": "InProgress"}), "u", mine)),
                now,
                "waits",
            ),
            (
                Some(object(json!({}), "u", mine)),
                now + LONGEST,
                "VeleroTimeout",
            ),
            (
                Some(object(json!({"phase": "Completed"}), "other", mine)),
                now,
                "VeleroRestoreDeleted",
            ),
            (
                Some(object(json!({"phase": "Completed"}), "u", "another")),
                now,
                "VeleroNameTaken",
            ),
            (None, now, "VeleroRestoreDeleted"),
        ] {
            assert_eq!(said(object, at), expected);
        }
    }
}
