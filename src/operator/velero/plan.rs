//! What Velero's half of a pair looks like, and what its state says of it. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::half::{Half, There, name_for};
use crate::api::EtcdBackup;

/// On Velero's Backup: the uid of the EtcdBackup that it belongs to.
pub const BACKUP_REF: &str = "etcdguardian.io/backup-ref";
/// On Velero's Backup: namespace and name of the EtcdBackup.
const BACKUP_NAME: &str = "etcdguardian.io/backup-name";
/// Velero's namespace unless it is named.
const NAMESPACE: &str = "velero";

/// What was seen of Velero.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its Backup.
    pub object: Option<Value>,
    /// The uid of it.
    pub uid: Option<String>,
    /// Its BackupStorageLocations.
    pub locations: Vec<Value>,
}

/// Whether a backup wants one.
pub fn asked(backup: &EtcdBackup) -> bool {
    let velero = backup.spec.velero_integration.as_ref();
    velero.is_some_and(|velero| velero.enabled)
}

/// Where Velero is.
pub fn namespace_of(backup: &EtcdBackup) -> String {
    let velero = backup.spec.velero_integration.as_ref();
    let named = velero.and_then(|velero| velero.namespace.clone());
    named.unwrap_or_else(|| NAMESPACE.to_owned())
}

/// The name of Velero's Backup: that of the spec, else one that no other EtcdBackup has.
pub fn name_of(backup: &EtcdBackup) -> String {
    let velero = backup.spec.velero_integration.as_ref();
    name_for(velero.and_then(|velero| velero.backup_name.clone()), backup)
}

/// Velero's Backup as we make it.
pub fn wanted(backup: &EtcdBackup) -> Value {
    let velero = backup.spec.velero_integration.clone().unwrap_or_default();
    let spec = velero.template.unwrap_or_default();
    json!({
        "apiVersion": "velero.io/v1", "kind": "Backup",
        "metadata": {
            "name": name_of(backup), "namespace": namespace_of(backup),
            "labels": { BACKUP_REF: backup.uid().unwrap_or_default() },
            "annotations": { BACKUP_NAME: format!("{}/{}", backup.namespace().unwrap_or_default(), backup.name_any()) },
        },
        "spec": spec,
    })
}

/// What the API server's refusal means.
pub fn refused(code: u16, message: &str, namespace: &str) -> Half {
    match code {
        404 => Half::failed(
            "VeleroNotInstalled",
            &format!(
                "the API server knows no Velero Backup in namespace {namespace} ({message}): install Velero, as with `etcdguardian velero install`"
            ),
        ),
        403 => Half::failed(
            "VeleroForbidden",
            &format!("{message}: set the chart's value velero.integration.enabled"),
        ),
        400 | 422 => Half::failed(
            "VeleroTemplateInvalid",
            &format!("Velero's definition refuses the template: {message}"),
        ),
        _ => Half::later(message),
    }
}

/// What the state of Velero's half says.
pub fn judge(backup: &EtcdBackup, seen: &Seen, now: Timestamp) -> Half {
    let status = backup.status.clone().unwrap_or_default();
    let name = name_of(backup);
    let Some(object) = &seen.object else {
        return Half::failed(
            "VeleroBackupDeleted",
            &format!("Velero's Backup {name} was deleted before it ended"),
        );
    };
    let mark = object["metadata"]["labels"][BACKUP_REF].as_str();
    if mark != backup.uid().as_deref() {
        return Half::failed(
            "VeleroNameTaken",
            &format!(
                "a Velero Backup {name} is there that is not this object's: nothing is done to it; choose another veleroIntegration.backupName"
            ),
        );
    }
    if status.velero_backup_uid.is_some() && status.velero_backup_uid != seen.uid {
        return Half::failed(
            "VeleroBackupDeleted",
            &format!("Velero's Backup {name} was deleted and another has its name"),
        );
    }
    let there = There {
        kind: "Backup",
        name: &name,
        object,
        uid: seen.uid.clone(),
        location: location_of(object, &seen.locations),
    };
    if let Some(end) = there.end() {
        return end;
    }
    if there.phase() == "Deleting" {
        return there.ended(false, "VeleroBackupDeleted", "is being deleted");
    }
    let since = status.completion_time.unwrap_or(now);
    let limit = SignedDuration::from_secs(backup.spec.active_deadline_seconds);
    let ready = seen.locations.iter().any(is_available);
    let none_ready = "no BackupStorageLocation is Available";
    if now.duration_since(since) < limit {
        let trouble = format!("; {none_ready}");
        return there.waiting("", if ready { "" } else { &trouble });
    }
    let (reason, why) = match ready {
        true => ("VeleroTimeout", "it is not done"),
        false => ("VeleroNotReady", none_ready),
    };
    let words = format!("was waited for until activeDeadlineSeconds: {why}");
    there.ended(false, reason, &words)
}

fn is_available(location: &Value) -> bool {
    location["status"]["phase"] == "Available"
}

