//! The families of docs/reference/metrics.md: their names, their types, and which series stand.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{
    BackupLabels, Channel, Cluster, DecisionLabels, Exemplar, Mode, ModelLabels, Operation,
    OutcomeLabels, Process, RatioLabels, Reason, ReasonLabels, Reconcile, ScheduleLabels,
    SourceLabels, StageName, Version, WindowLabels, outcome,
};
use super::series::Series;
use crate::api::ErrorClass;

/// A histogram whose buckets point at traces.
type Traced = HistogramWithExemplars<Exemplar>;
pub(super) type Gauge = prometheus_client::metrics::gauge::Gauge<f64, AtomicU64>;

/// The media type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The modes of backups and the outcomes of anything.
const MODES: [&str; 2] = ["Full", "Incremental"];
/// The modes of restores; the last is that of single objects.
const RESTORE_MODES: [&str; 4] = ["Full", "Incremental", "PointInTime", "Objects"];
pub(super) const OUTCOMES: [&str; 2] = [SUCCESS, FAILED];
pub(super) const SUCCESS: &str = "success";
pub(super) const FAILED: &str = "failed";

/// A backup takes from a second to an hour, and so does a restore.
const RUNS: [f64; 13] = [
    1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];

fn run_buckets() -> Histogram {
    Histogram::new(RUNS)
}

fn traced_run_buckets() -> Traced {
    Traced::new(RUNS.into_iter())
}

/// A stage takes from milliseconds to half an hour.
fn stage_buckets() -> Histogram {
    Histogram::new([
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    ])
}

/// All families, registered.
pub struct Metrics {
    registry: Registry,
    pub(super) backups: Series<OutcomeLabels, Counter>,
    pub(super) failures: Series<ReasonLabels, Counter>,
    pub(super) durations: Series<BackupLabels, Traced>,
    pub(super) sizes: Series<BackupLabels, Gauge>,
    pub(super) stages: Series<StageName, Histogram>,
    pub(super) validation_failures: Series<Reason, Counter>,
    pub(super) restores: Series<Mode, Histogram>,
    pub(super) db_size: Series<Cluster, Gauge>,
    pub(super) revision: Series<Cluster, Gauge>,
    pub(super) certificate_expiry: Series<Cluster, Gauge>,
    pub(super) last_success: Series<ScheduleLabels, Gauge>,
    pub(super) last_verified: Series<ScheduleLabels, Gauge>,
    pub(super) recoverable_from: Series<ScheduleLabels, Gauge>,
    pub(super) recoverable_to: Series<ScheduleLabels, Gauge>,
    pub(super) protected: Series<ScheduleLabels, Gauge>,
    pub(super) exposure: Series<ScheduleLabels, Gauge>,
    pub(super) saved: Series<WindowLabels, Gauge>,
    pub(super) exposure_ratio: Series<RatioLabels, Gauge>,
    pub(super) interval: Series<SourceLabels, Gauge>,
    pub(super) next: Series<ScheduleLabels, Gauge>,
    pub(super) decisions: Series<DecisionLabels, Counter>,
    pub(super) model: Series<ModelLabels, Gauge>,
    pub(super) drills: Series<ScheduleLabels, Gauge>,
    pub(super) deletions: Series<ScheduleLabels, Counter>,
    pub(super) recorder_lag: Series<ScheduleLabels, Gauge>,
    pub(super) alarms_raised: Series<Cluster, Gauge>,
    pub(super) store_requests: Series<Operation, Counter>,
    pub(super) alerts: Series<Channel, Counter>,
    pub(super) reconciles: Series<Reconcile, Counter>,
    pub(super) leader: Series<Process, Gauge>,
}

