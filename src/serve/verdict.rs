//! The one sentence on top of everything: protected or not. The page, the terminal and the exit code say the same. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ScheduleState;

/// Whether every cluster is protected, and how that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdict {
    /// There is a schedule that is not suspended, and each such schedule is protected.
    pub protected: bool,
    /// The same in a sentence.
    pub words: String,
}

impl ScheduleState {
    /// Whether somebody switched it off: then it makes no backups, and nobody waits for any.
    pub fn suspended(&self) -> bool {
        self.status.phase.as_deref() == Some("Suspended")
    }
}

/// Judges all schedules. A suspended one protects nothing, and nobody is told that it does not.
pub fn verdict(schedules: &[Arc<ScheduleState>]) -> Verdict {
    let active = schedules.iter().filter(|one| !one.suspended()).count();
    let unsafe_now = schedules
        .iter()
        .filter(|one| !one.suspended() && !one.protected)
        .count();
    let suspended = schedules.len() - active;
    let mut words = match (schedules.len(), active, unsafe_now) {
        (0, ..) => "No schedule, no protection".to_owned(),
        (_, 0, _) => "Suspended: no backups are taken".to_owned(),
        (_, 1, 1) => "Not protected".to_owned(),
        (_, 1, _) => "Protected".to_owned(),
        (_, all, 0) => format!("All {all} schedules are protected"),
        (_, all, 1) => format!("1 of {all} schedules is not protected"),
        (_, all, some) => format!("{some} of {all} schedules are not protected"),
    };
    if active > 0 && suspended > 0 {
        words.push_str(&format!(", {suspended} suspended"));
    }
    Verdict {
        protected: active > 0 && unsafe_now == 0,
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(protected: bool, suspended: bool) -> Arc<ScheduleState> {
        let mut state = ScheduleState {
            protected,
            ..ScheduleState::default()
        };
        state.status.phase = Some(if suspended { "Suspended" } else { "Active" }.to_owned());
        Arc::new(state)
    }

    #[test]
    fn a_suspended_schedule_is_said_to_be_so_and_counts_for_nothing() {
        let said = |all: &[Arc<ScheduleState>]| {
            let verdict = verdict(all);
            (verdict.protected, verdict.words)
        };
        let (good, bad) = (one(true, false), one(false, false));
        let (old, young) = (one(false, true), one(true, true));
        let all = [
            (vec![], false, "No schedule, no protection"),
            (vec![old.clone()], false, "Suspended: no backups are taken"),
            (vec![young], false, "Suspended: no backups are taken"),
            (vec![good.clone()], true, "Protected"),
            (vec![bad.clone()], false, "Not protected"),
            (
                vec![good.clone(), old.clone()],
                true,
                "Protected, 1 suspended",
            ),
            (
                vec![good.clone(), bad.clone(), old],
                false,
                "1 of 2 schedules is not protected, 1 suspended",
            ),
            (
                vec![good.clone(), bad.clone(), bad],
                false,
                "2 of 3 schedules are not protected",
            ),
            (
                vec![good.clone(), good],
                true,
                "All 2 schedules are protected",
            ),
        ];
        for (schedules, protected, words) in all {
            assert_eq!(said(&schedules), (protected, words.to_owned()));
        }
    }
}
