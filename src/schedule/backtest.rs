//! The rule of every tick, replayed over the last days for a given mode and κ, on forecasts that were made without
//! knowing what came after.

use super::forecast::OutlookView;
use super::history::History;
use super::model::Model;
use super::plan::{self, Mode, Situation};
use super::policy::Policy;
use super::shadow::Levels;
use super::timescale::Timescale;

/// How a forecast is made from a model at a cell: appended to the buffer, `None` when there is none.
pub type Predict = fn(&Model, &History, usize, &mut Vec<f64>) -> Option<()>;

/// What a study takes away from the core, to learn what it is worth, or breaks in it. Nothing in normal use.
#[derive(Debug, Clone, Copy)]
pub struct Study {
    /// Makes the forecasts in place of the model.
    pub predict: Option<Predict>,
    /// Whether models are fitted at all.
    pub forecast: bool,
    /// Whether the forecast knows the time of the day and the week.
    pub seasonal: bool,
    /// κ, in place of the daily calibration and the correction by realised exposure.
    pub kappa: Option<f64>,
}

impl Default for Study {
    fn default() -> Self {
        Self {
            predict: None,
            forecast: true,
            seasonal: true,
            kappa: None,
        }
    }
}

/// Forecasts by cell, each by the model that was in force then.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    first: usize,
    horizons: usize,
    rates: Vec<f64>,
    study: Study,
}

impl Archive {
    /// An archive for a study of the core.
    #[must_use]
    pub fn for_study(study: Study) -> Self {
        Self {
            study,
            ..Self::default()
        }
    }

    /// What is being studied.
    #[must_use]
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// Keeps a forecast that was just made at cell `now`, when it is the next one; [`Archive::cover`] makes what is missing.
    pub fn keep(&mut self, now: usize, rates: &[f64]) {
        let end = self.first + self.rates.len().checked_div(self.horizons).unwrap_or(0);
        if self.horizons == rates.len() && now == end && !rates.is_empty() {
            self.rates.extend_from_slice(rates);
        }
    }

    /// The forecast of `model` at cell `now`, appended to `rates`.
    pub fn predict(
        &self,
        model: &Model,
        history: &History,
        now: usize,
        rates: &mut Vec<f64>,
    ) -> Option<()> {
        self.study.predict.unwrap_or(Model::forecast_into)(model, history, now, rates)
    }

    /// Extends the archive to `to`, dropping what lies before `from`. `models` are in order of their creation.
    /// Gives the same forecasts when it is built anew, so it need not be kept across a restart.
    pub fn cover(&mut self, history: &History, models: &[Model], from: usize, to: usize) {
        let horizons = models.first().map_or(0, |model| model.horizons.len());
        let end = self.first + self.rates.len().checked_div(self.horizons).unwrap_or(0);
        if horizons == 0 || self.horizons != horizons || end < from || from < self.first {
            *self = Self {
                first: from,
                horizons,
                rates: Vec::new(),
                study: self.study,
            };
        } else {
            self.rates.drain(..(from - self.first) * horizons);
            self.first = from;
        }
        if horizons == 0 {
            return;
        }
        for now in (self.first + self.rates.len() / horizons)..to {
            let wanted = (now + 1 - self.first) * horizons;
            let at = history.time_of(now);
            let model = models
                .iter()
                .rev()
                .find(|m| super::history::seconds_of(m.created_at) <= at + 0.5);
            let made = model
                .filter(|model| model.horizons.len() == horizons)
                .and_then(|model| {
                    let mut made = Vec::with_capacity(horizons);
                    self.predict(model, history, now, &mut made)?;
                    self.rates.extend_from_slice(&made);
                    Some(())
                });
            if made.is_none() {
                self.rates.truncate(wanted - horizons);
                self.rates.resize(wanted, f64::NAN);
            }
        }
    }

    /// The forecast made at cell `now`, if there was one.
    fn get(&self, now: usize) -> Option<&[f64]> {
        let index = now.checked_sub(self.first)? * self.horizons;
        self.rates
            .get(index..index + self.horizons)
            .filter(|rates| rates.first().is_some_and(|rate| rate.is_finite()))
    }
}

