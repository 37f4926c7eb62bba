//! One decision for one schedule: now, or planned for when, and why. Pure; the live loop, `schedule explain` and the
//! simulator all call it.

use jiff::{SignedDuration, Timestamp};

pub use super::decision::{Action, Decision, ForecastBin, Source};
use super::guard;
use super::history::{History, instant_of, seconds_of};
use super::plan::{self, Choice, ETA, Mode, Reason, Situation};
use super::policy::Policy;
use super::proof;
use super::slots;
use super::state::State;
use super::timescale::Timescale;

/// What is known from outside the series at the time of a decision.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observation {
    /// The exact number of changes since the last good backup, where a revision tells it.
    pub exact_changes: Option<f64>,
    /// Whether etcd is unhealthy, so that a snapshot would hurt or fail.
    pub etcd_unhealthy: bool,
    /// How often decisions are made, seconds; the series' step when `None`.
    pub cadence: Option<f64>,
}

/// Decides for `now`, on a state that was advanced to `now`.
#[must_use]
pub fn decide(
    policy: &Policy,
    state: &State,
    history: &History,
    observation: &Observation,
    now: Timestamp,
) -> Decision {
    let view = View::new(policy, state, history, observation, now);
    let (choice, source) = view.outcome();
    let at = if choice.backup {
        now
    } else {
        view.planned_at(choice)
    };
    view.publish(choice, source, at)
}

/// A decision's verdict with the numbers it was weighed on, without its words.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// Now or not, and the word for it.
    pub choice: Choice,
    /// Which part of the core decided.
    pub source: Source,
    /// The rule in force.
    pub mode: Mode,
    /// u: changes at risk.
    pub exposure: f64,
    /// A: the area under u, change-seconds.
    pub area: f64,
    /// K: the area that a backup is worth, change-seconds.
    pub area_budget: f64,
}

/// As [`decide`], the verdict only: what a simulation needs at every tick.
#[must_use]
pub fn verdict(
    policy: &Policy,
    state: &State,
    history: &History,
    observation: &Observation,
    now: Timestamp,
) -> Verdict {
    let view = View::new(policy, state, history, observation, now);
    let (choice, source) = view.outcome();
    Verdict {
        choice,
        source,
        mode: view.mode,
        exposure: view.situation.changes,
        area: view.situation.area,
        area_budget: view.situation.budget,
    }
}

/// Everything that one decision looks at.
struct View<'a> {
    policy: &'a Policy,
    state: &'a State,
    history: &'a History,
    observation: &'a Observation,
    scale: Timescale,
    now: Timestamp,
    known: usize,
    /// The mode after the ladder: what the signal allows.
    mode: Mode,
    situation: Situation<'a>,
    kappa: f64,
}

impl<'a> View<'a> {
    fn new(
        policy: &'a Policy,
        state: &'a State,
        history: &'a History,
        observation: &'a Observation,
        now: Timestamp,
    ) -> Self {
        let cadence = observation.cadence.unwrap_or(history.step());
        let scale = Timescale::new(policy, history.step(), cadence);
        let at = seconds_of(now);
        let known = history.known_at(at);
        let signal = guard::signal(state, history, known, at, &scale);
        let mode = guard::ladder(policy, state, &signal, at);
        let kappa = state.calibration.kappa(mode);
        let mut exposure = state.exposure;
        if let Some(exact) = observation.exact_changes {
            exposure.until = exposure.until.max(at);
            exposure.correct(exact);
        }
        let rate = history.mean_rate(known, scale.day).unwrap_or(0.0)
            * history.after_drop(known, scale.day);
        let period = policy.period_seconds();
        let situation = Situation {
            now: at,
            elapsed: exposure.elapsed(at),
            changes: exposure.changes,
            area: exposure.area,
            budget: kappa * guard::trim(policy, state) * rate * 0.5 * period * period,
            recent_rate: signal.recent_rate,
            outlook: signal.outlook,
            guardrail: guard::limit(policy, state),
            min: policy.min_seconds(),
            max: policy.max_seconds(),
            period,
            mode,
            planned: state
                .planned
                .filter(|_| !policy.replan && mode != Mode::Cron),
            busy: policy.avoid_load && guard::busy(history, known, &scale),
        };
        Self {
            policy,
            state,
            history,
            observation,
            scale,
            now,
            known,
            mode,
            situation,
            kappa,
        }
    }

    fn outcome(&self) -> (Choice, Source) {
        let guarded = |backup, reason| (Choice { backup, reason }, Source::Guard);
        let (now, wait) = (
            |reason| guarded(true, reason),
            |reason| guarded(false, reason),
        );
        if self.policy.suspend {
            return wait(Reason::Suspended);
        }
        if let Some(at) = slots::retry_at(self.policy, self.state) {
            if self.now < at {
                return wait(Reason::BackoffAfterFailure);
            }
            // Whoever asked for it, and whatever would be due later: its alert has said when. Only a cron's deadline for
            // starting lets it go.
            if self.policy.ai_enabled || self.policy.starting_deadline.is_none() {
                return now(Reason::RetryAfterFailure);
            }
        }
        if self.policy.immediate && self.state.last_success.is_none() {
            return now(Reason::Immediate);
        }
        if !self.policy.ai_enabled {
            return (self.by_slots(), Source::Cron);
        }
        let mut choice = plan::choose(&self.situation, &self.scale);
        if self.mode == Mode::Cron
            && !self.lost()
            && matches!(choice.reason, Reason::Cron | Reason::SignalLost)
        {
            choice = self.by_slots();
        }
        (choice, self.source(choice.reason))
    }

