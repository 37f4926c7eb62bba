//! What follows from the end of a backup: the store's word on an interrupted run, metrics, events, alerts, audit lines, and the
//! stored data of an object that is deleted.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::plan::{Stored, scope};
use crate::api::{ErrorClass, EtcdBackup};
use crate::cause::with_causes;
use crate::engine::{Failed, GoodBackup, Order, ResourceName, Run};
use crate::operator::context::{Context, audit};
use crate::operator::labels::{CATALOGUE_ANNOTATION, SCHEDULE_ANNOTATION};
use crate::operator::report::Finished;
use crate::pipeline::Recording;
use crate::repository::{Level, Manifest, Repository};
use crate::retain;
use crate::serve::{BackupLabels, Took};

/// What the store holds of the object's run, or of the backup that it was re-created for.
pub async fn ask_store(context: &Context, backup: &EtcdBackup) -> Stored {
    let run_id = backup
        .status
        .as_ref()
        .and_then(|status| status.run_id.clone());
    let id = backup.annotations().get(CATALOGUE_ANNOTATION).cloned();
    let repository = match open(context, backup).await {
        Ok(repository) => repository,
        Err(error) => return Stored::Unknown(error),
    };
    let catalog = match repository.catalog(None).await {
        Ok(catalog) => catalog,
        Err(error) => return Stored::Unknown(with_causes(&error)),
    };
    let namespace = backup.namespace().unwrap_or_default();
    let wanted = |manifest: &&Manifest| {
        // A namespace's objects speak of its own backups alone.
        manifest.namespace == namespace
            && match (&id, &run_id) {
                (Some(id), _) => manifest.id == *id,
                (None, Some(run_id)) => manifest.run_id == *run_id,
                (None, None) => false,
            }
    };
    match catalog.backups.iter().find(wanted) {
        None => Stored::Absent,
        Some(manifest) => Stored::There(Box::new(Finished {
            location: repository.url_of(manifest),
            manifest: manifest.clone(),
            warnings: Vec::new(),
            stages: Vec::new(),
            retired: Vec::new(),
            remark: None,
        })),
    }
}

async fn open(context: &Context, backup: &EtcdBackup) -> Result<Repository, String> {
    let namespace = backup.namespace().unwrap_or_default();
    let opened = context.services.repository(&backup.spec, &namespace).await;
    opened.map_err(|error| with_causes(&error))
}

/// Tells the world of a backup that is there.
pub async fn completed(
    context: &Context,
    backup: &EtcdBackup,
    finished: &Finished,
    now: Timestamp,
) {
    let manifest = &finished.manifest;
    let note = format!(
        "revision {}, {} bytes stored, {}: {}",
        manifest.revision, manifest.stored_size, manifest.level, finished.location
    );
    if backup.annotations().contains_key(CATALOGUE_ANNOTATION) {
        context
            .event(backup, false, "BackupFound", "Catalogue", &note)
            .await;
        return;
    }
    context
        .event(backup, false, "BackupCompleted", "Backup", &note)
        .await;
    audit(backup, "backup", &scope(&backup.spec), "completed");
    let metrics = &context.services.metrics;
    let labels = labels(backup);
    let verified = manifest.level >= Level::Verified;
    metrics.backup_succeeded(
        &labels,
        &Took {
            duration: took(backup, now),
            trace_id: manifest.trace_id.clone(),
        },
        manifest.stored_size,
        now,
        verified,
    );
    for (stage, seconds) in &finished.stages {
        metrics.stage_ended(stage, Duration::from_secs_f64(seconds.max(0.0)));
    }
    let retired = finished.retired.len() as u64;
    metrics.retention_deleted(&labels.namespace, &labels.schedule, retired);
    if retired > 0 {
        let gone = finished.retired.join(", ");
        audit(backup, "delete", &gone, "retired by retentionPolicy");
    }
    for warning in &finished.warnings {
        tracing::warn!(backup = %ResourceName::of(backup), "{warning}");
    }
    if labels.schedule.is_empty() {
        let done = crate::engine::Done {
            backup: GoodBackup::of(manifest, finished.location.clone()),
            warnings: Vec::new(),
            shares: Vec::new(),
            idle: false,
        };
        with_order(backup, |order| {
            order.tell_recovered(&context.services, &done, now)
        });
    }
}

