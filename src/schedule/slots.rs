//! Which cron slot is due, which were missed, and when a failed backup is tried again.

use jiff::{SignedDuration, Timestamp};

use super::policy::Policy;
use super::state::State;

/// A slot answered this long after its time is called missed and made up.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);

/// How many missed slots are counted one by one; after that the count is estimated from the period.
const COUNTED: u64 = 1000;

/// A slot to run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The slot that has just come.
    OnTime(Timestamp),
    /// A slot that passed while nobody watched.
    Late(Timestamp),
}

/// What became due since the last slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// At most one run, for the latest slot.
    pub run: Option<Run>,
    /// Slots that get no run of their own.
    pub missed: u64,
}

/// The slots between the last one answered and `now`: one run at most, the rest counted.
#[must_use]
pub fn due(policy: &Policy, state: &State, now: Timestamp) -> Due {
    let mut missed = 0u64;
    let mut latest = None;
    let mut from = anchor(state, now);
    while let Some(slot) = policy.cron.next_after(from).filter(|slot| *slot <= now) {
        if latest.is_some() {
            missed += 1;
        }
        latest = Some(slot);
        from = slot;
        if missed >= COUNTED {
            latest = policy.cron.previous_or_at(now).or(latest);
            let rest = latest.map_or(0, |last| last.duration_since(slot).as_secs());
            missed +=
                u64::try_from(rest / policy.cron.typical_period().as_secs().max(1)).unwrap_or(0);
            break;
        }
    }
    let run = latest.and_then(|slot| {
        let late = now.duration_since(slot);
        let in_time = policy
            .starting_deadline
            .is_none_or(|deadline| late <= deadline);
        match (late <= ON_TIME, in_time) {
            (true, _) => Some(Run::OnTime(slot)),
            (false, true) => Some(Run::Late(slot)),
            (false, false) => None,
        }
    });
    Due {
        run,
        missed: missed + u64::from(latest.is_some() && run.is_none()),
    }
}

/// The next slot that is not answered yet.
#[must_use]
pub fn next(policy: &Policy, state: &State, now: Timestamp) -> Option<Timestamp> {
    policy.cron.next_after(anchor(state, now).max(now))
}

/// From where slots count: the last one answered, or the first sight of the schedule. A clock that jumped back counts
/// from now.
fn anchor(state: &State, now: Timestamp) -> Timestamp {
    state.last_slot.unwrap_or(state.created).min(now)
}

/// When a failed backup is tried again: a minute later (a tenth of minInterval for compressed clocks), doubling, at most
/// a quarter of an hour or minInterval. `None` without failures.
#[must_use]
pub fn retry_at(policy: &Policy, state: &State) -> Option<Timestamp> {
    let failures = state.failures?;
    let first = (policy.min_seconds() / 10.0).clamp(1.0, 60.0);
    let most = policy.min_seconds().clamp(1.0, 900.0);
    let doublings = i32::try_from(failures.count.saturating_sub(1).min(20)).unwrap_or(20);
    let wait = (first * 2f64.powi(doublings)).min(most);
    failures
        .last
        .checked_add(SignedDuration::from_millis((wait * 1000.0) as i64))
        .ok()
}
