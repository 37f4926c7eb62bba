//! Whatever a trace or a model file holds, the decision stays inside the bounds, comes, and is the same again.

use etcdguardian::schedule::backtest::{Predict, Study};
use etcdguardian::schedule::fit::{self, FitOptions};
use etcdguardian::schedule::history::History;
use etcdguardian::schedule::model::Model;
use etcdguardian::schedule::simulate::report::Trace;
use etcdguardian::schedule::simulate::run::PolicyName;
use etcdguardian::schedule::timescale::Timescale;
use etcdguardian::signals::series::{Point, Series};
use proptest::prelude::*;

use super::{DAY, Stage, policy, series};
use crate::support::traces::{Dice, UNSEEN};

/// A piece of a trace: what it is like, and for how many cells.
fn piece() -> impl Strategy<Value = (u8, f64, usize)> {
    (0u8..9, 0.0f64..50.0, 1usize..200)
}

fn rates(pieces: &[(u8, f64, usize)]) -> Vec<f64> {
    let mut dice = Dice::new(7);
    let mut rates = Vec::new();
    for (kind, level, cells) in pieces {
        for _ in 0..*cells {
            rates.push(match kind {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => -level,
                3 => 0.0,
                4 => 1e9,
                5 => f64::MIN_POSITIVE,
                6 => level * dice.unit(),
                7 => f64::NEG_INFINITY,
                _ => *level,
            });
        }
    }
    rates.truncate(5 * DAY);
    rates
}

/// A forecast as no model should make it.
fn wild(model: &Model, _: &History, now: usize, rates: &mut Vec<f64>) -> Option<()> {
    let values = [0.0, 1e300, 1e-300, 7.0, f64::MAX];
    rates.extend((0..model.horizons.len()).map(|bin| values[(now * 3 + bin) % values.len()]));
    Some(())
}

fn check(trace: &Trace, name: PolicyName, study: &Study) {
    let policy = policy();
    let stage = Stage::new(trace, &policy);
    let run = stage.run_in_study(name, study);
    let again = stage.run_in_study(name, study);
    assert_eq!(run.backups, again.backups, "not the same again");
    let mut before = 0;
    for backup in &run.backups {
        let gap = (backup.cell - before) * 300;
        assert!(gap <= 21_600, "{name:?}: {gap} s without a backup");
        assert!(gap >= 3600, "{name:?}: {gap} s after the last");
        before = backup.cell;
    }
    let rest = (trace.series.len() - before) * 300;
    assert!(rest <= 21_600 + 300, "{name:?}: {rest} s at the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_bounds_hold_on_any_trace(pieces in proptest::collection::vec(piece(), 8..20)) {
        let trace = Trace { name: "any".to_owned(), series: series(rates(&pieces)), truth: None };
        check(&trace, PolicyName::Auto, &Study::default());
        let study = Study { predict: Some(wild as Predict), ..Study::default() };
        check(&trace, PolicyName::Model, &study);
    }

    #[test]
    fn a_clock_that_jumps_breaks_no_series(jumps in proptest::collection::vec((0i64..2_000_000, 0.0f64..100.0), 2..60)) {
        let points = jumps.iter().map(|(second, rate)| Point {
            writes: Some(*rate),
            ..Point::at(jiff::Timestamp::from_second(1_700_000_000 + second).unwrap())
        });
        let series = Series::from_points(300, points).unwrap();
        let last = series.len().min(4 * DAY);
        let trace = Trace { name: "jumps".to_owned(), series: series.range(0, last), truth: None };
        check(&trace, PolicyName::Auto, &Study::default());
    }

    #[test]
    fn a_model_file_with_any_number_changed_is_refused_or_harmless(place in 0usize..900, value in any::<f64>()) {
        let text = serde_json::to_string(&fitted()).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut left = place;
        change(&mut json, &mut left, value);
        let history = History::new(&history());
        if let Ok(model) = Model::from_json(&json.to_string()) {
            for now in [0, 1, 500, history.len()] {
                if let Some(outlook) = model.forecast(&history, now) {
                    assert!(outlook.rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0));
                }
            }
        }
    }

    #[test]
    fn a_model_reads_back_as_it_was_written(seed in 0u64..1000) {
        let series = series(UNSEEN[(seed % 12) as usize].history(seed, 5));
        let scale = Timescale::new(&policy(), 300.0, 300.0);
        let model = fit::fit(&series, &FitOptions::new(&scale)).unwrap();
        assert_eq!(Model::from_json(&model.to_json().unwrap()).unwrap(), model);
    }
}

fn history() -> Series {
    series(UNSEEN[0].history(3, 5))
}

fn fitted() -> Model {
    let scale = Timescale::new(&policy(), 300.0, 300.0);
    fit::fit(&history(), &FitOptions::new(&scale)).unwrap()
}

/// Puts `value` in the place of one number.
fn change(json: &mut serde_json::Value, left: &mut usize, value: f64) {
    match json {
        serde_json::Value::Number(_) => {
            if *left == 0 {
                *json = serde_json::Number::from_f64(value)
                    .map_or(serde_json::Value::Null, serde_json::Value::Number);
            }
            *left = left.wrapping_sub(1);
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(|one| change(one, left, value)),
        serde_json::Value::Object(all) => all.values_mut().for_each(|one| change(one, left, value)),
        _ => {}
    }
}

#[test]
fn what_comes_later_changes_nothing_before_however_it_is_shuffled() {
    let rates = UNSEEN[2].history(1, 9);
    let cut = 7 * DAY + 100;
    let mut shuffled = rates.clone();
    shuffled[cut..].reverse();
    shuffled[cut..]
        .iter_mut()
        .step_by(3)
        .for_each(|rate| *rate *= 20.0);
    let policy = policy();
    let before = |rates: Vec<f64>| {
        let trace = Trace {
            name: "t".to_owned(),
            series: series(rates),
            truth: None,
        };
        let mut taken = Stage::new(&trace, &policy)
            .run(PolicyName::Auto, None)
            .backups;
        taken.retain(|backup| backup.cell <= cut);
        taken
    };
    let taken = before(rates.clone());
    assert!(taken.len() > 50);
    assert_eq!(taken, before(shuffled));
    assert_eq!(taken, before(rates[..=cut].to_vec()));
}
