//! From a model and the past to the change rate of the coming hours, and which features say so.

use super::features::{self, Span};
use super::fit::{dot, standardised};
use super::history::History;
use super::model::Model;

/// How far a relative model's mean rate goes back, seconds.
const WEEK: f64 = 7.0 * 86_400.0;

/// The coming change rate in equal bins.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// When it was made, Unix seconds; the first bin begins here.
    pub made_at: f64,
    /// The width of a bin, seconds.
    pub bin: f64,
    /// The mean rate of each bin, changes a second; finite and not negative.
    pub rates: Vec<f64>,
}

/// A borrowed [`Outlook`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlookView<'a> {
    /// When it was made, Unix seconds.
    pub made_at: f64,
    /// The width of a bin, seconds.
    pub bin: f64,
    /// The mean rate of each bin, changes a second.
    pub rates: &'a [f64],
}

impl Outlook {
    /// The same, borrowed.
    #[must_use]
    pub fn view(&self) -> OutlookView<'_> {
        OutlookView {
            made_at: self.made_at,
            bin: self.bin,
            rates: &self.rates,
        }
    }
}

/// A walk along a forecast in equal steps.
pub(super) struct Walk<'a> {
    rates: &'a [f64],
    bin: usize,
    left: f64,
    width: f64,
    step: f64,
}

impl Walk<'_> {
    /// The rate here; then one step on. The last bin holds on for ever.
    pub(super) fn next_rate(&mut self) -> f64 {
        let rate = self.rates.get(self.bin).copied().unwrap_or(0.0);
        self.left -= self.step;
        while self.left <= 0.0 && self.bin + 1 < self.rates.len() {
            self.bin += 1;
            self.left += self.width;
        }
        rate
    }
}

impl OutlookView<'_> {
    /// The rate expected at `at` (Unix seconds); the last bin holds on for ever.
    #[must_use]
    pub fn rate_at(&self, at: f64) -> f64 {
        let bin = ((at - self.made_at) / self.bin).max(0.0) as usize;
        self.rates
            .get(bin)
            .or(self.rates.last())
            .copied()
            .unwrap_or(0.0)
    }

    /// The rates at `from`, `from + step` and so on, without a division for each.
    pub(super) fn walk(&self, from: f64, step: f64) -> Walk<'_> {
        let bin = ((from - self.made_at) / self.bin).max(0.0) as usize;
        let edge = self.made_at + (bin + 1) as f64 * self.bin;
        Walk {
            rates: self.rates,
            bin: bin.min(self.rates.len().saturating_sub(1)),
            left: edge - from,
            width: self.bin,
            step,
        }
    }

    /// Where it ends, Unix seconds.
    #[must_use]
    pub fn until(&self) -> f64 {
        self.made_at + self.bin * self.rates.len() as f64
    }

    /// The changes expected from `from` to `to` (Unix seconds), bin by bin.
    #[must_use]
    pub fn changes(&self, from: f64, to: f64) -> f64 {
        let mut total = 0.0;
        let mut at = from;
        while at < to {
            let bin = ((at - self.made_at) / self.bin).floor().max(0.0) + 1.0;
            let edge = (self.made_at + bin * self.bin).max(at + 1.0).min(to);
            total += self.rate_at(at) * (edge - at);
            if bin as usize > self.rates.len() {
                total += self.rate_at(at) * (to - edge);
                break;
            }
            at = edge;
        }
        total
    }
}

/// What one feature adds to the changes forecast.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contribution {
    /// The feature's name.
    pub feature: String,
    /// Changes more (or fewer) than with this feature at its mean.
    pub changes: f64,
}

impl Model {
    /// Whether the model speaks about this history's step and the bins wanted.
    #[must_use]
    pub fn fits(&self, history: &History, bin: f64) -> bool {
        (self.step_seconds - history.step()).abs() < 0.5 && (self.bin_seconds - bin).abs() < 0.5
    }

    /// What this model counts rates in at cell `now`, changes a second; `None` when that is not known or nothing happens.
    fn unit(&self, history: &History, now: usize) -> Option<f64> {
        if self.relative {
            history.mean_back(now, WEEK).filter(|mean| *mean > 0.0)
        } else {
            Some(1.0)
        }
    }

    /// The forecast at cell `now`; `None` when the last hours are unknown or the numbers break down.
    #[must_use]
    pub fn forecast(&self, history: &History, now: usize) -> Option<Outlook> {
        let mut rates = Vec::with_capacity(self.horizons.len());
        self.forecast_into(history, now, &mut rates)?;
        Some(Outlook {
            made_at: history.time_of(now),
            bin: self.bin_seconds,
            rates,
        })
    }

    /// As [`Model::forecast`], into a buffer that is appended to.
    pub fn forecast_into(&self, history: &History, now: usize, rates: &mut Vec<f64>) -> Option<()> {
        let unit = self.unit(history, now)?;
        let reference = unit * self.reference_rate;
        let shared = features::shared(history, now, reference)?;
        let width = history.cells(self.bin_seconds);
        for (bin, horizon) in self.horizons.iter().enumerate() {
            let span = Span {
                ahead: bin * width,
                width,
            };
            let row = features::at_horizon(history, now, span, reference, &shared);
            let row = standardised(&row, &self.mean, &self.scale);
            let log = horizon.intercept + dot(&row, &horizon.coefficients);
            let rate = log.min(30.0).exp_m1() * reference * horizon.smear;
            if !rate.is_finite() {
                return None;
            }
            rates.push(rate.clamp(0.0, horizon.cap * unit));
        }
        Some(())
    }

    /// The features that move the next six hours most, in changes, largest first.
    #[must_use]
    pub fn contributions(&self, history: &History, now: usize, count: usize) -> Vec<Contribution> {
        let Some(unit) = self.unit(history, now) else {
            return Vec::new();
        };
        let reference = unit * self.reference_rate;
        let Some(shared) = features::shared(history, now, reference) else {
            return Vec::new();
        };
        let width = history.cells(self.bin_seconds);
        let bins = ((6.0 * 3600.0 / self.bin_seconds) as usize).clamp(1, self.horizons.len());
        let mut totals = [0.0; features::COUNT];
        for (bin, horizon) in self.horizons.iter().enumerate().take(bins) {
            let span = Span {
                ahead: bin * width,
                width,
            };
            let row = features::at_horizon(history, now, span, reference, &shared);
            let row = standardised(&row, &self.mean, &self.scale);
            let log = horizon.intercept + dot(&row, &horizon.coefficients);
            // The slope of the back-transform turns a step on the log scale into changes.
            let slope = log.min(30.0).exp() * reference * horizon.smear * self.bin_seconds;
            for (total, (value, weight)) in
                totals.iter_mut().zip(row.iter().zip(&horizon.coefficients))
            {
                *total += value * weight * slope;
            }
        }
        let mut ranked: Vec<Contribution> = features::NAMES
            .iter()
            .zip(totals)
            .filter(|(_, changes)| changes.is_finite())
            .map(|(name, changes)| Contribution {
                feature: (*name).to_owned(),
                changes,
            })
            .collect();
        ranked.sort_by(|a, b| b.changes.abs().total_cmp(&a.changes.abs()));
        ranked.truncate(count);
        ranked
    }
}
