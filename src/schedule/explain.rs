//! A decision in sentences: the same words for `schedule explain`, events, logs and the status page.

use jiff::{SignedDuration, Timestamp};

use super::calibrate::DAYS;
use super::decide::{Action, Decision, Source};
use super::plan::{Mode, Reason};
use super::policy::Policy;
use super::state::State;
use super::timescale::Timescale;

impl Source {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Cron,
        Self::Fallback,
        Self::Reactive,
        Self::Model,
        Self::Guard,
    ];

    /// As people call it: on the page, in the terminal, in events and in simulations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cron => "the cron",
            Self::Fallback => "the cron, as a fallback",
            Self::Reactive => "the recent rate",
            Self::Model => "the model",
            Self::Guard => "a fixed rule",
        }
    }

    /// The one that a status names by its word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|source| format!("{source:?}") == word)
    }
}

/// The reasons of a decision, most important first.
#[must_use]
pub fn reasons(decision: &Decision, policy: &Policy, state: &State) -> Vec<String> {
    let mut lines = vec![headline(decision, policy, state)];
    if policy.ai_enabled && decision.reason != Reason::Suspended {
        lines.push(exposure(decision));
        lines.push(mode(decision, policy, state));
    }
    if let Some(line) = features(decision) {
        lines.push(line);
    }
    lines.extend(decision.proofs.iter().map(super::proof::Proof::sentence));
    lines.extend(potential(decision, policy, state));
    lines
}

/// What decided and the first of its reasons, in one sentence: the page, the terminal and the events of Kubernetes have this one.
#[must_use]
pub fn why(decision: &Decision) -> String {
    let reason = decision.reasons.first().map_or("", String::as_str);
    format!("{}: {reason}", decision.source.name())
}

/// From two weeks of samples on, what the cluster's unevenness lets save.
fn potential(decision: &Decision, policy: &Policy, state: &State) -> Option<String> {
    let potential = decision.potential_percent.filter(|_| policy.ai_enabled)?;
    let day = Timescale::control_day(policy);
    let seen = state.calibration.at - super::history::seconds_of(state.created);
    let word = if seen >= DAYS * day {
        "about"
    } else {
        "as far as can be told yet"
    };
    Some(format!(
        "the changes come unevenly enough to save {word} {potential:.0} % at the same exposure"
    ))
}

/// The decision as text for a terminal: headline, reasons, forecast, advice.
#[must_use]
pub fn render(decision: &Decision, policy: &Policy, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let what = match decision.action {
        Action::Backup => "back up now".to_owned(),
        Action::Wait if decision.reason == Reason::Suspended => "no backup is planned".to_owned(),
        Action::Wait => {
            let wait = rounded(decision.at.duration_since(now));
            format!(
                "next backup at {} (in {wait:#})",
                whole_seconds(decision.at)
            )
        }
    };
    lines.push(format!("{what}, decided by {}", why(decision)));
    let further = decision.reasons.iter().skip(1);
    lines.extend(further.map(|reason| format!("  - {reason}")));
    if let Some(slot) = decision.would_have {
        lines.push(format!(
            "  the cron alone, {}, would run next at {}",
            policy.cron.describe(),
            whole_seconds(slot)
        ));
    }
    if !decision.forecast.is_empty() {
        lines.push("  forecast, changes a second:".to_owned());
        // Bins of a compressed clock are shorter than a minute.
        let mut pairs = decision.forecast.windows(2);
        let short = pairs.any(|pair| match pair {
            [one, next] => next.at.duration_since(one.at) < SignedDuration::from_mins(1),
            _ => false,
        });
        let moment = if short { "%H:%M:%S" } else { "%H:%M" };
        let row: Vec<String> = decision
            .forecast
            .iter()
            .map(|bin| {
                let digits = if bin.rate >= 9.95 { 0 } else { 1 };
                let rate = format!("{:.digits$}", bin.rate);
                format!("{} {rate:<5}", bin.at.strftime(moment))
            })
            .collect();
        lines.extend(
            row.chunks(6)
                .map(|chunk| format!("    {}", chunk.join("  "))),
        );
    }
    lines.extend(
        policy
            .advice()
            .into_iter()
            .map(|advice| format!("  advice: {}", advice.message)),
    );
    lines
}

