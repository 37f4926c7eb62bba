//! The daily control loop, which earns the trust: replay the last weeks with each mode, find the κ that saves most at no more
//! exposure than the shadow cron's, and put the mode in force that needs fewest backups.

use serde::{Deserialize, Serialize};

use super::backtest::{Archive, Bench, Limits};
use super::history::History;
use super::plan::Mode;
use super::policy::Policy;
use super::shadow::{self, Levels};
use super::timescale::Timescale;

/// The range of κ.
const KAPPA: (f64, f64) = (0.3, 8.0);
/// How much the log of κ moves for the log of the exposure: intervals go with √K, and at the bounds not at all.
const ANSWER: f64 = 1.7;
/// The most that κ moves at once, as a factor.
const STEP: f64 = 2.0;
/// Replays of one search; the next day goes on from there.
const TRIES: u32 = 3;
/// A κ this near the limit stays, on the log scale of the exposure.
const NEAR: f64 = 0.005;
/// A rule must save this much more than the one before it on the ladder, percent points, to replace it.
const HYSTERESIS: f64 = 1.0;
/// The replay aims this much under the exposure allowed, in the first week and after the second, with an even way in between: what
/// comes is never quite like what was, least of all when little was seen.
const AIM: (f64, f64) = (0.94, 0.99);
/// Where that way begins and ends, control days.
const LEARNING: (f64, f64) = (7.0, 14.0);
/// How many days κ looks back. Nothing but the changes is needed for it, and a K that follows every week's ups and downs costs backups:
/// at the same exposure a steady one takes fewest.
const LONG_DAYS: f64 = 28.0;
/// How much of yesterday's κ stays, on the log scale, once a replay has found one.
const STEADY: f64 = 0.8;
/// How much of yesterday's distance between the κ of forecast and rule stays, on the log scale.
const KEPT: f64 = 0.5;
/// How many days back forecast and rule are compared.
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
    /// Control days that were replayed.
    #[serde(default = "fortnight")]
    pub days: f64,
}

/// What was replayed by the version that did not say.
fn fortnight() -> f64 {
    DAYS
}

impl Score {
    /// This score with κ moved to the limit, backups being as many as exposure is little.
    fn at_limit(self, strain: f64) -> Self {
        Self {
            saved_percent: 100.0 - (100.0 - self.saved_percent) * strain,
            mean_ratio: self.mean_ratio / strain,
            p99_ratio: self.p99_ratio / strain,
            ..self
        }
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
    /// κ before any replay.
    #[serde(default)]
    pub prior: Option<f64>,
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
    /// Whether nothing was replayed, as the cron alone decided: a run is due once it does not.
    #[serde(default)]
    pub unplayed: bool,
}

impl Calibration {
    /// What is in force before anything is known: the cron.
    #[must_use]
    pub fn cold(at: f64) -> Self {
        Self {
            at,
            mode: Mode::Cron,
            prior: None,
            reactive: None,
            forecast: None,
            guardrail: None,
            potential: None,
            predicted_percent: None,
            held: false,
            unplayed: false,
        }
    }

