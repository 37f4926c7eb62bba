//! The rule of every tick, in the order of scheduling.md §4: bounds, guardrail, area band, then the mode's own rule.
//! It decides for the live loop and for the back-test alike.

use serde::{Deserialize, Serialize};

use super::dp::{self, Question};
use super::forecast::OutlookView;
use super::timescale::Timescale;

/// The width of the band [K/η, ηK] inside which the mode may choose. Whatever a forecast says, the cost stays within
/// 1 + η times the best possible (scheduling.md §3).
pub const ETA: f64 = 2.0;

/// How much the area has to say in a rule on the changes: its exponent.
const TEMPER: f64 = 0.2;

/// Which rule is in force; each falls back to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The cron's slots.
    Cron,
    /// The first-order rule on the recent rate; no model.
    Reactive,
    /// The forecast and the dynamic programme.
    Forecast,
}

/// Why a tick ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Too soon after the last good backup.
    MinInterval,
    /// The longest interval is over.
    MaxInterval,
    /// More changes at risk than the hard limit.
    Guardrail,
    /// The area under the exposure reached ηK.
    AreaUpper,
    /// The area is still under K/η.
    AreaLower,
    /// The dynamic programme.
    PlanOptimal,
    /// The first-order rule.
    MarginalRule,
    /// A cron slot, or waiting for one.
    Cron,
    /// Nothing changed since the last backup.
    Idle,
    /// Put off while etcd is busy.
    LoadGate,
    /// The interval fixed at the last backup.
    Planned,
    /// The signal is gone and no forecast covers the hole.
    SignalLost,
    /// Waiting before another try after a failure.
    BackoffAfterFailure,
    /// A backup failed and its wait is over.
    RetryAfterFailure,
    /// The first backup, at once.
    Immediate,
    /// A cron slot that passed while nobody watched, made up once.
    MissedSlot,
    /// The schedule is suspended.
    Suspended,
}

/// Everything that a tick's choice depends on. Times in seconds, areas in change-seconds.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Unix time.
    pub now: f64,
    /// Since the last good backup.
    pub elapsed: f64,
    /// u: changes since then.
    pub changes: f64,
    /// A: the area under u since then.
    pub area: f64,
    /// K: the area that a backup is worth.
    pub budget: f64,
    /// The rate of the last quarter of an hour; `None` when the signal is gone.
    pub recent_rate: Option<f64>,
    /// The forecast, when the mode may use one.
    pub outlook: Option<OutlookView<'a>>,
    /// The hard limit on u; infinite when there is none.
    pub guardrail: f64,
    /// The shortest interval.
    pub min: f64,
    /// The longest interval.
    pub max: f64,
    /// The cron's mean period.
    pub period: f64,
    /// The rule in force.
    pub mode: Mode,
    /// A fixed interval, in planned-ahead mode.
    pub planned: Option<f64>,
    /// Whether to stay off etcd for the moment.
    pub busy: bool,
}

/// A tick's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Back up now.
    pub backup: bool,
    /// Why, or why not.
    pub reason: Reason,
}

impl Choice {
    fn now(reason: Reason) -> Self {
        Self {
            backup: true,
            reason,
        }
    }

    fn wait(reason: Reason) -> Self {
        Self {
            backup: false,
            reason,
        }
    }
}

/// Chooses for one tick in which the interval may be adapted.
#[must_use]
pub fn choose(situation: &Situation<'_>, scale: &Timescale) -> Choice {
    let s = situation;
    if s.elapsed < s.min {
        return Choice::wait(Reason::MinInterval);
    }
    // Half a cadence early rather than half a cadence late: the bound is a promise.
    if s.elapsed + 0.5 * scale.cadence.min(s.min) >= s.max {
        return Choice::now(Reason::MaxInterval);
    }
    if s.changes >= s.guardrail && s.changes > 0.0 {
        return Choice::now(Reason::Guardrail);
    }
    if s.mode == Mode::Cron {
        // What is at risk is a guess when the signal is gone, so only time counts.
        let reason = if s.recent_rate.is_some() {
            Reason::Cron
        } else {
            Reason::SignalLost
        };
        return Choice {
            backup: s.elapsed + 1e-6 >= s.period,
            reason,
        };
    }
    if s.changes <= 0.0 {
        return Choice::wait(Reason::Idle);
    }
    if s.area >= ETA * s.budget {
        return Choice::now(Reason::AreaUpper);
    }
    if let Some(planned) = s.planned {
        return if s.elapsed + 1e-6 >= planned {
            Choice::now(Reason::Planned)
        } else {
            Choice::wait(Reason::Planned)
        };
    }
    if s.area < s.budget / ETA {
        return Choice::wait(Reason::AreaLower);
    }
    let choice = by_mode(s, scale);
    if choice.backup && s.busy && s.area < 1.25 * s.budget {
        return Choice::wait(Reason::LoadGate);
    }
    choice
}

