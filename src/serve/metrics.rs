//! The metrics of docs/reference/metrics.md, as methods named by what happened.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::series::Series;
use crate::alert::AlertObserver;
use crate::repository::StoreObserver;

type Gauge = prometheus_client::metrics::gauge::Gauge<f64, AtomicU64>;

/// The media type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a backup in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackupLabels {
    /// Namespace.
    pub namespace: String,
    /// Schedule, empty for a single backup.
    pub schedule: String,
    /// Full or Incremental.
    pub mode: String,
}

/// A schedule in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ScheduleLabels {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub schedule: String,
}

impl ScheduleLabels {
    /// The labels of a schedule.
    pub fn new(namespace: &str, schedule: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            schedule: schedule.to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    namespace: String,
    schedule: String,
    mode: String,
    status: &'static str,
}

/// A schedule with further words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    namespace: String,
    schedule: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    namespace: String,
    schedule: String,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    namespace: String,
    schedule: String,
    source: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    namespace: String,
    schedule: String,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cluster {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageName {
    stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Channel {
    channel: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    kind: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Process {}

/// The modes of backups and the outcomes of anything.
const MODES: [&str; 2] = ["Full", "Incremental"];
const OUTCOMES: [&str; 2] = [SUCCESS, FAILED];
const SUCCESS: &str = "success";
const FAILED: &str = "failed";

/// A backup takes from a second to an hour.
fn run_buckets() -> Histogram {
    Histogram::new([
        1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
    ])
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
    backups: Series<OutcomeLabels, Counter>,
    failures: Series<ReasonLabels, Counter>,
    durations: Series<BackupLabels, Histogram>,
    sizes: Series<BackupLabels, Gauge>,
    stages: Series<StageName, Histogram>,
    validation_failures: Series<Reason, Counter>,
    restores: Series<Mode, Histogram>,
    db_size: Series<Cluster, Gauge>,
    revision: Series<Cluster, Gauge>,
    last_success: Series<ScheduleLabels, Gauge>,
    last_verified: Series<ScheduleLabels, Gauge>,
    recoverable_from: Series<ScheduleLabels, Gauge>,
    recoverable_to: Series<ScheduleLabels, Gauge>,
    protected: Series<ScheduleLabels, Gauge>,
    exposure: Series<ScheduleLabels, Gauge>,
    interval: Series<SourceLabels, Gauge>,
    next: Series<ScheduleLabels, Gauge>,
    decisions: Series<DecisionLabels, Counter>,
    model: Series<ModelLabels, Gauge>,
    drills: Series<ScheduleLabels, Gauge>,
    deletions: Series<ScheduleLabels, Counter>,
    recorder_lag: Series<ScheduleLabels, Gauge>,
    store_requests: Series<Operation, Counter>,
    alerts: Series<Channel, Counter>,
    reconciles: Series<Reconcile, Counter>,
    leader: Series<Process, Gauge>,
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
        Self {
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
                run_buckets,
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
            interval,
            next,
            decisions,
            model,
            drills,
            deletions,
            recorder_lag,
        );
    }

    /// A backup is complete; `verified` when what lies in the store was proved.
    pub fn backup_succeeded(
        &self,
        labels: &BackupLabels,
        duration: Duration,
        stored_size: u64,
        at: Timestamp,
        verified: bool,
    ) {
        self.backup_ended(labels, SUCCESS, duration);
        self.sizes.with(labels.clone(), |gauge| {
            gauge.set(stored_size as f64);
        });
        self.restored_times(
            &labels.namespace,
            &labels.schedule,
            Some(at),
            verified.then_some(at),
        );
    }

    /// A backup failed, with the class of its error.
    pub fn backup_failed(&self, labels: &BackupLabels, duration: Duration, reason: &str) {
        self.backup_ended(labels, FAILED, duration);
        self.failures.with(
            ReasonLabels {
                namespace: labels.namespace.clone(),
                schedule: labels.schedule.clone(),
                reason: reason.to_owned(),
            },
            |counter| {
                counter.inc();
            },
        );
    }

    fn backup_ended(&self, labels: &BackupLabels, status: &'static str, duration: Duration) {
        let BackupLabels {
            namespace,
            schedule,
            mode,
        } = labels;
        // The other outcome exists too, for backups without a schedule.
        for either in OUTCOMES {
            self.backups
                .with(outcome(namespace, schedule, mode, either), |_| ());
        }
        self.backups
            .with(outcome(namespace, schedule, mode, status), |counter| {
                counter.inc();
            });
        self.durations.with(labels.clone(), |histogram| {
            histogram.observe(duration.as_secs_f64());
        });
    }

    /// What the catalogue says after a start: when the last good and the last proved backup ended.
    pub fn restored_times(
        &self,
        namespace: &str,
        schedule: &str,
        success: Option<Timestamp>,
        verified: Option<Timestamp>,
    ) {
        let labels = ScheduleLabels::new(namespace, schedule);
        set_moment(&self.last_success, &labels, success);
        set_moment(&self.last_verified, &labels, verified);
    }

    /// A stage of a backup ended.
    pub fn stage_ended(&self, stage: &str, duration: Duration) {
        let labels = StageName {
            stage: stage.to_owned(),
        };
        self.stages.with(labels, |histogram| {
            histogram.observe(duration.as_secs_f64());
        });
    }

    /// A proof failed.
    pub fn validation_failed(&self, reason: &str) {
        let labels = Reason {
            reason: reason.to_owned(),
        };
        self.validation_failures.with(labels, |counter| {
            counter.inc();
        });
    }

    /// A restore ended.
    pub fn restore_ended(&self, mode: &str, duration: Duration) {
        let labels = Mode {
            mode: mode.to_owned(),
        };
        self.restores.with(labels, |histogram| {
            histogram.observe(duration.as_secs_f64());
        });
    }

    /// etcd was sampled. The values are shown for `valid_for`, which is a few sampling periods: a value that nobody
    /// confirms is worse than none.
    pub fn cluster_sampled(&self, cluster: &str, size: i64, revision: i64, valid_for: Duration) {
        let labels = Cluster {
            cluster: cluster.to_owned(),
        };
        let end = Instant::now().checked_add(valid_for);
        self.db_size.until(labels.clone(), end, |gauge| {
            gauge.set(size as f64);
        });
        self.revision.until(labels, end, |gauge| {
            gauge.set(revision as f64);
        });
    }

    /// What would be lost now; shown for `valid_for`. `None` when it is not known.
    pub fn exposure(
        &self,
        namespace: &str,
        schedule: &str,
        changes: Option<f64>,
        valid_for: Duration,
    ) {
        let labels = ScheduleLabels::new(namespace, schedule);
        match changes {
            Some(changes) => {
                let end = Instant::now().checked_add(valid_for);
                self.exposure.until(labels, end, |gauge| {
                    gauge.set(changes);
                });
            }
            None => self.exposure.keep(|one| *one != labels),
        }
    }

    /// A plan is in force: the interval, what decided it, and when the next backup is due (`None` while suspended).
    pub fn planned(
        &self,
        namespace: &str,
        schedule: &str,
        source: &str,
        interval: Duration,
        next: Option<Timestamp>,
    ) {
        let labels = SourceLabels {
            namespace: namespace.to_owned(),
            schedule: schedule.to_owned(),
            source: source.to_owned(),
        };
        self.interval.keep(|one| {
            one.namespace != namespace || one.schedule != schedule || one.source == source
        });
        self.interval.with(labels, |gauge| {
            gauge.set(interval.as_secs_f64());
        });
        let labels = ScheduleLabels::new(namespace, schedule);
        if next.is_none() {
            self.next.keep(|one| *one != labels);
        }
        set_moment(&self.next, &labels, next);
    }

    /// It was decided to back up.
    pub fn decided(&self, namespace: &str, schedule: &str, source: &str, reason: &str) {
        let labels = DecisionLabels {
            namespace: namespace.to_owned(),
            schedule: schedule.to_owned(),
            source: source.to_owned(),
            reason: reason.to_owned(),
        };
        self.decisions.with(labels, |counter| {
            counter.inc();
        });
    }

    /// What can be restored, and whether that protects; `None` for what cannot.
    pub fn recoverable(
        &self,
        namespace: &str,
        schedule: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        protected: bool,
    ) {
        let labels = ScheduleLabels::new(namespace, schedule);
        for (series, moment) in [(&self.recoverable_from, from), (&self.recoverable_to, to)] {
            if moment.is_none() {
                series.keep(|one| *one != labels);
            }
            set_moment(series, &labels, moment);
        }
        self.protected.with(labels, |gauge| {
            gauge.set(if protected { 1.0 } else { 0.0 });
        });
    }

    /// The model in force; `None` when none is.
    pub fn model(&self, namespace: &str, schedule: &str, model: Option<&str>) {
        self.model.keep(|one| {
            one.namespace != namespace
                || one.schedule != schedule
                || Some(one.model.as_str()) == model
        });
        if let Some(model) = model {
            let labels = ModelLabels {
                namespace: namespace.to_owned(),
                schedule: schedule.to_owned(),
                model: model.to_owned(),
            };
            self.model.with(labels, |gauge| {
                gauge.set(1.0);
            });
        }
    }

    /// A restore drill succeeded.
    pub fn drill_succeeded(&self, namespace: &str, schedule: &str, at: Timestamp) {
        set_moment(
            &self.drills,
            &ScheduleLabels::new(namespace, schedule),
            Some(at),
        );
    }

    /// Retention deleted backups.
    pub fn retention_deleted(&self, namespace: &str, schedule: &str, count: u64) {
        self.deletions
            .with(ScheduleLabels::new(namespace, schedule), |counter| {
                counter.inc_by(count);
            });
    }

    /// The recorder is so many revisions behind; shown for `valid_for`.
    pub fn recorder_lag(
        &self,
        namespace: &str,
        schedule: &str,
        revisions: i64,
        valid_for: Duration,
    ) {
        let end = Instant::now().checked_add(valid_for);
        self.recorder_lag
            .until(ScheduleLabels::new(namespace, schedule), end, |gauge| {
                gauge.set(revisions as f64);
            });
    }

    /// A request to a store ended.
    pub fn store_request(&self, operation: &'static str, ok: bool) {
        for result in OUTCOMES {
            let labels = Operation {
                operation: operation.to_owned(),
                result,
            };
            self.store_requests.with(labels, |counter| {
                counter.inc_by(u64::from(ok == (result == SUCCESS)));
            });
        }
    }

    /// An alert channel is known.
    pub fn expect_channel(&self, channel: &str) {
        for result in OUTCOMES {
            let labels = Channel {
                channel: channel.to_owned(),
                result,
            };
            self.alerts.with(labels, |_| ());
        }
    }

    /// A resource was reconciled.
    pub fn reconciled(&self, kind: &str, ok: bool) {
        for result in OUTCOMES {
            let labels = Reconcile {
                kind: kind.to_owned(),
                result,
            };
            self.reconciles.with(labels, |counter| {
                counter.inc_by(u64::from(ok == (result == SUCCESS)));
            });
        }
    }

    /// Whether this replica leads.
    pub fn leading(&self, leads: bool) {
        self.leader.with(Process {}, |gauge| {
            gauge.set(if leads { 1.0 } else { 0.0 });
        });
    }

    /// The text of `/metrics`. What nobody updated in time is gone.
    pub fn render(&self) -> String {
        let now = Instant::now();
        self.db_size.expire(now);
        self.revision.expire(now);
        self.exposure.expire(now);
        self.recorder_lag.expire(now);
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

impl AlertObserver for Metrics {
    fn sent(&self, channel: &str, ok: bool) {
        for result in OUTCOMES {
            let labels = Channel {
                channel: channel.to_owned(),
                result,
            };
            self.alerts.with(labels, |counter| {
                counter.inc_by(u64::from(ok == (result == SUCCESS)));
            });
        }
    }
}

impl StoreObserver for Metrics {
    fn request(&self, operation: &'static str, ok: bool) {
        self.store_request(operation, ok);
    }
}

fn outcome(namespace: &str, schedule: &str, mode: &str, status: &'static str) -> OutcomeLabels {
    OutcomeLabels {
        namespace: namespace.to_owned(),
        schedule: schedule.to_owned(),
        mode: mode.to_owned(),
        status,
    }
}

fn set_moment(
    series: &Series<ScheduleLabels, Gauge>,
    labels: &ScheduleLabels,
    moment: Option<Timestamp>,
) {
    if let Some(moment) = moment {
        series.with(labels.clone(), |gauge| {
            gauge.set(moment.as_millisecond() as f64 / 1000.0);
        });
    }
}
