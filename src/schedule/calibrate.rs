//! The daily control loop, which earns the trust: replay the last fourteen days with each mode, find the κ that saves
//! most at no more exposure than the shadow cron's, and put the mode in force that needs fewest backups.

use serde::{Deserialize, Serialize};

use super::backtest::{Archive, Bench, Limits};
use super::history::History;
use super::plan::Mode;
use super::policy::Policy;
use super::shadow::{self, Levels};
use super::timescale::Timescale;

/// The range of κ that is searched.
const KAPPA: (f64, f64) = (0.3, 8.0);
/// Replays of one search. Starting from yesterday's κ four or five place the new one within [`RESOLUTION`].
const TRIES: u32 = 6;
/// How closely κ is placed, on the log scale.
const RESOLUTION: f64 = 0.015;
/// How much the log of the exposure grows with the log of κ, about: intervals go with √K.
const SLOPE: f64 = 0.5;
/// The shortest and the longest step of the search while only one side of the limit is known.
const STEP: (f64, f64) = (0.03, 0.6);
/// A rule must save this much more than the one before it on the ladder, percent points, to replace it.
const HYSTERESIS: f64 = 1.0;
/// A search that can only end this far behind the other mode, percent points, is given up early.
const HOPELESS: f64 = 2.0;
/// The replay aims this much under the exposure allowed, in the first fortnight and later: what comes is never quite like what
/// was, least of all when little was seen.
const AIM: (f64, f64) = (0.975, 0.995);
/// How much of yesterday's κ stays, on the log scale: fourteen days say little about one, and a κ that jumps costs backups.
const KEPT: f64 = 0.7;
/// How many days back a replay goes.
pub const DAYS: f64 = 14.0;

/// How a mode did in the replay, at its best κ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// The κ.
    pub kappa: f64,
    /// Backups saved against the cron, percent.
    pub saved_percent: f64,
    /// Mean exposure over the cron's.
    pub mean_ratio: f64,
    /// p99 exposure over the cron's.
    pub p99_ratio: f64,
}

impl Score {
    /// This score with its κ drawn towards the one before.
    fn after(self, before: Option<Self>) -> Self {
        let kappa = before.map_or(self.kappa, |before| {
            (KEPT * before.kappa.ln() + (1.0 - KEPT) * self.kappa.ln()).exp()
        });
        Self { kappa, ..self }
    }
}

/// What the last run of the loop found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// When, Unix seconds.
    pub at: f64,
    /// The mode put in force.
    pub mode: Mode,
    /// The reactive rule's replay.
    pub reactive: Option<Score>,
    /// The forecast's.
    pub forecast: Option<Score>,
    /// The 99.9 % quantile of the changes in one cron period: more at risk than that is a guardrail.
    pub guardrail: Option<f64>,
    /// V = Var(√λ)/E\[λ\]: how uneven the cluster is, hence what can be saved.
    pub potential: Option<f64>,
    /// The saving that V predicts, percent.
    pub predicted_percent: Option<f64>,
    /// Whether κ is held by a study, so that nothing corrects it.
    #[serde(default)]
    pub held: bool,
}

impl Calibration {
    /// What is in force before anything is known: the cron.
    #[must_use]
    pub fn cold(at: f64) -> Self {
        Self {
            at,
            mode: Mode::Cron,
            reactive: None,
            forecast: None,
            guardrail: None,
            potential: None,
            predicted_percent: None,
            held: false,
        }
    }

    /// Holds κ, for a study of what the daily loop is worth.
    fn fix(&mut self, kappa: f64, has_model: bool) {
        let score = Score {
            kappa,
            saved_percent: 0.0,
            mean_ratio: 1.0,
            p99_ratio: 1.0,
        };
        self.held = true;
        self.reactive = Some(score);
        self.forecast = has_model.then_some(score);
        self.mode = if has_model {
            Mode::Forecast
        } else {
            Mode::Reactive
        };
    }

