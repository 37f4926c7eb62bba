//! What a schedule knows of its cluster: the series from Prometheus or from etcd's own Status, and the exact exposure.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::counts::Counts;
use super::dispatch::Failed;
use crate::api::PrometheusSource;
use crate::cause::with_causes;
use crate::etcd::StatusSource;
use crate::recorder::significance::{Counter, Weights};
use crate::secrets::Secrets;
use crate::signals::floor;
use crate::signals::series::{Point, Series, SeriesError};
use crate::signals::{
    PrometheusReader, Sampler, Signal, SignalError, SignalReport, SignalSource, Window,
};

/// History that is read: 16,384 cells, which is 56 days of 5-minute steps.
const CELLS: i64 = 16_384;
/// Cells that are read again at each look: the newest are still being filled.
const OVERLAP: i64 = 4;
/// Without an answer for this many cells the sampler's own history is used instead.
const STALE_CELLS: i64 = 15;

/// Where a schedule's signals come from.
pub struct SignalsSetup {
    /// Prometheus, when one is configured.
    pub prometheus: Option<PrometheusSource>,
    /// Namespace of its credentials.
    pub namespace: String,
    /// File of the sampler's history.
    pub sampler_file: PathBuf,
    /// Length of a cell, seconds.
    pub step_seconds: u32,
    /// What the recorder's changes weigh, and the file of their counts; `None` when no watch stands.
    pub counts: Option<(Weights, PathBuf)>,
}

/// Reads and keeps a schedule's signals.
pub struct Signals {
    setup: SignalsSetup,
    sampler: Sampler,
    counts: Option<Counts>,
    nothing: Series,
    from_prometheus: Option<(Series, SignalReport)>,
    warnings: Vec<String>,
}

/// What was seen at one moment.
pub struct Observed {
    /// The history.
    pub series: Series,
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

impl Signals {
    /// Opens the sampler's history.
    pub fn open(setup: SignalsSetup) -> Result<Self, SeriesError> {
        let nothing = Series::empty(Timestamp::UNIX_EPOCH, setup.step_seconds)?;
        let (sampler, warning) = Sampler::open(&setup.sampler_file, setup.step_seconds);
        let mut warnings: Vec<String> = warning.into_iter().collect();
        let counts = setup.counts.clone().map(|(weights, file)| {
            let (counts, warning) =
                Counts::open(&file, setup.step_seconds, weights, Timestamp::now());
            warnings.extend(warning);
            counts
        });
        Ok(Self {
            setup,
            sampler,
            counts,
            nothing,
            from_prometheus: None,
            warnings,
        })
    }

    /// Length of a cell, seconds.
    pub fn step_seconds(&self) -> u32 {
        self.setup.step_seconds
    }

    /// What a recording tells its changes to.
    pub fn counter(&self) -> Option<Arc<Counter>> {
        self.counts.as_ref().map(Counts::counter)
    }

    /// Looks at etcd and Prometheus once. `last_good` is the cluster and revision of the newest good backup.
    pub async fn observe(
        &mut self,
        etcd: &dyn StatusSource,
        secrets: &dyn Secrets,
        last_good: Option<(u64, i64)>,
        now: Timestamp,
    ) -> Observed {
        let sampled = self.sampler.tick(etcd, now).await;
        let etcd_error = match &sampled {
            Err(SignalError::Etcd(error)) => Some(Failed {
                class: error.class(),
                message: with_causes(error),
            }),
            Err(error) => {
                tracing::warn!(%error, "the sample was taken but not saved");
                None
            }
            Ok(sample) => {
                if let Some(counts) = &mut self.counts {
                    counts.look(sample);
                }
                None
            }
        };
        let error = match self.setup.prometheus.clone() {
            Some(source) => self.read_prometheus(&source, secrets, now).await.err(),
            None => None,
        };
        let best = self.best(now, error.is_some());
        let (series, mut report) = match &self.counts {
            Some(counts) => counts.instead_of(best, now),
            None => best,
        };
        // Nothing tells work from housekeeping here: what is written all the time is taken off.
        let raw = matches!(report.signal, Signal::EtcdWrites | Signal::EtcdRevision);
        let floored = Some(&series).filter(|_| raw).and_then(floor::less_floor);
        let counts_all = floored.is_none();
        let series = match floored {
            Some((above, floor)) => {
                report.why = format!(
                    "{}; less the {floor:.2} a second that are written all the time",
                    report.why
                );
                above
            }
            None => series,
        };
        report.warnings.append(&mut self.warnings);
        let newest = self.sampler.newest().filter(|_| etcd_error.is_none());
        let exposure = last_good
            .and_then(|(cluster, revision)| self.sampler.exposure_since(cluster, revision))
            .filter(|exposure| exposure.exact && report.source == SignalSource::Sampler)
            .filter(|_| counts_all);
        Observed {
            series,
            error,
            // Revisions count what the sampler counts; Prometheus may count significant changes only.
            #[expect(clippy::cast_precision_loss, reason = "revisions stay below 2^53")]
            exact_changes: exposure.map(|exposure| exposure.changes as f64),
            etcd_error,
            db_size: newest.map(|sample| sample.db_size),
            revision: newest.map(|sample| sample.revision),
            report,
        }
    }

