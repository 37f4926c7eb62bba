//! The shadow cron: what the plain cron would have had at risk on the same writes, averaged over its phases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Days of tallies that are kept.
const KEPT_DAYS: usize = 56;
/// Days whose levels are kept: as far as a comparison looks back.
const LEVEL_DAYS: usize = 28;

/// Exposure under the cron at cell `now` for each phase: the changes since the slot `offset` cells ago,
/// for offsets of 1..=period cells. Phases that follow on each other with the same exposure are told together, with their number: a
/// yearly cron has a hundred thousand of them, and a young history, or a quiet one, tells few apart.
pub fn phases(
    history: &[f64],
    now: usize,
    period_cells: usize,
    step: f64,
    mut each: impl FnMut(f64, usize),
) {
    let (mut changes, mut same) = (0.0, 0);
    let known = period_cells.min(now);
    for offset in 1..=known {
        let rate = now.checked_sub(offset).and_then(|index| history.get(index));
        let more = rate.map_or(0.0, |rate| rate * step);
        if more != 0.0 && same > 0 {
            each(changes, same);
            same = 0;
        }
        changes += more;
        same += 1;
    }
    same += period_cells - known;
    if same > 0 {
        each(changes, same);
    }
}

/// Mean and 99 % quantile of the exposure, per phase pooled over `from..to`, of the cron on gapless `rates`.
#[must_use]
pub fn reference(rates: &[f64], from: usize, to: usize, period_cells: usize, step: f64) -> Levels {
    let mut samples = Vec::with_capacity((to - from) * period_cells);
    for now in (from + 1)..=to {
        phases(rates, now, period_cells, step, |changes, count| {
            samples.extend(std::iter::repeat_n(changes, count));
        });
    }
    Levels::of(&mut samples)
}

/// The mean and the 99 % quantile of an exposure over time, changes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Levels {
    /// The mean over time.
    pub mean: f64,
    /// What it stays under 99 % of the time.
    pub p99: f64,
}

impl Levels {
    /// The levels of samples equally spaced in time; reorders them.
    #[must_use]
    pub fn of(samples: &mut [f64]) -> Self {
        if samples.is_empty() {
            return Self::default();
        }
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let index = ((samples.len() as f64 * 0.99) as usize).min(samples.len() - 1);
        let p99 = *samples.select_nth_unstable_by(index, f64::total_cmp).1;
        Self { mean, p99 }
    }

    /// These levels over the cron's; 1 where the cron has nothing at risk.
    #[must_use]
    pub fn over(&self, cron: &Self) -> Self {
        let ratio = |own: f64, cron: f64| if cron > 0.0 { own / cron } else { 1.0 };
        Self {
            mean: ratio(self.mean, cron.mean),
            p99: ratio(self.p99, cron.p99),
        }
    }
}

/// The live comparison: real and shadow exposure, day by day, for eight weeks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shadow {
    days: Vec<Tally>,
}

/// One control day of both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tally {
    day: i64,
    seconds: f64,
    backups: u32,
    cron_backups: f64,
    area: f64,
    cron_area: f64,
    /// Seconds spent at each level, in steps of 5 %.
    levels: BTreeMap<i16, f64>,
    cron_levels: BTreeMap<i16, f64>,
}

/// What the comparison says over some days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Control days with samples.
    pub days: f64,
    /// Backups that the cron would have taken in them.
    pub cron_backups: f64,
    /// Backups saved against the cron, percent.
    pub saved_percent: f64,
    /// Mean exposure over the cron's.
    pub mean_ratio: f64,
    /// p99 exposure over the cron's.
    pub p99_ratio: f64,
}

impl Shadow {
    /// Adds a cell: the real exposure at its end, its area, and the gapless `rates` up to and including it.
    pub fn add(&mut self, cell: &Cell<'_>) {
        let day = (cell.at / cell.day).floor() as i64;
        if self.days.last().is_none_or(|tally| tally.day < day) {
            self.days.push(Tally {
                day,
                ..Tally::default()
            });
            if self.days.len() > KEPT_DAYS {
                self.days.remove(0);
            }
            let past = self.days.len().checked_sub(LEVEL_DAYS + 1);
            if let Some(past) = past.and_then(|index| self.days.get_mut(index)) {
                past.levels.clear();
                past.cron_levels.clear();
            }
        }
        let Some(tally) = self.days.last_mut() else {
            return;
        };
        let weight = cell.step / cell.period_cells as f64;
        tally.seconds += cell.step;
        tally.cron_backups += 1.0 / cell.period_cells as f64;
        // A cron's slot before what is known would have had more at risk than can be told.
        let Some(own) = cell
            .changes
            .filter(|_| cell.rates.len() >= cell.period_cells)
        else {
            return;
        };
        let mut sum = 0.0;
        phases(
            cell.rates,
            cell.rates.len(),
            cell.period_cells,
            cell.step,
            |changes, count| {
                let count = count as f64;
                sum += changes * count;
                *tally.cron_levels.entry(level(changes)).or_default() += weight * count;
            },
        );
        tally.cron_area += sum * weight;
        tally.area += own * cell.step;
        *tally.levels.entry(level(own)).or_default() += cell.step;
    }

    /// Control days that were counted, today among them.
    #[must_use]
    pub fn days(&self) -> usize {
        self.days.len()
    }

