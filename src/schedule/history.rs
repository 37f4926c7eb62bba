//! A series with running sums, so that every window that a decision needs costs the same however long it is.
//! All questions take the number of cells known so far, and never look past it.

use jiff::Timestamp;

use crate::signals::series::Series;

/// How far the running mean rate goes back, control days.
const MEAN_DAYS: f64 = 28.0;

/// How long the level of activity is looked at, control days.
const LEVEL_DAYS: f64 = 2.0;
/// How many times the level K may stand for.
const DROP: f64 = 2.0;

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

    /// The first known cell; the number of cells where none is.
    #[must_use]
    pub fn first_known(&self) -> usize {
        self.counts
            .partition_point(|count| *count == 0)
            .saturating_sub(1)
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

    /// The change rate of this moment, from the `seconds` before cell `now`: the geometric mean of their mean and of the newest cell. The
    /// noise of one cell is halved so, and the end of a burst is seen at once.
    #[must_use]
    pub fn recent_rate(&self, now: usize, seconds: f64) -> Option<f64> {
        let mean = self.mean_back(now, seconds)?;
        let newest = self.rate(now.wrapping_sub(1));
        Some(if newest.is_finite() {
            (mean * newest.max(0.0)).sqrt()
        } else {
            mean
        })
    }

    /// How the last two control days compare with the same hours of up to four weeks before them; 1 while there are none.
    #[must_use]
    pub fn level(&self, now: usize, day: f64) -> f64 {
        let width = self.cells(LEVEL_DAYS * day);
        let week = self.cells(7.0 * day);
        let then: Vec<f64> = (1..=4)
            .filter_map(|weeks| now.checked_sub(weeks * week))
            .filter_map(|end| self.mean(end.checked_sub(width)?, end))
            .collect();
        let sum: f64 = then.iter().sum();
        match self.mean_back(now, LEVEL_DAYS * day) {
            Some(recent) if sum > 0.0 => recent * then.len() as f64 / sum,
            _ => 1.0,
        }
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

    /// What of λ̄ counts after a lasting drop: K is not to be more than twice what the level of the last two days calls for.
    #[must_use]
    pub fn after_drop(&self, now: usize, day: f64) -> f64 {
        (DROP * self.level(now, day)).min(1.0)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::signals::series::Point;

    const DAY: f64 = 86_400.0;

    fn history(rates: impl IntoIterator<Item = f64>) -> History {
        let mut series = Series::empty(Timestamp::UNIX_EPOCH, 300).unwrap();
        for rate in rates {
            series.push(&Point {
                writes: Some(rate),
                ..Point::at(Timestamp::UNIX_EPOCH)
            });
        }
        History::new(&series)
    }

    #[test]
    fn the_end_of_a_burst_is_seen_at_once() {
        let burst = history([9.0, 9.0, 9.0, 0.0]);
        assert_eq!(burst.recent_rate(3, 900.0), Some(9.0));
        assert_eq!(burst.recent_rate(4, 900.0), Some(0.0));
        let hole = history([4.0, 4.0, f64::NAN]);
        assert_eq!(hole.recent_rate(3, 900.0), Some(4.0));
        assert_eq!(hole.recent_rate(0, 900.0), None);
        assert_eq!(hole.first_known(), 0);
        assert_eq!(history([f64::NAN, f64::NAN, 1.0]).first_known(), 2);
        assert_eq!(history([f64::NAN]).first_known(), 1);
        assert_eq!(history([]).first_known(), 0);
    }

    #[test]
    fn a_weekend_is_no_drop_and_a_drop_is_one() {
        let office = |cell: usize| if cell / 288 % 7 < 5 { 5.0 } else { 0.5 };
        let weeks = history((0..5 * 2016).map(office));
        let monday = 4 * 2016;
        assert!((weeks.level(monday, DAY) - 1.0).abs() < 1e-9);
        assert_eq!(weeks.after_drop(monday, DAY), 1.0);
        assert_eq!(weeks.level(600, DAY), 1.0, "nothing to compare with");
        let dropped = history((0..5 * 2016).map(|cell| {
            let share = if cell < monday { 1.0 } else { 0.1 };
            share * office(cell)
        }));
        let wednesday = monday + 2 * 288;
        assert!((dropped.after_drop(wednesday, DAY) - 0.2).abs() < 1e-9);
    }
}
