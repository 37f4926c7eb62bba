//! One trace under one policy: the live loop on recorded time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::schedule::backtest::{Archive, Study};
use crate::schedule::decide::{self, Observation, Source, Verdict};
use crate::schedule::history::{History, instant_of};
use crate::schedule::plan::{Mode, Reason};
use crate::schedule::policy::Policy;
use crate::schedule::state::State;
use crate::schedule::tick;
use crate::signals::series::Series;

/// What may decide in a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// The cron's period, always.
    Fixed,
    /// Backup at u ≥ X; X fitted in hindsight to the cron's mean exposure.
    Threshold,
    /// Backup at A ≥ K; K fitted in hindsight to the cron's mean exposure.
    Area,
    /// The deployed core without a forecast.
    Reactive,
    /// The deployed core with the forecast always in force once there is one.
    Model,
    /// The deployed core.
    Auto,
    /// The cheapest schedule in hindsight at the cron's mean exposure.
    Oracle,
}

/// One backup of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The cell before which it was taken.
    #[serde(skip)]
    pub cell: usize,
    /// When.
    pub at: Timestamp,
    /// Which part decided.
    pub source: Source,
    /// Why.
    pub reason: Reason,
}

/// A simulated schedule.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The backups, in order.
    pub backups: Vec<Taken>,
    /// What the deployed core weighed at each cell; empty for policies known in hindsight.
    pub ticks: Vec<Verdict>,
    /// Cells decided by the forecast, and all cells.
    pub by_model: usize,
    /// All cells.
    pub cells: usize,
}

/// Runs the deployed core over a series, less what a study takes away.
#[must_use]
pub fn deployed(series: &Series, policy: &Policy, name: PolicyName, study: &Study) -> Run {
    let history = History::new(series);
    let mut archive = Archive::for_study(Study {
        forecast: study.forecast && name != PolicyName::Reactive,
        ..*study
    });
    let mut state = State::new(series.start());
    let mut run = Run {
        cells: history.len(),
        ..Run::default()
    };
    for cell in 0..history.len() {
        let now = instant_of(history.time_of(cell));
        tick::prepare(policy, &mut state, &history, &mut archive, now);
        hold_mode(&mut state, name);
        let verdict = decide::verdict(policy, &state, &history, &Observation::default(), now);
        run.by_model += usize::from(verdict.source == Source::Model);
        run.ticks.push(verdict);
        if verdict.choice.backup {
            run.backups.push(Taken {
                cell,
                at: now,
                source: verdict.source,
                reason: verdict.choice.reason,
            });
            state.backup_succeeded(now, None);
        }
    }
    run
}

/// Keeps the mode that the policy's name stands for, where the core would choose.
fn hold_mode(state: &mut State, name: PolicyName) {
    let mode = &mut state.calibration.mode;
    match name {
        PolicyName::Model if *mode != Mode::Cron => *mode = Mode::Forecast,
        _ => {}
    }
}
