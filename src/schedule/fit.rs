//! Fitting the forecast: a linfa regression for each bin, ridge by augmented rows, on the trailing 28 days.
//!
//! Pure ridge in linfa-elasticnet never meets its stopping rule, so the ridge is an ordinary least-squares fit
//! (`linfa_linear::LinearRegression`) on the data with √(nα)·I below it. The n rows enter as the Cholesky factor of
//! their normal matrix, which gives the same solution from thirty-one rows instead of thousands.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

use crate::signals::series::Series;

use super::features::{self, COUNT, Row, Span};
use super::history::{History, instant_of};
use super::model::{Horizon, Model, SCHEMA_VERSION, TrainedOn};
use super::timescale::Timescale;

const DAY: f64 = 86_400.0;
/// Columns of the regression: the features and the intercept.
const COLUMNS: usize = COUNT + 1;

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
    let rows = shared_rows(history, first, now, options, reference);
    let (mean, scale) = moments(history, &rows, options, reference);
    let mut horizons = Vec::with_capacity(options.horizons);
    let mut first_rows = 0;
    for bin in 0..options.horizons {
        let width = history.cells(options.bin);
        let task = Task {
            history,
            now,
            reference,
            span: Span {
                ahead: bin * width,
                width,
            },
        };
        let (horizon, used) = task
            .regress(&rows, (&mean, &scale), options.alpha)
            .ok_or(FitError::NotFinite { bin })?;
        first_rows = if bin == 0 { used } else { first_rows };
        horizons.push(horizon);
    }
    let digest = digest(history, first, now);
    let created_at = instant_of(history.time_of(now));
    Ok(Model {
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
        features: features::NAMES.map(str::to_owned).to_vec(),
        mean: mean.to_vec(),
        scale: scale.to_vec(),
        horizons,
    })
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

/// Mean and standard deviation of each feature, at a horizon in the middle, the same scale serving all.
fn moments(
    history: &History,
    rows: &[(usize, Row)],
    options: &FitOptions,
    reference: f64,
) -> (Row, Row) {
    let width = history.cells(options.bin);
    let span = Span {
        ahead: options.horizons / 2 * width,
        width,
    };
    let mut sum = [0.0; COUNT];
    let mut squares = [0.0; COUNT];
    for (at, shared) in rows {
        let row = features::at_horizon(history, *at, span, reference, shared);
        for ((sum, square), value) in sum.iter_mut().zip(&mut squares).zip(row) {
            *sum += value;
            *square += value * value;
        }
    }
    let count = rows.len().max(1) as f64;
    let mean = sum.map(|sum| sum / count);
    let mut scale = [1.0; COUNT];
    for ((scale, square), mean) in scale.iter_mut().zip(squares).zip(mean) {
        let deviation = (square / count - mean * mean).max(0.0).sqrt();
        // A feature that hardly moves in training must not be blown up when it does move later.
        *scale = if deviation > 1e-3 { deviation } else { 1.0 };
    }
    (mean, scale)
}

/// One bin's regression problem.
struct Task<'a> {
    history: &'a History,
    now: usize,
    reference: f64,
    span: Span,
}

