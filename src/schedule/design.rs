//! The regressions of a fit: what rows and distances share is computed once, and each distance is one ridge regression from
//! the Cholesky factor of its normal matrix.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

use super::features::{self, COUNT, Past, Row, SHARED, Span};
use super::fit::standardised;
use super::history::History;
use super::model::Horizon;

const DAY: f64 = 86_400.0;
/// Columns of the regression: the features and the intercept.
const COLUMNS: usize = COUNT + 1;

/// What lies in a bin that begins at a given cell, and what was known of it a day and a week before. Rows and distances that
/// meet in the same bin share it, which is where a fit would spend its time.
pub(super) struct Targets<'a> {
    history: &'a History,
    now: usize,
    width: usize,
    reference: f64,
    first: usize,
    kept: Vec<Option<Target>>,
}

#[derive(Clone, Copy)]
struct Target {
    past: Past,
    /// The mean rate of the bin and its scaled logarithm, when all of it has been seen.
    seen: Option<(f64, f64)>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(
        history: &'a History,
        (first, now): (usize, usize),
        width: usize,
        reference: f64,
    ) -> Self {
        Self {
            history,
            now,
            width,
            reference,
            first,
            kept: vec![None; now - first],
        }
    }

    /// The target `ahead` cells after `at`, and the features of it that are known at `at`.
    fn get(&mut self, at: usize, ahead: usize) -> Option<Target> {
        let begin = at + ahead;
        let slot = self.kept.get_mut(begin.checked_sub(self.first)?)?;
        let span = Span {
            ahead,
            width: self.width,
        };
        if let Some(target) = *slot {
            return Some(target);
        }
        let end = begin + self.width;
        let complete = end <= self.now && self.history.known(begin, end) == self.width;
        let target = Target {
            past: features::past(self.history, at, span, self.reference),
            seen: self
                .history
                .mean(begin, end)
                .filter(|_| complete)
                .map(|rate| (rate, (rate / self.reference).ln_1p())),
        };
        // Beyond a day ahead what is known of a bin depends on the row that asks.
        if ahead + self.width <= self.history.cells(DAY) {
            *slot = Some(target);
        }
        Some(target)
    }
}

/// Mean and standard deviation of each feature, at a horizon in the middle, the same scale serving all.
pub(super) fn moments(targets: &mut Targets<'_>, rows: &[(usize, Row)], bin: usize) -> (Row, Row) {
    let mut sum = [0.0; COUNT];
    let mut squares = [0.0; COUNT];
    let mut count = 0.0f64;
    for (at, shared) in rows {
        let Some(target) = targets.get(*at, bin * targets.width) else {
            continue;
        };
        count += 1.0;
        let row = features::completed(shared, &target.past);
        for ((sum, square), value) in sum.iter_mut().zip(&mut squares).zip(row) {
            *sum += value;
            *square += value * value;
        }
    }
    let count = count.max(1.0);
    let mean = sum.map(|sum| sum / count);
    let mut scale = [1.0; COUNT];
    for ((scale, square), mean) in scale.iter_mut().zip(squares).zip(mean) {
        let deviation = (square / count - mean * mean).max(0.0).sqrt();
        // A feature that hardly moves in training must not be blown up when it does move later.
        *scale = if deviation > 1e-3 { deviation } else { 1.0 };
    }
    (mean, scale)
}

/// Columns that are the same at every distance: the shared features and the ones of the intercept.
const FIXED: usize = SHARED + 1;
/// Columns that differ.
const MOVING: usize = COUNT - SHARED;

/// The training rows, standardised, with the part of the normal matrix that all distances share.
pub(super) struct Design<'a> {
    rows: &'a [(usize, Row)],
    fixed: Array2<f64>,
    product: Array2<f64>,
    seasonal: bool,
}

impl<'a> Design<'a> {
    pub(super) fn new(
        rows: &'a [(usize, Row)],
        (mean, scale): (&Row, &Row),
        seasonal: bool,
    ) -> Self {
        let mut fixed = Array2::ones((rows.len(), FIXED));
        for ((_, row), mut line) in rows.iter().zip(fixed.rows_mut()) {
            let row = masked(standardised(row, mean, scale), seasonal);
            for (cell, value) in line.iter_mut().zip(row).take(SHARED) {
                *cell = value;
            }
        }
        let product = fixed.t().dot(&fixed);
        Self {
            rows,
            fixed,
            product,
            seasonal,
        }
    }