    /// Whether the cron rules only because the signal is gone: then its interval counts and not its slots, since the last
    /// backup was not at one.
    fn lost(&self) -> bool {
        self.mode == Mode::Cron && self.state.calibration.mode != Mode::Cron
    }

    fn by_slots(&self) -> Choice {
        match slots::due(self.policy, self.state, self.now).run {
            Some(slots::Run::OnTime(_)) => Choice {
                backup: true,
                reason: Reason::Cron,
            },
            Some(slots::Run::Late(_)) => Choice {
                backup: true,
                reason: Reason::MissedSlot,
            },
            None => Choice {
                backup: false,
                reason: Reason::Cron,
            },
        }
    }

    fn source(&self, reason: Reason) -> Source {
        match reason {
            Reason::MaxInterval | Reason::Guardrail | Reason::AreaUpper => Source::Guard,
            Reason::SignalLost => Source::Fallback,
            _ => match self.mode {
                Mode::Cron => Source::Fallback,
                Mode::Reactive => Source::Reactive,
                Mode::Forecast => Source::Model,
            },
        }
    }

    fn planned_at(&self, choice: Choice) -> Timestamp {
        let slot = || slots::next(self.policy, self.state, self.now);
        let remaining = |bound: f64| (bound - self.situation.elapsed).max(0.0);
        match choice.reason {
            Reason::Suspended => Timestamp::MAX,
            Reason::BackoffAfterFailure => {
                slots::retry_at(self.policy, self.state).unwrap_or(self.now)
            }
            _ if !self.policy.ai_enabled => slot().unwrap_or(Timestamp::MAX),
            _ => {
                let wait = plan::expected_wait(&self.situation, &self.scale);
                let soonest = seconds_of(self.now) + wait.max(self.scale.cadence);
                let first = seconds_of(self.now) + remaining(self.situation.min);
                let last = seconds_of(self.now) + remaining(self.situation.max);
                let missed = || slots::due(self.policy, self.state, self.now).run.is_some();
                let at = match (self.mode, slot()) {
                    _ if self.lost() => soonest,
                    // A slot that comes before minInterval is over is made up for when it is.
                    (Mode::Cron, _) if missed() => first,
                    (Mode::Cron, Some(slot)) => seconds_of(slot).max(first),
                    _ => soonest,
                };
                instant_of(at.min(last).max(seconds_of(self.now)))
            }
        }
    }

    fn publish(&self, choice: Choice, source: Source, at: Timestamp) -> Decision {
        let s = &self.situation;
        let proofs = proof::windows(self.policy, self.state);
        let longest = proofs.last().copied();
        let since = instant_of(s.now - s.elapsed);
        let ahead = (seconds_of(at) - s.now).clamp(0.0, s.max);
        let coming = match (s.outlook, s.recent_rate) {
            (Some(outlook), _) => outlook.changes(s.now, s.now + ahead),
            (None, rate) => rate.unwrap_or(0.0) * ahead,
        };
        let model = self.state.model().filter(|_| self.mode == Mode::Forecast);
        let mut decision = Decision {
            action: if choice.backup {
                Action::Backup
            } else {
                Action::Wait
            },
            source,
            reason: choice.reason,
            at,
            interval_seconds: match at < Timestamp::MAX {
                true => at.duration_since(since).as_secs().max(0),
                false => 0,
            },
            reasons: Vec::new(),
            mode: self.mode,
            exposure: s.changes,
            exposure_at_plan: s.changes + coming,
            budget: 2.0 * s.budget / s.period,
            area: s.area,
            area_budget: s.budget,
            kappa: self.kappa,
            eta: ETA,
            model: model.map(|model| model.id.clone()),
            forecast: s.outlook.map(forecast_bins).unwrap_or_default(),
            features: model
                .map(|model| model.contributions(self.history, self.known, 5))
                .unwrap_or_default(),
            would_have: self.policy.cron.next_after(self.now),
            saved_percent: longest.map(|proof| proof.saved_percent),
            exposure_ratio_percent: longest.map(|proof| 100.0 * proof.mean_ratio),
            proofs,
            potential_percent: self.state.calibration.predicted_percent,
        };
        decision.reasons = super::explain::reasons(&decision, self.policy, self.state);
        if self.observation.etcd_unhealthy && choice.backup {
            decision
                .reasons
                .push("etcd reports itself unhealthy; a failed try will back off".to_owned());
        }
        decision
    }
}

fn forecast_bins(outlook: super::forecast::OutlookView<'_>) -> Vec<ForecastBin> {
    outlook
        .rates
        .iter()
        .enumerate()
        .map(|(bin, rate)| ForecastBin {
            at: instant_of(outlook.made_at + bin as f64 * outlook.bin),
            rate: *rate,
        })
        .collect()
}

/// Fixes the next interval when a backup was just taken, in planned-ahead mode (`replan: false`).
pub fn fix_interval(policy: &Policy, state: &mut State, history: &History, now: Timestamp) {
    if policy.replan || !policy.ai_enabled {
        return;
    }
    state.planned = None;
    let observation = Observation::default();
    let view = View::new(policy, state, history, &observation, now);
    let fixed = (view.mode != Mode::Cron)
        .then(|| view.situation.elapsed + plan::expected_wait(&view.situation, &view.scale));
    state.planned = fixed.filter(|interval| interval.is_finite());
}

/// The time until `at`, never negative.
#[must_use]
pub fn time_until(at: Timestamp, now: Timestamp) -> SignedDuration {
    at.duration_since(now).max(SignedDuration::ZERO)
}
