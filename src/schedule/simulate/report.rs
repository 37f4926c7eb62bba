//! What a simulation came to: per trace and policy against the cron averaged over its phases, and the means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::oracle::Bounds;
use super::reference;
use super::run::{self, PolicyName, Run, Taken};
use crate::schedule::backtest::{Predict, Study};
use crate::schedule::decide::Source;
use crate::schedule::history::{History, instant_of};
use crate::schedule::plan::Reason;
use crate::schedule::policy::Policy;
use crate::schedule::shadow::{self, Levels};
use crate::signals::series::Series;

const DAY: f64 = 86_400.0;

/// A trace under a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceResult {
    /// The trace's name.
    pub trace: String,
    /// The policy.
    pub policy: PolicyName,
    /// Days scored: all but the first.
    pub days: f64,
    /// Backups in them.
    pub backups: usize,
    /// Against the cron, percent.
    pub saved_percent: f64,
    /// Mean exposure over the cron's.
    pub mean_exposure_ratio: f64,
    /// p99 exposure over the cron's.
    pub p99_exposure_ratio: f64,
    /// The highest exposure over the cron's highest.
    pub max_exposure_ratio: f64,
    /// The longest time between backups, seconds.
    pub max_gap_seconds: i64,
    /// The worst week's mean exposure over the cron's in that week.
    pub worst_week_ratio: f64,
    /// The share of ticks that the forecast decided.
    pub model_share: f64,
    /// From week 3 on; `None` on shorter traces.
    pub steady: Option<Score>,
}

/// The three numbers that count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Against the cron, percent.
    pub saved_percent: f64,
    /// Mean exposure over the cron's.
    pub mean_exposure_ratio: f64,
    /// p99 exposure over the cron's.
    pub p99_exposure_ratio: f64,
}

/// All results and their means by policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// One entry a trace and policy.
    pub results: Vec<TraceResult>,
    /// Means over the traces.
    pub means: BTreeMap<PolicyName, Mean>,
}

/// Means over traces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mean {
    /// Of the savings, percent.
    pub saved_percent: f64,
    /// Of the mean exposure ratios.
    pub mean_exposure_ratio: f64,
    /// Of the p99 exposure ratios.
    pub p99_exposure_ratio: f64,
    /// The smallest saving of a trace.
    pub worst_saved_percent: f64,
    /// The highest mean exposure ratio of a trace.
    pub worst_mean_exposure_ratio: f64,
    /// From week 3 on, over the traces long enough.
    pub steady: Option<Score>,
}

/// A named series.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// What the policy sees.
    pub series: Series,
    /// What counts, when the policy sees less than there is (holes made on purpose).
    pub truth: Option<Series>,
}

/// One trace, prepared for scoring.
pub struct Stage<'a> {
    trace: &'a Trace,
    policy: &'a Policy,
    rates: Vec<f64>,
    step: f64,
    start: f64,
    period: usize,
}

impl<'a> Stage<'a> {
    /// Prepares a trace.
    #[must_use]
    pub fn new(trace: &'a Trace, policy: &'a Policy) -> Self {
        let history = History::new(trace.truth.as_ref().unwrap_or(&trace.series));
        let step = history.step();
        Self {
            trace,
            policy,
            rates: history.gapless(0, history.len()),
            step,
            start: history.time_of(0),
            period: ((policy.period_seconds() / step).round() as usize).max(1),
        }
    }

    fn bounds(&self) -> Bounds {
        let cells = |seconds: f64| (seconds / self.step).round() as usize;
        let shortest = (self.policy.min_seconds() / self.step).ceil().max(1.0) as usize;
        Bounds {
            shortest,
            longest: cells(self.policy.max_seconds()).max(shortest),
        }
    }

    /// u at the end of each cell under a run, on gapless rates.
    #[must_use]
    pub fn exposure(&self, run: &Run) -> Vec<f64> {
        let cells: Vec<usize> = run.backups.iter().map(|backup| backup.cell).collect();
        reference::exposure(&self.rates, self.step, &cells)
    }

    /// The gapless change rates, a value a cell.
    #[must_use]
    pub fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// Runs a policy; those with a knob fitted in hindsight get the one that meets the exposure target.
    #[must_use]
    pub fn run(&self, name: PolicyName, predict: Option<Predict>) -> Run {
        self.run_in_study(
            name,
            &Study {
                predict,
                ..Study::default()
            },
        )
    }

    /// Runs a policy; a study takes something away from the deployed ones.
    #[must_use]
    pub fn run_in_study(&self, name: PolicyName, study: &Study) -> Run {
        let bounds = self.bounds();
        let step = self.step;
        let cron = self.cron_levels(0, self.rates.len());
        let mean = |backups: &[usize]| reference::mean_exposure(&self.rates, step, backups, 0);
        let wanted = cron.mean * self.policy.target_ratio();
        let par = wanted.max(1e-9);
        let period = self.period as f64 * step;
        let cells = match name {
            PolicyName::Reactive | PolicyName::Model | PolicyName::Auto => {
                return run::deployed(&self.trace.series, self.policy, name, study);
            }
            PolicyName::Fixed => (0..self.rates.len()).step_by(self.period).skip(1).collect(),
            PolicyName::Threshold => {
                let rule = |x: f64| {
                    reference::replay(&self.rates, step, bounds, |changes, _| changes >= x)
                };
                rule(reference::fitted((par * 0.05, par * 50.0), wanted, |x| {
                    mean(&rule(x))
                }))
            }
            PolicyName::Area => {
                let rule =
                    |k: f64| reference::replay(&self.rates, step, bounds, |_, area| area >= k);
                let range = (par * period * 0.02, par * period * 50.0);
                rule(reference::fitted(range, wanted, |k| mean(&rule(k))))
            }
            PolicyName::Oracle => {
                let range = (par * period * 0.02, par * period * 50.0);
                reference::oracle_at(&self.rates, step, bounds, range, wanted)
            }
        };
        let taken = |cell: usize| Taken {
            cell,
            at: instant_of(self.start + cell as f64 * step),
            source: Source::Cron,
            reason: Reason::Cron,
        };
        Run {
            backups: cells.into_iter().map(taken).collect(),
            ticks: Vec::new(),
            by_model: 0,
            cells: self.rates.len(),
        }
    }

