//! One regular grid of what a cluster did: changes a second, DB size and load, with gaps where nothing is known.
//! Sources (Prometheus, the etcd sampler, trace files) build it; the schedule room only reads it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// The most cells a series may hold: ten years of 5-minute steps, or twelve days of seconds.
pub const MAX_CELLS: usize = 1 << 20;

/// One reading, at no particular time. Values that are not finite, or negative, count as missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The start of the span that the rates describe. A source whose rate looks back (such as
    /// Prometheus's `rate(…[5m])` at `t`) hands in `t` less its step.
    pub at: Timestamp,
    /// All changes a second, lease renewals and events included.
    pub writes: Option<f64>,
    /// Changes a second that would be missed after a disaster.
    pub significant: Option<f64>,
    /// The size of the database file, bytes.
    pub db_size: Option<f64>,
    /// How busy etcd is; any monotone scale.
    pub load: Option<f64>,
}

impl Point {
    /// A reading with nothing in it, to be filled in with struct update syntax.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self {
            at,
            writes: None,
            significant: None,
            db_size: None,
            load: None,
        }
    }
}

/// Why readings could not be put on a grid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// A step of zero.
    #[error("the series has a step of zero seconds; give the sampling interval, at least 1 s")]
    ZeroStep,
    /// More cells than [`MAX_CELLS`].
    #[error(
        "readings from {first} to {last} at a step of {step_seconds} s need {cells} cells, more than {MAX_CELLS}; \
         use a shorter history or a longer step, and look for a wrong timestamp"
    )]
    TooLong {
        /// The earliest reading.
        first: Timestamp,
        /// The latest reading.
        last: Timestamp,
        /// The step asked for.
        step_seconds: u32,
        /// What it would take.
        cells: i64,
    },
}

/// A regular grid. Cell `i` describes the span from `start + i·step` to `start + (i+1)·step`; NaN is a gap.
/// All vectors are equally long, apart from an absent `significant`.
#[derive(Debug, Clone)]
pub struct Series {
    step_seconds: u32,
    start: Timestamp,
    writes: Vec<f64>,
    significant: Option<Vec<f64>>,
    db_size: Vec<f64>,
    load: Vec<f64>,
}

impl Series {
    /// A series without cells that begins at `start`, a multiple of the step being best.
    ///
    /// # Errors
    /// When the step is zero.
    pub fn empty(start: Timestamp, step_seconds: u32) -> Result<Self, SeriesError> {
        if step_seconds == 0 {
            return Err(SeriesError::ZeroStep);
        }
        Ok(Self {
            step_seconds,
            start,
            writes: Vec::new(),
            significant: None,
            db_size: Vec::new(),
            load: Vec::new(),
        })
    }

    /// Puts readings in any order on a grid of `step_seconds` aligned to the Unix epoch; several in a
    /// cell are averaged, cells without one are gaps.
    ///
    /// # Errors
    /// When the step is zero or the readings lie too far apart for [`MAX_CELLS`].
    pub fn from_points(
        step_seconds: u32,
        points: impl IntoIterator<Item = Point>,
    ) -> Result<Self, SeriesError> {
        if step_seconds == 0 {
            return Err(SeriesError::ZeroStep);
        }
        let step = i64::from(step_seconds);
        let mut cells: BTreeMap<i64, CellMean> = BTreeMap::new();
        for point in points {
            cells
                .entry(point.at.as_second().div_euclid(step))
                .or_default()
                .add(&point);
        }
        let (Some(&first), Some(&last)) = (cells.keys().next(), cells.keys().next_back()) else {
            return Self::empty(Timestamp::UNIX_EPOCH, step_seconds);
        };
        let at = |cell: i64| Timestamp::from_second(cell * step).unwrap_or(Timestamp::MIN);
        let count = last - first + 1;
        let length = usize::try_from(count).unwrap_or(usize::MAX);
        if length > MAX_CELLS {
            return Err(SeriesError::TooLong {
                first: at(first),
                last: at(last),
                step_seconds,
                cells: count,
            });
        }
        let mut series = Self::empty(at(first), step_seconds)?;
        for cell in first..=last {
            series.push(
                &cells
                    .get(&cell)
                    .map_or(Point::at(at(cell)), |mean| mean.point(at(cell))),
            );
        }
        Ok(series)
    }

    /// Appends the next cell; the point's time is not looked at.
    pub fn push(&mut self, point: &Point) {
        let before = self.writes.len();
        if point.significant.is_some() || self.significant.is_some() {
            self.significant
                .get_or_insert_with(|| vec![f64::NAN; before])
                .push(clean(point.significant));
        }
        self.writes.push(clean(point.writes));
        self.db_size.push(clean(point.db_size));
        self.load.push(clean(point.load));
    }

    /// The same series with these as the significant changes, a value a cell; another number of them changes nothing.
    #[must_use]
    pub fn with_significant(mut self, rates: Vec<f64>) -> Self {
        if rates.len() == self.writes.len() {
            self.significant = Some(rates);
        }
        self
    }

    /// The length of a cell, seconds; never zero.
    #[must_use]
    pub fn step_seconds(&self) -> u32 {
        self.step_seconds
    }

