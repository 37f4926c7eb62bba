//! What a schedule's children look like, which is ours, what its end means, and which objects stay. Pure.

use std::collections::{BTreeSet, HashMap};

use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde::Serialize;

use crate::api::{
    BackupHistoryEntry, DeletionPolicy, ErrorClass, EtcdBackup, EtcdBackupSchedule,
    EtcdBackupScheduleStatus, EtcdBackupSpec, FieldError, PrometheusSource,
};
use crate::engine::{Done, Failed, GoodBackup, ResourceName};
use crate::operator::labels::{
    CATALOGUE_ANNOTATION, REASON_ANNOTATION, SCHEDULE_ANNOTATION, SCHEDULE_LABEL, label_value,
};

/// A child of a schedule: the template with our labels. Without an owner reference: taking a schedule away must not take its
/// backups' objects, whose deletionPolicy may say that the data goes with them.
pub fn child(schedule: &EtcdBackupSchedule, name: &str, why: &str) -> EtcdBackup {
    let template = &schedule.spec.backup_template;
    let metadata = template.metadata.clone().unwrap_or_default();
    let (mut labels, mut annotations) = (metadata.labels, metadata.annotations);
    labels.insert(SCHEDULE_LABEL.to_owned(), label_value(&schedule.name_any()));
    annotations.insert(SCHEDULE_ANNOTATION.to_owned(), schedule.name_any());
    annotations.insert(REASON_ANNOTATION.to_owned(), why.to_owned());
    annotations.remove(CATALOGUE_ANNOTATION);
    EtcdBackup {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: schedule.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A child that speaks of a backup which is in the store already.
pub fn found_child(schedule: &EtcdBackupSchedule, backup: &GoodBackup) -> EtcdBackup {
    let mut object = child(schedule, &backup.name, "found in the catalogue");
    object
        .annotations_mut()
        .insert(CATALOGUE_ANNOTATION.to_owned(), backup.id.clone());
    object
}

/// An object for a backup that no schedule made and that is in the store of this one. It says where the backup is, and takes no
/// data with it when it goes: what its maker wanted of it is not known any more.
pub fn found_single(schedule: &EtcdBackupSchedule, backup: &GoodBackup) -> EtcdBackup {
    let spec = EtcdBackupSpec {
        deletion_policy: DeletionPolicy::Retain,
        ..schedule.spec.backup_template.spec.clone()
    };
    let annotations = [(CATALOGUE_ANNOTATION.to_owned(), backup.id.clone())];
    EtcdBackup {
        metadata: ObjectMeta {
            name: Some(backup.name.clone()),
            namespace: schedule.namespace(),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// A schedule's history with the UIDs of its backups' objects, by name, for the ids of their runs; empty where there is no object.
pub fn of_objects(
    history: &[BackupHistoryEntry],
    objects: &HashMap<String, String>,
) -> Vec<BackupHistoryEntry> {
    let of_object = |entry: &BackupHistoryEntry| BackupHistoryEntry {
        uid: objects.get(&entry.name).cloned().unwrap_or_default(),
        ..entry.clone()
    };
    history.iter().map(of_object).collect()
}

/// Whether an object is a child of the schedule.
pub fn is_ours(backup: &EtcdBackup, schedule: &str) -> bool {
    backup
        .annotations()
        .get(SCHEDULE_ANNOTATION)
        .map(String::as_str)
        == Some(schedule)
        && backup.labels().get(SCHEDULE_LABEL) == Some(&label_value(schedule))
}

/// How a child ended; `None` while it goes on.
pub fn end(backup: &EtcdBackup, schedule: &str) -> Option<Result<Done, Failed>> {
    if !is_ours(backup, schedule) {
        return Some(Err(Failed {
            class: ErrorClass::Refused,
            message: format!(
                "EtcdBackup {} exists and is not of this schedule: delete or rename it",
                ResourceName::of(backup)
            ),
        }));
    }
    let status = backup.status.as_ref()?;
    match status.phase.as_deref()? {
        "Completed" => Some(Ok(Done {
            backup: good(backup)?,
            warnings: status.warnings.clone(),
            shares: Vec::new(),
            idle: false,
        })),
        "Failed" | "Rejected" => {
            let condition = status
                .conditions
                .iter()
                .find(|one| one.type_ == "Succeeded");
            let reason = condition.map_or("Failed", |condition| condition.reason.as_str());
            let class = match reason {
                "NotAllowed" => ErrorClass::Refused,
                reason => ErrorClass::from_reason(reason),
            };
            let message = status.message.clone().unwrap_or_default();
            Some(Err(Failed { class, message }))
        }
        _ => None,
    }
}

fn good(backup: &EtcdBackup) -> Option<GoodBackup> {
    let status = backup.status.as_ref()?;
    let bytes = |size: Option<i64>| u64::try_from(size.unwrap_or(0)).unwrap_or(0);
    let taken = status.snapshot_time.or(status.start_time)?;
    Some(GoodBackup {
        id: status.backup_id.clone()?,
        name: backup.name_any(),
        run_id: status.run_id.clone().unwrap_or_default(),
        cluster_id: status.cluster_id.clone().unwrap_or_default(),
        revision: status.etcd_revision?,
        taken,
        completed: status.completion_time.unwrap_or(taken),
        kind: status.kind.clone().unwrap_or_default(),
        base: status.base.clone(),
        level: status
            .validation_result
            .as_ref()
            .and_then(|result| result.level.clone())
            .unwrap_or_else(|| "Stored".to_owned()),
        raw_size: bytes(status.raw_size),
        stored_size: bytes(status.snapshot_size),
        location: status.snapshot_location.clone().unwrap_or_default(),
    })
}

/// What a schedule of a namespace that is not trusted would ask of the operator's Prometheus, at `own`: a query reads whatever is in
/// there, of all that it scrapes.
pub fn foreign_prometheus(source: &PrometheusSource, own: Option<&str>) -> Option<FieldError> {
    let wrong = |field: &str, message: &str| FieldError {
        path: format!("spec.aiOptimization.prometheus.{field}"),
        message: message.to_owned(),
    };
    if let Some(url) = source.url.as_deref() {
        let ours = own.is_some_and(|own| server(own).is_some() && server(own) == server(url));
        let message = "is the operator's Prometheus, which tells trusted namespaces alone: name another one, or none, or have this namespace added to operator.trustedNamespaces";
        return ours.then(|| wrong("url", message));
    }
    let fields = [
        ("changeRateQuery", source.change_rate_query.is_some()),
        ("dbSizeQuery", source.db_size_query.is_some()),
        ("loadQuery", source.load_query.is_some()),
        ("credentialsSecret", source.credentials_secret.is_some()),
    ];
    let (field, _) = fields.into_iter().find(|(_, named)| *named)?;
    let message = "is for a Prometheus that this schedule names itself, as the operator's tells trusted namespaces alone: set aiOptimization.prometheus.url, or leave it out";
    Some(wrong(field, message))
}

/// Host and port of a URL, the same for the names by which a Service is known in its cluster.
fn server(url: &str) -> Option<(String, u16)> {
    let url: url::Url = url.trim().parse().ok()?;
    let host = url.host_str()?.trim_end_matches('.').to_lowercase();
    let host = match host.split_once(".svc") {
        Some((name, "" | ".cluster.local")) => name.to_owned(),
        _ => host,
    };
    Some((host, url.port_or_known_default()?))
}

/// What is to be done so that the objects show what the catalogue holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// Backups of the store, by index, that have no object.
    pub create: Vec<usize>,
    /// Objects, by index, that go.
    pub delete: Vec<usize>,
}

/// Compares a schedule's backups in the store (oldest first) with its objects: the newest `keep` completed ones have an object,
/// of the failed ones `keep_failed` stay. Objects that would take stored data with them stay until that is gone.
pub fn sync(
    objects: &[EtcdBackup],
    stored: &[GoodBackup],
    keep: usize,
    keep_failed: usize,
) -> Sync {
    let phase = |object: &EtcdBackup| {
        object
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
    };
    let id = |object: &EtcdBackup| {
        let status = object
            .status
            .as_ref()
            .and_then(|status| status.backup_id.clone());
        status.or_else(|| object.annotations().get(CATALOGUE_ANNOTATION).cloned())
    };
    let names: BTreeSet<String> = objects.iter().map(ResourceExt::name_any).collect();
    let known: BTreeSet<String> = objects.iter().filter_map(id).collect();
    let newest = stored.len().saturating_sub(keep);
    let shown: BTreeSet<&str> = stored[newest..]
        .iter()
        .map(|backup| backup.id.as_str())
        .collect();
    let held: BTreeSet<&str> = stored.iter().map(|backup| backup.id.as_str()).collect();
    let create = (newest..stored.len())
        .filter(|index| {
            stored
                .get(*index)
                .is_some_and(|backup| !known.contains(&backup.id) && !names.contains(&backup.name))
        })
        .collect();
    let mut failed: Vec<usize> = (0..objects.len())
        .filter(|index| objects.get(*index).and_then(phase).as_deref() == Some("Failed"))
        .collect();
    failed.sort_by_key(|index| {
        let object = objects.get(*index);
        std::cmp::Reverse(
            object
                .and_then(|object| object.metadata.creation_timestamp.clone())
                .map(|time| time.0),
        )
    });
    let mut delete: Vec<usize> = failed.split_off(keep_failed.min(failed.len()));
    for (index, object) in objects.iter().enumerate() {
        let (Some("Completed"), Some(id)) = (phase(object).as_deref(), id(object)) else {
            continue;
        };
        let carries_data = !object.finalizers().is_empty() && held.contains(id.as_str());
        if !shown.contains(id.as_str()) && !carries_data {
            delete.push(index);
        }
    }
    delete.sort_unstable();
    Sync { create, delete }
}

/// What a thousand texts are remembered by.
pub type Digest = [u8; 32];

/// SHA-256 of a value as JSON.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn digest(value: &impl Serialize) -> Result<Digest, String> {
    let text = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    let sum = ring::digest::digest(&ring::digest::SHA256, &text);
    sum.as_ref()
        .try_into()
        .map_err(|_| "SHA-256 has 32 bytes".to_owned())
}

/// What a status said, whatever the time: all of it, and all but the last decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    whole: Digest,
    unexposed: Digest,
    undecided: Digest,
}

impl Shown {
    /// Whether they differ in their decision at most.
    pub fn but_decision(&self, other: &Self) -> bool {
        self.undecided == other.undecided
    }

    /// Whether they differ in the changes at risk at most.
    pub fn but_exposure(&self, other: &Self) -> bool {
        self.unexposed == other.unexposed
    }
}

/// What a status says.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn shown(status: &EtcdBackupScheduleStatus) -> Result<Shown, String> {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.last_transition_time.0 = jiff::Timestamp::UNIX_EPOCH;
    }
    let whole = digest(&status)?;
    if let Some(decision) = &mut status.decision {
        decision.exposure = 0;
    }
    let unexposed = digest(&status)?;
    status.decision = None;
    let undecided = digest(&status)?;
    Ok(Shown {
        whole,
        unexposed,
        undecided,
    })
}

/// Whether two statuses say the same, whatever the time.
pub fn says_the_same(one: &EtcdBackupScheduleStatus, other: &EtcdBackupScheduleStatus) -> bool {
    matches!((shown(one), shown(other)), (Ok(one), Ok(other)) if one == other)
}