    /// κ of a mode; 1, which reproduces the cron on a flat trace, until a replay says otherwise.
    #[must_use]
    pub fn kappa(&self, mode: Mode) -> f64 {
        let score = match mode {
            Mode::Cron => None,
            Mode::Reactive => self.reactive,
            Mode::Forecast => self.forecast.or(self.reactive),
        };
        score.map_or(1.0, |score| score.kappa)
    }
}

/// The data of one run.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The past.
    pub history: &'a History,
    /// How many cells of it are known.
    pub now: usize,
    /// Forecasts made back then; must cover the last fourteen days when a model exists.
    pub archive: &'a Archive,
    /// Whether there is a model at all.
    pub has_model: bool,
}

/// Runs the loop once.
#[must_use]
pub fn calibrate(
    evidence: &Evidence<'_>,
    policy: &Policy,
    scale: &Timescale,
    before: &Calibration,
) -> Calibration {
    let Evidence { history, now, .. } = *evidence;
    let from = window_start(history, now, scale);
    let known_days = history.known(0, now) as f64 * history.step() / scale.day;
    let mut next = Calibration::cold(history.time_of(now));
    if known_days < 1.0 {
        return next;
    }
    next.guardrail = guardrail(history, from, now, policy.period_seconds());
    next.potential = potential(history, from, now, policy.period_seconds());
    next.predicted_percent = next.potential.map(|potential| predicted(potential, policy));
    next.mode = Mode::Reactive;
    if let Some(kappa) = evidence.archive.study().kappa {
        next.fix(kappa, evidence.has_model);
        return next;
    }
    // Before day three a replay sees too little to move κ from 1 (scheduling.md §4, cold start).
    if known_days < 3.0 {
        return next;
    }
    let limits = Limits::new(policy, scale, next.guardrail.unwrap_or(f64::INFINITY));
    let bench = Bench::new(history, scale, evidence.archive, (from, now), limits);
    let aim = if known_days < DAYS { AIM.0 } else { AIM.1 };
    let trial = Trial::new(&bench, policy, history.step(), aim);
    let reactive = trial.best(
        Mode::Reactive,
        before.kappa(Mode::Reactive),
        f64::NEG_INFINITY,
    );
    next.reactive = Some(reactive);
    next.forecast = evidence.has_model.then(|| {
        let needed = reactive.saved_percent - HOPELESS;
        trial.best(Mode::Forecast, before.kappa(Mode::Forecast), needed)
    });
    next.reactive = next.reactive.map(|found| found.after(before.reactive));
    next.forecast = next.forecast.map(|found| found.after(before.forecast));
    next.mode = select(
        before.mode,
        next.reactive,
        next.forecast,
        policy.target_ratio(),
    );
    next
}

/// Where the replay begins.
#[must_use]
pub fn window_start(history: &History, now: usize, scale: &Timescale) -> usize {
    now.saturating_sub(history.cells(DAYS * scale.day))
}

/// The mode with fewest backups; the forecast must be a percent better to come into force, and so must any rule to replace
/// the cron.
fn select(incumbent: Mode, reactive: Option<Score>, forecast: Option<Score>, target: f64) -> Mode {
    let saved = |score: Option<Score>| score.map_or(f64::NEG_INFINITY, |score| score.saved_percent);
    let (reactive, forecast) = (saved(reactive), saved(forecast));
    let needed = if incumbent == Mode::Forecast {
        0.0
    } else {
        HYSTERESIS
    };
    let to_leave = if incumbent == Mode::Cron {
        HYSTERESIS
    } else {
        0.0
    };
    // The cron is no way out where less exposure is wanted than it has.
    if target >= 1.0 && reactive.max(forecast) < to_leave {
        Mode::Cron
    } else if forecast >= reactive + needed {
        Mode::Forecast
    } else {
        Mode::Reactive
    }
}

/// One replay window with the cron's levels on it.
struct Trial<'a> {
    bench: &'a Bench<'a>,
    cron: Levels,
    cron_backups: f64,
    target: f64,
}

