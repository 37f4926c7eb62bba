//! Report: the state of a schedule to the board, the metrics and, where a person must act, the alerts.

use std::sync::Arc;

use jiff::Timestamp;

use super::ScheduleTask;
use crate::alert::{Facts, Kind};
use crate::engine::chains;
use crate::engine::meter;
use crate::engine::observe::Observed;
use crate::engine::plan::{self, Cover, Protection};
use crate::engine::record::GoodBackup;
use crate::engine::report;
use crate::schedule::decide::Decision;
use crate::schedule::explain;
use crate::schedule::plan::Reason;
use crate::schedule::size::{self, Surprise};
use crate::serve::ScheduleState;

/// etcd must be silent for this many looks before people are told: one lost packet is no outage.
const SILENT_LOOKS: u32 = 3;

impl ScheduleTask {
    pub(super) async fn publish(
        &mut self,
        observed: &Observed,
        decision: &Decision,
        now: Timestamp,
    ) {
        let protection = self.protection(now);
        self.tell_of_protection(protection, decision, now);
        self.tell_of_model(observed, decision, now);
        let recording = self.recording_state(observed.revision);
        let facts = report::Facts {
            record: &self.record,
            policy: &self.policy,
            decision: Some(decision),
            protection,
            store_error: self.store_error.as_ref(),
            etcd_error: self.etcd_error.as_ref(),
            signal_error: observed.error.as_deref(),
            recording: recording.as_ref(),
            generation: self.schedule.metadata.generation,
        };
        let status = report::status(&facts, &self.conditions, now);
        self.conditions.clone_from(&status.conditions);
        let mut warnings = observed.report.warnings.clone();
        warnings.extend(self.etcd_error.as_ref().map(|error| error.message.clone()));
        warnings.extend(observed.error.clone());
        warnings.extend(self.model_warning.clone());
        warnings.extend(self.backup_warnings.iter().cloned());
        let alarms = recording.as_ref().and_then(|one| one.alarms.clone());
        let alarms = alarms.unwrap_or_default().into_iter();
        warnings.extend(alarms.map(|alarm| format!("etcd has raised alarm {alarm}")));
        warnings.extend(
            self.policy
                .advice()
                .into_iter()
                .map(|advice| advice.message),
        );
        let protected_until = match protection {
            Protection::Protected { until } => Some(until),
            _ => None,
        };
        let mut state = ScheduleState {
            namespace: self.name.namespace.clone(),
            name: self.name.name.clone(),
            schedule: self.schedule.spec.schedule.clone(),
            ai_enabled: self.policy.ai_enabled,
            protected: protected_until.is_some(),
            protected_until,
            protection: report::protection_sentence(&facts),
            expected: None,
            running: self.stage.get(),
            why: explain::why(decision),
            status,
            db_size: observed.db_size,
            revision: observed.revision,
            signal: format!(
                "{:?}: {} ({})",
                observed.report.source, observed.report.signal, observed.report.why
            ),
            signal_warnings: warnings,
            backups: report::drawn_backups(&self.backups, &self.record),
            rates: report::drawn_rates(&observed.series, report::drawn_span(&self.policy), now),
            forecast: report::drawn_forecast(decision),
            cron_slots: report::drawn_slots(&self.policy, now),
            days: self.record.days.iter().cloned().collect(),
            chains: self.chains.clone(),
            holes: if self.chains.is_empty() {
                Vec::new()
            } else {
                chains::holes(&self.windows)
            },
            fills: self.fills.clone(),
            drills: self.record.drills.iter().cloned().collect(),
            next_drill: self.next_drill(),
        };
        state.expected = self.record.expected(self.db_size);
        if let Some(expected) = state.expected {
            let limit = self
                .schedule
                .spec
                .backup_template
                .spec
                .active_deadline_seconds;
            if expected.seconds.high > limit as f64 {
                state.signal_warnings.push(format!(
                    "the next backup may take {:.0} s, longer than activeDeadlineSeconds ({limit}) allows: raise it",
                    expected.seconds.high
                ));
            }
        }
        let cadence = self.cadence();
        let cluster = self.services.cluster_name();
        meter::looked(&self.services.metrics, &cluster, &state, decision, cadence);
        if let Some(recording) = recording {
            meter::recorded(
                &self.services.metrics,
                &self.name,
                &cluster,
                &recording,
                cadence,
            );
        }
        self.services
            .host
            .looked(&self.name, &state, decision)
            .await;
        self.services.board.schedule(&self.name, state, now);
        self.save(now, false).await;
    }

    pub(super) fn publish_running(&self) {
        let services = Arc::clone(&self.services);
        services.board.amend(&self.name, Timestamp::now(), |state| {
            state.running = Some("starting".to_owned());
            state.status.backup_history = self.record.history.iter().cloned().collect();
        });
    }

