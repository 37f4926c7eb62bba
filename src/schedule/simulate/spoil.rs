//! Forecasts spoiled on purpose, to see that the bounds, the daily choice and the calibration hold whatever a model says
//! (scheduling.md §3). Each replaces a good model's forecast in the whole core, the daily replay included.

use serde::{Deserialize, Serialize};

use crate::schedule::backtest::Predict;
use crate::schedule::history::History;
use crate::schedule::model::Model;

/// How a forecast is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Spoiled {
    /// A tenth of what it should be.
    TenthOf,
    /// Ten times what it should be.
    TenTimes,
    /// Twelve hours late.
    HalfDayLate,
    /// The same number always.
    Constant,
    /// Times e^(1.5·z), z normal: wrong by a factor of 4.5 as a rule, in both directions.
    Noisy,
    /// Nothing and a billion changes a second in turn.
    Hostile,
}

impl Spoiled {
    /// The forecast that takes the model's place.
    #[must_use]
    pub fn predict(self) -> Predict {
        match self {
            Self::TenthOf => |model, history, now, rates| scaled(model, history, now, rates, 0.1),
            Self::TenTimes => |model, history, now, rates| scaled(model, history, now, rates, 10.0),
            Self::HalfDayLate => half_day_late,
            Self::Constant => constant,
            Self::Noisy => noisy,
            Self::Hostile => hostile,
        }
    }
}

fn scaled(
    model: &Model,
    history: &History,
    now: usize,
    rates: &mut Vec<f64>,
    factor: f64,
) -> Option<()> {
    let from = rates.len();
    model.forecast_into(history, now, rates)?;
    for rate in rates.iter_mut().skip(from) {
        *rate *= factor;
    }
    Some(())
}

fn half_day_late(model: &Model, history: &History, now: usize, rates: &mut Vec<f64>) -> Option<()> {
    let late = now.checked_sub(history.cells(12.0 * 3600.0))?;
    model.forecast_into(history, late, rates)
}

fn constant(model: &Model, _: &History, _: usize, rates: &mut Vec<f64>) -> Option<()> {
    // The reference rate is a tenth of the mean of the first days that the model saw.
    rates.resize(
        rates.len() + model.horizons.len(),
        10.0 * model.reference_rate,
    );
    Some(())
}

fn noisy(model: &Model, history: &History, now: usize, rates: &mut Vec<f64>) -> Option<()> {
    let from = rates.len();
    model.forecast_into(history, now, rates)?;
    for (bin, rate) in rates.iter_mut().skip(from).enumerate() {
        *rate *= (1.5 * normal((now * 64 + bin) as u64)).exp();
    }
    Some(())
}

fn hostile(model: &Model, _: &History, now: usize, rates: &mut Vec<f64>) -> Option<()> {
    rates.extend((0..model.horizons.len()).map(|bin| {
        if (now + bin).is_multiple_of(2) {
            0.0
        } else {
            1e9
        }
    }));
    Some(())
}

/// A standard normal number that depends on `seed` alone (SplitMix64, then Box and Muller).
fn normal(seed: u64) -> f64 {
    let uniform = |seed: u64| {
        let mut z = seed
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let (first, second) = (uniform(2 * seed), uniform(2 * seed + 1));
    (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}
