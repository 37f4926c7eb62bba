//! What happened, told to the metrics: a method an outcome.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::families::{FAILED, Gauge, Metrics, OUTCOMES, SUCCESS};
use super::labels::{
    BackupLabels, Channel, Cluster, DecisionLabels, Exemplar, Mode, ModelLabels, Operation,
    Process, RatioLabels, Reason, ReasonLabels, Reconcile, ScheduleLabels, SourceLabels, StageName,
    WindowLabels, outcome,
};
use super::series::Series;
use crate::alert::AlertObserver;
use crate::repository::StoreObserver;
use crate::schedule::decide::Source;
use crate::telemetry;

/// How long a backup took, and in which trace that can be read.
#[derive(Debug, Clone)]
pub struct Took {
    /// From its beginning to its end.
    pub duration: Duration,
    /// The trace, when it was sent to a collector.
    pub trace_id: Option<String>,
}

impl Took {
    /// What began then, in the trace that is on, ends now.
    pub fn now(began: Instant) -> Self {
        Self {
            duration: began.elapsed(),
            trace_id: telemetry::trace_id(&tracing::Span::current()),
        }
    }
}

impl Metrics {
    /// A backup is complete; `verified` when what lies in the store was proved.
    pub fn backup_succeeded(
        &self,
        labels: &BackupLabels,
        took: &Took,
        stored_size: u64,
        at: Timestamp,
        verified: bool,
    ) {
        self.backup_ended(labels, SUCCESS, took);
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
    pub fn backup_failed(&self, labels: &BackupLabels, took: &Took, reason: &str) {
        self.backup_ended(labels, FAILED, took);
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

    fn backup_ended(&self, labels: &BackupLabels, status: &'static str, took: &Took) {
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
            let trace = took.trace_id.clone().map(|trace_id| Exemplar { trace_id });
            histogram.observe(took.duration.as_secs_f64(), trace, Some(SystemTime::now()));
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

    /// The first of the certificates in play with etcd, the client's and the members', expires then; shown for `valid_for`.
    pub fn certificate_expires(&self, cluster: &str, at: Timestamp, valid_for: Duration) {
        let labels = Cluster {
            cluster: cluster.to_owned(),
        };
        let end = Instant::now().checked_add(valid_for);
        self.certificate_expiry.until(labels, end, |gauge| {
            gauge.set(at.as_second() as f64);
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
            None => self.exposure.remove(&labels),
        }
    }

    /// What the schedule did beside the cron over `days` days: backups saved, and its mean and p99 exposure over the cron's, all as
    /// ratios.
    pub fn proved(&self, namespace: &str, schedule: &str, days: usize, ratios: [f64; 3]) {
        let days = days as u64;
        let [saved, mean, p99] = ratios;
        let labels = WindowLabels {
            namespace: namespace.to_owned(),
            schedule: schedule.to_owned(),
            days,
        };
        self.saved.with(labels, |gauge| {
            gauge.set(saved);
        });
        for (stat, ratio) in [("mean", mean), ("p99", p99)] {
            let labels = RatioLabels {
                namespace: namespace.to_owned(),
                schedule: schedule.to_owned(),
                days,
                stat,
            };
            self.exposure_ratio.with(labels, |gauge| {
                gauge.set(ratio);
            });
        }
    }

    /// A plan is in force: the interval, what decided it, and when the next backup is due (both `None` while suspended).
    pub fn planned(
        &self,
        namespace: &str,
        schedule: &str,
        source: &str,
        interval: Option<Duration>,
        next: Option<Timestamp>,
    ) {
        let labels = |source: String| SourceLabels {
            namespace: namespace.to_owned(),
            schedule: schedule.to_owned(),
            source,
        };
        let all = Source::ALL.map(|source| format!("{source:?}"));
        let gone = |other: &String| interval.is_none() || other != source;
        for other in all.into_iter().filter(gone) {
            self.interval.remove(&labels(other));
        }
        if let Some(interval) = interval {
            self.interval.with(labels(source.to_owned()), |gauge| {
                gauge.set(interval.as_secs_f64());
            });
        }
        let labels = ScheduleLabels::new(namespace, schedule);
        if next.is_none() {
            self.next.remove(&labels);
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
                series.remove(&labels);
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

    /// etcd has raised so many alarms; shown for `valid_for`.
    pub fn alarms(&self, cluster: &str, raised: usize, valid_for: Duration) {
        let end = Instant::now().checked_add(valid_for);
        let labels = Cluster {
            cluster: cluster.to_owned(),
        };
        self.alarms_raised.until(labels, end, |gauge| {
            gauge.set(raised as f64);
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
}

impl AlertObserver for Metrics {
    fn expects(&self, channel: &str) {
        for result in OUTCOMES {
            let labels = Channel {
                channel: channel.to_owned(),
                result,
            };
            self.alerts.with(labels, |_| ());
        }
    }

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
