//! What Prometheus tells, shared as the samples are: it is asked once for all schedules that look at about the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as Turn;

use super::lookout::{Signalled, forget_later, fresh};
use crate::api::PrometheusSource;
use crate::cause::with_causes;
use crate::secrets::Secrets;
use crate::signals::series::{Point, Series};
use crate::signals::{PrometheusReader, SignalReport, SignalSource, Window};

/// History that is read: 16,384 cells, which is 56 days of 5-minute steps.
const CELLS: i64 = 16_384;
/// Cells that are read again at each look: the newest are still being filled.
const OVERLAP: i64 = 4;
/// A cell is read this part of its length after its end, and at most [`SETTLED_WITHIN`]: until then a scrape in it may be under way,
/// and what was decided on its rate could not be told from the history.
const SETTLING: i32 = 10;
/// As long as Prometheus waits for a slow target by default.
const SETTLED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// Which readings of Prometheus are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadSource {
    /// Namespace of its credentials.
    pub namespace: String,
    /// The source, as JSON.
    pub source: String,
    /// Length of a cell, seconds.
    pub step_seconds: u32,
}

/// What a Prometheus tells.
#[derive(Default)]
pub struct Readings {
    state: Turn<Read>,
}

#[derive(Default)]
struct Read {
    begun: Option<Instant>,
    error: Option<String>,
    known: Option<(Arc<Series>, SignalReport)>,
    /// That made ready.
    ready: Option<Signalled>,
}

impl Readings {
    /// What Prometheus says, as `Samples::look`: what is known of it, and why it did not answer.
    pub async fn look(
        self: &Arc<Self>,
        (source, of): (&PrometheusSource, &ReadSource),
        secrets: &dyn Secrets,
        within: Duration,
        now: Timestamp,
    ) -> (Option<Signalled>, Option<String>) {
        let arrived = Instant::now();
        let mut state = self.state.lock().await;
        if !state
            .begun
            .is_some_and(|begun| fresh(begun, arrived, within))
        {
            let begun = Instant::now();
            let known = state.known.as_ref().map(|(known, _)| &**known);
            match read(source, of, secrets, known, now).await {
                Ok((series, report)) => {
                    state.known = Some((Arc::new(series), report));
                    state.ready = None;
                    state.error = None;
                }
                Err(error) => state.error = Some(error),
            }
            state.begun = Some(begun);
            forget_later(self, |one| &one.state, |state| state.ready = None);
        }
        if state.ready.is_none() {
            let known = state.known.clone();
            state.ready = known.map(|(series, report)| Signalled::of(series, report));
        }
        (state.ready.clone(), state.error.clone())
    }
}

/// Reads what is new since the `known` cells.
async fn read(
    source: &PrometheusSource,
    of: &ReadSource,
    secrets: &dyn Secrets,
    known: Option<&Series>,
    now: Timestamp,
) -> Result<(Series, SignalReport), String> {
    let secret = match &source.credentials_secret {
        Some(name) => {
            let secret = secrets.read(&of.namespace, name).await;
            Some(secret.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let reader =
        PrometheusReader::new(source, secret.as_ref()).map_err(|error| with_causes(&error))?;
    let step = i64::from(of.step_seconds);
    // A long hole, as after a suspend, is read again in full.
    let cells = match known.and_then(Series::fresh_until) {
        Some(fresh) if fresh <= now => now.duration_since(fresh).as_secs() / step + OVERLAP,
        _ => CELLS,
    };
    let span = SignedDuration::from_secs(cells.min(CELLS) * step);
    let settling = SignedDuration::from_secs(step) / SETTLING;
    let settled = now.checked_sub(settling.min(SETTLED_WITHIN)).unwrap_or(now);
    let window = Window::before(settled, span, of.step_seconds);
    let (read, mut report) = reader
        .read(&window)
        .await
        .map_err(|error| with_causes(&error))?;
    let series = match known {
        Some(known) if cells < CELLS => joined(known, read, of.step_seconds, now),
        _ => read,
    };
    let counted = SignalReport::of(SignalSource::Prometheus, &series);
    report.samples = counted.samples;
    report.gaps = counted.gaps;
    report.fresh_until = counted.fresh_until;
    Ok((series, report))
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