/// Where Velero's half lies: bucket and prefix of its storage location.
fn location_of(object: &Value, locations: &[Value]) -> Option<String> {
    let named = object
        .pointer("/spec/storageLocation")
        .and_then(Value::as_str);
    let location = locations.iter().find(|location| match named {
        Some(name) => location["metadata"]["name"] == name,
        None => location["spec"]["default"] == true,
    })?;
    let store = &location["spec"]["objectStorage"];
    let prefix = store["prefix"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str()?;
    let path = [prefix.trim_matches('/'), "backups", name];
    let path: Vec<&str> = path.into_iter().filter(|part| !part.is_empty()).collect();
    Some(format!("{}/{}", store["bucket"].as_str()?, path.join("/")))
}

/// A word for those who restore: Velero's half, which holds the volumes.
pub fn pair_of(backup: &EtcdBackup) -> Option<String> {
    let name = backup.status.as_ref()?.velero_backup_name.clone()?;
    let namespace = namespace_of(backup);
    Some(format!(
        "its pair is Velero's Backup {name}: when the objects are back, `velero restore create --from-backup {name} --restore-volumes -n {namespace}` brings the volumes"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn backup() -> EtcdBackup {
        serde_json::from_value(json!({
            "apiVersion": "etcdguardian.io/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "daily", "namespace": "guardian", "uid": "0123456789"},
            "spec": {"backupMode": "Full", "storageLocation": {"provider": "S3", "bucket": "b"},
                "veleroIntegration": {"enabled": true, "template": {"includedNamespaces": ["shop"], "ttl": "720h0m0s"}}},
            "status": {"completionTime": "2026-01-01T00:00:00Z"},
        }))
        .unwrap()
    }

    fn seen(status: Value) -> Seen {
        let mut object = wanted(&backup());
        object["status"] = status;
        Seen {
            object: Some(object),
            uid: Some("u".to_owned()),
            locations: vec![
                json!({"metadata": {"name": "default"}, "status": {"phase": "Available"},
                "spec": {"default": true, "objectStorage": {"bucket": "vault", "prefix": "/velero/"}}}),
            ],
        }
    }

    fn reason(seen: &Seen, now: &str) -> (bool, String) {
        match judge(&backup(), seen, now.parse().unwrap()) {
            Half::Waiting { message, .. } => (true, message),
            Half::Ended { whole, reason, .. } => (whole, reason),
        }
    }

    #[test]
    fn every_end_of_veleros_half_has_its_reason() {
        let soon = "2026-01-01T00:10:00Z";
        let late = "2026-01-01T02:00:00Z";
        for (status, now, whole, word) in [
            (json!({"phase": "Completed"}), soon, true, "Completed"),
            (
                json!({"phase": "PartiallyFailed", "errors": 2}),
                soon,
                false,
                "VeleroPartiallyFailed",
            ),
            (
                json!({"phase": "Failed", "failureReason": "x"}),
                soon,
                false,
                "VeleroFailed",
            ),
            (
                json!({"phase": "FailedValidation", "validationErrors": ["y"]}),
                soon,
                false,
                "VeleroFailedValidation",
            ),
            (
                json!({"phase": "Deleting"}),
                soon,
                false,
                "VeleroBackupDeleted",
            ),
            (
                json!({"phase": "InProgress"}),
                soon,
                true,
                "Velero's Backup daily-01234567 is InProgress",
            ),
            (json!({}), late, false, "VeleroTimeout"),
        ] {
            assert_eq!(reason(&seen(status), now), (whole, word.to_owned()));
        }
        let mut silent = seen(json!({}));
        silent.locations.clear();
        assert_eq!(reason(&silent, late), (false, "VeleroNotReady".to_owned()));
        assert_eq!(
            reason(&Seen::default(), soon),
            (false, "VeleroBackupDeleted".to_owned())
        );
        let mut taken = seen(json!({"phase": "Completed"}));
        taken.object.as_mut().unwrap()["metadata"]["labels"][BACKUP_REF] = json!("another");
        assert_eq!(reason(&taken, soon), (false, "VeleroNameTaken".to_owned()));
        for (code, word) in [
            (404, "VeleroNotInstalled"),
            (403, "VeleroForbidden"),
            (422, "VeleroTemplateInvalid"),
        ] {
            assert!(
                matches!(refused(code, "m", "velero"), Half::Ended { reason, .. } if reason == word)
            );
        }
    }

    #[test]
    fn the_template_is_veleros_spec_and_the_pair_says_where_it_lies() {
        let object = wanted(&backup());
        assert_eq!(object["spec"]["includedNamespaces"][0], "shop");
        assert_eq!(object["metadata"]["labels"][BACKUP_REF], "0123456789");
        let half = judge(
            &backup(),
            &seen(json!({"phase": "Completed"})),
            Timestamp::UNIX_EPOCH,
        );
        let Half::Ended { location, .. } = half else {
            unreachable!()
        };
        assert_eq!(
            location.as_deref(),
            Some("vault/velero/backups/daily-01234567")
        );
    }
}
