//! One look of a schedule: bring the state up to now, fix the interval where it is planned ahead, decide. The live loop and the
//! simulator both come through here.

use jiff::Timestamp;

use super::advance::advance;
use super::backtest::Archive;
use super::decide::{self, Decision, Observation};
use super::history::History;
use super::policy::Policy;
use super::state::State;

/// Brings the state up to `now`. `archive` is a cache that may start empty.
pub fn prepare(
    policy: &Policy,
    state: &mut State,
    history: &History,
    archive: &mut Archive,
    now: Timestamp,
) {
    advance(policy, state, history, archive, now);
    // Planned-ahead mode fixes its interval once, when the backup before it was taken.
    if state.planned.is_none() && state.last_success.is_some() {
        decide::fix_interval(policy, state, history, now);
    }
}

/// Prepares and decides.
#[must_use]
pub fn look(
    policy: &Policy,
    state: &mut State,
    history: &History,
    archive: &mut Archive,
    observation: &Observation,
    now: Timestamp,
) -> Decision {
    prepare(policy, state, history, archive, now);
    decide::decide(policy, state, history, observation, now)
}