    /// Holds κ, for a study of what the daily loop is worth.
    fn fix(&mut self, kappa: f64, has_model: bool) {
        let score = Score {
            kappa,
            saved_percent: 0.0,
            mean_ratio: 1.0,
            p99_ratio: 1.0,
            days: 0.0,
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

    /// κ of a mode; 1, which reproduces the cron on a flat trace, while nothing is known.
    #[must_use]
    pub fn kappa(&self, mode: Mode) -> f64 {
        let score = match mode {
            Mode::Cron => None,
            Mode::Reactive => self.reactive,
            Mode::Forecast => self.forecast.or(self.reactive),
        };
        let found = score.map(|score| score.kappa).or(self.prior);
        found.unwrap_or(1.0)
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
    // Nobody asks for the rules: a thousand crons are not to be replayed each day.
    if !policy.ai_enabled {
        next.unplayed = true;
        return next;
    }
    next.mode = Mode::Reactive;
    if let Some(kappa) = evidence.archive.study().kappa {
        next.fix(kappa, evidence.has_model);
        return next;
    }
    next.prior = next.potential.map(prior);
    // Before day three a replay sees too little (scheduling.md §4, cold start).
    if known_days < 3.0 {
        return next;
    }
    let yesterday = before
        .reactive
        .map_or(next.prior.unwrap_or(1.0), |score| score.kappa);
    let limits = Limits::new(policy, scale, next.guardrail.unwrap_or(f64::INFINITY));
    let aim = aim(known_days);
    let trial = |from| {
        let bench = Bench::new(history, scale, evidence.archive, (from, now), limits);
        Trial::new(bench, policy, scale, aim)
    };
    let long = trial(days_back(history, now, scale, LONG_DAYS));
    let found = long.settled(Mode::Reactive, yesterday);
    let stays = before.reactive.map_or(0.0, |_| STEADY);
    let reactive = Score {
        kappa: yesterday.powf(stays) * found.kappa.powf(1.0 - stays),
        ..found
    };
    next.reactive = Some(reactive);
    let pair = evidence.has_model.then(|| {
        let distance = before.forecast.map(|forecast| forecast.kappa / yesterday);
        trial(from).beside(reactive.kappa, distance)
    });
    next.forecast = pair.map(|(_, forecast)| forecast);
    let rule = pair.map_or(reactive, |(rule, _)| rule);
    let par = reactive.at_limit(aim);
    next.mode = if policy.target_ratio() >= 1.0 && hopeless(before.mode, par, pair) {
        Mode::Cron
    } else {
        select(before.mode, rule, next.forecast)
    };
    next
}

/// Where the replay of forecast and rule begins.
#[must_use]
pub fn window_start(history: &History, now: usize, scale: &Timescale) -> usize {
    days_back(history, now, scale, DAYS)
}

/// Where the last `days` begin, or the first sample: a young Prometheus is asked for more than it has.
fn days_back(history: &History, now: usize, scale: &Timescale, days: f64) -> usize {
    let wanted = now.saturating_sub(history.cells(days * scale.day));
    wanted.max(history.first_known()).min(now)
}

/// How far under the exposure allowed the replay aims.
fn aim(known_days: f64) -> f64 {
    let (begin, end) = LEARNING;
    let left = ((end - known_days) / (end - begin)).clamp(0.0, 1.0);
    AIM.1 - (AIM.1 - AIM.0) * left
}

/// Whether no rule saves anything at the exposure allowed, so that the cron may as well rule; where it does already, one must
/// save a percent. It is no way out where less exposure is wanted than it has.
fn hopeless(incumbent: Mode, reactive: Score, pair: Option<(Score, Score)>) -> bool {
    let needed = if incumbent == Mode::Cron {
        HYSTERESIS
    } else {
        0.0
    };
    let gained = pair.map_or(0.0, |(rule, forecast)| {
        forecast.saved_percent - rule.saved_percent
    });
    reactive.saved_percent + gained.max(0.0) < needed
}

/// The mode with fewest backups on the same days; the forecast must be a percent better to come into force.
fn select(incumbent: Mode, rule: Score, forecast: Option<Score>) -> Mode {
    let needed = if incumbent == Mode::Forecast {
        0.0
    } else {
        HYSTERESIS
    };
    match forecast {
        Some(forecast) if forecast.saved_percent >= rule.saved_percent + needed => Mode::Forecast,
        _ => Mode::Reactive,
    }
}

/// One replay window with the cron's levels on it.
struct Trial<'a> {
    bench: Bench<'a>,
    cron: Levels,
    cron_backups: f64,
    days: f64,
    target: f64,
}

impl<'a> Trial<'a> {
    fn new(bench: Bench<'a>, policy: &Policy, scale: &Timescale, aim: f64) -> Self {
        let step = scale.step;
        let period = ((policy.period_seconds() / step).round() as usize).max(1);
        let rates = bench.rates();
        Self {
            cron: shadow::reference(rates, period.min(rates.len()), rates.len(), period, step),
            cron_backups: rates.len() as f64 / period as f64,
            days: rates.len() as f64 * step / scale.day,
            bench,
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
            days: self.days,
        }
    }

    /// How far a score is from the limits: 1 is just within.
    fn strain(&self, score: &Score) -> f64 {
        let mean = score.mean_ratio / self.target;
        mean.max(score.p99_ratio / self.target.max(1.0)).max(1e-3)
    }

    /// κ moved to where its exposure is expected at the limit, from the `start`, and what it saves there.
    fn settled(&self, mode: Mode, start: f64) -> Score {
        let mut score = self.score(mode, start.clamp(KAPPA.0, KAPPA.1));
        for _ in 1..TRIES {
            if self.strain(&score).ln().abs() < NEAR {
                break;
            }
            score = self.score(mode, self.moved(&score));
        }
        Score {
            kappa: self.moved(&score),
            ..score.at_limit(self.strain(&score))
        }
    }

    fn moved(&self, score: &Score) -> f64 {
        let factor = self.strain(score).powf(-ANSWER).clamp(1.0 / STEP, STEP);
        (score.kappa * factor).clamp(KAPPA.0, KAPPA.1)
    }

    /// The rule at its κ and the forecast on the same days. The forecast's κ is the one that exposes as much as the rule's does,
    /// from yesterday's `distance` to it.
    fn beside(&self, kappa: f64, distance: Option<f64>) -> (Score, Score) {
        let rule = self.score(Mode::Reactive, kappa);
        let start = kappa * distance.unwrap_or(1.0);
        let forecast = self.score(Mode::Forecast, start.clamp(KAPPA.0, KAPPA.1));
        let (limit, strain) = (self.strain(&rule), self.strain(&forecast));
        let new = if distance.is_some() { 1.0 - KEPT } else { 1.0 };
        let factor = (limit / strain).powf(ANSWER * new).clamp(1.0 / STEP, STEP);
        let moved = Score {
            kappa: (forecast.kappa * factor).clamp(KAPPA.0, KAPPA.1),
            ..forecast.at_limit(strain)
        };
        (rule.at_limit(limit), moved)
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

/// κ as V lets it be expected. Intervals of √(2K/λ) expose √(K/2)·E√λ in the mean and the cron λ̄·T/2: equal at
/// κ = λ̄/(E√λ)² = 1/(1 − V). Of a V so young half is believed.
fn prior(potential: f64) -> f64 {
    1.0 / (1.0 - 0.5 * potential.clamp(0.0, 0.7))
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

/// The saving that V predicts (V + 0.5 points, at most what maxInterval allows), percent. Fitted to what the core saves from
/// week 3 on over V of the first 14 days, on the development traces and the held-out families.
#[must_use]
pub fn predicted(potential: f64, policy: &Policy) -> f64 {
    let most = 1.0 - policy.period_seconds() / policy.max_seconds();
    100.0 * (potential + 0.005).min(most.max(0.0))
}
