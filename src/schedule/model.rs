//! A fitted forecast and its file: versioned, checked field by field before anything trusts it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::features;

/// The only file layout that is understood.
pub const SCHEMA_VERSION: u32 = 1;

/// A set of ridge regressions, one for each forecast bin, on the log of the change rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// A name that follows from the data: `ridge-<date>-<digest>`.
    pub id: String,
    /// When it was fitted.
    pub created_at: Timestamp,
    /// What it was fitted on.
    pub trained_on: TrainedOn,
    /// The width of a forecast bin, seconds.
    pub bin_seconds: f64,
    /// The step of the series, seconds.
    pub step_seconds: f64,
    /// The rate that counts as one unit under the logarithm, changes a second.
    pub reference_rate: f64,
    /// Whether rates are counted in multiples of the cluster's mean rate of the last seven days, as in a prior that is to serve any
    /// cluster, in place of changes a second.
    #[serde(default)]
    pub relative: bool,
    /// The feature names, as [`features::NAMES`].
    pub features: Vec<String>,
    /// Each feature's mean in training.
    pub mean: Vec<f64>,
    /// Each feature's standard deviation in training; 1 where it is constant.
    pub scale: Vec<f64>,
    /// One regression for each bin, nearest first.
    pub horizons: Vec<Horizon>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainedOn {
    /// The first sample's time.
    pub from: Timestamp,
    /// The end of the last sample.
    pub to: Timestamp,
    /// Rows of the first horizon's regression.
    pub rows: usize,
    /// FNV-1a of the rates, to tell two data sets apart.
    pub digest: String,
}

/// One bin's regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Horizon {
    /// The prediction for mean features.
    pub intercept: f64,
    /// A weight for each standardised feature.
    pub coefficients: Vec<f64>,
    /// What the back-transformed forecast is multiplied by, since the mean of exponentials is not the exponential of the mean.
    pub smear: f64,
    /// No forecast above this, changes a second.
    pub cap: f64,
    /// The 10 % quantile of the residual, on the log scale.
    pub residual_low: f64,
    /// The 90 % quantile.
    pub residual_high: f64,
}

/// Why a model file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not the JSON of a model.
    #[error("the model file cannot be read; fit a new one with `etcdguardian model fit`")]
    Syntax(#[source] serde_json::Error),
    /// Another layout.
    #[error(
        "the model file has schemaVersion {found}, this version reads {SCHEMA_VERSION}; fit a new one"
    )]
    UnknownSchema {
        /// What the file says.
        found: u64,
    },
    /// A number that is not finite or out of range, or a list of the wrong length.
    #[error("model `{id}`: `{field}` {problem}; fit a new one with `etcdguardian model fit`")]
    Invalid {
        /// The model's id.
        id: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Model {
    /// The same model with every number as a file gives it back: the parser may be off by the last bit, and a forecast must
    /// not change when it is stored.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let numbers = [
            &mut self.bin_seconds,
            &mut self.step_seconds,
            &mut self.reference_rate,
        ];
        let lists = self.mean.iter_mut().chain(&mut self.scale).chain(numbers);
        let horizons = self.horizons.iter_mut().flat_map(|horizon| {
            horizon.coefficients.iter_mut().chain([
                &mut horizon.intercept,
                &mut horizon.smear,
                &mut horizon.cap,
                &mut horizon.residual_low,
                &mut horizon.residual_high,
            ])
        });
        for number in lists.chain(horizons) {
            *number = settled(*number);
        }
        self
    }

    /// Reads and checks a model file.
    ///
    /// # Errors
    /// When it is not a model of this schema or holds numbers that no fit gives.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(ModelError::Syntax)?;
        let found = value
            .get("schemaVersion")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0);
        if found != u64::from(SCHEMA_VERSION) {
            return Err(ModelError::UnknownSchema { found });
        }
        let model: Self = serde_json::from_value(value).map_err(ModelError::Syntax)?;
        model.check()?;
        Ok(model)
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never for a checked model: its numbers are finite.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// Checks lengths, finiteness and ranges.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), ModelError> {
        let wrong = |field, problem| ModelError::Invalid {
            id: self.id.chars().take(64).collect(),
            field,
            problem,
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !self.features.iter().map(String::as_str).eq(features::NAMES) {
            return Err(wrong("features", "is not the list of this version"));
        }
        if self.mean.len() != features::COUNT || !self.mean.iter().all(|v| v.is_finite()) {
            return Err(wrong("mean", "needs a finite number for each feature"));
        }
        if self.scale.len() != features::COUNT || !self.scale.iter().all(|v| positive(*v)) {
            return Err(wrong("scale", "needs a positive number for each feature"));
        }
        if !positive(self.reference_rate) || !positive(self.step_seconds) {
            return Err(wrong("referenceRate", "and stepSeconds must be positive"));
        }
        if !positive(self.bin_seconds) || self.bin_seconds < self.step_seconds {
            return Err(wrong("binSeconds", "must be at least stepSeconds"));
        }
        if self.horizons.is_empty() || self.horizons.len() > 96 {
            return Err(wrong("horizons", "must have between 1 and 96 entries"));
        }
        self.horizons
            .iter()
            .try_for_each(|horizon| horizon.check().map_err(|(f, p)| wrong(f, p)))
    }
}

/// The nearest number that is read back as it was written.
fn settled(value: f64) -> f64 {
    let mut value = value;
    for _ in 0..8 {
        let text = serde_json::to_string(&value).unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(read) if read != value => value = read,
            _ => break,
        }
    }
    value
}

impl Horizon {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        if self.coefficients.len() != features::COUNT || !finite(&self.coefficients) {
            return Err(("coefficients", "needs a finite number for each feature"));
        }
        if !finite(&[self.intercept, self.residual_low, self.residual_high]) {
            return Err(("intercept", "and the residuals must be finite"));
        }
        if !(self.smear.is_finite() && self.smear > 0.0) {
            return Err(("smear", "must be positive"));
        }
        if !(self.cap.is_finite() && self.cap >= 0.0) {
            return Err(("cap", "must not be negative"));
        }
        Ok(())
    }
}
