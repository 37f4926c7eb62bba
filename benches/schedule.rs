//! What the scheduling core costs: `make bench-schedule`. Prints docs/performance.md's section: one look, one daily fit, the memory of a
//! schedule, and 26 traces of eight weeks simulated.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/support/traces.rs"]
mod traces;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use etcdguardian::schedule::backtest::Archive;
use etcdguardian::schedule::decide::{self, Action, Observation};
use etcdguardian::schedule::fit::{FitOptions, fit_until};
use etcdguardian::schedule::history::{History, instant_of};
use etcdguardian::schedule::plan::Mode;
use etcdguardian::schedule::simulate::report::{Stage, Trace};
use etcdguardian::schedule::simulate::run::PolicyName;
use etcdguardian::schedule::timescale::Timescale;
use etcdguardian::schedule::{Cron, Policy, State, tick};
use etcdguardian::signals::series::{Point, Series};
use jiff::Timestamp;
use traces::{DAY, UNSEEN};

const DAYS: usize = 56;
const TRACES: usize = 26;

fn main() {
    // Under `cargo test --benches` there is nothing to do.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    let policy = Policy::with_defaults(Cron::parse("0 */2 * * *", "UTC").unwrap());
    println!("| what | middle | 99 of 100 within | most |\n| --- | --- | --- | --- |");
    one_schedule(&policy);
    all(&policy);
}

fn series(rates: impl IntoIterator<Item = f64>) -> Series {
    let mut series = Series::empty("2026-01-05T00:00:00Z".parse().unwrap(), 300).unwrap();
    for rate in rates {
        series.push(&Point {
            writes: Some(rate),
            ..Point::at(Timestamp::UNIX_EPOCH)
        });
    }
    series
}

/// A row of the table from times in seconds.
fn row(what: &str, unit: (&str, f64), times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| unit.1 * times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "| {what} | {:.3} {u} | {:.3} {u} | {:.3} {u} |",
        at(0.5),
        at(0.99),
        at(1.0),
        u = unit.0
    );
}

/// Five weeks of a schedule, its forecast always in force: what each look, each day and each fit takes, and what it remembers.
fn one_schedule(policy: &Policy) {
    let history = History::new(&series(UNSEEN[0].history(1, 35)));
    let scale = Timescale::new(policy, history.step(), history.step());
    let mut state = State::new(instant_of(history.time_of(0)));
    let mut archive = Archive::default();
    let (mut looks, mut days, mut fits) = (Vec::new(), Vec::new(), Vec::new());
    for cell in 0..history.len() {
        let now = instant_of(history.time_of(cell));
        let begin = Instant::now();
        tick::prepare(policy, &mut state, &history, &mut archive, now);
        let prepared = begin.elapsed().as_secs_f64();
        if cell % DAY == 0 && cell > 14 * DAY {
            days.push(prepared);
            let begin = Instant::now();
            fit_until(&history, cell, &FitOptions::new(&scale)).unwrap();
            fits.push(begin.elapsed().as_secs_f64());
        }
        if state.calibration.mode == Mode::Reactive && state.model().is_some() {
            state.calibration.mode = Mode::Forecast;
        }
        let begin = Instant::now();
        let observation = Observation::default();
        let decision = decide::decide(policy, &state, &history, &observation, now);
        looks.push(begin.elapsed().as_secs_f64());
        if decision.action == Action::Backup {
            state.backup_succeeded(now, None);
        }
    }
    row("a decision, with its reasons", ("ms", 1e3), &mut looks);
    row("a fit of the forecast", ("ms", 1e3), &mut fits);
    row("the daily loop: fit and replays", ("ms", 1e3), &mut days);
    let bytes = serde_json::to_string(&state).unwrap().len();
    println!("\nWhat a schedule remembers: {} KB.", bytes / 1000);
}

/// Every trace under `auto`, on all processors.
fn all(policy: &Policy) {
    let traces: Vec<Trace> = (0..TRACES)
        .map(|index| (index, &UNSEEN[index % UNSEEN.len()]))
        .map(|(index, family)| Trace {
            name: format!("{}-{index}", family.name),
            series: series(family.history(index as u64, DAYS)),
            truth: None,
        })
        .collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some(trace) = traces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    std::hint::black_box(Stage::new(trace, policy).run(PolicyName::Auto, None));
                }
            });
        }
    });
    println!(
        "{TRACES} traces of {DAYS} days under `auto` on {processors} processors: {:.1} s.",
        begin.elapsed().as_secs_f64()
    );
}
