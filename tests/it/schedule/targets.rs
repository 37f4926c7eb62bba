//! The targets of the schedule, each with the number it was set by. `must` numbers are looser in a debug build, which sees
//! four weeks of a few traces: there they catch what is broken, in a release build what is worse.

use etcdguardian::schedule::backtest::{Predict, Study};
use etcdguardian::schedule::calibrate;
use etcdguardian::schedule::history::{History, instant_of};
use etcdguardian::schedule::simulate::report::{Stage, Trace, TraceResult};
use etcdguardian::schedule::simulate::run::PolicyName;
use etcdguardian::schedule::{Policy, simulate};

use super::{
    ALL, DAY, developments, developments_under, exposure, holed, mean, play, policy, reported,
    results, saved, series, unseen,
};
use crate::support::traces::UNSEEN;

/// A number for a release build, and one for the smaller sample of a debug build.
fn must(all: f64, some: f64) -> f64 {
    if ALL { all } else { some }
}

#[test]
fn development_traces_save_a_quarter_at_no_more_exposure() {
    let found = developments_under(PolicyName::Auto, true);
    assert!(saved(&found) >= must(24.0, 20.0), "{found:#?}");
    assert!(exposure(&found) <= must(1.005, 1.02), "{found:#?}");
    // That no gap is shorter or longer than the bounds is held on any trace, in hostile.rs.
    for result in &found {
        assert!(result.mean_exposure_ratio <= must(1.06, 1.08), "{result:?}");
        assert!(result.p99_exposure_ratio <= 1.0, "{result:?}");
        assert!(result.max_gap_seconds <= 21_600, "{result:?}");
    }
}

#[test]
fn families_that_nobody_tuned_on_save_most_of_what_the_oracle_could() {
    save_most_of_what_the_oracle_could(&unseen(), must(0.68, 0.55));
}

#[test]
fn so_do_families_that_nothing_was_confirmed_on() {
    save_most_of_what_the_oracle_could(&reported(), must(0.68, 0.55));
}

fn save_most_of_what_the_oracle_could(traces: &[Trace], share: f64) {
    let found = results(traces, &policy(), PolicyName::Auto);
    let oracle = results(traces, &policy(), PolicyName::Oracle);
    assert!(
        saved(&found) >= share * saved(&oracle),
        "{} of {}: {found:#?}",
        saved(&found),
        saved(&oracle)
    );
    assert!(exposure(&found) <= must(1.0, 1.01), "{found:#?}");
    let p99 = mean(&found, |result| result.p99_exposure_ratio);
    assert!(p99 <= must(0.75, 0.85), "{p99}");
    for result in &found {
        assert!(result.saved_percent >= -2.0, "{result:?}");
        assert!(result.mean_exposure_ratio <= must(1.06, 1.08), "{result:?}");
    }
}

#[test]
fn it_beats_a_threshold_and_the_reactive_rule() {
    let auto = saved(&developments_under(PolicyName::Auto, true));
    // Its knob is known in hindsight, which flatters it.
    let threshold = saved(&developments_under(PolicyName::Threshold, true));
    let reactive = saved(&developments_under(PolicyName::Reactive, true));
    assert!(auto >= threshold + must(6.0, 3.0), "{auto} {threshold}");
    assert!(auto >= reactive - must(0.2, 0.5), "{auto} {reactive}");
}

#[test]
fn most_of_the_oracles_saving_is_reached() {
    let auto = saved(&developments_under(PolicyName::Auto, true));
    let oracle = saved(&developments_under(PolicyName::Oracle, true));
    assert!(auto >= must(0.80, 0.70) * oracle, "{auto} of {oracle}");
}

#[test]
fn no_broken_model_makes_it_worse_than_the_rule_without_one() {
    let tenth: Predict = |model, history, now, rates| scaled(model, history, now, rates, |_| 0.1);
    let tenfold: Predict =
        |model, history, now, rates| scaled(model, history, now, rates, |_| 10.0);
    let late: Predict =
        |model, history, now, rates| model.forecast_into(history, now.checked_sub(144)?, rates);
    let constant: Predict = |model, _, _, rates| {
        rates.extend(model.horizons.iter().map(|_| 10.0 * model.reference_rate));
        Some(())
    };
    let noisy: Predict = |model, history, now, rates| {
        scaled(model, history, now, rates, |bin| {
            (1.5 * ((now * 31 + bin * 7) as f64 * 12.9898).sin() * 1.4).exp()
        })
    };
    let wild: Predict = |model, _, now, rates| {
        rates.extend(
            (0..model.horizons.len()).map(|bin| if (now + bin) % 2 == 0 { 0.0 } else { 1e9 }),
        );
        Some(())
    };
    let mut traces = developments();
    let mut broken = vec![tenth, tenfold, late, constant, noisy, wild];
    if !ALL {
        traces.retain(|trace| ["office", "bursty"].contains(&trace.name.as_str()));
        broken.drain(2..5);
    }
    let without = saved(&results(&traces, &policy(), PolicyName::Reactive));
    for (index, predict) in broken.into_iter().enumerate() {
        let study = Study {
            predict: Some(predict),
            ..Study::default()
        };
        let played = play(&traces, &policy(), PolicyName::Auto, &study);
        let found: Vec<_> = played.into_iter().map(|(_, result)| result).collect();
        assert!(
            saved(&found) >= must(23.0, 20.0),
            "model {index}: {found:#?}"
        );
        assert!(
            saved(&found) >= without - 2.0,
            "model {index}: {} {without}",
            saved(&found)
        );
        for result in &found {
            assert!(
                result.mean_exposure_ratio <= 1.08,
                "model {index}: {result:?}"
            );
        }
    }
}