impl<'a> Trial<'a> {
    fn new(bench: &'a Bench<'a>, policy: &Policy, step: f64, aim: f64) -> Self {
        let period = ((policy.period_seconds() / step).round() as usize).max(1);
        let rates = bench.rates();
        Self {
            bench,
            cron: shadow::reference(rates, period.min(rates.len()), rates.len(), period, step),
            cron_backups: rates.len() as f64 / period as f64,
            target: aim * policy.target_ratio(),
        }
    }

    fn score(&self, mode: Mode, kappa: f64) -> Score {
        let outcome = self.bench.run(mode, kappa);
        let ratios = outcome.levels.over(&self.cron);
        Score {
            kappa,
            saved_percent: 100.0 * (1.0 - f64::from(outcome.backups) / self.cron_backups),
            mean_ratio: ratios.mean,
            p99_ratio: ratios.p99,
        }
    }

    /// How far a score is from the limits: 1 is just within.
    fn strain(&self, score: &Score) -> f64 {
        let mean = score.mean_ratio / self.target;
        mean.max(score.p99_ratio / self.target.max(1.0))
    }

    /// The largest κ within the limits, by the secant rule on the log scale from the `start`. Savings grow with κ, so once a κ
    /// that is too risky saves less than `needed`, the mode cannot win any more and the best so far will do.
    fn best(&self, mode: Mode, start: f64, needed: f64) -> Score {
        let (mut low, mut high) = (KAPPA.0.ln(), KAPPA.1.ln());
        // The logs of the strain at both ends, where they were tried.
        let (mut at_low, mut at_high) = (None, None);
        let mut at = start.ln().clamp(low, high);
        let mut best = None;
        for _ in 0..TRIES {
            let score = self.score(mode, at.exp());
            let strain = self.strain(&score).max(1e-3).ln();
            if strain <= 0.0 {
                (low, at_low) = (at, Some(strain));
                best = Some(score);
            } else {
                (high, at_high) = (at, Some(strain));
                if best.is_some() && score.saved_percent < needed {
                    break;
                }
            }
            let width = high - low;
            if width < RESOLUTION {
                break;
            }
            at = match (at_low, at_high) {
                (Some(below), Some(above)) => {
                    low + width * (-below / (above - below)).clamp(0.1, 0.9)
                }
                _ => {
                    let step = (strain.abs() / SLOPE).clamp(STEP.0, STEP.1);
                    let next = at - step.copysign(strain);
                    next.clamp(low, high)
                }
            };
        }
        best.unwrap_or_else(|| self.score(mode, KAPPA.0))
    }
}

/// The 99.9 % quantile of the changes in one period, over the window; `None` on idle clusters.
fn guardrail(history: &History, from: usize, now: usize, period: f64) -> Option<f64> {
    let cells = history.cells(period);
    let mut sums: Vec<f64> = ((from + cells)..=now)
        .filter_map(|end| history.mean(end - cells, end))
        .map(|rate| rate * period)
        .collect();
    if sums.is_empty() {
        return None;
    }
    let index = ((sums.len() as f64 * 0.999) as usize).min(sums.len() - 1);
    let limit = *sums.select_nth_unstable_by(index, f64::total_cmp).1;
    (limit > 0.0).then_some(limit)
}

/// V = Var(√λ)/E\[λ\] on bins of a quarter of the period (30 minutes at 2 h).
#[must_use]
pub fn potential(history: &History, from: usize, now: usize, period: f64) -> Option<f64> {
    let width = history.cells(period / 4.0);
    let bins: Vec<f64> = (from..now)
        .step_by(width)
        .filter_map(|at| history.mean(at, (at + width).min(now)))
        .collect();
    let count = bins.len() as f64;
    let mean = bins.iter().sum::<f64>() / count;
    let root = bins.iter().map(|rate| rate.sqrt()).sum::<f64>() / count;
    (mean > 0.0).then(|| (mean - root * root) / mean)
}

/// The saving that V predicts (0.84·V + 0.4 points, at most what maxInterval allows), percent.
#[must_use]
pub fn predicted(potential: f64, policy: &Policy) -> f64 {
    let most = 1.0 - policy.period_seconds() / policy.max_seconds();
    100.0 * (0.84 * potential + 0.004).min(most.max(0.0))
}