fn headline(decision: &Decision, policy: &Policy, state: &State) -> String {
    let elapsed = rounded(SignedDuration::from_secs(decision.interval_seconds));
    match decision.reason {
        Reason::MinInterval if state.last_success.is_none() => format!(
            "no backup yet, and the schedule was first seen less than minInterval ({:#}) ago; \
             spec.immediate: true asks for one at once",
            policy.min_interval
        ),
        Reason::MinInterval => format!(
            "less than minInterval ({:#}) since the last good backup",
            policy.min_interval
        ),
        Reason::MaxInterval => {
            format!("maxInterval ({:#}) is over since the last good backup", policy.max_interval)
        }
        Reason::Guardrail => format!(
            "{:.0} changes at risk reach the hard limit of {:.0}",
            decision.exposure,
            super::guard::limit(policy, state)
        ),
        Reason::AreaUpper => {
            "the accumulated exposure reached the upper edge of the band, whatever the forecast says"
                .to_owned()
        }
        Reason::AreaLower => {
            "the accumulated exposure is still below the lower edge of the band".to_owned()
        }
        Reason::PlanOptimal if decision.action == Action::Backup => {
            "a backup now costs less than any later one, given the forecast".to_owned()
        }
        Reason::PlanOptimal => "waiting costs less than a backup now, given the forecast".to_owned(),
        Reason::MarginalRule if decision.action == Action::Backup => {
            "at the recent change rate the best interval is over".to_owned()
        }
        Reason::MarginalRule => {
            "at the recent change rate the best interval is not over yet".to_owned()
        }
        Reason::Cron if decision.action == Action::Backup => "the cron's slot has come".to_owned(),
        Reason::Cron => "waiting for the cron's next slot".to_owned(),
        Reason::Idle => "nothing changed since the last good backup".to_owned(),
        Reason::LoadGate => "put off while etcd is busy".to_owned(),
        Reason::Planned => format!("the interval was fixed at {elapsed:#} when the last backup was taken"),
        Reason::SignalLost => {
            "the change rate is unknown and no forecast reaches this far: the cron's interval holds"
                .to_owned()
        }
        Reason::BackoffAfterFailure => format!(
            "the last {} failed; the next try waits",
            match state.failures.map_or(1, |failures| failures.count) {
                1 => "try".to_owned(),
                count => format!("{count} tries"),
            }
        ),
        Reason::RetryAfterFailure => "the last backup failed, and is tried again".to_owned(),
        Reason::Immediate => "the first backup is taken at once, as asked".to_owned(),
        Reason::MissedSlot => "a cron slot passed unanswered and is made up once".to_owned(),
        Reason::Suspended => "the schedule is suspended; set spec.suspend to false to go on".to_owned(),
    }
}

fn exposure(decision: &Decision) -> String {
    let now = format!("{:.0} changes are at risk", decision.exposure);
    if decision.area_budget <= 0.0 {
        return format!("{now}; how many are worth a backup is not known yet");
    }
    format!(
        "{now}, {:.0} expected at the planned time; {:.0} are worth a backup. Added up over time they are {:.0} % of that worth: \
         below {:.0} % none is taken, at {:.0} % one is (κ {:.2})",
        decision.exposure_at_plan,
        decision.budget,
        100.0 * decision.area / decision.area_budget,
        100.0 / decision.eta,
        100.0 * decision.eta,
        decision.kappa
    )
}

fn mode(decision: &Decision, policy: &Policy, state: &State) -> String {
    // Control days, in the words of the clock on the wall.
    let control = Timescale::control_day(policy);
    let days = |days: f64| super::proof::span((days * control) as i64);
    let found = &state.calibration;
    match (decision.mode, found.mode) {
        (Mode::Cron, Mode::Cron) => match found.reactive {
            Some(score) => format!(
                "in the last {} nothing beat the cron, so the cron rules",
                days(score.days)
            ),
            None => format!(
                "less than {} of samples are known, so the cron rules",
                days(1.0)
            ),
        },
        (Mode::Cron, _) => "the signal is gone, so the cron rules".to_owned(),
        (Mode::Reactive, Mode::Forecast) => {
            "the forecast is distrusted for now, so the reactive rule decides".to_owned()
        }
        (Mode::Reactive, _) => match found.reactive {
            Some(score) => format!(
                "the reactive rule is in force: replayed over {} it saves {:.0} % at {:.0} % of the cron's exposure",
                days(score.days),
                score.saved_percent,
                100.0 * score.mean_ratio
            ),
            None => {
                format!(
                    "the reactive rule is in force until {} of samples are known",
                    days(3.0)
                )
            }
        },
        (Mode::Forecast, _) => match found.forecast {
            Some(score) => format!(
                "the forecast is in force: replayed over {} it saves {:.0} % at {:.0} % of the cron's exposure",
                days(score.days),
                score.saved_percent,
                100.0 * score.mean_ratio
            ),
            None => "the forecast bridges a hole in the signal".to_owned(),
        },
    }
}

fn features(decision: &Decision) -> Option<String> {
    let parts: Vec<String> = decision
        .features
        .iter()
        .take(3)
        .map(|part| format!("{} {:+.0}", part.feature, part.changes))
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "what moves the next six hours most, in changes: {}",
            parts.join(", ")
        )
    })
}

fn rounded(duration: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(duration.as_secs().max(0))
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
