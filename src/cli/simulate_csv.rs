//! A simulation as CSV, for notebooks: its backups, and every tick with what was weighed.

use std::fmt::Write as _;

use super::simulate::{Played, word};
use crate::schedule::Policy;
use crate::schedule::history::{instant_of, seconds_of};
use crate::schedule::simulate::report::{Stage, Trace};

/// Every backup: trace, policy, timestamp, source, reason.
pub(super) fn decisions(traces: &[Trace], done: &[Played]) -> String {
    let mut text = String::from("trace,policy,timestamp,source,reason\n");
    for played in done {
        let name = traces.get(played.trace).map_or("", |trace| &trace.name);
        let policy = word(&played.result.policy);
        for backup in &played.run.backups {
            let _ = writeln!(
                text,
                "{name},{policy},{},{},{}",
                backup.at,
                word(&backup.source),
                word(&backup.reason)
            );
        }
    }
    text
}

/// Every tick: the change rate from it on, the changes at risk before its decision (`exposure`, gaps bridged as the live loop
/// bridges them), their area and its budget in change-seconds, and the decision. Policies that know the future weigh nothing:
/// their last five fields are empty.
pub(super) fn ticks(traces: &[Trace], done: &[Played], policy: &Policy) -> String {
    let mut text = String::from(
        "trace,policy,timestamp,rate,exposure,backup,area,area_budget,mode,source,reason\n",
    );
    for played in done {
        let Some(trace) = traces.get(played.trace) else {
            continue;
        };
        let stage = Stage::new(trace, policy);
        let after = stage.exposure(&played.run);
        let name = word(&played.result.policy);
        let (start, step) = (
            seconds_of(trace.series.start()),
            f64::from(trace.series.step_seconds()),
        );
        let mut backups = played.run.backups.iter().peekable();
        for (cell, rate) in stage.rates().iter().enumerate() {
            let taken = backups.next_if(|backup| backup.cell == cell).is_some();
            let before = cell
                .checked_sub(1)
                .and_then(|last| after.get(last))
                .copied();
            let _ = write!(
                text,
                "{},{name},{},{rate},",
                trace.name,
                instant_of(start + cell as f64 * step)
            );
            let _ = match played.run.ticks.get(cell) {
                Some(tick) => writeln!(
                    text,
                    "{},{},{},{},{:?},{:?},{:?}",
                    tick.exposure,
                    u8::from(taken),
                    tick.area,
                    tick.area_budget,
                    tick.mode,
                    tick.source,
                    tick.choice.reason
                ),
                None => writeln!(text, "{},{},,,,,", before.unwrap_or(0.0), u8::from(taken)),
            };
        }
    }
    text
}