impl Task<'_> {
    fn regress(
        &self,
        rows: &[(usize, Row)],
        (mean, scale): (&Row, &Row),
        alpha: f64,
    ) -> Option<(Horizon, usize)> {
        let mut normal = Normal::default();
        let mut design = Vec::with_capacity(rows.len());
        for (at, shared) in rows {
            let Some(rate) = self.target(*at) else {
                continue;
            };
            let row = features::at_horizon(self.history, *at, self.span, self.reference, shared);
            let row = standardised(&row, mean, scale);
            let wanted = (rate / self.reference).ln_1p();
            normal.add(&row, wanted);
            design.push((row, rate, wanted));
        }
        let weights = normal.solve(alpha)?;
        let (coefficients, intercept) = weights.split_at(COUNT);
        let intercept = *intercept.first()?;
        Some((self.finish(&design, coefficients, intercept), design.len()))
    }

    /// The mean rate over the bin, when all of it has been seen.
    fn target(&self, at: usize) -> Option<f64> {
        let from = at + self.span.ahead;
        let to = from + self.span.width;
        let complete = to <= self.now && self.history.known(from, to) == self.span.width;
        if complete {
            self.history.mean(from, to)
        } else {
            None
        }
    }

    /// Smearing, cap and residuals from the training rows.
    fn finish(&self, design: &[(Row, f64, f64)], coefficients: &[f64], intercept: f64) -> Horizon {
        let mut residuals = Vec::with_capacity(design.len());
        let (mut seen, mut said, mut most) = (0.0, 0.0, 0.0f64);
        for (row, rate, wanted) in design {
            let log = intercept + dot(row, coefficients);
            residuals.push(wanted - log);
            seen += rate;
            said += (log.min(30.0).exp_m1() * self.reference).max(0.0);
            most = most.max(*rate);
        }
        let mut quantile = |q: f64| {
            let index = (residuals.len() as f64 * q) as usize;
            if index >= residuals.len() {
                return 0.0;
            }
            *residuals.select_nth_unstable_by(index, f64::total_cmp).1
        };
        Horizon {
            intercept,
            coefficients: coefficients.to_vec(),
            smear: if said > 0.0 {
                (seen / said).clamp(0.3, 3.0)
            } else {
                1.0
            },
            cap: most * 0.7f64.exp(),
            residual_low: quantile(0.1),
            residual_high: quantile(0.9),
        }
    }
}

/// XᵀX and Xᵀy of the standardised rows with a column of ones.
struct Normal {
    matrix: [[f64; COLUMNS]; COLUMNS],
    right: [f64; COLUMNS],
    rows: usize,
}

impl Default for Normal {
    fn default() -> Self {
        Self {
            matrix: [[0.0; COLUMNS]; COLUMNS],
            right: [0.0; COLUMNS],
            rows: 0,
        }
    }
}

impl Normal {
    fn add(&mut self, row: &Row, wanted: f64) {
        let mut full = [1.0; COLUMNS];
        full[..COUNT].copy_from_slice(row);
        for (index, (line, value)) in self.matrix.iter_mut().zip(full).enumerate() {
            for (cell, other) in line.iter_mut().zip(full).take(index + 1) {
                *cell += value * other;
            }
        }
        for (cell, value) in self.right.iter_mut().zip(full) {
            *cell += value * wanted;
        }
        self.rows += 1;
    }

    /// The ridge weights, features first, the intercept (not penalised) last.
    fn solve(&self, alpha: f64) -> Option<Vec<f64>> {
        if self.rows < 2 * COLUMNS {
            return None;
        }
        let penalty = self.rows as f64 * alpha;
        let mut lower = self.matrix;
        for (index, line) in lower.iter_mut().enumerate().take(COUNT) {
            line[index] += penalty;
        }
        let lower = cholesky(lower)?;
        // With L·Lᵀ = XᵀX + nαI, the rows Lᵀ and the targets L⁻¹·Xᵀy have the same normal equations.
        let targets = forward(&lower, &self.right);
        let records = Array2::from_shape_fn((COLUMNS, COLUMNS), |(row, column)| {
            if row <= column {
                lower[column][row]
            } else {
                0.0
            }
        });
        let data = Dataset::new(records, Array1::from(targets.to_vec()));
        let fitted = LinearRegression::default()
            .with_intercept(false)
            .fit(&data)
            .ok()?;
        let weights = fitted.params().to_vec();
        weights
            .iter()
            .all(|weight| weight.is_finite())
            .then_some(weights)
    }
}

fn cholesky(mut matrix: [[f64; COLUMNS]; COLUMNS]) -> Option<[[f64; COLUMNS]; COLUMNS]> {
    for row in 0..COLUMNS {
        for column in 0..=row {
            let dot: f64 = (0..column)
                .map(|k| matrix[row][k] * matrix[column][k])
                .sum();
            let rest = matrix[row][column] - dot;
            matrix[row][column] = if row == column {
                if !(rest > 0.0 && rest.is_finite()) {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / matrix[column][column]
            };
        }
    }
    Some(matrix)
}

fn forward(lower: &[[f64; COLUMNS]; COLUMNS], right: &[f64; COLUMNS]) -> [f64; COLUMNS] {
    let mut solved = [0.0; COLUMNS];
    for row in 0..COLUMNS {
        let dot: f64 = (0..row).map(|k| lower[row][k] * solved[k]).sum();
        solved[row] = (right[row] - dot) / lower[row][row];
    }
    solved
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
