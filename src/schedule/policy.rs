//! What the user asked for, checked: the cron, the bounds on the interval and the exposure that is acceptable.

use jiff::SignedDuration;
use serde::Serialize;

use super::cron::Cron;

/// A schedule's wishes, as read from the resource. Durations are positive.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The slots, and the exposure that everything is measured against.
    pub cron: Cron,
    /// Whether the interval may differ from the cron's at all.
    pub ai_enabled: bool,
    /// No backup sooner than this after a good one.
    pub min_interval: SignedDuration,
    /// No longer than this without a good one.
    pub max_interval: SignedDuration,
    /// The mean exposure allowed, percent of the cron's.
    pub exposure_target_percent: u32,
    /// A hard limit on changes at risk.
    pub max_unprotected_writes: Option<u64>,
    /// Decide again at every tick (true), or plan each interval once, when the backup before it is taken.
    pub replan: bool,
    /// Put a backup off while etcd is busy, within bounds.
    pub avoid_load: bool,
    /// No scheduled backups at all.
    pub suspend: bool,
    /// Take the first backup at once.
    pub immediate: bool,
    /// A cron slot missed by more than this is not made up.
    pub starting_deadline: Option<SignedDuration>,
    /// How long the next backup is expected to take; intervals never get shorter than twice that.
    pub expected_duration: Option<SignedDuration>,
}

/// Why a policy cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The bounds are the wrong way round.
    #[error(
        "aiOptimization.minInterval ({min:#}) is longer than maxInterval ({max:#}); swap them or raise maxInterval"
    )]
    BoundsReversed {
        /// The lower bound.
        min: SignedDuration,
        /// The upper bound.
        max: SignedDuration,
    },
    /// An interval of nothing.
    #[error("aiOptimization.minInterval must be at least one second, not {min}")]
    MinTooSmall {
        /// The lower bound.
        min: SignedDuration,
    },
    /// A target outside what can be steered to.
    #[error("aiOptimization.exposureTargetPercent is {percent}; it must lie between 10 and 1000")]
    TargetOutOfRange {
        /// What was asked.
        percent: u32,
    },
}

/// Something that works but stifles the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// A CamelCase word for conditions and labels.
    pub code: &'static str,
    /// A sentence with the remedy.
    pub message: String,
}

impl Policy {
    /// A policy for the given cron with the documented defaults: 1 h to 6 h, exposure as the cron's.
    #[must_use]
    pub fn with_defaults(cron: Cron) -> Self {
        Self {
            cron,
            ai_enabled: true,
            min_interval: SignedDuration::from_hours(1),
            max_interval: SignedDuration::from_hours(6),
            exposure_target_percent: 100,
            max_unprotected_writes: None,
            replan: true,
            avoid_load: false,
            suspend: false,
            immediate: false,
            starting_deadline: None,
            expected_duration: None,
        }
    }

    /// Checks what no default can repair.
    ///
    /// # Errors
    /// Names the field and the remedy.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if self.min_interval < SignedDuration::from_secs(1) {
            return Err(PolicyError::MinTooSmall {
                min: self.min_interval,
            });
        }
        if self.min_interval > self.max_interval {
            return Err(PolicyError::BoundsReversed {
                min: self.min_interval,
                max: self.max_interval,
            });
        }
        if !(10..=1000).contains(&self.exposure_target_percent) {
            return Err(PolicyError::TargetOutOfRange {
                percent: self.exposure_target_percent,
            });
        }
        Ok(())
    }

    /// What keeps the schedule from saving: a lower bound above half the cron's period cannot make up for peaks,
    /// an upper bound below three periods cannot use the quiet hours (scheduling.md §2, sensitivities).
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        if !self.ai_enabled {
            return Vec::new();
        }
        let period = self.cron.typical_period();
        let mut advice = Vec::new();
        if self.min_interval * 2 > period {
            advice.push(Advice {
                code: "MinIntervalTooLong",
                message: format!(
                    "minInterval {:#} is more than half the cron's period of {period:#}: busy hours cannot be \
                     covered more often, so quiet hours cannot be covered less; set it to {:#} or less",
                    self.min_interval,
                    period / 2
                ),
            });
        }
        if self.max_interval < period * 3 {
            advice.push(Advice {
                code: "MaxIntervalTooShort",
                message: format!(
                    "maxInterval {:#} is less than three of the cron's periods of {period:#}: quiet hours cannot \
                     be used to save; set it to {:#} or more",
                    self.max_interval,
                    period * 3
                ),
            });
        }
        advice
    }

    /// The lower bound in force, seconds: the user's, or twice the expected duration when that is longer.
    #[must_use]
    pub fn min_seconds(&self) -> f64 {
        let floor = self
            .expected_duration
            .map_or(0.0, |duration| 2.0 * duration.as_secs_f64());
        self.min_interval
            .as_secs_f64()
            .max(floor)
            .min(self.max_seconds())
    }

    /// The upper bound, seconds.
    #[must_use]
    pub fn max_seconds(&self) -> f64 {
        self.max_interval.as_secs_f64()
    }

    /// The cron's mean period T, seconds.
    #[must_use]
    pub fn period_seconds(&self) -> f64 {
        self.cron.typical_period().as_secs_f64().max(1.0)
    }

    /// The mean exposure allowed, as a ratio to the cron's.
    #[must_use]
    pub fn target_ratio(&self) -> f64 {
        f64::from(self.exposure_target_percent) / 100.0
    }
}