    fn cron_levels(&self, from: usize, to: usize) -> Levels {
        shadow::reference(&self.rates, from, to, self.period, self.step)
    }

    fn score(&self, run: &Run, samples: &[f64], from: usize, to: usize) -> Score {
        let own = Levels::of(&mut samples.get(from..to).unwrap_or_default().to_vec());
        let ratios = own.over(&self.cron_levels(from, to));
        let backups = run
            .backups
            .iter()
            .filter(|b| (from..to).contains(&b.cell))
            .count();
        let cron = (to - from) as f64 / self.period as f64;
        Score {
            // In less than a period the cron has no backup that could be saved.
            saved_percent: if cron < 1.0 {
                0.0
            } else {
                100.0 * (1.0 - backups as f64 / cron)
            },
            mean_exposure_ratio: ratios.mean,
            p99_exposure_ratio: ratios.p99,
        }
    }

    /// Scores a run.
    #[must_use]
    pub fn result(&self, name: PolicyName, run: &Run) -> TraceResult {
        let cells: Vec<usize> = run.backups.iter().map(|backup| backup.cell).collect();
        let samples = reference::exposure(&self.rates, self.step, &cells);
        let end = samples.len();
        let day = (DAY / self.step) as usize;
        let from = if end > 2 * day { day } else { 0 };
        let all = self.score(run, &samples, from, end);
        let weeks = (from..end)
            .step_by(7 * day)
            .filter(|begin| begin + 7 * day <= end);
        let worst_week = weeks
            .map(|begin| {
                self.score(run, &samples, begin, begin + 7 * day)
                    .mean_exposure_ratio
            })
            .fold(f64::NAN, f64::max);
        let gaps = cells
            .windows(2)
            .filter_map(|pair| Some(pair.last()? - pair.first()?))
            .max();
        let highest = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
        let own_highest = highest(samples.get(from..).unwrap_or_default());
        let mut cron_highest = 0.0f64;
        for now in (from + 1)..=end {
            shadow::phases(&self.rates, now, self.period, self.step, |u, _| {
                cron_highest = cron_highest.max(u);
            });
        }
        TraceResult {
            trace: self.trace.name.clone(),
            policy: name,
            days: (end - from) as f64 / day as f64,
            backups: cells.iter().filter(|cell| **cell >= from).count(),
            saved_percent: all.saved_percent,
            mean_exposure_ratio: all.mean_exposure_ratio,
            p99_exposure_ratio: all.p99_exposure_ratio,
            max_exposure_ratio: if cron_highest > 0.0 {
                own_highest / cron_highest
            } else {
                1.0
            },
            max_gap_seconds: gaps.map_or(0, |cells| (cells as f64 * self.step) as i64),
            worst_week_ratio: if worst_week.is_finite() {
                worst_week
            } else {
                all.mean_exposure_ratio
            },
            model_share: run.by_model as f64 / run.cells.max(1) as f64,
            steady: (end > 21 * day).then(|| self.score(run, &samples, 14 * day, end)),
        }
    }
}

impl Report {
    /// The results with their means.
    #[must_use]
    pub fn new(results: Vec<TraceResult>) -> Self {
        let mut by_policy: BTreeMap<PolicyName, Vec<&TraceResult>> = BTreeMap::new();
        for result in &results {
            by_policy.entry(result.policy).or_default().push(result);
        }
        let means = by_policy
            .into_iter()
            .map(|(name, group)| (name, mean(&group)))
            .collect();
        Self { results, means }
    }
}

fn mean(group: &[&TraceResult]) -> Mean {
    let average = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) =
            values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let steady: Vec<Score> = group.iter().filter_map(|result| result.steady).collect();
    Mean {
        saved_percent: average(&mut group.iter().map(|r| r.saved_percent)),
        mean_exposure_ratio: average(&mut group.iter().map(|r| r.mean_exposure_ratio)),
        p99_exposure_ratio: average(&mut group.iter().map(|r| r.p99_exposure_ratio)),
        worst_saved_percent: group
            .iter()
            .map(|r| r.saved_percent)
            .fold(f64::INFINITY, f64::min),
        worst_mean_exposure_ratio: group
            .iter()
            .map(|r| r.mean_exposure_ratio)
            .fold(f64::NEG_INFINITY, f64::max),
        steady: (!steady.is_empty()).then(|| Score {
            saved_percent: average(&mut steady.iter().map(|s| s.saved_percent)),
            mean_exposure_ratio: average(&mut steady.iter().map(|s| s.mean_exposure_ratio)),
            p99_exposure_ratio: average(&mut steady.iter().map(|s| s.p99_exposure_ratio)),
        }),
    }
}