fn scaled(
    model: &etcdguardian::schedule::model::Model,
    history: &History,
    now: usize,
    rates: &mut Vec<f64>,
    factor: impl Fn(usize) -> f64,
) -> Option<()> {
    let from = rates.len();
    model.forecast_into(history, now, rates)?;
    for (bin, rate) in rates.iter_mut().skip(from).enumerate() {
        *rate *= factor(bin);
    }
    Some(())
}

#[test]
fn the_first_week_from_nothing_saves_already() {
    let weeks: Vec<Trace> = developments()
        .into_iter()
        .map(|trace| Trace {
            series: trace.series.range(0, 7 * DAY),
            ..trace
        })
        .collect();
    let found = results(&weeks, &policy(), PolicyName::Auto);
    assert!(saved(&found) >= must(18.0, 15.0), "{found:#?}");
    assert!(exposure(&found) <= must(1.0, 1.05), "{found:#?}");
}

#[test]
fn a_flat_cluster_keeps_its_cron_and_does_not_flap() {
    let flat: Vec<Trace> = developments()
        .into_iter()
        .filter(|trace| trace.name == "flat")
        .collect();
    let played = play(&flat, &policy(), PolicyName::Auto, &Study::default());
    let (run, result) = &played[0];
    assert!(result.saved_percent >= must(-1.0, -1.5), "{result:?}");
    let changes = run
        .backups
        .windows(2)
        .filter(|pair| pair[0].source != pair[1].source)
        .count();
    assert!(changes <= 30, "{changes} changes of who decides");
}

#[test]
fn a_third_of_the_metrics_missing_costs_little_with_a_forecast() {
    let traces: Vec<Trace> = developments()
        .iter()
        .enumerate()
        .map(|(index, trace)| holed(trace, 77 + index as u64))
        .collect();
    let auto = results(&traces, &policy(), PolicyName::Auto);
    let reactive = results(&traces, &policy(), PolicyName::Reactive);
    assert!(saved(&auto) >= must(22.0, 16.0), "{auto:#?}");
    assert!(
        saved(&auto) >= saved(&reactive) + must(3.0, 1.5),
        "{} {}",
        saved(&auto),
        saved(&reactive)
    );
}

#[test]
fn ten_percent_more_exposure_buys_a_third_fewer_backups() {
    let policy = Policy {
        exposure_target_percent: 110,
        ..policy()
    };
    let found = results(&developments(), &policy, PolicyName::Auto);
    assert!(saved(&found) >= must(30.0, 25.0), "{found:#?}");
    assert!(exposure(&found) <= 1.12, "{found:#?}");
    assert!(
        mean(&found, |result| result.p99_exposure_ratio) <= 0.9,
        "{found:#?}"
    );
}

#[test]
fn less_exposure_than_the_crons_is_bought_with_backups_even_where_nothing_can_be_saved() {
    let policy = Policy {
        exposure_target_percent: 80,
        ..policy()
    };
    let flat = [super::development("flat")];
    let found = results(&flat, &policy, PolicyName::Auto);
    assert!(exposure(&found) <= 0.85, "{found:#?}");
    assert!((-35.0..=-15.0).contains(&saved(&found)), "{found:#?}");
}

#[test]
fn after_a_lasting_drop_no_week_has_twice_the_crons_exposure() {
    let days = 28;
    let drop = 17 * DAY;
    let office = UNSEEN
        .iter()
        .find(|family| family.name == "holidays")
        .unwrap()
        .history(11, days);
    // The first half of that family is an office; from the drop on it has a seventh of its work.
    let rates = (0..days * DAY).map(|cell| match cell {
        _ if cell < drop => office[cell % (14 * DAY)],
        _ => office[cell % (14 * DAY)] / 7.0,
    });
    let trace = Trace {
        name: "dropped".to_owned(),
        series: series(rates),
        truth: None,
    };
    let found = results(&[trace], &policy(), PolicyName::Auto);
    assert!(found[0].worst_week_ratio <= 1.6, "{found:#?}");
    assert!(found[0].saved_percent >= 15.0, "{found:#?}");
}

