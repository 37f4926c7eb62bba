//! Fitting the forecast: a linfa regression for each bin, ridge by augmented rows, on the trailing 28 days.
//!
//! Pure ridge in linfa-elasticnet never meets its stopping rule, so the ridge is an ordinary least-squares fit
//! (`linfa_linear::LinearRegression`) on the data with √(nα)·I below it. The n rows enter as the Cholesky factor of
//! their normal matrix, which gives the same solution from thirty-one rows instead of thousands.

use crate::signals::series::Series;

use super::design::{Design, Targets, moments};
use super::features::{self, COUNT, Row};
use super::history::{History, instant_of};
use super::model::{Model, SCHEMA_VERSION, TrainedOn};
use super::timescale::Timescale;

const DAY: f64 = 86_400.0;

/// What may be chosen about a fit.
#[derive(Debug, Clone, Copy)]
pub struct FitOptions {
    /// The penalty α of (mean squared error)/2 + α/2·|w|², on standardised features.
    pub alpha: f64,
    /// How far back the data goes, seconds.
    pub window: f64,
    /// The distance of rows, seconds.
    pub stride: f64,
    /// The least data needed, seconds.
    pub least: f64,
    /// What the first row has behind it, for its long means to settle on, seconds.
    pub warm: f64,
    /// The width of a bin, seconds.
    pub bin: f64,
    /// How many bins.
    pub horizons: usize,
    /// Whether the time of the day and the week may speak; `false` only in studies of what they are worth.
    pub seasonal: bool,
}

impl FitOptions {
    /// The documented choice for a timescale: 28 days, a row a bin (at most 1,344), three days at least, a quarter of
    /// one before the first row. Days are the timescale's, so that a compressed clock can fit too.
    #[must_use]
    pub fn new(scale: &Timescale) -> Self {
        let window = 28.0 * scale.day;
        Self {
            alpha: 0.02,
            window,
            stride: scale.bin.max(window / 1344.0),
            least: 3.0 * scale.day,
            warm: 0.25 * scale.day,
            bin: scale.bin,
            horizons: scale.horizons,
            seasonal: true,
        }
    }
}

/// Why no model could be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Too little history.
    #[error(
        "{have:.1} days of samples, {need:.1} are needed before a forecast can be fitted; wait, or point to a longer history"
    )]
    TooShort {
        /// Days known.
        have: f64,
        /// Days needed.
        need: f64,
    },
    /// Histories that cannot be fitted together.
    #[error(
        "the histories have steps of {one} s and {other} s; a prior is fitted on histories of one step"
    )]
    UnequalSteps {
        /// The first one's step, seconds.
        one: u32,
        /// Another's.
        other: u32,
    },
    /// A history of zeros.
    #[error(
        "nothing changed in the history, so there is nothing to forecast; check the change rate query if that is unexpected"
    )]
    NothingChanges,
    /// The numbers broke down.
    #[error(
        "the regression for bin {bin} has no finite solution; check the history for absurd values"
    )]
    NotFinite {
        /// Which bin.
        bin: usize,
    },
}

/// Fits a model on what a series knows at its end.
///
/// # Errors
/// When there are fewer than three days of samples, nothing changes, or the numbers break down.
pub fn fit(series: &Series, options: &FitOptions) -> Result<Model, FitError> {
    let history = History::new(series);
    fit_until(&history, history.len(), options)
}

/// Fits a model on the cells before `now`.
///
/// # Errors
/// As [`fit`].
pub fn fit_until(history: &History, now: usize, options: &FitOptions) -> Result<Model, FitError> {
    let first = now.saturating_sub(history.cells(options.window));
    let known = history.known(first, now) as f64 * history.step();
    if known < options.least {
        return Err(FitError::TooShort {
            have: known / DAY,
            need: options.least / DAY,
        });
    }
    let mean_rate = history.mean(first, now).unwrap_or(0.0);
    if mean_rate <= 0.0 {
        return Err(FitError::NothingChanges);
    }
    let reference = 0.1 * mean_rate;
    let width = history.cells(options.bin);
    let mut targets = Targets::new(history, (first, now), width, reference);
    let rows = shared_rows(history, first, now, options, reference);
    let (mean, scale) = moments(&mut targets, &rows, options.horizons / 2);
    let design = Design::new(&rows, (&mean, &scale), options.seasonal);
    let mut horizons = Vec::with_capacity(options.horizons);
    let mut first_rows = 0;
    for bin in 0..options.horizons {
        let (horizon, used) = design
            .regress(&mut targets, bin * width, (&mean, &scale), options.alpha)
            .ok_or(FitError::NotFinite { bin })?;
        first_rows = if bin == 0 { used } else { first_rows };
        horizons.push(horizon);
    }
    let digest = digest(history, first, now);
    let created_at = instant_of(history.time_of(now));
    let model = Model {
        schema_version: SCHEMA_VERSION,
        id: format!("ridge-{}-{digest}", created_at.strftime("%Y%m%dT%H%MZ")),
        created_at,
        trained_on: TrainedOn {
            from: instant_of(history.time_of(first)),
            to: created_at,
            rows: first_rows,
            digest,
        },
        bin_seconds: history.cells(options.bin) as f64 * history.step(),
        step_seconds: history.step(),
        reference_rate: reference,
        relative: false,
        features: features::NAMES.map(str::to_owned).to_vec(),
        mean: mean.to_vec(),
        scale: scale.to_vec(),
        horizons,
    };
    Ok(model.settled())
}

/// The horizon-free half of every training row: at each stride whose last step was seen.
fn shared_rows(
    history: &History,
    first: usize,
    now: usize,
    options: &FitOptions,
    reference: f64,
) -> Vec<(usize, Row)> {
    let warm = first + history.cells(options.warm);
    (warm..now)
        .step_by(history.cells(options.stride))
        .filter(|at| history.rate(at.wrapping_sub(1)).is_finite())
        .filter_map(|at| features::shared(history, at, reference).map(|row| (at, row)))
        .collect()
}

/// (row − mean) / scale.
pub(super) fn standardised(row: &Row, mean: &[f64], scale: &[f64]) -> Row {
    let mut standard = [0.0; COUNT];
    for (slot, ((value, mean), scale)) in standard.iter_mut().zip(row.iter().zip(mean).zip(scale)) {
        *slot = (value - mean) / scale;
    }
    standard
}

pub(super) fn dot(row: &Row, coefficients: &[f64]) -> f64 {
    row.iter()
        .zip(coefficients)
        .map(|(value, weight)| value * weight)
        .sum()
}

/// FNV-1a over the bits of the rates.
fn digest(history: &History, from: usize, to: usize) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in (from..to).flat_map(|index| history.rate(index).to_bits().to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}").chars().take(8).collect()
}
