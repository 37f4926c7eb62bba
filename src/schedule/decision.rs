//! What a decision says: now or not, who decided, and everything that it rests on. As it stands in status, events and `-o json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::forecast::Contribution;
use super::plan::{Mode, Reason};
use super::proof::Proof;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Take a backup now.
    Backup,
    /// Not yet.
    Wait,
}

/// Which part of the core decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The cron expression, because AI optimisation is off.
    Cron,
    /// The first-order rule on the recent rate.
    Reactive,
    /// The forecast and the dynamic programme.
    Model,
    /// A bound or limit outside the model.
    Guard,
    /// The cron expression, because nothing better is trusted.
    Fallback,
}

/// A decision with everything that it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Now or not.
    pub action: Action,
    /// Which part decided.
    pub source: Source,
    /// The word for it.
    pub reason: Reason,
    /// When the backup is planned; now when the action is `Backup`.
    pub at: Timestamp,
    /// From the last good backup (or the first sight of the schedule) to `at`, seconds; 0 while none is planned.
    pub interval_seconds: i64,
    /// Sentences, most important first; the same in events, logs and `schedule explain`.
    pub reasons: Vec<String>,
    /// The rule in force.
    pub mode: Mode,
    /// u: changes at risk now.
    pub exposure: f64,
    /// u expected at `at`.
    pub exposure_at_plan: f64,
    /// The changes that are worth a backup: those of one cron period at the running mean rate, scaled by κ.
    pub budget: f64,
    /// A: the area under u, change-seconds.
    pub area: f64,
    /// K: the area that a backup is worth, change-seconds.
    pub area_budget: f64,
    /// κ, the calibrated factor in K.
    pub kappa: f64,
    /// η: the band is [K/η, ηK].
    pub eta: f64,
    /// The model in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The coming rates, while a forecast stands.
    pub forecast: Vec<ForecastBin>,
    /// What moves the forecast.
    pub features: Vec<Contribution>,
    /// When the plain cron would run next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_have: Option<Timestamp>,
    /// Backups saved against the cron over 28 days, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_percent: Option<f64>,
    /// Mean exposure against the cron's over 28 days, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure_ratio_percent: Option<f64>,
    /// The comparison with the cron over 7 and 28 days.
    #[serde(default)]
    pub proofs: Vec<Proof>,
    /// The saving that the cluster's unevenness allows, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub potential_percent: Option<f64>,
}

/// One bin of the published forecast.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForecastBin {
    /// When it begins.
    pub at: Timestamp,
    /// The mean rate, changes a second.
    pub rate: f64,
}
