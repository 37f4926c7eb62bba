//! What the loop sees and does, as metrics.

use std::time::Duration;

use jiff::Timestamp;

use super::ResourceName;
use super::dispatch::Failed;
use super::report::RecordingState;
use crate::pipeline::Completed;
use crate::repository::Level;
use crate::schedule::decide::Decision;
use crate::serve::{BackupLabels, Metrics, ScheduleState, Took};

/// Values of a look are shown for this many looks: one that nobody confirms any more disappears.
const VALID_LOOKS: f64 = 5.0;

/// A look at a schedule: exposure, plan, window, model, and the cluster that was sampled.
pub fn looked(
    metrics: &Metrics,
    cluster: &str,
    state: &ScheduleState,
    decision: &Decision,
    cadence: f64,
) {
    let (namespace, name) = (&state.namespace, &state.name);
    // Looks are at least a connection attempt apart, whatever the cadence.
    let valid_for = Duration::from_secs_f64(VALID_LOOKS * cadence.max(15.0));
    if let (Some(size), Some(revision)) = (state.db_size, state.revision) {
        metrics.cluster_sampled(cluster, size, revision, valid_for);
    }
    metrics.exposure(namespace, name, Some(decision.exposure), valid_for);
    let source = format!("{:?}", decision.source);
    let interval = u64::try_from(decision.interval_seconds).unwrap_or(0);
    let interval = (decision.at < Timestamp::MAX).then(|| Duration::from_secs(interval));
    metrics.planned(
        namespace,
        name,
        &source,
        interval,
        state.status.next_backup_time,
    );
    metrics.recoverable(
        namespace,
        name,
        state.status.recoverable_from,
        state.status.recoverable_to,
        state.protected,
    );
    metrics.restored_times(
        namespace,
        name,
        state.status.last_successful_time,
        state.status.last_verified_time,
    );
    metrics.model(namespace, name, decision.model.as_deref());
    for proof in &decision.proofs {
        let ratios = [
            proof.saved_percent / 100.0,
            proof.mean_ratio,
            proof.p99_ratio,
        ];
        metrics.proved(namespace, name, proof.days, ratios);
    }
}

/// How far the standing watch is behind etcd, and what it is told beside its rows.
pub fn recorded(
    metrics: &Metrics,
    name: &ResourceName,
    cluster: &str,
    recording: &RecordingState,
    cadence: f64,
) {
    let valid_for = Duration::from_secs_f64(VALID_LOOKS * cadence.max(15.0));
    if let Some(lag) = recording.lag {
        metrics.recorder_lag(&name.namespace, &name.name, lag, valid_for);
    }
    if let Some(alarms) = &recording.alarms {
        metrics.alarms(cluster, alarms.len(), valid_for);
    }
}

/// It was decided to back up.
pub fn decided(metrics: &Metrics, name: &ResourceName, decision: &Decision) {
    let (source, reason) = (
        format!("{:?}", decision.source),
        format!("{:?}", decision.reason),
    );
    metrics.decided(&name.namespace, &name.name, &source, &reason);
}

/// A backup completed at `now`.
pub fn completed(
    metrics: &Metrics,
    labels: &BackupLabels,
    done: &Completed,
    took: &Took,
    now: Timestamp,
) {
    let manifest = &done.manifest;
    let verified = manifest.level >= Level::Verified;
    metrics.backup_succeeded(labels, took, manifest.stored_size, now, verified);
    for (stage, duration) in &done.stages {
        metrics.stage_ended(stage.name(), *duration);
    }
    let retired = u64::try_from(done.retired.len()).unwrap_or(0);
    metrics.retention_deleted(&labels.namespace, &labels.schedule, retired);
}

/// A backup failed.
pub fn failed(metrics: &Metrics, labels: &BackupLabels, failed: &Failed, took: &Took) {
    let reason = failed.class.reason();
    metrics.backup_failed(labels, took, reason);
    if failed.class == crate::api::ErrorClass::VerificationFailed {
        metrics.validation_failed(reason);
    }
}
