//! What must hold on any trace: the bounds, no knowledge of the future, no unit of change, the cron on flat traffic.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;

use super::backtest::Archive;
use super::calibrate::{Calibration, Evidence, calibrate};
use super::decide::{Action, Observation, Source, decide};
use super::fit::{self, FitOptions};
use super::history::History;
use super::model::Model;
use super::plan::{Mode, Reason, Situation, choose};
use super::simulate::report::{Stage, Trace};
use super::simulate::run::{PolicyName, Taken};
use super::timescale::Timescale;
use super::{Cron, Policy, State, score};
use crate::signals::series::{Point, Series};

const STEP: u32 = 300;
const DAY: usize = 288;

fn trace(days: usize, rate: impl Fn(usize) -> f64) -> Trace {
    let mut series = Series::empty(Timestamp::UNIX_EPOCH, STEP).unwrap();
    for cell in 0..days * DAY {
        series.push(&Point {
            writes: Some(rate(cell)),
            ..Point::at(Timestamp::UNIX_EPOCH)
        });
    }
    Trace {
        name: "made".to_owned(),
        series,
        truth: None,
    }
}

fn policy() -> Policy {
    Policy::with_defaults(Cron::parse("0 */2 * * *", "UTC").unwrap())
}

/// Busy from 8 to 18, with a ripple that no two cells share.
fn office(cell: usize) -> f64 {
    let busy = (96..216).contains(&(cell % DAY));
    let ripple = 1.0 + 0.5 * (cell as f64 * 1.7).sin();
    ripple * if busy { 6.0 } else { 0.3 }
}

fn backups(trace: &Trace, name: PolicyName) -> Vec<Taken> {
    Stage::new(trace, &policy()).run(name, None).backups
}

#[test]
fn the_bounds_hold_on_hostile_traces() {
    let wild = |cell: usize| match cell % 97 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => -7.0,
        3 => 1e9,
        4..40 => 0.0,
        _ => office(cell),
    };
    let traces = [
        trace(6, wild),
        trace(6, |_| 0.0),
        trace(6, |_| f64::NAN),
        trace(6, |_| 1e9),
        trace(6, |cell| {
            if cell < 3 * DAY {
                office(cell)
            } else {
                f64::NAN
            }
        }),
    ];
    for (index, trace) in traces.iter().enumerate() {
        for name in [PolicyName::Auto, PolicyName::Model, PolicyName::Reactive] {
            let taken = backups(trace, name);
            assert!(!taken.is_empty(), "trace {index}");
            for pair in taken.windows(2) {
                let gap = (pair[1].cell - pair[0].cell) as u32 * STEP;
                assert!(
                    (3600..=21_600).contains(&gap),
                    "trace {index} {name:?}: {gap} s"
                );
            }
        }
    }
}

#[test]
fn what_comes_later_changes_nothing_before() {
    let days = 7;
    let cut = 6 * DAY + 71;
    let whole = trace(days, office);
    let other = trace(days, |cell| {
        if cell < cut {
            office(cell)
        } else {
            40.0 * office(cell + 131)
        }
    });
    for name in [PolicyName::Auto, PolicyName::Model] {
        let before = |trace: &Trace| {
            let mut taken = backups(trace, name);
            taken.retain(|backup| backup.cell <= cut);
            taken
        };
        let taken = before(&whole);
        assert!(taken.len() > 40, "{name:?}");
        assert_eq!(taken, before(&other), "{name:?}");
    }
}

#[test]
fn the_unit_of_change_does_not_matter() {
    let cells = |factor: f64| -> Vec<usize> {
        backups(&trace(10, |cell| factor * office(cell)), PolicyName::Auto)
            .iter()
            .map(|backup| backup.cell)
            .collect()
    };
    // A power of two, so that no rounding differs.
    assert_eq!(cells(1.0), cells(1024.0));
}

#[test]
fn flat_traffic_gets_the_crons_interval() {
    for name in [PolicyName::Auto, PolicyName::Reactive] {
        let taken = backups(&trace(10, |_| 5.0), name);
        for pair in taken.windows(2).skip(1) {
            let gap = (pair[1].cell - pair[0].cell) as i64 * i64::from(STEP);
            assert!((gap - 7200).abs() <= i64::from(STEP), "{name:?}: {gap} s");
        }
    }
}

#[test]
fn uneven_traffic_is_worth_saving_at_no_more_exposure() {
    let trace = trace(22, office);
    let policy = policy();
    let stage = Stage::new(&trace, &policy);
    let result = stage.result(PolicyName::Auto, &stage.run(PolicyName::Auto, None));
    assert!(result.saved_percent >= 20.0, "{result:?}");
    assert!(result.mean_exposure_ratio <= 1.02, "{result:?}");
    assert!(result.p99_exposure_ratio <= 1.0, "{result:?}");
    let fixed = stage.result(PolicyName::Fixed, &stage.run(PolicyName::Fixed, None));
    assert!(fixed.saved_percent.abs() < 1.0, "{fixed:?}");
}