    /// Counts a good backup.
    pub fn backup(&mut self) {
        if let Some(tally) = self.days.last_mut() {
            tally.backups += 1;
        }
    }

    /// The comparison over the last `days` control days of `day` seconds, at most 28; `None` before anything was counted.
    #[must_use]
    pub fn over(&self, days: usize, day: f64) -> Option<Comparison> {
        let recent = self.days.get(self.days.len().saturating_sub(days)..)?;
        let sum = |value: fn(&Tally) -> f64| recent.iter().map(value).sum::<f64>();
        let cron_backups = sum(|tally| tally.cron_backups);
        if cron_backups <= 0.0 {
            return None;
        }
        let ratio = |own: f64, cron: f64| if cron > 0.0 { own / cron } else { 1.0 };
        Some(Comparison {
            days: recent.iter().map(|tally| tally.seconds).sum::<f64>() / day,
            cron_backups,
            saved_percent: 100.0 * (1.0 - sum(|tally| f64::from(tally.backups)) / cron_backups),
            mean_ratio: ratio(sum(|tally| tally.area), sum(|tally| tally.cron_area)),
            p99_ratio: ratio(
                p99(recent.iter().map(|tally| &tally.levels)),
                p99(recent.iter().map(|tally| &tally.cron_levels)),
            ),
        })
    }

    /// Σ U_shadow / Σ U_real over the whole days of eight weeks: below 1 the real schedule carried more than the cron's risk. In a part of a
    /// day it depends on how long ago the last backup is.
    #[must_use]
    pub fn realised(&self) -> Option<f64> {
        let (_, over) = self.days.split_last()?;
        let sum = |value: fn(&Tally) -> f64| over.iter().map(value).sum::<f64>();
        let (cron, real) = (sum(|tally| tally.cron_area), sum(|tally| tally.area));
        (real > 0.0).then(|| cron / real)
    }
}

/// One cell of the live comparison.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Its end, Unix seconds.
    pub at: f64,
    /// The control day, seconds.
    pub day: f64,
    /// Its length, seconds.
    pub step: f64,
    /// The cron's period in cells.
    pub period_cells: usize,
    /// The real exposure at its end; `None` in a hole of the signal, where neither side's is known.
    pub changes: Option<f64>,
    /// The rates of the last period, this cell last; fewer where no more is known.
    pub rates: &'a [f64],
}

/// A logarithmic level, 5 % wide.
fn level(changes: f64) -> i16 {
    if changes < 1e-9 {
        i16::MIN
    } else {
        (changes.ln() / 1.05f64.ln()).round() as i16
    }
}

fn p99<'a>(tallies: impl Iterator<Item = &'a BTreeMap<i16, f64>>) -> f64 {
    let mut all: BTreeMap<i16, f64> = BTreeMap::new();
    for (level, seconds) in tallies.flatten() {
        *all.entry(*level).or_default() += seconds;
    }
    let limit = 0.99 * all.values().sum::<f64>();
    let mut sum = 0.0;
    for (level, seconds) in &all {
        sum += seconds;
        if sum >= limit {
            return if *level == i16::MIN {
                0.0
            } else {
                1.05f64.powi(i32::from(*level))
            };
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_exposed_is_told_of_whole_days_and_known_periods() {
        let mut shadow = Shadow::default();
        let rates = [1.0; 4];
        // A day of eight cells, a period of four: backups at every fourth.
        let mut cells = |range: std::ops::Range<usize>, extra: f64| {
            for cell in range {
                shadow.add(&Cell {
                    at: cell as f64 + 0.5,
                    day: 8.0,
                    step: 1.0,
                    period_cells: 4,
                    changes: Some((cell % 4) as f64 + 1.0 + extra),
                    rates: rates.get(..4.min(cell + 1)).unwrap_or_default(),
                });
            }
            shadow.realised()
        };
        assert_eq!(cells(0..8, 0.0), None, "the first day is not over");
        // What was at risk before the fourth cell is not compared.
        let first = (5.0 * 2.5, 4.0 + 1.0 + 2.0 + 3.0 + 4.0);
        assert_eq!(cells(8..10, 9.0), Some(first.0 / first.1));
        let second = (8.0 * 2.5, 8.0 * 11.5);
        let both = (first.0 + second.0) / (first.1 + second.1);
        assert!((cells(10..18, 9.0).unwrap() - both).abs() < 1e-12);
    }

    #[test]
    fn phases_that_have_the_same_at_risk_are_told_together() {
        let told = |history: &[f64], now, period| {
            let mut all = Vec::new();
            phases(history, now, period, 1.0, |changes, count| {
                all.push((changes, count));
            });
            all
        };
        let history = [1.0, 0.0, 0.0, 2.0];
        assert_eq!(told(&history, 4, 10), [(2.0, 3), (3.0, 7)]);
        assert_eq!(told(&history, 4, 2), [(2.0, 2)]);
        assert_eq!(told(&history, 3, 3), [(0.0, 2), (1.0, 1)]);
        assert_eq!(
            told(&[], 0, 420_000),
            [(0.0, 420_000)],
            "a leap year's cron"
        );
        assert_eq!(told(&[3.0, 4.0], 2, 4), [(4.0, 1), (7.0, 3)]);
    }
}
