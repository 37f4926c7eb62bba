//! What a trace is like, whatever the policy: its length, its gaps, its change rate, and how much its unevenness lets save.

use serde::{Deserialize, Serialize};

use crate::schedule::calibrate::{potential, predicted};
use crate::schedule::history::History;
use crate::schedule::policy::Policy;
use crate::signals::series::Series;

const DAY: f64 = 86_400.0;

/// One trace's facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The trace's name.
    pub trace: String,
    /// Its length, days.
    pub days: f64,
    /// The distance of its samples, seconds.
    pub step_seconds: u32,
    /// The share of it that is known, percent.
    pub known_percent: f64,
    /// What counts as a change: `significant`, or `all` where the trace does not tell them apart.
    pub signal: String,
    /// The mean of the changes that count, a second.
    pub mean_rate: f64,
    /// V = Var(√λ)/E\[λ\] over the whole trace; `None` where nothing changes.
    pub potential: Option<f64>,
    /// The saving that V predicts within the bounds, percent.
    pub predicted_percent: Option<f64>,
}

impl Facts {
    /// Looks at a trace as the policy would.
    #[must_use]
    pub fn of(name: &str, series: &Series, policy: &Policy) -> Self {
        let history = History::new(series);
        let cells = history.len();
        let potential = potential(&history, 0, cells, policy.period_seconds());
        let signal = if series.significant().is_some() {
            "significant"
        } else {
            "all"
        };
        Self {
            trace: name.to_owned(),
            days: cells as f64 * history.step() / DAY,
            step_seconds: series.step_seconds(),
            known_percent: 100.0 * history.known(0, cells) as f64 / cells.max(1) as f64,
            signal: signal.to_owned(),
            mean_rate: history.mean(0, cells).unwrap_or(0.0),
            potential,
            predicted_percent: potential.map(|potential| predicted(potential, policy)),
        }
    }
}
