//! Bringing a state up to the present: count the exposure, keep the shadow cron, run the daily loop when it is due,
//! renew the forecast. The same for the live loop and for simulations.

use jiff::Timestamp;

use super::backtest::Archive;
use super::calibrate::{self, Evidence};
use super::drift::Check;
use super::fit::{FitOptions, fit_until};
use super::forecast::Outlook;
use super::history::{History, seconds_of};
use super::policy::Policy;
use super::shadow::Cell;
use super::state::State;
use super::timescale::Timescale;

/// Counts what happened up to `now` and runs the daily loop when a control day began; that run fits a model and takes up
/// to about a second, so a live loop calls this off its async threads. `archive` is a cache that may start empty.
pub fn advance(
    policy: &Policy,
    state: &mut State,
    history: &History,
    archive: &mut Archive,
    now: Timestamp,
) {
    let scale = Timescale::new(policy, history.step(), history.step());
    let at = seconds_of(now);
    let known = history.known_at(at);
    count(policy, state, history, &scale, known);
    if daily_due(policy, state, &scale, at) {
        daily(policy, state, history, archive, known);
    }
    if policy.ai_enabled {
        renew_outlook(state, history, archive, &scale, known);
    }
}

/// Whether a new control day began since the loop last ran, or the cron alone decided then and does so no more.
#[must_use]
pub fn daily_due(policy: &Policy, state: &State, scale: &Timescale, at: f64) -> bool {
    let day = |at: f64| (at / scale.day + 1e-9).floor();
    let last = state.calibration.at;
    // A clock that jumped back makes a run due as well, so that a wrong future date does not stop the loop.
    let asked = policy.ai_enabled && state.calibration.unplayed;
    asked || day(at) > day(last) || at + scale.day < last
}

fn count(policy: &Policy, state: &mut State, history: &History, scale: &Timescale, known: usize) {
    let period_cells = history.cells(policy.period_seconds());
    let begin = history.known_at(state.exposure.until.max(history.time_of(0)));
    for cell in begin..known {
        let end = history.time_of(cell + 1);
        let rate = history.rate(cell);
        let after_hole = rate.is_finite() && !history.rate(cell.wrapping_sub(1)).is_finite();
        if rate.is_finite() {
            state.exposure.add(end, rate, true);
        } else {
            state
                .exposure
                .add(end, bridge(state, history, scale, cell), false);
        }
        if after_hole && state.exposure.estimated > 0.0 {
            recount(state, history, cell + 1);
        }
        if rate.is_finite()
            && let Some(outlook) = &state.outlook
        {
            let forecast = outlook.view().rate_at(end - 0.5 * history.step());
            let check = Check {
                at: end,
                step: history.step(),
                day: scale.day,
                actual: rate,
                forecast,
            };
            state.drift.add(&check);
        }
        // A cron is not compared with itself.
        if !policy.ai_enabled {
            continue;
        }
        let rates = history.gapless((cell + 1).saturating_sub(period_cells), cell + 1);
        state.shadow.add(&Cell {
            at: end,
            day: scale.day,
            step: history.step(),
            period_cells,
            changes: rate.is_finite().then_some(state.exposure.changes),
            rates: &rates,
        });
    }
}

/// The rate assumed in a hole: the forecast made before it while that reaches, else the running mean.
fn bridge(state: &State, history: &History, scale: &Timescale, cell: usize) -> f64 {
    let at = history.time_of(cell) + 0.5 * history.step();
    match &state.outlook {
        Some(outlook) if at < outlook.view().until() => outlook.view().rate_at(at),
        _ => history.mean_rate(cell, scale.day).unwrap_or(0.0),
    }
}

/// When a hole ends it can be bridged from both sides, as a counter that went on counting would.
fn recount(state: &mut State, history: &History, to: usize) {
    let since = state.exposure.since;
    let from = history.known_at(since);
    let mut exposure = super::exposure::Exposure::zero(since);
    for (index, rate) in history.gapless(from, to).into_iter().enumerate() {
        exposure.add(history.time_of(from + index + 1), rate, true);
    }
    state.exposure = exposure;
}

fn daily(
    policy: &Policy,
    state: &mut State,
    history: &History,
    archive: &mut Archive,
    known: usize,
) {
    let scale = Timescale::new(policy, history.step(), history.step());
    let options = FitOptions {
        seasonal: archive.study().seasonal,
        ..FitOptions::new(&scale)
    };
    if policy.ai_enabled
        && archive.study().forecast
        && let Ok(model) = fit_until(history, known, &options)
    {
        state.adopt(model);
    }
    let from = calibrate::window_start(history, known, &scale);
    if policy.ai_enabled {
        archive.cover(history, &state.models, from, known);
    }
    let evidence = Evidence {
        history,
        now: known,
        archive,
        has_model: state.model().is_some(),
    };
    state.calibration = calibrate::calibrate(&evidence, policy, &scale, &state.calibration);
    if let Some(week) = state.shadow.over(7, scale.day) {
        state.drift.weigh_week(
            week.mean_ratio,
            policy.target_ratio(),
            history.time_of(known),
            scale.day,
        );
    }
}

/// A new forecast whenever there is a fresh sample; in a hole the old one stays.
fn renew_outlook(
    state: &mut State,
    history: &History,
    archive: &mut Archive,
    scale: &Timescale,
    known: usize,
) {
    if !history.rate(known.wrapping_sub(1)).is_finite() {
        return;
    }
    let Some(model) = state.model().filter(|model| model.fits(history, scale.bin)) else {
        return;
    };
    let mut rates = Vec::with_capacity(model.horizons.len());
    if archive.predict(model, history, known, &mut rates).is_some() {
        archive.keep(known, &rates);
        state.outlook = Some(Outlook {
            made_at: history.time_of(known),
            bin: model.bin_seconds,
            rates,
        });
    }
}