    /// The regression for bins `ahead` cells after their rows, and how many rows it used.
    pub(super) fn regress(
        &self,
        targets: &mut Targets<'_>,
        ahead: usize,
        (mean, scale): (&Row, &Row),
        alpha: f64,
    ) -> Option<(Horizon, usize)> {
        let mut moving = Array2::zeros((self.rows.len(), MOVING));
        let mut wanted = Array1::zeros(self.rows.len());
        let mut seen = Vec::with_capacity(self.rows.len());
        let mut corner = self.product.clone();
        for (index, (at, shared)) in self.rows.iter().enumerate() {
            let target = targets.get(*at, ahead);
            let Some((target, (rate, log))) = target.and_then(|one| Some((one, one.seen?))) else {
                // Rows whose target is not known yet count nowhere.
                let row = self.fixed.row(index);
                for (line, value) in corner.rows_mut().into_iter().zip(row) {
                    for (cell, other) in line.into_iter().zip(row) {
                        *cell -= value * other;
                    }
                }
                continue;
            };
            let row = features::completed(shared, &target.past);
            let row = masked(standardised(&row, mean, scale), self.seasonal);
            for (cell, value) in moving.row_mut(index).iter_mut().zip(&row[SHARED..]) {
                *cell = *value;
            }
            wanted[index] = log;
            seen.push((index, rate));
        }
        let normal = Normal {
            corner,
            side: moving.t().dot(&self.fixed),
            moving: moving.t().dot(&moving),
            right: (self.fixed.t().dot(&wanted), moving.t().dot(&wanted)),
            rows: seen.len(),
        };
        let weights = normal.solve(alpha)?;
        let (coefficients, intercept) = weights.split_at(COUNT);
        let intercept = *intercept.first()?;
        let (first, second) = coefficients.split_at(SHARED);
        let mut fixed = Array1::zeros(FIXED);
        for (slot, weight) in fixed.iter_mut().zip(first.iter().chain([&intercept])) {
            *slot = *weight;
        }
        let said = self.fixed.dot(&fixed) + moving.dot(&Array1::from(second.to_vec()));
        let rows = seen
            .iter()
            .filter_map(|(index, rate)| Some((*said.get(*index)?, *rate, *wanted.get(*index)?)));
        let horizon = finish(rows.collect(), targets.reference, coefficients, intercept);
        Some((horizon, seen.len()))
    }
}

/// The row, without the features of the clock when they are not wanted.
fn masked(mut row: Row, seasonal: bool) -> Row {
    if !seasonal {
        row[features::CLOCK.0].fill(0.0);
        row[features::CLOCK.1].fill(0.0);
    }
    row
}

/// Smearing, cap and residuals from the training rows: what the regression says on the log scale, the rate that came, and
/// its logarithm.
fn finish(
    rows: Vec<(f64, f64, f64)>,
    reference: f64,
    coefficients: &[f64],
    intercept: f64,
) -> Horizon {
    let (mut seen, mut said, mut most) = (0.0, 0.0, 0.0f64);
    let mut residuals = Vec::with_capacity(rows.len());
    for (log, rate, wanted) in rows {
        residuals.push(wanted - log);
        seen += rate;
        said += (log.min(30.0).exp_m1() * reference).max(0.0);
        most = most.max(rate);
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

/// XᵀX and Xᵀy of the standardised rows with a column of ones, in the blocks they were computed in.
struct Normal {
    corner: Array2<f64>,
    side: Array2<f64>,
    moving: Array2<f64>,
    right: (Array1<f64>, Array1<f64>),
    rows: usize,
}

impl Normal {
    /// The whole, features first, the intercept last.
    fn whole(&self) -> ([[f64; COLUMNS]; COLUMNS], [f64; COLUMNS]) {
        // In the blocks the intercept stands after the shared features.
        let place = |column: usize| match column {
            0..SHARED => (true, column),
            COUNT => (true, SHARED),
            _ => (false, column - SHARED),
        };
        let mut matrix = [[0.0; COLUMNS]; COLUMNS];
        let mut right = [0.0; COLUMNS];
        for (row, line) in matrix.iter_mut().enumerate() {
            for (column, cell) in line.iter_mut().enumerate() {
                *cell = match (place(row), place(column)) {
                    ((true, a), (true, b)) => self.corner[(a, b)],
                    ((true, a), (false, b)) | ((false, b), (true, a)) => self.side[(b, a)],
                    ((false, a), (false, b)) => self.moving[(a, b)],
                };
            }
            right[row] = match place(row) {
                (true, index) => self.right.0[index],
                (false, index) => self.right.1[index],
            };
        }
        (matrix, right)
    }

    /// The ridge weights, features first, the intercept (not penalised) last.
    fn solve(&self, alpha: f64) -> Option<Vec<f64>> {
        if self.rows < 2 * COLUMNS {
            return None;
        }
        let penalty = self.rows as f64 * alpha;
        let (mut lower, right) = self.whole();
        for (index, line) in lower.iter_mut().enumerate().take(COUNT) {
            line[index] += penalty;
        }
        let lower = cholesky(lower)?;
        // With L·Lᵀ = XᵀX + nαI, the rows Lᵀ and the targets L⁻¹·Xᵀy have the same normal equations.
        let targets = forward(&lower, &right);
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
