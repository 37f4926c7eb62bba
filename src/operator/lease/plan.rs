//! Who holds the lease, and what a replica does about it: decided from what was seen and when. Pure.

use jiff::{SignedDuration, Timestamp};

/// What a Lease said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// When its holder last renewed it, by the holder's own clock: only a change of it means anything.
    pub renewed: Option<Timestamp>,
    /// How long it holds without a renewal, as its holder said.
    pub duration: SignedDuration,
}

/// A Lease and since when it has been as it is, by this replica's own clock: two hosts' clocks are never compared.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What it said.
    pub seen: Seen,
    /// Since when.
    pub since: Timestamp,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// There is none: create it.
    Create,
    /// It is free, or its holder has not been heard of: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// What was seen before, or what is seen now and for how long.
pub fn observe(before: Option<Observation>, seen: Seen, now: Timestamp) -> Observation {
    match before {
        // A clock that was set back must not make a lease look young for ever.
        Some(before) if before.seen == seen && before.since <= now => before,
        _ => Observation { seen, since: now },
    }
}

/// What this replica does about a Lease.
pub fn claim(observed: Option<&Observation>, me: &str, now: Timestamp) -> Claim {
    let Some(Observation { seen, since }) = observed else {
        return Claim::Create;
    };
    if seen.holder == me {
        Claim::Renew
    } else if seen.holder.is_empty() || now.duration_since(*since) >= seen.duration {
        Claim::Take
    } else {
        Claim::Wait
    }
}

/// Whether a leader that last renewed then must end.
pub fn is_lost(last_renewed: Timestamp, deadline: SignedDuration, now: Timestamp) -> bool {
    now.duration_since(last_renewed).abs() >= deadline
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn held(holder: &str, renewed: i64) -> Seen {
        Seen {
            holder: holder.to_owned(),
            renewed: Some(at(renewed)),
            duration: SignedDuration::from_secs(15),
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_has_not_changed_for_its_duration() {
        assert_eq!(claim(None, "a", at(0)), Claim::Create);
        let free = observe(None, held("", 0), at(0));
        assert_eq!(claim(Some(&free), "a", at(0)), Claim::Take);
        // The holder's clock is an hour behind: that alone does not make its lease old.
        let first = observe(None, held("b", -3600), at(0));
        assert_eq!(claim(Some(&first), "a", at(14)), Claim::Wait);
        let same = observe(Some(first.clone()), held("b", -3600), at(14));
        assert_eq!(claim(Some(&same), "a", at(15)), Claim::Take);
        let renewed = observe(Some(first), held("b", -3590), at(14));
        assert_eq!(claim(Some(&renewed), "a", at(15)), Claim::Wait);
        assert_eq!(claim(Some(&renewed), "b", at(15)), Claim::Renew);
    }

    #[test]
    fn a_leader_that_cannot_renew_ends_before_another_may_take_over() {
        let deadline = SignedDuration::from_secs(10);
        assert!(!is_lost(at(0), deadline, at(9)));
        assert!(is_lost(at(0), deadline, at(10)));
    }
}