fn by_mode(s: &Situation<'_>, scale: &Timescale) -> Choice {
    match (s.mode, s.outlook, s.recent_rate) {
        (Mode::Forecast, Some(outlook), _) => {
            let answer = dp::solve(&question(s, outlook), scale);
            // Ties wait: an idle hour must not be filled with backups at minInterval.
            Choice {
                backup: answer.cost_now < answer.cost_wait - 1e-9 * s.budget,
                reason: Reason::PlanOptimal,
            }
        }
        (_, _, Some(rate)) => Choice {
            // At a constant rate both sides are the same but for rounding.
            backup: s.changes >= (1.0 - 1e-9) * tempered(s, marginal(s, rate)),
            reason: Reason::MarginalRule,
        },
        // No signal and nothing that bridges the hole: the cron's interval.
        (_, _, None) => Choice {
            backup: s.elapsed >= s.period,
            reason: Reason::SignalLost,
        },
    }
}

/// The changes at which the first-order rule backs up. To wait costs u a second; the interval after a backup costs K/L + r·L/2 a
/// second in the mean, at its best length L = √(2K/r) within the bounds. Between the bounds both sides say u = r·L.
fn marginal(s: &Situation<'_>, rate: f64) -> f64 {
    let best = square_root_interval(s, rate);
    s.budget / best + 0.5 * rate * best
}

/// Draws a rule on u towards the area rule, which needs no rate: at a constant rate both fall due together, and the errors of one are
/// not those of the other.
fn tempered(s: &Situation<'_>, changes: f64) -> f64 {
    if s.area > 0.0 {
        changes * (s.budget / s.area).powf(TEMPER)
    } else {
        f64::INFINITY
    }
}

/// √(2K/r) within the bounds.
#[must_use]
pub fn square_root_interval(s: &Situation<'_>, rate: f64) -> f64 {
    if rate <= 0.0 {
        s.max
    } else {
        (2.0 * s.budget / rate).sqrt().clamp(s.min, s.max)
    }
}

/// When the next backup is expected as things stand, seconds from now; what is published, and revised at every tick.
#[must_use]
pub fn expected_wait(s: &Situation<'_>, scale: &Timescale) -> f64 {
    let soonest = (s.min - s.elapsed).max(0.0);
    let latest = (s.max - s.elapsed).max(0.0);
    let wait = match (s.planned, s.mode, s.outlook, s.recent_rate) {
        (Some(planned), ..) => planned - s.elapsed,
        (_, Mode::Forecast, Some(outlook), _) => {
            let answer = dp::solve(&question(s, outlook), scale);
            if answer.cost_now < answer.cost_wait - 1e-9 * s.budget && s.changes > 0.0 {
                0.0
            } else {
                answer.best_wait
            }
        }
        (_, Mode::Cron, ..) | (_, _, _, None) => s.period - s.elapsed,
        (_, _, _, Some(rate)) => constant_rate_wait(s, rate),
    };
    wait.clamp(soonest, latest)
}

/// The wait of the first-order rule if the recent rate r goes on: until u + r·t reaches the marginal u, inside the band.
fn constant_rate_wait(s: &Situation<'_>, rate: f64) -> f64 {
    if rate <= 0.0 {
        // Nothing more comes, so only the area grows: to K, where the tempered rule is the plain one.
        return if s.changes >= marginal(s, rate) {
            ((s.budget - s.area) / s.changes).max(0.0)
        } else {
            s.max
        };
    }
    let rule = (marginal(s, rate) - s.changes) / rate;
    // Area after t: A + u·t + r·t²/2, solved for K/η and ηK.
    let until = |area: f64| {
        let missing = area - s.area;
        if missing <= 0.0 {
            return 0.0;
        }
        ((s.changes * s.changes + 2.0 * rate * missing).sqrt() - s.changes) / rate
    };
    rule.clamp(until(s.budget / ETA), until(ETA * s.budget))
}

fn question<'a>(s: &Situation<'_>, outlook: OutlookView<'a>) -> Question<'a> {
    Question {
        outlook,
        now: s.now,
        changes: s.changes,
        elapsed: s.elapsed,
        budget: s.budget,
        min: s.min,
        max: s.max,
    }
}
