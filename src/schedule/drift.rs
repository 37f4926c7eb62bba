//! Noticing that the forecast went wrong between two runs of the daily loop.

use serde::{Deserialize, Serialize};

/// Outside this range of actual over forecast changes in 48 h the forecast is distrusted.
const TRUSTED: (f64, f64) = (0.5, 2.0);
/// For how many days the reactive rule takes over then.
const PENALTY_DAYS: f64 = 2.0;
/// A realised weekly mean exposure above this ratio to the cron's is drift too.
const WORST_WEEK: f64 = 1.15;

/// The watch on the forecast. Sums fade with a time constant of two control days.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    forecast: f64,
    actual: f64,
    error: f64,
    seconds: f64,
    /// Until when the forecast is distrusted, Unix seconds.
    pub distrusted_until: Option<f64>,
}

/// A measured cell beside what was forecast for it.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its end, Unix seconds.
    pub at: f64,
    /// Its length, seconds.
    pub step: f64,
    /// The control day, seconds.
    pub day: f64,
    /// The rate that came.
    pub actual: f64,
    /// The rate that was forecast.
    pub forecast: f64,
}

impl Drift {
    /// Takes in a cell.
    pub fn add(&mut self, check: &Check) {
        let window = PENALTY_DAYS * check.day;
        let keep = (-check.step / window).exp();
        self.forecast = self.forecast * keep + check.forecast * check.step;
        self.actual = self.actual * keep + check.actual * check.step;
        self.error = self.error * keep + (check.actual - check.forecast).abs() * check.step;
        self.seconds = (self.seconds * keep) + check.step;
        let settled = self.seconds > 0.5 * window;
        if settled && !(TRUSTED.0..=TRUSTED.1).contains(&self.ratio()) {
            self.distrusted_until = Some(check.at + window);
        }
    }

    /// A week of too much exposure counts as drift as well.
    pub fn weigh_week(&mut self, mean_ratio: f64, target: f64, at: f64, day: f64) {
        if mean_ratio > WORST_WEEK * target {
            self.distrusted_until = Some(at + PENALTY_DAYS * day);
        }
    }

    /// Whether the forecast is distrusted at `now`.
    #[must_use]
    pub fn distrusted(&self, now: f64) -> bool {
        self.distrusted_until.is_some_and(|until| now < until)
    }

    /// Actual over forecast changes; 1 while nothing is known.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.forecast > 0.0 {
            self.actual / self.forecast
        } else {
            1.0
        }
    }

    /// The weighted absolute percentage error of the nearest bin's forecast.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        (self.actual > 0.0).then(|| self.error / self.actual)
    }
}
