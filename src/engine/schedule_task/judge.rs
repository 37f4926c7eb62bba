//! Observe and decide: what etcd and Prometheus say now, and what the core makes of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::ScheduleTask;
use crate::api::{EtcdBackupSpec, Source};
use crate::cause::with_causes;
use crate::engine::Services;
use crate::engine::lookout::Samples;
use crate::engine::observe::{Look, Observed};
use crate::engine::record::GoodBackup;
use crate::etcd::{Etcd, EtcdError, MemberStatus, StatusSource};
use crate::schedule::State;
use crate::schedule::decide::{self, Decision, Observation};
use crate::schedule::history::History;
use crate::schedule::model::Model;
use crate::schedule::tick;
use crate::schedule::timescale::Timescale;

/// Certificates are looked at this often; the metric outlives a day without an answer, as when one of them has expired.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(3600);
const CERTIFICATES_VALID: Duration = Duration::from_secs(25 * 3600);

impl ScheduleTask {
    /// Looks at etcd and Prometheus; what another schedule heard of them at most `within` ago is good enough.
    pub(super) async fn observe(&mut self, within: Duration, now: Timestamp) -> Observed {
        let services = Arc::clone(&self.services);
        let schedule = Arc::clone(&self.schedule);
        let spec = &schedule.spec.backup_template.spec;
        let cluster = services.cluster_of(spec, &self.name.namespace);
        let by_api = match spec.source {
            Source::Proxy => true,
            Source::Auto => cluster.endpoints.is_empty(),
            Source::Direct => false,
        };
        let last_good = self.record.last_successful.as_ref();
        let samples = Arc::clone(self.signals.samples());
        let etcd = Asked {
            services: &services,
            spec,
            namespace: &self.name.namespace,
            samples: &samples,
        };
        let look = Look {
            etcd: &etcd,
            secrets: services.secrets.as_ref(),
            last_good: last_good.and_then(GoodBackup::point),
            within,
            now,
        };
        let mut observed = self.signals.observe(&look).await;
        // An export has no use for etcd, so nobody misses it.
        if by_api {
            observed.etcd_error = None;
        }
        self.db_size = observed.db_size.or(self.db_size);
        self.tell_of_etcd(&observed, now);
        observed
    }

    pub(super) async fn decide(&mut self, observed: &Observed, now: Timestamp) -> Decision {
        let state = self
            .record
            .core
            .clone()
            .unwrap_or_else(|| self.new_core(now));
        let step = f64::from(observed.series.step_seconds());
        let observation = Observation {
            exact_changes: observed.exact_changes,
            etcd_unhealthy: observed.etcd_error.is_some(),
            cadence: Some(Timescale::live_cadence(&self.policy, step)),
        };
        let policy = self.policy.clone();
        let history = Arc::clone(&observed.history);
        let known_until = observed.series.end();
        let rate = observed.series.rates().last().copied();
        let mut archive = std::mem::take(&mut self.archive);
        let work = move || {
            let mut state = state;
            let decision = tick::look(
                &policy,
                &mut state,
                &history,
                &mut archive,
                &observation,
                now,
            );
            (state, archive, decision)
        };
        // The daily fit takes up to a second of computing, what the cron alone decides next to nothing.
        let worked = if self.policy.ai_enabled {
            let worked = tokio::task::spawn_blocking(work).await;
            worked.map_err(|error| error.to_string())
        } else {
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            worked.map_err(|_| "it panicked".to_owned())
        };
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
                    %known_until,
                    rate,
                    "decided"
                );
                self.record.core = Some(state);
                self.archive = archive;
                decision
            }
            Err(error) => {
                tracing::error!(schedule = %self.name, error, "the scheduling core failed: starting it anew from the history");
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

/// The etcd of a schedule, reached when it is asked, with the credentials of that moment.
struct Asked<'a> {
    services: &'a Services,
    spec: &'a EtcdBackupSpec,
    namespace: &'a str,
    samples: &'a Samples,
}

#[async_trait]
impl StatusSource for Asked<'_> {
    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        let options = self.services.connect_options(self.spec, self.namespace);
        let options = options.await?;
        let etcd = self.services.clusters.of(&options);
        let status = etcd.status().await;
        match &status {
            Err(_) => self.services.clusters.forget(&options),
            // The first end of a certificate in play, once an hour: it asks every member anew.
            Ok(_) if self.samples.certificates_due(CERTIFICATES_EVERY) => {
                self.look_at_certificates(&etcd).await;
            }
            Ok(_) => {}
        }
        status
    }
}

impl Asked<'_> {
    async fn look_at_certificates(&self, etcd: &Etcd) {
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
}
