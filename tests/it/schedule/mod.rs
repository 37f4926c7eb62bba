//! The scheduler's targets (docs/explanation/scheduling.md) on development traces and on families that its rules were chosen
//! without; its commands; hostile input.
//!
//! A debug build plays four weeks of some traces, a release build eight weeks of all: `cargo test --release --test it schedule::`.

mod beside;
mod cli;
mod hostile;
mod live;
mod prior;
mod recorded;
mod sizes;
mod targets;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use etcdguardian::schedule::backtest::Study;
use etcdguardian::schedule::simulate::report::{Stage, Trace, TraceResult};
use etcdguardian::schedule::simulate::run::{PolicyName, Run};
use etcdguardian::schedule::{Cron, Policy};
use etcdguardian::signals::series::{Point, Series};
use etcdguardian::signals::trace;
use jiff::Timestamp;

use crate::support::clusters::REPORTED;
use crate::support::repository;
use crate::support::traces::{DAY, Dice, Family, UNSEEN};

/// Whether there is time for everything.
const ALL: bool = !cfg!(debug_assertions);
/// Days of a trace that are played.
const DAYS: usize = if ALL { 56 } else { 28 };

/// The cron, the bounds and the target that the targets are about.
fn policy() -> Policy {
    Policy::with_defaults(Cron::parse("0 */2 * * *", "UTC").unwrap())
}

/// A development trace as the file has it, to the full length.
fn development_csv(name: &str) -> String {
    let file = repository("tests/traces").join(format!("{name}_s1.csv.zst"));
    let bytes = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn development(name: &str) -> Trace {
    let series = trace::read(&development_csv(name)).unwrap();
    Trace {
        name: name.to_owned(),
        series: series.range(0, DAYS * DAY),
        truth: None,
    }
}

/// The names of the development traces.
fn development_names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(repository("tests/traces"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix("_s1.csv.zst").map(str::to_owned))
        .collect();
    assert_eq!(names.len(), 11);
    names.sort();
    names
}

/// The development traces, or five unlike ones of them.
fn developments() -> Vec<Trace> {
    let few = ["office", "bursty", "flat", "missing", "regime"];
    development_names()
        .iter()
        .filter(|name| ALL || few.contains(&name.as_str()))
        .map(|name| development(name))
        .collect()
}

fn series(rates: impl IntoIterator<Item = f64>) -> Series {
    let monday = "2026-01-05T00:00:00Z".parse().unwrap();
    let mut series = Series::empty(monday, 300).unwrap();
    for rate in rates {
        series.push(&Point {
            writes: Some(rate),
            ..Point::at(Timestamp::UNIX_EPOCH)
        });
    }
    series
}

/// Histories of the families that were held out, though constants were confirmed on them.
fn unseen() -> Vec<Trace> {
    let few = ["gitops", "night-jobs", "storms", "steady", "hourly-jobs"];
    histories(&UNSEEN, &few)
}

/// Histories of the families that nothing was confirmed on.
fn reported() -> Vec<Trace> {
    histories(
        &REPORTED,
        &["self-exciting", "pipelines", "migration", "idle"],
    )
}

fn histories(families: &[Family], few: &[&str]) -> Vec<Trace> {
    let seeds = if ALL { 1..=2 } else { 1..=1 };
    families
        .iter()
        .filter(|family| ALL || few.contains(&family.name))
        .flat_map(|family| seeds.clone().map(move |seed| (family, seed)))
        .map(|(family, seed)| Trace {
            name: format!("{}-{seed}", family.name),
            series: series(family.history(seed, DAYS)),
            truth: None,
        })
        .collect()
}

/// Which cells of a history lie in holes: blocks of two to twelve hours that make up `share` of it.
fn holes(seed: u64, cells: usize, share: f64) -> Vec<bool> {
    let mut dice = Dice::new(seed);
    let mut lost = vec![false; cells];
    let mut count = 0;
    while (count as f64) < share * cells as f64 {
        let from = (dice.unit() * cells as f64) as usize;
        let length = dice.between(24.0, 144.0) as usize;
        for cell in lost
            .iter_mut()
            .skip(from)
            .take(length)
            .filter(|cell| !**cell)
        {
            *cell = true;
            count += 1;
        }
    }
    lost
}

/// The same trace, but 30 % of what the policy sees is missing.
fn holed(trace: &Trace, seed: u64) -> Trace {
    let whole = &trace.series;
    let lost = holes(seed, whole.len(), 0.3);
    let mut seen = Series::empty(whole.start(), whole.step_seconds()).unwrap();
    for (cell, lost) in lost.into_iter().enumerate() {
        let point = whole.point(cell).unwrap();
        seen.push(&Point {
            writes: point.writes.filter(|_| !lost),
            significant: whole
                .significant()
                .map(|_| point.significant.filter(|_| !lost).unwrap_or(f64::NAN)),
            ..point
        });
    }
    Trace {
        name: trace.name.clone(),
        series: seen,
        truth: Some(whole.clone()),
    }
}

/// Plays every trace on all cores.
fn play(
    traces: &[Trace],
    policy: &Policy,
    name: PolicyName,
    study: &Study,
) -> Vec<(Run, TraceResult)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(trace) = traces.get(index) else {
                return;
            };
            let stage = Stage::new(trace, policy);
            let run = stage.run_in_study(name, study);
            let result = stage.result(name, &run);
            done.lock().unwrap().push((index, (run, result)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, one)| one).collect()
}

/// The development traces under the usual policy, or that with each interval fixed at the backup before it. Played once, however
/// many tests look at it.
fn developments_under(name: PolicyName, replan: bool) -> Vec<TraceResult> {
    type Kept = BTreeMap<(PolicyName, bool), Arc<OnceLock<Vec<TraceResult>>>>;
    static KEPT: Mutex<Kept> = Mutex::new(BTreeMap::new());
    let slot = Arc::clone(KEPT.lock().unwrap().entry((name, replan)).or_default());
    let play = || {
        let policy = Policy { replan, ..policy() };
        results(&developments(), &policy, name)
    };
    slot.get_or_init(play).clone()
}

/// Plays as deployed.
fn results(traces: &[Trace], policy: &Policy, name: PolicyName) -> Vec<TraceResult> {
    let played = play(traces, policy, name, &Study::default());
    played.into_iter().map(|(_, result)| result).collect()
}

fn mean(results: &[TraceResult], value: impl Fn(&TraceResult) -> f64) -> f64 {
    results.iter().map(value).sum::<f64>() / results.len() as f64
}

fn saved(results: &[TraceResult]) -> f64 {
    mean(results, |result| result.saved_percent)
}

fn exposure(results: &[TraceResult]) -> f64 {
    mean(results, |result| result.mean_exposure_ratio)
}

/// Writes a trace where the binary can read it.
fn write_csv(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(format!("{name}.csv"));
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}
