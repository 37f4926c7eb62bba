//! One EtcdBackup of the manifests folder: made once, tried again after a failure, never twice.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{ErrorClass, EtcdBackup};
use crate::cause::with_causes;
use crate::engine::plan::{Interrupted, SingleBackup, judge_interrupted, single_backup};
use crate::engine::{
    BackupRecord, Failed, Failure, GoodBackup, Order, ResourceName, Run, Services, StageName,
};
use crate::pipeline::Recording;
use crate::records::{read_record, write_record};

/// How long to wait before an unreachable store is asked again about an interrupted run.
const STORE_RETRY: Duration = Duration::from_secs(15);

/// Works until the backup is there, or failed too often; with `once`, for one try, and for none while a failure before it
/// has its pause. Returns the class of the last failure.
pub async fn make(
    services: Arc<Services>,
    name: ResourceName,
    backup: EtcdBackup,
    once: bool,
) -> Result<(), ErrorClass> {
    let file = services.state.record("backups", &name);
    let mut record: BackupRecord = read_record(&file).unwrap_or_default();
    let save = |record: &BackupRecord| {
        write_record(&file, record).inspect_err(|error| {
            tracing::error!(backup = %name, "cannot save the state: {}", with_causes(error));
        })
    };
    while record.in_flight.is_some() {
        match find_run(&services, &name, &backup, record.in_flight.as_ref()).await {
            Ok(found) => {
                if let Interrupted::Finished(done, _) =
                    judge_interrupted(record.in_flight.as_ref(), found)
                {
                    record.done = Some(*done);
                    record.failure = None;
                }
                record.in_flight = None;
                let _ = save(&record);
            }
            Err(error) => {
                tracing::warn!(backup = %name, "the store does not answer about an interrupted run: {}", error.message);
                if once {
                    return Err(error.class);
                }
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
    loop {
        let now = Timestamp::now();
        match single_backup(&record, now) {
            SingleBackup::Done => return Ok(()),
            SingleBackup::GaveUp => return Err(last_class(&record)),
            SingleBackup::RetryAt(at) if once => {
                let last = record.failure.as_ref().map(|one| one.message.as_str());
                tracing::warn!(backup = %name, "it failed, and is not tried again before {at:.0}: {}", last.unwrap_or_default());
                return Err(last_class(&record));
            }
            SingleBackup::RetryAt(at) => {
                let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                tokio::time::sleep(wait).await;
            }
            SingleBackup::Make => {
                let run = Run {
                    run_id: uuid::Uuid::now_v7().to_string(),
                    name: name.name.clone(),
                    started: now,
                    trigger: "wanted by its manifest".to_owned(),
                };
                record.in_flight = Some(run.clone());
                if save(&record).is_err() {
                    return Err(ErrorClass::Failed);
                }
                attempt(&services, &name, &backup, &run, &mut record).await;
                let _ = save(&record);
            }
        }
    }
}

fn last_class(record: &BackupRecord) -> ErrorClass {
    let failure = record.failure.as_ref();
    failure.map_or(ErrorClass::Failed, |failure| {
        ErrorClass::from_reason(&failure.reason)
    })
}

async fn attempt(
    services: &Services,
    name: &ResourceName,
    backup: &EtcdBackup,
    run: &Run,
    record: &mut BackupRecord,
) {
    let order = Order {
        owner: name,
        scheduled: false,
        spec: &backup.spec,
        channels: &[],
        run,
        recording: &Recording::default(),
    };
    let outcome = order.carry_out(services, &StageName::default()).await;
    record.in_flight = None;
    let now = Timestamp::now();
    match outcome {
        Ok(done) => {
            order.tell_recovered(services, &done, now);
            record.done = Some(done.backup);
            record.failure = None;
        }
        Err(failed) => {
            let failure = Failure::after(
                record.failure.as_ref(),
                now,
                failed.class.reason(),
                failed.message.clone(),
            );
            record.failure = Some(failure);
            let retry = match single_backup(record, now) {
                SingleBackup::RetryAt(at) => Some(at),
                _ => None,
            };
            order.tell_failed(services, &failed, None, retry, now);
        }
    }
}

/// The backup that a run left in the store, if it did.
async fn find_run(
    services: &Services,
    name: &ResourceName,
    backup: &EtcdBackup,
    run: Option<&Run>,
) -> Result<Option<GoodBackup>, Failed> {
    let Some(run) = run else { return Ok(None) };
    let repository = services
        .repository(&backup.spec, &name.namespace)
        .await
        .map_err(|error| Failed {
            class: error.class(),
            message: with_causes(&error),
        })?;
    let catalog = repository.catalog(None).await.map_err(|error| Failed {
        class: error.class(),
        message: with_causes(&error),
    })?;
    let found = catalog
        .backups
        .iter()
        .find(|manifest| manifest.run_id == run.run_id);
    Ok(found.map(|manifest| GoodBackup::of(manifest, repository.url_of(manifest))))
}
