//! How good a forecast is: its weighted absolute error by distance, beside those of two forecasts that anybody could make.

use serde::Serialize;

use super::history::History;
use super::model::Model;

const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

/// Errors at one distance: Σ|forecast − seen| / Σ seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HorizonScore {
    /// The end of the bin, seconds ahead.
    pub ahead_seconds: f64,
    /// Forecasts compared.
    pub count: usize,
    /// Of the model.
    pub model: f64,
    /// Of "as the last bin was".
    pub persistence: f64,
    /// Of "as this hour was on the last seven days".
    pub profile: f64,
}

/// Scores a model on the cells from `from` on, one forecast a bin. Only bins seen in full count; distances at which
/// nothing could be compared are left out.
#[must_use]
pub fn score(model: &Model, history: &History, from: usize) -> Vec<HorizonScore> {
    let width = history.cells(model.bin_seconds);
    let mut sums = vec![Sums::default(); model.horizons.len()];
    let mut rates = Vec::with_capacity(model.horizons.len());
    for now in (from.max(width)..history.len()).step_by(width) {
        rates.clear();
        if model.forecast_into(history, now, &mut rates).is_none() {
            continue;
        }
        let Some(last) = history.mean(now - width, now) else {
            continue;
        };
        for (bin, (sums, forecast)) in sums.iter_mut().zip(&rates).enumerate() {
            let first = now + bin * width;
            if history.known(first, first + width) < width {
                continue;
            }
            let (Some(seen), Some(profile)) = (
                history.mean(first, first + width),
                profile(history, now, first, width),
            ) else {
                continue;
            };
            sums.add(seen, [*forecast, last, profile]);
        }
    }
    sums.iter()
        .enumerate()
        .filter(|(_, sums)| sums.seen > 0.0)
        .map(|(bin, sums)| {
            let [model_error, persistence, profile] = sums.errors.map(|error| error / sums.seen);
            HorizonScore {
                ahead_seconds: (bin + 1) as f64 * model.bin_seconds,
                count: sums.count,
                model: model_error,
                persistence,
                profile,
            }
        })
        .collect()
}

/// The mean of the same stretch on the last seven days that lie before `now`.
fn profile(history: &History, now: usize, first: usize, width: usize) -> Option<f64> {
    let day = history.cells(DAY);
    let (sum, count) = (1..=8)
        .filter_map(|days| first.checked_sub(days * day))
        .filter(|begin| begin + width <= now)
        .take(7)
        .filter_map(|begin| history.mean(begin, begin + width))
        .fold((0.0, 0usize), |(sum, count), rate| (sum + rate, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Running sums at one distance.
#[derive(Debug, Clone, Default)]
struct Sums {
    seen: f64,
    errors: [f64; 3],
    count: usize,
}

impl Sums {
    fn add(&mut self, seen: f64, forecasts: [f64; 3]) {
        self.seen += seen;
        self.count += 1;
        for (error, forecast) in self.errors.iter_mut().zip(forecasts) {
            *error += (forecast - seen).abs();
        }
    }
}

/// The first cell that a fair score may use: what was not trained on, when the model's data lies inside this history.
#[must_use]
pub fn first_unseen(model: &Model, history: &History) -> usize {
    let trained = history.known_at(super::history::seconds_of(model.trained_on.to));
    let rest = history.len().saturating_sub(trained) as f64 * history.step();
    if rest >= 6.0 * HOUR { trained } else { 0 }
}