    /// Where the first cell begins.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Where the last cell ends: what is known reaches to here.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.time_of(self.len())
    }

    /// The number of cells, gaps included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are no cells at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Changes a second that count as exposure: the significant ones where the source tells them apart.
    #[must_use]
    pub fn rates(&self) -> &[f64] {
        self.significant.as_deref().unwrap_or(&self.writes)
    }

    /// All changes a second.
    #[must_use]
    pub fn writes(&self) -> &[f64] {
        &self.writes
    }

    /// The significant changes a second, if the source tells them apart.
    #[must_use]
    pub fn significant(&self) -> Option<&[f64]> {
        self.significant.as_deref()
    }

    /// The DB size at each cell, bytes.
    #[must_use]
    pub fn db_size(&self) -> &[f64] {
        &self.db_size
    }

    /// The load at each cell.
    #[must_use]
    pub fn load(&self) -> &[f64] {
        &self.load
    }

    /// When cell `index` begins (also past the end).
    #[must_use]
    pub fn time_of(&self, index: usize) -> Timestamp {
        let cells = i64::try_from(index).unwrap_or(i64::MAX);
        let offset = SignedDuration::from_secs(cells.saturating_mul(i64::from(self.step_seconds)));
        self.start.checked_add(offset).unwrap_or(Timestamp::MAX)
    }

    /// The cell that contains `at`, or `None` outside the grid.
    #[must_use]
    pub fn index_of(&self, at: Timestamp) -> Option<usize> {
        let index = self.cells_before(at)?;
        (index < self.len()).then_some(index)
    }

    /// How many whole cells end at or before `at`; `None` before the start. May exceed the length.
    #[must_use]
    pub fn cells_before(&self, at: Timestamp) -> Option<usize> {
        let seconds = at.duration_since(self.start).as_secs();
        if at < self.start {
            return None;
        }
        usize::try_from(seconds / i64::from(self.step_seconds)).ok()
    }

    /// Where the last cell with a known rate ends, or `None` when there is none.
    #[must_use]
    pub fn fresh_until(&self) -> Option<Timestamp> {
        self.rates()
            .iter()
            .rposition(|rate| rate.is_finite())
            .map(|index| self.time_of(index + 1))
    }

    /// The cells known at `at`: everything that ended by then, later cells cut off.
    #[must_use]
    pub fn until(&self, at: Timestamp) -> Self {
        self.range(0, self.cells_before(at).unwrap_or(0))
    }

    /// The cells from `at` on.
    #[must_use]
    pub fn since(&self, at: Timestamp) -> Self {
        self.range(self.cells_before(at).unwrap_or(0), self.len())
    }

    /// The cells `from..to`, cut to what exists.
    #[must_use]
    pub fn range(&self, from: usize, to: usize) -> Self {
        let to = to.min(self.len());
        let from = from.min(to);
        let cut = |values: &[f64]| values.get(from..to).unwrap_or_default().to_vec();
        Self {
            step_seconds: self.step_seconds,
            start: self.time_of(from),
            writes: cut(&self.writes),
            significant: self.significant.as_deref().map(cut),
            db_size: cut(&self.db_size),
            load: cut(&self.load),
        }
    }

    /// The same history on a grid `factor` times as coarse, means of what is known in each cell.
    #[must_use]
    pub fn coarsened(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        let means =
            |values: &[f64]| -> Vec<f64> { values.chunks(factor).map(mean_of_known).collect() };
        Self {
            step_seconds: self
                .step_seconds
                .saturating_mul(u32::try_from(factor).unwrap_or(u32::MAX)),
            start: self.start,
            writes: means(&self.writes),
            significant: self.significant.as_deref().map(means),
            db_size: means(&self.db_size),
            load: means(&self.load),
        }
    }

    /// The reading in cell `index`, gaps as `None`.
    #[must_use]
    pub fn point(&self, index: usize) -> Option<Point> {
        let known = |value: Option<&f64>| value.copied().filter(|value| value.is_finite());
        (index < self.len()).then(|| Point {
            at: self.time_of(index),
            writes: known(self.writes.get(index)),
            significant: self
                .significant
                .as_ref()
                .and_then(|values| known(values.get(index))),
            db_size: known(self.db_size.get(index)),
            load: known(self.load.get(index)),
        })
    }
}

/// The mean of the finite values, NaN when there are none.
#[must_use]
pub fn mean_of_known(values: &[f64]) -> f64 {
    let (sum, count) = values
        .iter()
        .filter(|value| value.is_finite())
        .fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 {
        f64::NAN
    } else {
        sum / f64::from(count)
    }
}

/// Rates and sizes are finite and not negative; whatever else arrives is a gap.
fn clean(value: Option<f64>) -> f64 {
    value
        .filter(|value| value.is_finite() && *value >= 0.0)
        .unwrap_or(f64::NAN)
}

/// Running means of the readings that fell in one cell.
#[derive(Default)]
struct CellMean {
    sums: [f64; 4],
    counts: [u32; 4],
}

impl CellMean {
    fn add(&mut self, point: &Point) {
        let values = [point.writes, point.significant, point.db_size, point.load].map(clean);
        for ((sum, count), value) in self.sums.iter_mut().zip(&mut self.counts).zip(values) {
            if value.is_finite() {
                *sum += value;
                *count += 1;
            }
        }
    }

    fn point(&self, at: Timestamp) -> Point {
        let mut means = [None; 4];
        for (mean, (sum, count)) in means.iter_mut().zip(self.sums.iter().zip(self.counts)) {
            *mean = (count > 0).then(|| sum / f64::from(count));
        }
        let [writes, significant, db_size, load] = means;
        Point {
            at,
            writes,
            significant,
            db_size,
            load,
        }
    }
}
