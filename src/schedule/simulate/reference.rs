//! Policies to compare with: a threshold on u, the area rule, the oracle, each with its knob fitted in hindsight to the
//! exposure target, which flatters them.

use super::oracle::{self, Bounds};

/// Replays a rule on gapless rates: `due(u, A)` says when; the bounds hold.
#[must_use]
pub fn replay(
    rates: &[f64],
    step: f64,
    bounds: Bounds,
    due: impl Fn(f64, f64) -> bool,
) -> Vec<usize> {
    let (mut changes, mut area, mut age) = (0.0, 0.0, 0usize);
    let mut backups = Vec::new();
    for (cell, rate) in rates.iter().enumerate() {
        if age >= bounds.longest || (age >= bounds.shortest && due(changes, area)) {
            backups.push(cell);
            (changes, area, age) = (0.0, 0.0, 0);
        }
        area += changes * step + 0.5 * rate * step * step;
        changes += rate * step;
        age += 1;
    }
    backups
}

/// The mean exposure of a schedule on gapless rates, sampled at the ends of cells from cell `from` on.
#[must_use]
pub fn mean_exposure(rates: &[f64], step: f64, backups: &[usize], from: usize) -> f64 {
    let samples = exposure(rates, step, backups);
    let tail = samples.get(from.min(samples.len())..).unwrap_or_default();
    if tail.is_empty() {
        0.0
    } else {
        tail.iter().sum::<f64>() / tail.len() as f64
    }
}

/// u at the end of each cell.
#[must_use]
pub fn exposure(rates: &[f64], step: f64, backups: &[usize]) -> Vec<f64> {
    let mut due = backups.iter().peekable();
    let mut changes = 0.0;
    rates
        .iter()
        .enumerate()
        .map(|(cell, rate)| {
            if due.next_if(|backup| **backup == cell).is_some() {
                changes = 0.0;
            }
            changes += rate * step;
            changes
        })
        .collect()
}

/// The largest knob in `range` whose schedule keeps its mean exposure at or under `wanted`, by halving on the log scale.
#[must_use]
pub fn fitted(range: (f64, f64), wanted: f64, mean: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (range.0.ln(), range.1.ln());
    for _ in 0..24 {
        let middle = 0.5 * (low + high);
        if mean(middle.exp()) <= wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.exp()
}

/// The oracle at the cron's mean exposure.
#[must_use]
pub fn oracle_at(
    rates: &[f64],
    step: f64,
    bounds: Bounds,
    range: (f64, f64),
    wanted: f64,
) -> Vec<usize> {
    let (mut low, mut high) = (range.0.ln(), range.1.ln());
    // Each try is a programme over the whole trace; twelve halvings place K within 0.1 %.
    for _ in 0..12 {
        let middle = 0.5 * (low + high);
        let backups = oracle::cheapest(rates, step, middle.exp(), bounds);
        if mean_exposure(rates, step, &backups, 0) <= wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    oracle::cheapest(rates, step, low.exp(), bounds)
}
