//! How long "a day", "the last quarter of an hour" and a forecast bin are, for this cron and this sampling step.
//! Everything is as in the lab (2 h cron, 5-minute step) for ordinary schedules, and shrinks for compressed clocks.

use super::policy::Policy;

const DAY: f64 = 86_400.0;

/// Crons faster than this get a control day shorter than 24 h, in proportion: a demonstration whose cron fires every
/// minute calibrates on hours, not weeks. Seasonal features keep to real days.
const SLOWEST_COMPRESSED_PERIOD: f64 = 900.0;

/// Forecast bins: twice `maxInterval` ahead in this many steps.
pub const HORIZONS: usize = 24;

/// Every length that the core uses, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timescale {
    /// The sampling step of the series.
    pub step: f64,
    /// How often a decision is made.
    pub cadence: f64,
    /// The rhythm of the control loop; back-tests look 14 of these back.
    pub day: f64,
    /// The window of the reactive rule's rate (15 minutes at a 2 h cron).
    pub recent: f64,
    /// The width of a forecast bin (30 minutes at maxInterval 6 h), a multiple of the step.
    pub bin: f64,
    /// How many bins are forecast.
    pub horizons: usize,
    /// The step of the dynamic programme.
    pub plan_step: f64,
    /// How far it looks.
    pub plan_horizon: f64,
    /// Without a sample for this long the signal counts as gone.
    pub stale: f64,
}

impl Timescale {
    /// The control day of a policy, seconds.
    #[must_use]
    pub fn control_day(policy: &Policy) -> f64 {
        DAY * (policy.period_seconds() / SLOWEST_COMPRESSED_PERIOD).min(1.0)
    }

    /// The lengths for a policy on a series of `step` seconds, decided every `cadence` seconds.
    #[must_use]
    pub fn new(policy: &Policy, step: f64, cadence: f64) -> Self {
        let period = policy.period_seconds();
        let (min, max) = (policy.min_seconds(), policy.max_seconds());
        let horizon = 2.0 * max;
        let bin = (horizon / HORIZONS as f64 / step).ceil().max(1.0) * step;
        let plan_step = (min / 4.0).max(horizon / 144.0).max(cadence.min(min));
        Self {
            step,
            cadence,
            day: Self::control_day(policy),
            recent: (period / 8.0).max(step),
            bin,
            horizons: ((horizon / bin).ceil() as usize).clamp(2, HORIZONS),
            plan_step,
            plan_horizon: horizon,
            stale: (period / 8.0).max(3.0 * step),
        }
    }

    /// The decision cadence for a live loop: as often as samples come, and at least twelve times per shortest interval,
    /// but not more than once a second.
    #[must_use]
    pub fn live_cadence(policy: &Policy, step: f64) -> f64 {
        step.min((policy.min_seconds() / 12.0).max(1.0))
    }
}
