//! The live loop and the simulator are one piece of code: fed with a recorded series cell by cell, as a loop sees it grow, it
//! decides as `simulate` does on the whole file.

use etcdguardian::schedule::State;
use etcdguardian::schedule::advance::advance;
use etcdguardian::schedule::backtest::Archive;
use etcdguardian::schedule::decide::{Action, Observation};
use etcdguardian::schedule::history::{History, instant_of};
use etcdguardian::schedule::simulate::report::{Stage, Trace};
use etcdguardian::schedule::simulate::run::PolicyName;
use etcdguardian::schedule::{Policy, tick};

use super::{DAY, policy, series};
use crate::support::traces::UNSEEN;

/// What the loop of `run` does at each look, with the series it would have then; the state goes through its file now and then.
fn live(trace: &Trace, policy: &Policy) -> Vec<usize> {
    let mut state = State::new(trace.series.start());
    let mut archive = Archive::default();
    let mut backups = Vec::new();
    for cell in 0..trace.series.len() {
        let now = trace.series.time_of(cell);
        let history = History::new(&trace.series.until(now));
        let observation = Observation::default();
        let decision = tick::look(
            policy,
            &mut state,
            &history,
            &mut archive,
            &observation,
            now,
        );
        assert!(!decision.reasons.is_empty());
        if decision.action == Action::Backup {
            backups.push(cell);
            state.backup_succeeded(now, None);
        }
        if cell % 500 == 499 {
            state = State::from_json(&serde_json::to_string(&state).unwrap()).unwrap();
            archive = Archive::default();
        }
    }
    backups
}

#[test]
fn the_loop_decides_tick_for_tick_as_the_simulation() {
    for (family, replan) in [(5, true), (6, true), (0, false)] {
        let policy = Policy { replan, ..policy() };
        let trace = Trace {
            name: "recorded".to_owned(),
            series: series(UNSEEN[family].history(4, 8).into_iter().take(8 * DAY)),
            truth: None,
        };
        let simulated: Vec<usize> = Stage::new(&trace, &policy)
            .run(PolicyName::Auto, None)
            .backups
            .iter()
            .map(|backup| backup.cell)
            .collect();
        assert!(simulated.len() > 50);
        assert_eq!(live(&trace, &policy), simulated, "family {family}");
    }
}

#[test]
fn the_memory_of_a_schedule_stays_small_and_survives_a_restart() {
    let trace = super::development("office");
    let policy = policy();
    let history = History::new(&trace.series.range(0, 20 * DAY));
    let mut state = State::new(trace.series.start());
    let mut archive = Archive::default();
    let mut restored: Option<(State, Archive)> = None;
    for cell in (0..history.len()).step_by(12) {
        let now = instant_of(history.time_of(cell));
        advance(&policy, &mut state, &history, &mut archive, now);
        if cell % (12 * 24) == 0 {
            state.backup_succeeded(now, None);
        }
        if let Some((state, archive)) = &mut restored {
            advance(&policy, state, &history, archive, now);
            if cell % (12 * 24) == 0 {
                state.backup_succeeded(now, None);
            }
        } else if cell >= 18 * DAY {
            let text = serde_json::to_string(&state).unwrap();
            assert!(text.len() < 1_000_000, "{} bytes", text.len());
            restored = Some((State::from_json(&text).unwrap(), Archive::default()));
        }
    }
    let (restored, _) = restored.unwrap();
    assert_eq!(restored.model(), state.model());
    assert_eq!(restored.calibration.mode, state.calibration.mode);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
    assert!(near(restored.exposure.changes, state.exposure.changes));
}