#[test]
fn the_rule_waits_until_waiting_costs_more_than_a_backup_would() {
    let scale = Timescale::new(&policy(), f64::from(STEP), f64::from(STEP));
    let budget = 1e6;
    let situation = |changes: f64, rate: f64| Situation {
        now: 0.0,
        elapsed: 10_000.0,
        changes,
        area: budget,
        budget,
        recent_rate: Some(rate),
        outlook: None,
        guardrail: f64::INFINITY,
        min: 3600.0,
        max: 21_600.0,
        period: 7200.0,
        mode: Mode::Reactive,
        planned: None,
        busy: false,
    };
    // At rest the next interval costs K over its greatest length, in between √(2K·r), in haste K over its least and half of what comes.
    for (rate, limit) in [
        (0.0, 1e6 / 21_600.0),
        (0.02, 200.0),
        (1.0, 1e6 / 3600.0 + 1800.0),
    ] {
        for (factor, backup) in [(0.99, false), (1.01, true)] {
            let choice = choose(&situation(factor * limit, rate), &scale);
            assert_eq!(choice.backup, backup, "{factor} of {limit} at {rate}");
            assert_eq!(choice.reason, Reason::MarginalRule);
        }
    }
    // A larger area asks for less, a smaller one for more.
    let with_area = |area: f64| Situation {
        area,
        ..situation(200.0, 0.02)
    };
    assert!(choose(&with_area(1.2 * budget), &scale).backup);
    assert!(!choose(&with_area(0.8 * budget), &scale).backup);
}

#[test]
fn before_any_replay_an_uneven_cluster_gets_the_intervals_of_its_potential() {
    let trace = trace(2, office);
    let history = History::new(&trace.series);
    let scale = Timescale::new(&policy(), f64::from(STEP), f64::from(STEP));
    let evidence = Evidence {
        history: &history,
        now: history.len(),
        archive: &Archive::default(),
        has_model: false,
    };
    let found = calibrate(&evidence, &policy(), &scale, &Calibration::cold(0.0));
    let uneven = found.potential.unwrap();
    assert!((0.2..0.6).contains(&uneven), "{uneven}");
    let kappa = found.kappa(Mode::Reactive);
    assert!((kappa - 1.0 / (1.0 - 0.5 * uneven)).abs() < 1e-9, "{kappa}");
    assert_eq!(found.mode, Mode::Reactive);
}

#[test]
fn what_was_replayed_is_said_and_is_no_more_than_was_seen() {
    let seen = 6;
    // A young Prometheus is asked for weeks that it does not have.
    let calibrated = |empty: usize| {
        let before = empty * DAY;
        let made = trace(empty + seen, |cell| match cell.checked_sub(before) {
            Some(cell) => office(cell),
            None => f64::NAN,
        });
        let history = History::new(&made.series);
        let scale = Timescale::new(&policy(), f64::from(STEP), f64::from(STEP));
        let evidence = Evidence {
            history: &history,
            now: history.len(),
            archive: &Archive::default(),
            has_model: false,
        };
        let mut state = State::new(made.series.end());
        state.calibration = calibrate(&evidence, &policy(), &scale, &Calibration::cold(0.0));
        let observation = Observation::default();
        let decision = decide(&policy(), &state, &history, &observation, made.series.end());
        let said = decision.reasons.iter().any(|reason| {
            reason.contains("the reactive rule is in force: replayed over 6 days it saves")
        });
        assert!(said, "{:?}", decision.reasons);
        state.calibration.reactive.unwrap()
    };
    let (known, asked) = (calibrated(0), calibrated(30));
    assert!((known.days - 6.0).abs() < 1e-9, "{known:?}");
    assert!(
        (asked.kappa / known.kappa - 1.0).abs() < 1e-9,
        "{asked:?} {known:?}"
    );
}

#[test]
fn a_forecast_knows_what_has_just_happened() {
    // Levels that last for hours and follow no clock: only the recent windows can tell them.
    let level = |cell: usize| {
        let mixed = (cell / 60).wrapping_mul(2_654_435_761) >> 8;
        [0.5, 2.0, 8.0, 30.0][mixed % 4]
    };
    let history = History::new(&trace(14, level).series);
    let scale = Timescale::new(&policy(), f64::from(STEP), f64::from(STEP));
    let model = fit::fit_until(&history, 10 * DAY, &FitOptions::new(&scale)).unwrap();
    let scores = score::score(&model, &history, score::first_unseen(&model, &history));
    let nearest = scores.first().unwrap();
    assert!(nearest.model < 0.7 * nearest.profile, "{nearest:?}");
}

#[test]
fn the_example_model_is_one_that_this_version_reads() {
    let text = include_str!("../../models/example-office.json");
    let model = Model::from_json(text).unwrap();
    assert_eq!(model.trained_on.digest, "13ccf29f");
    assert_eq!(model.horizons.len(), 24);
    assert!(!model.relative);
}

#[test]
fn a_failed_backup_is_tried_again_when_its_alert_says_so() {
    let created: Timestamp = "2026-03-02T08:01:00Z".parse().unwrap();
    let at = |seconds| created + jiff::SignedDuration::from_secs(seconds);
    let history = History::new(&trace(1, office).series);
    let mut state = State::new(created);
    state.backup_succeeded(created, None);
    state.backup_failed(at(600));
    let decided = |policy: &Policy, seconds| {
        let decision = decide(
            policy,
            &state,
            &history,
            &Observation::default(),
            at(seconds),
        );
        (
            decision.action,
            decision.source,
            decision.reason,
            decision.at,
        )
    };
    let backoff = Reason::BackoffAfterFailure;
    let model = policy();
    let cron = Policy {
        ai_enabled: false,
        ..policy()
    };
    for policy in [&model, &cron] {
        assert_eq!(
            decided(policy, 659),
            (Action::Wait, Source::Guard, backoff, at(660))
        );
        let retry = Reason::RetryAfterFailure;
        assert_eq!(
            decided(policy, 660),
            (Action::Backup, Source::Guard, retry, at(660))
        );
    }
    // A cron whose runs must start in time waits for its next slot.
    let strict = Policy {
        starting_deadline: Some(jiff::SignedDuration::from_secs(30)),
        ..cron
    };
    assert_eq!(decided(&strict, 660).2, Reason::Cron);
    let suspended = Policy {
        suspend: true,
        ..model
    };
    assert_eq!(decided(&suspended, 660).2, Reason::Suspended);
}
