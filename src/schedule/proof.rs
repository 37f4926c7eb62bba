//! The live proof: what the real schedule did beside the shadow cron on the same changes, over a week and four.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::state::State;
use super::timescale::Timescale;

/// The windows, control days.
pub const WINDOWS: [usize; 2] = [7, 28];
/// With fewer slots of the cron than these a percentage says nothing.
const LEAST_SLOTS: f64 = 12.0;

/// One window's comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// Its length, control days: 7 or 28.
    pub days: usize,
    /// What of it was seen, seconds.
    pub seconds: i64,
    /// Backups saved against the cron, percent.
    pub saved_percent: f64,
    /// Mean exposure over the cron's.
    pub mean_ratio: f64,
    /// p99 exposure over the cron's.
    pub p99_ratio: f64,
}

/// The comparisons that say something, the shorter window first.
#[must_use]
pub fn windows(policy: &Policy, state: &State) -> Vec<Proof> {
    let day = Timescale::control_day(policy);
    WINDOWS
        .into_iter()
        .filter_map(|days| {
            let found = state.shadow.over(days, day)?;
            (found.cron_backups >= LEAST_SLOTS).then_some(Proof {
                days,
                seconds: (found.days * day).round() as i64,
                saved_percent: found.saved_percent,
                mean_ratio: found.mean_ratio,
                p99_ratio: found.p99_ratio,
            })
        })
        .collect()
}

impl Proof {
    /// The comparison in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let word = if self.saved_percent < 0.0 {
            "more"
        } else {
            "fewer"
        };
        format!(
            "over the last {} {:.0} % {word} backups than the cron, at {:.0} % of its mean exposure and {:.0} % of its p99",
            span(self.seconds),
            self.saved_percent.abs(),
            100.0 * self.mean_ratio,
            100.0 * self.p99_ratio
        )
    }
}

/// A span as people say it: in days from two days on, else in its largest unit that is at least two.
pub fn span(seconds: i64) -> String {
    let units = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    let (unit, word) = units
        .into_iter()
        .find(|(unit, _)| seconds >= 2 * unit)
        .unwrap_or((1, "seconds"));
    let count = SignedDuration::from_secs(seconds).as_secs_f64() / unit as f64;
    format!("{count:.0} {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well_on_slow_and_on_compressed_clocks() {
        for (seconds, wanted) in [
            (28 * 86_400, "28 days"),
            (86_400 * 5 / 2, "2 days"),
            (40 * 3600, "40 hours"),
            (5400, "90 minutes"),
            (90, "90 seconds"),
        ] {
            assert_eq!(span(seconds), wanted);
        }
        let proof = Proof {
            days: 7,
            seconds: 7 * 86_400,
            saved_percent: -2.4,
            mean_ratio: 0.983,
            p99_ratio: 0.7,
        };
        assert_eq!(
            proof.sentence(),
            "over the last 7 days 2 % more backups than the cron, at 98 % of its mean exposure and 70 % of its p99"
        );
    }
}