#[test]
fn two_weeks_tell_what_will_be_saved() {
    let policy = policy();
    let traces = developments();
    let found = developments_under(PolicyName::Auto, true);
    let mut errors = Vec::new();
    for (trace, result) in traces.iter().zip(&found) {
        let history = History::new(&trace.series);
        let v = calibrate::potential(&history, 0, 14 * DAY, policy.period_seconds()).unwrap();
        let predicted = calibrate::predicted(v, &policy);
        if let Some(steady) = result.steady.filter(|_| v < 0.6) {
            errors.push((predicted - steady.saved_percent).abs());
        }
    }
    let error = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(error <= 4.0, "{error}: {errors:?}");
}

#[test]
fn planned_ahead_it_beats_the_square_root_rule() {
    let policy = Policy {
        replan: false,
        ..policy()
    };
    let traces = developments();
    let found = developments_under(PolicyName::Auto, false);
    let mut root = Vec::new();
    for trace in &traces {
        let stage = Stage::new(trace, &policy);
        let cells = square_root_once(&stage, trace);
        let run = simulate::run::Run {
            backups: cells,
            cells: trace.series.len(),
            ..simulate::run::Run::default()
        };
        root.push(stage.result(PolicyName::Area, &run));
    }
    assert!(exposure(&found) <= must(1.01, 1.03), "{found:#?}");
    assert!((exposure(&root) - 1.0).abs() < 0.02, "{root:#?}");
    assert!(
        saved(&found) >= saved(&root) + must(8.0, 6.0),
        "{} {}",
        saved(&found),
        saved(&root)
    );
}

/// √(2K/r) at the rate r of the last quarter of an hour, fixed when the backup before it is taken, its K fitted in hindsight to the
/// cron's mean exposure.
fn square_root_once(stage: &Stage<'_>, trace: &Trace) -> Vec<simulate::run::Taken> {
    use etcdguardian::schedule::decide::Source;
    use etcdguardian::schedule::plan::Reason;
    let history = History::new(&trace.series);
    let rates = history.gapless(0, history.len());
    let place = |k: f64| {
        let mut at = 0_usize;
        let mut backups = Vec::new();
        loop {
            let recent = &rates[at.saturating_sub(3)..at.max(1)];
            let rate = recent.iter().sum::<f64>() / recent.len() as f64;
            let seconds = (2.0 * k / rate.max(1e-9)).sqrt().clamp(3600.0, 21_600.0);
            at += (seconds / 300.0).round() as usize;
            if at >= rates.len() {
                return backups;
            }
            backups.push(simulate::run::Taken {
                cell: at,
                at: instant_of(history.time_of(at)),
                source: Source::Reactive,
                reason: Reason::Planned,
            });
        }
    };
    let ratio = |k: f64| {
        let run = simulate::run::Run {
            backups: place(k),
            cells: rates.len(),
            ..simulate::run::Run::default()
        };
        stage.result(PolicyName::Area, &run).mean_exposure_ratio
    };
    let (mut low, mut high) = (1e2f64.ln(), 1e10f64.ln());
    for _ in 0..24 {
        let middle = 0.5 * (low + high);
        if ratio(middle.exp()) <= 1.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    place(low.exp())
}

#[test]
fn each_part_is_worth_what_the_card_says() {
    let traces = developments();
    let of = |found: Vec<TraceResult>| (saved(&found), exposure(&found));
    let less = |study: Study| {
        let played = play(&traces, &policy(), PolicyName::Auto, &study);
        of(played.into_iter().map(|(_, result)| result).collect())
    };
    let whole = of(developments_under(PolicyName::Auto, true));
    let no_forecast = of(developments_under(PolicyName::Reactive, true));
    let fixed = of(developments_under(PolicyName::Auto, false));
    let no_clock = less(Study {
        seasonal: false,
        ..Study::default()
    });
    let uncalibrated = less(Study {
        kappa: Some(1.0),
        ..Study::default()
    });
    let table = format!(
        "whole {whole:.2?}\nno Fourier {no_clock:.2?}\nno forecast {no_forecast:.2?}\ninterval fixed {fixed:.2?}\nno calibration {uncalibrated:.2?}"
    );
    eprintln!("{table}");
    // An uncalibrated κ of 1 is far too careful; an interval fixed at the backup cannot follow; a forecast adds little.
    assert!(whole.0 >= uncalibrated.0 + 5.0, "{table}");
    assert!(uncalibrated.1 <= 0.95, "{table}");
    assert!(whole.0 >= fixed.0 + must(2.0, 1.0), "{table}");
    assert!(whole.0 >= no_forecast.0 - must(0.3, 0.6), "{table}");
}