/// Tells the world of a backup that failed for good.
pub async fn failed(
    context: &Context,
    backup: &EtcdBackup,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    context.event(backup, true, reason, "Backup", message).await;
    audit(backup, "backup", &scope(&backup.spec), "failed");
    let metrics = &context.services.metrics;
    let labels = labels(backup);
    let took = Took {
        duration: took(backup, now),
        trace_id: None,
    };
    metrics.backup_failed(&labels, &took, reason);
    if reason == ErrorClass::VerificationFailed.reason() {
        metrics.validation_failed(reason);
    }
    if labels.schedule.is_empty() {
        let failed = Failed {
            class: ErrorClass::from_reason(reason),
            message: message.to_owned(),
        };
        with_order(backup, |order| {
            order.tell_failed(&context.services, &failed, None, None, now)
        });
    }
}

/// Deletes what is stored of an object that goes; `true` when nothing more is to be done.
pub async fn delete_stored(context: &Context, backup: &EtcdBackup) -> bool {
    let name = ResourceName::of(backup);
    let found = match ask_store(context, backup).await {
        Stored::There(found) => found,
        Stored::Unknown(error) => {
            let note = format!(
                "the stored backup is not deleted while the store does not answer: {error}"
            );
            context
                .event(backup, true, "StoreUnavailable", "Delete", &note)
                .await;
            return false;
        }
        Stored::Absent | Stored::NotAsked => return true,
    };
    let deleted = async {
        let repository = open(context, backup).await?;
        let catalog = repository.catalog(None).await;
        let catalog = catalog.map_err(|error| with_causes(&error))?;
        if let Some(why) = retain::must_keep(&catalog.backups, &found.manifest.id) {
            return Ok(Some(why));
        }
        if let Some(pin) = retain::reader(&found.manifest, &catalog.pins, Timestamp::now()) {
            return Err(format!("{} reads it", pin.who));
        }
        let gone = repository.delete(&found.manifest).await;
        gone.map(|()| None).map_err(|error| with_causes(&error))
    };
    match deleted.await {
        Ok(None) => {
            audit(backup, "delete", &found.location, "deleted");
            context
                .event(
                    backup,
                    false,
                    "StoredBackupDeleted",
                    "Delete",
                    &found.location,
                )
                .await;
            true
        }
        Ok(Some(why)) => {
            audit(backup, "delete", &found.location, "kept");
            let note = format!("{} stays in the store: {why}", found.location);
            context
                .event(backup, true, "StoredBackupKept", "Delete", &note)
                .await;
            true
        }
        Err::<_, String>(error) => {
            tracing::warn!(backup = %name, "the stored backup could not be deleted: {error}");
            context
                .event(backup, true, "StoreUnavailable", "Delete", &error)
                .await;
            false
        }
    }
}

fn labels(backup: &EtcdBackup) -> BackupLabels {
    BackupLabels {
        namespace: backup.namespace().unwrap_or_default(),
        schedule: backup
            .annotations()
            .get(SCHEDULE_ANNOTATION)
            .cloned()
            .unwrap_or_default(),
        mode: format!("{:?}", backup.spec.backup_mode),
    }
}

fn took(backup: &EtcdBackup, now: Timestamp) -> Duration {
    let started = backup.status.as_ref().and_then(|status| status.start_time);
    started.map_or(Duration::ZERO, |started| {
        now.duration_since(started).unsigned_abs()
    })
}

/// The order that alerts of a single backup speak of.
fn with_order(backup: &EtcdBackup, tell: impl FnOnce(&Order<'_>)) {
    let status = backup.status.clone().unwrap_or_default();
    let run = Run {
        run_id: status.run_id.unwrap_or_default(),
        name: backup.name_any(),
        started: status.start_time.unwrap_or_default(),
        trigger: "wanted by its object".to_owned(),
    };
    tell(&Order {
        owner: &ResourceName::of(backup),
        scheduled: false,
        spec: &backup.spec,
        channels: &[],
        run: &run,
        recording: &Recording::default(),
    });
}