    async fn read_prometheus(
        &mut self,
        source: &PrometheusSource,
        secrets: &dyn Secrets,
        now: Timestamp,
    ) -> Result<(), String> {
        let secret = match &source.credentials_secret {
            Some(name) => {
                let secret = secrets.read(&self.setup.namespace, name).await;
                Some(secret.map_err(|error| error.to_string())?)
            }
            None => None,
        };
        let reader =
            PrometheusReader::new(source, secret.as_ref()).map_err(|error| with_causes(&error))?;
        let step = i64::from(self.setup.step_seconds);
        // A long hole, as after a suspend, is read again in full.
        let tail = self
            .from_prometheus
            .as_ref()
            .and_then(|(series, _)| series.fresh_until());
        let cells = match tail {
            Some(fresh) if fresh <= now => now.duration_since(fresh).as_secs() / step + OVERLAP,
            _ => CELLS,
        };
        let span = SignedDuration::from_secs(cells.min(CELLS) * step);
        let window = Window::before(now, span, self.setup.step_seconds);
        let (read, mut report) = reader
            .read(&window)
            .await
            .map_err(|error| with_causes(&error))?;
        let series = match self.from_prometheus.take() {
            Some((known, _)) if cells < CELLS => joined(&known, read, self.setup.step_seconds, now),
            _ => read,
        };
        let counted = SignalReport::of(SignalSource::Prometheus, &series);
        report.samples = counted.samples;
        report.gaps = counted.gaps;
        report.fresh_until = counted.fresh_until;
        self.from_prometheus = Some((series, report));
        Ok(())
    }

    /// The Prometheus series while it is fresh, else the sampler's own, and which one it is.
    fn best(&self, now: Timestamp, failing: bool) -> (Series, SignalReport) {
        let own = || {
            let step = self.setup.step_seconds;
            let series = self
                .sampler
                .series(step)
                .unwrap_or_else(|_| self.nothing.clone());
            let mut report = SignalReport::of(SignalSource::Sampler, &series);
            if self.setup.prometheus.is_some() {
                report.warnings.push(
                    "Prometheus gives no fresh change rate: etcd's own revision is sampled instead"
                        .to_owned(),
                );
            }
            (series, report)
        };
        let Some((series, report)) = &self.from_prometheus else {
            return own();
        };
        let limit = i64::from(self.setup.step_seconds) * STALE_CELLS;
        let stale = series
            .fresh_until()
            .is_none_or(|fresh| now.duration_since(fresh).as_secs() > limit);
        if stale && (failing || series.fresh_until().is_none()) {
            let sampled = own();
            if sampled.1.samples > 0 {
                return sampled;
            }
        }
        (series.clone(), report.clone())
    }
}

/// The known cells before the newly read ones, then those; cut to the length that is kept.
fn joined(known: &Series, read: Series, step_seconds: u32, now: Timestamp) -> Series {
    let step = i64::from(step_seconds);
    let oldest = now.checked_sub(SignedDuration::from_secs(CELLS * step));
    let cells = |series: &Series, from: Timestamp, to: Timestamp| {
        let points: Vec<Point> = (0..series.len())
            .filter_map(|index| series.point(index))
            .filter(|point| from <= point.at && point.at < to)
            .collect();
        points
    };
    let mut points = cells(known, oldest.unwrap_or(Timestamp::MIN), read.start());
    points.extend(cells(&read, Timestamp::MIN, Timestamp::MAX));
    Series::from_points(step_seconds, points).unwrap_or(read)
}
