//! What keeps the core honest from outside the model: how good the signal is, the ladder of modes, the hard limit, the
//! correction by realised exposure, the load gate.

use super::forecast::OutlookView;
use super::history::History;
use super::plan::Mode;
use super::policy::Policy;
use super::state::State;
use super::timescale::Timescale;

/// The range of the correction of K by what was realised.
const TRIM: (f64, f64) = (0.4, 2.0);
/// Its powers, when there was too much exposure and when there was less than allowed: exposure goes with about the root of K, so that two
/// would make up in the coming weeks for the past ones. Risk is taken back faster than it is spent.
const ANSWER: (f64, f64) = (5.0, 3.0);
/// The latter for a schedule that is younger than this, days: little was seen, and the first days are not to pay for the next.
const YOUNG: (usize, f64) = (7, 2.0);

/// What the signal says at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Signal<'a> {
    /// The rate of the last quarter of an hour; `None` when the signal is gone.
    pub recent_rate: Option<f64>,
    /// A forecast that reaches past now.
    pub outlook: Option<OutlookView<'a>>,
    /// Control days of history.
    pub known_days: f64,
}

/// Looks at the signal at cell `known`.
#[must_use]
pub fn signal<'a>(
    state: &'a State,
    history: &History,
    known: usize,
    now: f64,
    scale: &Timescale,
) -> Signal<'a> {
    let fresh = history
        .fresh_until(known)
        .is_some_and(|cell| now - history.time_of(cell) <= scale.stale);
    let recent = (scale.recent.max(scale.stale) / history.step()).ceil() as usize;
    Signal {
        recent_rate: history
            .recent_rate(known, scale.recent)
            .or_else(|| history.mean(known.saturating_sub(recent), known))
            .filter(|_| fresh),
        outlook: state
            .outlook
            .as_ref()
            .map(super::forecast::Outlook::view)
            .filter(|outlook| now < outlook.until() && outlook.made_at <= now + 0.5),
        known_days: history.known(0, known) as f64 * history.step() / scale.day,
    }
}

/// The mode in force: the daily loop's choice, one rung down where the signal or the forecast does not carry it.
#[must_use]
pub fn ladder(policy: &Policy, state: &State, signal: &Signal<'_>, now: f64) -> Mode {
    if !policy.ai_enabled || signal.known_days < 1.0 {
        return Mode::Cron;
    }
    let usable = signal.outlook.is_some() && !state.drift.distrusted(now);
    match (state.calibration.mode, signal.recent_rate) {
        (Mode::Cron, _) => Mode::Cron,
        (Mode::Forecast, _) if usable => Mode::Forecast,
        // A hole in the signal: the forecast made before it is the only thing that knows about now.
        (_, None) if usable && state.calibration.forecast.is_some() => Mode::Forecast,
        (_, Some(_)) => Mode::Reactive,
        (_, None) => Mode::Cron,
    }
}

/// The hard limit on changes at risk: the user's, or the 99.9 % quantile of a period's changes.
#[must_use]
pub fn limit(policy: &Policy, state: &State) -> f64 {
    let own = policy
        .max_unprotected_writes
        .map_or(f64::INFINITY, |limit| limit as f64);
    own.min(state.calibration.guardrail.unwrap_or(f64::INFINITY))
}

/// The correction of K by realised exposure: shadow over real.
#[must_use]
pub fn trim(policy: &Policy, state: &State) -> f64 {
    let realised = state.shadow.realised().filter(|_| !state.calibration.held);
    realised.map_or(1.0, |ratio| {
        let allowed = policy.target_ratio() * ratio;
        let power = match state.shadow.days() {
            _ if allowed < 1.0 => ANSWER.0,
            days if days <= YOUNG.0 => YOUNG.1,
            _ => ANSWER.1,
        };
        allowed.powf(power).clamp(TRIM.0, TRIM.1)
    })
}

/// Whether the load is above the 80 % quantile of the last fourteen days.
#[must_use]
pub fn busy(history: &History, known: usize, scale: &Timescale) -> bool {
    let load = history.load(known.wrapping_sub(1));
    let from = super::calibrate::window_start(history, known, scale);
    let (below, total) = (from..known)
        .map(|cell| history.load(cell))
        .filter(|other| other.is_finite())
        .fold((0usize, 0usize), |(below, total), other| {
            (below + usize::from(other < load), total + 1)
        });
    total > 0 && load.is_finite() && below as f64 > 0.8 * total as f64
}