/// One stretch of history made ready to be replayed many times.
#[derive(Debug)]
pub struct Bench<'a> {
    history: &'a History,
    scale: &'a Timescale,
    archive: &'a Archive,
    from: usize,
    /// Gapless rates from `from` on.
    rates: Vec<f64>,
    /// K at κ = 1, today's.
    budgets: Vec<f64>,
    recent: Vec<Option<f64>>,
    limits: Limits,
}

/// The policy's numbers that a replay needs.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The shortest interval, seconds.
    pub min: f64,
    /// The longest interval, seconds.
    pub max: f64,
    /// The cron's mean period, seconds.
    pub period: f64,
    /// The hard limit on u.
    pub guardrail: f64,
    /// The width of a forecast bin.
    pub bin: f64,
    /// Whether every tick decides anew; else each interval is fixed at the backup before it.
    pub replan: bool,
}

impl Limits {
    /// A policy's numbers, with the guardrail in force.
    #[must_use]
    pub fn new(policy: &Policy, scale: &Timescale, guardrail: f64) -> Self {
        Self {
            min: policy.min_seconds(),
            max: policy.max_seconds(),
            period: policy.period_seconds(),
            guardrail,
            bin: scale.bin,
            replan: policy.replan,
        }
    }
}

/// What a replay came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Backups taken.
    pub backups: u32,
    /// The exposure over the stretch.
    pub levels: Levels,
}

impl<'a> Bench<'a> {
    /// Prepares the cells `from..to`.
    #[must_use]
    pub fn new(
        history: &'a History,
        scale: &'a Timescale,
        archive: &'a Archive,
        (from, to): (usize, usize),
        limits: Limits,
    ) -> Self {
        // K as it would be now: what was learnt since then is what is wanted to know.
        let budget = history.mean_rate(to, scale.day).unwrap_or(0.0) * 0.5 * limits.period.powi(2);
        Self {
            history,
            scale,
            archive,
            from,
            rates: history.gapless(from, to),
            budgets: (from..to)
                .map(|now| budget * history.after_drop(now, scale.day))
                .collect(),
            recent: (from..to)
                .map(|now| history.recent_rate(now, scale.recent))
                .collect(),
            limits,
        }
    }

    /// The gapless rates of the stretch.
    #[must_use]
    pub fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// Replays the stretch from a backup at its beginning.
    #[must_use]
    pub fn run(&self, mode: Mode, kappa: f64) -> Outcome {
        let step = self.history.step();
        let (mut changes, mut area, mut elapsed) = (0.0, 0.0, 0.0);
        let mut planned = None;
        let mut backups = 0;
        let mut samples = Vec::with_capacity(self.rates.len());
        for (index, rate) in self.rates.iter().enumerate() {
            let cell = self.from + index;
            let now = self.history.time_of(cell);
            let outlook = self.archive.get(cell).filter(|_| mode == Mode::Forecast);
            let recent_rate = self.recent.get(index).copied().flatten();
            // The ladder of the live loop: each mode falls back to what the signal still carries.
            let mode = match (outlook, recent_rate) {
                (Some(_), _) => Mode::Forecast,
                (None, Some(_)) => Mode::Reactive,
                (None, None) => Mode::Cron,
            };
            let situation = Situation {
                now,
                elapsed,
                changes,
                area,
                budget: kappa * self.budgets.get(index).copied().unwrap_or(0.0),
                recent_rate,
                outlook: outlook.map(|rates| OutlookView {
                    made_at: now,
                    bin: self.limits.bin,
                    rates,
                }),
                guardrail: self.limits.guardrail,
                min: self.limits.min,
                max: self.limits.max,
                period: self.limits.period,
                mode,
                planned: planned.filter(|_| mode != Mode::Cron),
                busy: false,
            };
            if plan::choose(&situation, self.scale).backup {
                backups += 1;
                (changes, area, elapsed) = (0.0, 0.0, 0.0);
                let after = Situation {
                    changes,
                    area,
                    elapsed,
                    planned: None,
                    ..situation
                };
                planned = (!self.limits.replan && mode != Mode::Cron)
                    .then(|| plan::expected_wait(&after, self.scale));
            }
            area += changes * step + 0.5 * rate * step * step;
            changes += rate * step;
            elapsed += step;
            samples.push(changes);
        }
        Outcome {
            backups,
            levels: Levels::of(&mut samples),
        }
    }
}
