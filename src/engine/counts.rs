//! The recorder's counts as a signal: sampled beside etcd's revision, and put in place of a lesser signal once there are enough.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::recorder::significance::{Counter, Weights};
use crate::signals::series::{Point, Series};
use crate::signals::{Sample, Sampler, Signal, SignalReport, SignalSource};

/// A signal is learned from two weeks of five-minute cells; half of them are enough to prefer a better one that is younger.
const LEARNED_CELLS: usize = 4032;
/// Without a count for this many cells the other signal is used again.
const STALE_CELLS: i64 = 15;

/// Samples of a counter.
pub struct Counts {
    counter: Arc<Counter>,
    sampler: Sampler,
    step_seconds: u32,
    /// etcd's revision at the look before: a count that has not reached it is late and says nothing about now.
    before: Option<i64>,
}

impl Counts {
    /// Opens the history of counts; the second value says what is wrong with it.
    pub fn open(
        file: &Path,
        step_seconds: u32,
        weights: Weights,
        now: Timestamp,
    ) -> (Self, Option<String>) {
        let (sampler, warning) = Sampler::open(file, step_seconds);
        let first_run = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let counts = Self {
            counter: Counter::new(weights, first_run),
            sampler,
            step_seconds,
            before: None,
        };
        (counts, warning)
    }

    /// What a recording tells its changes to.
    pub fn counter(&self) -> Arc<Counter> {
        Arc::clone(&self.counter)
    }

    /// Notes the count at the moment of a sample of etcd.
    pub fn look(&mut self, etcd: &Sample) {
        let before = self.before.replace(etcd.revision);
        let counted = self.counter.counted();
        let current = counted.filter(|counted| before.is_some_and(|at| counted.reached >= at));
        let Some(counted) = current else { return };
        let sample = Sample {
            cluster_id: counted.run,
            revision: counted.hundredths,
            ..*etcd
        };
        if let Err(error) = self.sampler.take(sample) {
            tracing::warn!(%error, "the recorder's count was not saved");
        }
    }

    /// The counts in place of another signal; none while they are too few or late, or the schedule asks for its own query. Why they are
    /// too few is added to the report.
    pub fn instead_of(
        &self,
        (other, report): (&Series, &mut SignalReport),
        now: Timestamp,
    ) -> Option<(Series, SignalReport)> {
        let counts = self.sampler.series(self.step_seconds).ok()?;
        let step = i64::from(self.step_seconds);
        let fresh = counts
            .fresh_until()
            .is_some_and(|at| now.duration_since(at).as_secs() <= step * STALE_CELLS);
        if report.signal == Signal::CustomQuery || !fresh {
            return None;
        }
        let series = beside(&counts, other);
        let mut counted = SignalReport::of(SignalSource::Recorder, &series);
        let wanted = report.samples.min(LEARNED_CELLS).div_ceil(2);
        if counted.samples < wanted {
            report.why = format!(
                "{}; the recorder's counts by key cover {} moments, and {wanted} are needed to learn from",
                report.why, counted.samples
            );
            return None;
        }
        counted.warnings = std::mem::take(&mut report.warnings);
        Some((series, counted))
    }
}

/// The counts as changes a second, with what the other series knows of size and load at those times.
fn beside(counts: &Series, other: &Series) -> Series {
    let mut series = counts.range(0, 0);
    for point in (0..counts.len()).filter_map(|index| counts.point(index)) {
        let known = other.index_of(point.at).and_then(|at| other.point(at));
        series.push(&Point {
            writes: point.writes.map(|hundredths| hundredths / 100.0),
            load: known.and_then(|known| known.load),
            ..point
        });
    }
    series
}
