//! What a schedule knows of its cluster: the series from Prometheus or from etcd's own Status, and the exact exposure.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::counts::Counts;
use super::dispatch::Failed;
use super::lookout::{Lookouts, SampledCluster, Samples, Signalled};
use super::readings::{ReadSource, Readings};
use crate::api::PrometheusSource;
use crate::etcd::StatusSource;
use crate::recorder::significance::{Counter, Weights};
use crate::schedule::history::History;
use crate::secrets::Secrets;
use crate::signals::series::{Series, SeriesError};
use crate::signals::{SignalReport, SignalSource};

/// Without an answer for this many cells the sampler's own history is used instead.
const STALE_CELLS: i64 = 15;

/// Where a schedule's signals come from.
#[derive(Clone, PartialEq)]
pub struct SignalsSetup {
    /// Whose samples.
    pub cluster: SampledCluster,
    /// Prometheus, when one is configured.
    pub prometheus: Option<PrometheusSource>,
    /// What the recorder's changes weigh, and the file of their counts; `None` when no watch stands.
    pub counts: Option<(Weights, PathBuf)>,
}

/// Reads and keeps a schedule's signals.
pub struct Signals {
    setup: SignalsSetup,
    samples: Arc<Samples>,
    counts: Option<Counts>,
    readings: Option<(ReadSource, Arc<Readings>)>,
    warnings: Vec<String>,
}

/// What was seen at one moment.
pub struct Observed {
    /// The history.
    pub series: Arc<Series>,
    /// The same with its running sums.
    pub history: Arc<History>,
    /// Where it came from and how complete it is.
    pub report: SignalReport,
    /// Why the wanted source did not answer.
    pub error: Option<String>,
    /// Exact changes since the last good backup, where the revision tells.
    pub exact_changes: Option<f64>,
    /// Why etcd did not answer.
    pub etcd_error: Option<Failed>,
    /// Size of the database, bytes.
    pub db_size: Option<i64>,
    /// The newest revision.
    pub revision: Option<i64>,
}

/// How a schedule looks: who is asked, and when.
pub struct Look<'a> {
    /// The cluster.
    pub etcd: &'a dyn StatusSource,
    /// Credentials.
    pub secrets: &'a dyn Secrets,
    /// Cluster and revision of the newest good backup.
    pub last_good: Option<(u64, i64)>,
    /// What another schedule heard at most so long ago is good enough.
    pub within: Duration,
    /// When.
    pub now: Timestamp,
}

impl Signals {
    /// Opens the histories in `folder`; where there is none, it goes on from what was known `before`.
    pub async fn open(
        setup: SignalsSetup,
        lookouts: &Lookouts,
        folder: &Path,
        before: Option<&Self>,
    ) -> Result<Self, SeriesError> {
        let step_seconds = setup.cluster.step_seconds;
        let before = before.map(|before| &*before.samples);
        let opened = lookouts.samples(folder, &setup.cluster, before);
        let (samples, warning) = opened.await?;
        let mut warnings: Vec<String> = warning.into_iter().collect();
        let counts = setup.counts.clone().map(|(weights, file)| {
            let (counts, warning) = Counts::open(&file, step_seconds, weights, Timestamp::now());
            warnings.extend(warning);
            counts
        });
        let readings = setup.prometheus.as_ref().map(|source| {
            let of = ReadSource {
                namespace: setup.cluster.namespace.clone(),
                source: serde_json::to_string(source).unwrap_or_default(),
                step_seconds,
            };
            let readings = lookouts.readings(&of);
            (of, readings)
        });
        Ok(Self {
            setup,
            samples,
            counts,
            readings,
            warnings,
        })
    }

    /// Where they come from.
    pub fn setup(&self) -> &SignalsSetup {
        &self.setup
    }

    /// Length of a cell, seconds.
    pub fn step_seconds(&self) -> u32 {
        self.setup.cluster.step_seconds
    }

    /// The samples of the cluster.
    pub fn samples(&self) -> &Arc<Samples> {
        &self.samples
    }

    /// What a recording tells its changes to.
    pub fn counter(&self) -> Option<Arc<Counter>> {
        self.counts.as_ref().map(Counts::counter)
    }

    /// Looks at etcd and Prometheus once.
    pub async fn observe(&mut self, look: &Look<'_>) -> Observed {
        let now = look.now;
        let asked = self
            .samples
            .look(look.etcd, look.last_good, look.within, now);
        let (seen, exposure) = asked.await;
        if let (Some(counts), Some(sample)) = (&mut self.counts, &seen.sample) {
            counts.look(sample);
        }
        let (read, error) = match (&self.setup.prometheus, &self.readings) {
            (Some(source), Some((of, readings))) => {
                let read = readings.look((source, of), look.secrets, look.within, now);
                read.await
            }
            _ => (None, None),
        };
        let mut best = self.best(&seen.signalled, read, now, error.is_some());
        let counted = self
            .counts
            .as_ref()
            .and_then(|counts| counts.instead_of((&best.plain, &mut best.report), now));
        if let Some((series, report)) = counted {
            best = Signalled::of(Arc::new(series), report);
        }
        best.report.warnings.append(&mut self.warnings);
        let exposure = exposure
            .filter(|exposure| exposure.exact && best.report.source == SignalSource::Sampler)
            .filter(|_| best.counts_all);
        Observed {
            series: best.series,
            history: best.history,
            report: best.report,
            error,
            // Revisions count what the sampler counts; Prometheus may count significant changes only.
            #[expect(clippy::cast_precision_loss, reason = "revisions stay below 2^53")]
            exact_changes: exposure.map(|exposure| exposure.changes as f64),
            etcd_error: seen.error.clone(),
            db_size: seen.sample.map(|sample| sample.db_size),
            revision: seen.sample.map(|sample| sample.revision),
        }
    }

    /// The Prometheus series while it is fresh, else the sampler's own.
    fn best(
        &self,
        own: &Signalled,
        read: Option<Signalled>,
        now: Timestamp,
        failing: bool,
    ) -> Signalled {
        let own = || {
            let mut own = own.clone();
            if self.setup.prometheus.is_some() {
                own.report.warnings.push(
                    "Prometheus gives no fresh change rate: etcd's own revision is sampled instead"
                        .to_owned(),
                );
            }
            own
        };
        let Some(read) = read else {
            return own();
        };
        let limit = i64::from(self.step_seconds()) * STALE_CELLS;
        let fresh = read.plain.fresh_until();
        let stale = fresh.is_none_or(|fresh| now.duration_since(fresh).as_secs() > limit);
        if stale && (failing || fresh.is_none()) {
            let sampled = own();
            if sampled.report.samples > 0 {
                return sampled;
            }
        }
        read
    }
}
