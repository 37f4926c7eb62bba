//! A series with running sums, so that every window that a decision needs costs the same however long it is.
//! All questions take the number of cells known so far, and never look past it.

use jiff::Timestamp;

use crate::signals::series::Series;

/// How far the running mean rate goes back, control days.
const MEAN_DAYS: f64 = 28.0;

/// A view of the past for decisions. Cell `i` covers `[i, i+1)` steps from the start.
#[derive(Debug, Clone)]
pub struct History {
    start: f64,
    step: f64,
    rates: Vec<f64>,
    load: Vec<f64>,
    /// `sums[i]`: changes a second summed over the known cells before `i`; `counts[i]`: how many those are.
    sums: Vec<f64>,
    counts: Vec<u32>,
}

impl History {
    /// Prepares a series; linear in its length.
    #[must_use]
    pub fn new(series: &Series) -> Self {
        let mut history = Self {
            start: seconds_of(series.start()),
            step: f64::from(series.step_seconds()),
            rates: Vec::with_capacity(series.len()),
            load: series.load().to_vec(),
            sums: vec![0.0],
            counts: vec![0],
        };
        for rate in series.rates() {
            history.push(*rate);
        }
        history
    }

    fn push(&mut self, rate: f64) {
        let known = rate.is_finite();
        let sum = self.sums.last().copied().unwrap_or(0.0);
        let count = self.counts.last().copied().unwrap_or(0);
        self.rates.push(rate);
        self.sums.push(if known { sum + rate } else { sum });
        self.counts.push(count + u32::from(known));
    }

    /// The step, seconds.
    #[must_use]
    pub fn step(&self) -> f64 {
        self.step
    }

    /// The number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rates.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty()
    }

    /// When cell `index` begins, Unix seconds.
    #[must_use]
    pub fn time_of(&self, index: usize) -> f64 {
        self.start + index as f64 * self.step
    }

    /// How many cells have ended by `at` (Unix seconds), at most all.
    #[must_use]
    pub fn known_at(&self, at: f64) -> usize {
        let cells = ((at - self.start) / self.step + 1e-6).floor();
        if cells <= 0.0 {
            0
        } else {
            (cells as usize).min(self.len())
        }
    }

    /// The rate of a cell; NaN in gaps and outside.
    #[must_use]
    pub fn rate(&self, index: usize) -> f64 {
        self.rates.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The load of a cell; NaN in gaps and outside.
    #[must_use]
    pub fn load(&self, index: usize) -> f64 {
        self.load.get(index).copied().unwrap_or(f64::NAN)
    }

    /// How many whole cells a span of seconds is, at least one.
    #[must_use]
    pub fn cells(&self, seconds: f64) -> usize {
        ((seconds / self.step).round() as usize).max(1)
    }

    /// How many cells in `from..to` are known.
    #[must_use]
    pub fn known(&self, from: usize, to: usize) -> usize {
        let to = to.min(self.len());
        let from = from.min(to);
        match (self.counts.get(from), self.counts.get(to)) {
            (Some(before), Some(after)) => (after - before) as usize,
            _ => 0,
        }
    }

    /// The mean rate of the known cells in `from..to`; `None` when all are gaps.
    #[must_use]
    pub fn mean(&self, from: usize, to: usize) -> Option<f64> {
        let to = to.min(self.len());
        let from = from.min(to);
        let known = self.known(from, to);
        let sum = self.sums.get(to)? - self.sums.get(from)?;
        // Differences of running sums can come out as -1e-17 where all cells are zero.
        (known > 0).then(|| (sum / known as f64).max(0.0))
    }

    /// The mean rate of the `seconds` before cell `now`, gaps left out.
    #[must_use]
    pub fn mean_back(&self, now: usize, seconds: f64) -> Option<f64> {
        self.mean(now.saturating_sub(self.cells(seconds)), now)
    }

    /// Where the last known cell before `now` ends.
    #[must_use]
    pub fn fresh_until(&self, now: usize) -> Option<usize> {
        let known = self.counts.get(now.min(self.len())).copied()?;
        // The first prefix with that count ends right after the last known cell.
        (known > 0).then(|| self.counts.partition_point(|count| *count < known))
    }

    /// The rates of `from..to` with each hole bridged by the means of the hour on either side.
    #[must_use]
    pub fn gapless(&self, from: usize, to: usize) -> Vec<f64> {
        let to = to.min(self.len());
        let mut rates: Vec<f64> = self.rates.get(from..to).unwrap_or_default().to_vec();
        let hour = self.cells(3600.0);
        let mut index = 0;
        while index < rates.len() {
            if rates.get(index).is_some_and(|rate| rate.is_finite()) {
                index += 1;
                continue;
            }
            let hole = rates
                .iter()
                .skip(index)
                .take_while(|rate| !rate.is_finite())
                .count();
            let (begin, end) = (from + index, from + index + hole);
            let before = self.mean(begin.saturating_sub(hour), begin);
            let after = self.mean(end, (end + hour).min(to));
            let (left, right) = match (before, after) {
                (Some(left), Some(right)) => (left, right),
                (Some(rate), None) | (None, Some(rate)) => (rate, rate),
                (None, None) => (0.0, 0.0),
            };
            for (place, rate) in rates.iter_mut().skip(index).take(hole).enumerate() {
                let part = (place as f64 + 0.5) / hole as f64;
                *rate = left + (right - left) * part;
            }
            index += hole;
        }
        rates
    }

    /// λ̄, the running mean rate at cell `now`, over 28 days. `day` is the control day. A shorter mean would follow a change of level
    /// sooner, and K with it: the same risk for busy weeks as for quiet ones, where backups belong to the busy ones.
    #[must_use]
    pub fn mean_rate(&self, now: usize, day: f64) -> Option<f64> {
        self.mean_back(now, MEAN_DAYS * day)
    }
}

/// An instant as Unix seconds with fractions.
#[must_use]
pub fn seconds_of(at: Timestamp) -> f64 {
    at.as_second() as f64 + f64::from(at.subsec_nanosecond()) / 1e9
}

/// Unix seconds as an instant, to the millisecond; out-of-range values are clamped.
#[must_use]
pub fn instant_of(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).unwrap_or(if seconds < 0.0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