impl Metrics {
    /// All families, registered; the zero series of a schedule exist once it is expected.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("etcdguardian");
        let to = &mut registry;
        let build = Series::<Version, Gauge>::register(
            to,
            "build_info",
            "The version of this program; always 1",
            Gauge::default,
        );
        build.with(
            Version {
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            |gauge| {
                gauge.set(1.0);
            },
        );
        let metrics = Self {
            backups: Series::register(
                to,
                "backup",
                "Backups that ended, by outcome",
                Counter::default,
            ),
            failures: Series::register(
                to,
                "backup_failures",
                "Backups that failed, by the class of the error",
                Counter::default,
            ),
            durations: Series::register(
                to,
                "backup_duration_seconds",
                "How long backups took, successful or not",
                traced_run_buckets,
            ),
            sizes: Series::register(
                to,
                "backup_size_bytes",
                "Stored bytes of the newest backup",
                Gauge::default,
            ),
            stages: Series::register(
                to,
                "backup_stage_duration_seconds",
                "How long each stage of a backup took",
                stage_buckets,
            ),
            validation_failures: Series::register(
                to,
                "validation_failures",
                "Backups whose proof failed",
                Counter::default,
            ),
            restores: Series::register(
                to,
                "restore_duration_seconds",
                "How long restores took",
                run_buckets,
            ),
            db_size: Series::register(
                to,
                "etcd_db_size_bytes",
                "Size of the etcd database; absent while etcd is not sampled",
                Gauge::default,
            ),
            revision: Series::register(
                to,
                "etcd_revision",
                "Newest revision of etcd; absent while etcd is not sampled",
                Gauge::default,
            ),
            certificate_expiry: Series::register(
                to,
                "certificate_expiry_timestamp_seconds",
                "When the first of the certificates in play with etcd, the client's and the members', expires",
                Gauge::default,
            ),
            last_success: Series::register(
                to,
                "backup_last_success_timestamp_seconds",
                "When the last good backup ended; absent before the first",
                Gauge::default,
            ),
            last_verified: Series::register(
                to,
                "backup_last_verified_timestamp_seconds",
                "When the last proved backup ended; absent before the first",
                Gauge::default,
            ),
            recoverable_from: Series::register(
                to,
                "recoverable_from_timestamp_seconds",
                "The earliest moment that can be restored",
                Gauge::default,
            ),
            recoverable_to: Series::register(
                to,
                "recoverable_to_timestamp_seconds",
                "The latest moment that can be restored",
                Gauge::default,
            ),
            protected: Series::register(
                to,
                "schedule_protected",
                "1 while a verified backup is young enough for the interval in force",
                Gauge::default,
            ),
            exposure: Series::register(
                to,
                "exposure_changes",
                "Changes that would be lost if etcd died now; absent when not known",
                Gauge::default,
            ),
            saved: Series::register(
                to,
                "schedule_saved_ratio",
                "Backups saved against the cron over so many days; negative when there were more",
                Gauge::default,
            ),
            exposure_ratio: Series::register(
                to,
                "schedule_exposure_ratio",
                "Exposure over the cron's on the same changes, over so many days",
                Gauge::default,
            ),
            interval: Series::register(
                to,
                "schedule_interval_seconds",
                "The interval in force, and what decided it",
                Gauge::default,
            ),
            next: Series::register(
                to,
                "schedule_next_timestamp_seconds",
                "When the next backup is planned; absent while suspended",
                Gauge::default,
            ),
            decisions: Series::register(
                to,
                "decisions",
                "Decisions to back up, by what decided and why",
                Counter::default,
            ),
            model: Series::register(
                to,
                "model_info",
                "The model in force; always 1",
                Gauge::default,
            ),
            drills: Series::register(
                to,
                "drill_last_success_timestamp_seconds",
                "When a restore drill last succeeded; absent before the first",
                Gauge::default,
            ),
            deletions: Series::register(
                to,
                "retention_deletions",
                "Backups that retention deleted",
                Counter::default,
            ),
            recorder_lag: Series::register(
                to,
                "recorder_lag_revisions",
                "Revisions that the recorder is behind etcd; absent while it does not run",
                Gauge::default,
            ),
            alarms_raised: Series::register(
                to,
                "etcd_alarms",
                "Alarms that etcd has raised; absent while the recorder does not ask",
                Gauge::default,
            ),
            store_requests: Series::register(
                to,
                "store_requests",
                "Requests to stores, by outcome",
                Counter::default,
            ),
            alerts: Series::register(
                to,
                "alerts_sent",
                "Attempts to deliver a message, by outcome",
                Counter::default,
            ),
            reconciles: Series::register(
                to,
                "reconciles",
                "Reconciliations of resources, by outcome",
                Counter::default,
            ),
            leader: Series::register(
                to,
                "leader",
                "1 while this replica leads; absent without leader election",
                Gauge::default,
            ),
            registry,
        };
        metrics.expect_kinds();
        metrics
    }

    /// What is counted by a few words that are known beforehand exists from the start.
    fn expect_kinds(&self) {
        let reason = ErrorClass::VerificationFailed.reason().to_owned();
        self.validation_failures.with(Reason { reason }, |_| ());
        for mode in RESTORE_MODES {
            let mode = mode.to_owned();
            self.restores.with(Mode { mode }, |_| ());
        }
    }

    /// A schedule is known: its counters exist from now on, so that the first failure is a step from 0 to 1.
    pub fn expect_schedule(&self, namespace: &str, schedule: &str) {
        for mode in MODES {
            for status in OUTCOMES {
                self.backups
                    .with(outcome(namespace, schedule, mode, status), |_| ());
            }
            self.durations.with(
                BackupLabels {
                    namespace: namespace.to_owned(),
                    schedule: schedule.to_owned(),
                    mode: mode.to_owned(),
                },
                |_| (),
            );
        }
        self.deletions
            .with(ScheduleLabels::new(namespace, schedule), |_| ());
    }

    /// A schedule is gone: so are its series.
    pub fn forget_schedule(&self, namespace: &str, schedule: &str) {
        macro_rules! forget {
            ($($series:ident),* $(,)?) => {
                $(self.$series.keep(|labels| {
                    labels.namespace != namespace || labels.schedule != schedule
                });)*
            };
        }
        forget!(
            backups,
            failures,
            durations,
            sizes,
            last_success,
            last_verified,
            recoverable_from,
            recoverable_to,
            protected,
            exposure,
            saved,
            exposure_ratio,
            interval,
            next,
            decisions,
            model,
            drills,
            deletions,
            recorder_lag,
        );
    }

    /// The text of `/metrics`. What nobody updated in time is gone.
    pub fn render(&self) -> String {
        let now = Instant::now();
        self.db_size.expire(now);
        self.revision.expire(now);
        self.certificate_expiry.expire(now);
        self.exposure.expire(now);
        self.recorder_lag.expire(now);
        self.alarms_raised.expire(now);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