    pub(super) fn protection(&self, now: Timestamp) -> Protection {
        let cover = Cover {
            first_seen: self.record.first_seen.unwrap_or(now),
            last_verified: self
                .record
                .last_verified
                .as_ref()
                .map(|backup| backup.taken),
        };
        plan::protection(&self.policy, &cover, now)
    }

    pub(super) fn tell_of_protection(
        &self,
        protection: Protection,
        decision: &Decision,
        now: Timestamp,
    ) {
        // Who suspended it waits for no backup: nobody is told that one is overdue, and what stood is over.
        let suspended = self.policy.suspend;
        let overdue = matches!(protection, Protection::Overdue { .. }) && !suspended;
        let facts = Facts {
            what: if suspended {
                format!(
                    "schedule {} is suspended: no backups are taken, and nobody is told when they are overdue",
                    self.name.name
                )
            } else if overdue {
                format!(
                    "schedule {}: no proved backup is young enough",
                    self.name.name
                )
            } else {
                format!("schedule {} is protected again", self.name.name)
            },
            error: self
                .record
                .failure
                .as_ref()
                .map(|failure| failure.message.clone()),
            next_step: overdue.then(|| {
                self.services
                    .command(&format!("schedule trigger {}", self.name.name))
            }),
            last_good: self
                .record
                .last_verified
                .as_ref()
                .map(|backup| backup.taken),
            exposure: Some(decision.exposure),
            ..Facts::default()
        };
        // A schedule that was never protected has nothing to recover from.
        if overdue || suspended || matches!(protection, Protection::Protected { .. }) {
            self.services
                .tell(Kind::NotProtected, !overdue, &self.about(now), facts);
        }
    }

    pub(super) fn tell_of_model(&self, observed: &Observed, decision: &Decision, now: Timestamp) {
        let (services, namespace) = (&self.services, &self.name.namespace);
        let prometheus = services.prometheus_of(&self.schedule.spec, namespace);
        if !self.policy.ai_enabled || prometheus.is_none() {
            return;
        }
        let lost = observed.error.is_some() || decision.reason == Reason::SignalLost;
        let facts = Facts {
            what: if lost {
                format!(
                    "schedule {}: Prometheus gives no change rate, so the model has less to go by",
                    self.name.name
                )
            } else {
                format!(
                    "schedule {}: the change rate is known again",
                    self.name.name
                )
            },
            error: observed.error.clone(),
            next_step: lost.then(|| {
                self.services
                    .command(&format!("schedule explain {}", self.name.name))
            }),
            ..Facts::default()
        };
        self.services
            .tell(Kind::ModelFallback, !lost, &self.about(now), facts);
    }

    pub(super) fn tell_of_etcd(&mut self, observed: &Observed, now: Timestamp) {
        let silent = observed.etcd_error.is_some();
        if let (Some(error), None) = (&observed.etcd_error, &self.etcd_error) {
            tracing::warn!(schedule = %self.name, "etcd does not answer: {}", error.message);
        }
        self.etcd_error.clone_from(&observed.etcd_error);
        self.silent = if silent {
            self.silent.saturating_add(1)
        } else {
            0
        };
        if silent && self.silent < SILENT_LOOKS {
            return;
        }
        let facts = Facts {
            what: if silent {
                format!("etcd of schedule {} does not answer", self.name.name)
            } else {
                format!("etcd of schedule {} answers again", self.name.name)
            },
            error: observed
                .etcd_error
                .as_ref()
                .map(|error| error.message.clone()),
            next_step: silent.then(|| self.services.command("doctor")),
            last_good: self
                .record
                .last_verified
                .as_ref()
                .map(|backup| backup.taken),
            ..Facts::default()
        };
        self.services
            .tell(Kind::EtcdUnavailable, !silent, &self.about(now), facts);
    }

    /// Tells people of a backup that is much larger or smaller than the ones before it let expect.
    pub(super) fn tell_of_size(&mut self, backup: &GoodBackup, now: Timestamp) {
        if self.record.sizes.len() < size::LEAST || backup.base.is_some() {
            return;
        }
        let Some(expected) = self.record.expected(self.db_size) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "sizes are compared by ratio")]
        let actual = backup.raw_size as f64;
        let surprise = size::surprise(&expected, actual);
        let mib = |bytes: f64| bytes / (1024.0 * 1024.0);
        let facts = Facts {
            what: match surprise {
                Surprise::None => format!(
                    "schedule {}: the size of backups is as expected again",
                    self.name.name
                ),
                Surprise::Larger | Surprise::Smaller => format!(
                    "schedule {}: the last backup has {:.1} MiB where {:.1} MiB were expected",
                    self.name.name,
                    mib(actual),
                    mib(expected.raw_size.likely)
                ),
            },
            next_step: (surprise != Surprise::None)
                .then(|| self.services.command(&format!("backup show {}", backup.id))),
            last_good: Some(backup.taken),
            ..Facts::default()
        };
        self.services.tell(
            Kind::SizeSurprise,
            surprise == Surprise::None,
            &self.about(now),
            facts,
        );
    }
}
