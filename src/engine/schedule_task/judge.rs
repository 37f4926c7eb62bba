//! Observe and decide: what etcd and Prometheus say now, and what the core makes of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::ScheduleTask;
use crate::api::Source;
use crate::cause::with_causes;
use crate::engine::observe::Observed;
use crate::engine::record::GoodBackup;
use crate::etcd::{Etcd, EtcdError, MemberStatus, StatusSource};
use crate::schedule::State;
use crate::schedule::decide::{self, Decision, Observation};
use crate::schedule::history::History;
use crate::schedule::model::Model;
use crate::schedule::tick;
use crate::schedule::timescale::Timescale;

/// Certificates are looked at this often; the metric outlives a day without an answer, as when one of them has expired.
const CERTIFICATES_EVERY: SignedDuration = SignedDuration::from_hours(1);
const CERTIFICATES_VALID: Duration = Duration::from_secs(25 * 3600);

impl ScheduleTask {
    pub(super) async fn observe(&mut self, now: Timestamp) -> Observed {
        let spec = &self.schedule.spec.backup_template.spec;
        let cluster = self.services.cluster_of(spec, &self.name.namespace);
        let by_api = match spec.source {
            Source::Proxy => true,
            Source::Auto => cluster.endpoints.is_empty(),
            Source::Direct => false,
        };
        let options = self
            .services
            .connect_options(spec, &self.name.namespace)
            .await;
        let point = self
            .record
            .last_successful
            .as_ref()
            .and_then(GoodBackup::point);
        let secrets = Arc::clone(&self.services.secrets);
        let mut observed = match options {
            Ok(options) => {
                let etcd = self.services.clusters.of(&options);
                let seen = self
                    .signals
                    .observe(etcd.as_ref(), secrets.as_ref(), point, now);
                let seen = seen.await;
                match &seen.etcd_error {
                    Some(_) => self.services.clusters.forget(&options),
                    None => self.look_at_certificates(&etcd, now).await,
                }
                seen
            }
            Err(error) => {
                let silent = Silent(Mutex::new(Some(error)));
                let seen = self.signals.observe(&silent, secrets.as_ref(), point, now);
                seen.await
            }
        };
        // An export has no use for etcd, so nobody misses it.
        if by_api {
            observed.etcd_error = None;
        }
        self.db_size = observed.db_size.or(self.db_size);
        self.tell_of_etcd(&observed, now);
        observed
    }

    /// The first end of a certificate in play, to the metrics, once an hour: it asks every member anew.
    async fn look_at_certificates(&mut self, etcd: &Etcd, now: Timestamp) {
        let due = self
            .certificates_seen
            .is_none_or(|at| now.duration_since(at).abs() >= CERTIFICATES_EVERY);
        if !due {
            return;
        }
        self.certificates_seen = Some(now);
        let ends = etcd.certificates().await;
        let first = ends
            .iter()
            .filter_map(|certificate| certificate.validity())
            .map(|(_, _, until)| until)
            .min();
        if let Some(until) = first {
            let cluster = self.services.cluster_name();
            let metrics = &self.services.metrics;
            metrics.certificate_expires(&cluster, until, CERTIFICATES_VALID);
        }
    }

    pub(super) async fn decide(&mut self, observed: &Observed, now: Timestamp) -> Decision {
        let state = self
            .record
            .core
            .clone()
            .unwrap_or_else(|| self.new_core(now));
        let policy = self.policy.clone();
        let series = observed.series.clone();
        let mut archive = std::mem::take(&mut self.archive);
        let observation = Observation {
            exact_changes: observed.exact_changes,
            etcd_unhealthy: observed.etcd_error.is_some(),
            cadence: Some(Timescale::live_cadence(
                &policy,
                f64::from(series.step_seconds()),
            )),
        };
        // The daily fit takes up to a second of computing.
        let worked = tokio::task::spawn_blocking(move || {
            let mut state = state;
            let history = History::new(&series);
            let decision = tick::look(
                &policy,
                &mut state,
                &history,
                &mut archive,
                &observation,
                now,
            );
            (state, archive, decision)
        })
        .await;
        match worked {
            Ok((state, archive, decision)) => {
                tracing::debug!(
                    schedule = %self.name,
                    %now,
                    action = ?decision.action,
                    reason = ?decision.reason,
                    mode = ?decision.mode,
                    exposure = decision.exposure,
                    area = decision.area,
                    budget = decision.area_budget,
                    min_seconds = self.policy.min_seconds(),
                    "decided"
                );
                self.record.core = Some(state);
                self.archive = archive;
                decision
            }
            Err(error) => {
                tracing::error!(schedule = %self.name, %error, "the scheduling core failed: starting it anew from the history");
                let state = self.new_core(now);
                let history = History::new(&observed.series.range(0, 0));
                let decision =
                    decide::decide(&self.policy, &state, &history, &Observation::default(), now);
                self.record.core = Some(state);
                decision
            }
        }
    }

    pub(super) fn new_core(&mut self, now: Timestamp) -> State {
        let mut state = State::new(self.record.first_seen.unwrap_or(now));
        if let Some(backup) = &self.record.last_successful {
            state.backup_succeeded(backup.taken, Some(backup.revision));
        }
        self.model_warning = None;
        if let Some(path) = &self.schedule.spec.ai_optimization.model {
            let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
            match read.and_then(|text| Model::from_json(&text).map_err(|error| with_causes(&error)))
            {
                Ok(model) => state.adopt(model),
                Err(error) => {
                    self.model_warning = Some(format!("model {path} is not used: {error}"));
                }
            }
        }
        state
    }
}

/// An etcd that could not be connected to; says so once.
struct Silent(Mutex<Option<EtcdError>>);

#[async_trait]
impl StatusSource for Silent {
    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        let error = self.0.lock().ok().and_then(|mut error| error.take());
        Err(error.unwrap_or(EtcdError::Unavailable {
            attempts: "not connected".to_owned(),
        }))
    }
}
