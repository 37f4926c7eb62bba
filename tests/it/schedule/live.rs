//! The live loop and the simulator are one piece of code: fed with a recorded series cell by cell, as a loop sees it grow, it
//! decides as `simulate` does on the whole file; and so does `run` beside a real etcd and a real Prometheus, look for look.

use std::fmt::Write as _;

use etcdguardian::schedule::State;
use etcdguardian::schedule::backtest::Archive;
use etcdguardian::schedule::decide::{Action, Observation};
use etcdguardian::schedule::history::History;
use etcdguardian::schedule::simulate::report::{Stage, Trace};
use etcdguardian::schedule::simulate::run::PolicyName;
use etcdguardian::schedule::{Cron, Policy, decide, tick};
use etcdguardian::signals::series::{Point, Series};
use etcdguardian::signals::{PrometheusReader, Window, floor};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{DAY, policy, series};
use crate::run::Site;
use crate::support::traces::UNSEEN;
use crate::support::{Etcd, Prometheus, until};

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

/// The compressed clock: a cron of two minutes, looked at each second.
fn fast() -> Policy {
    Policy {
        min_interval: SignedDuration::from_secs(12),
        max_interval: SignedDuration::from_secs(360),
        immediate: true,
        ..Policy::with_defaults(Cron::parse("*/2 * * * *", "UTC").unwrap())
    }
}
/// A cell of its series, seconds, and how many of them the loop keeps.
const CELL: i64 = 5;
const KEPT: i64 = 16_384;

/// Puts a second in the history: a third of a minute of many, the rest of few.
fn rhythm(second: i64) -> i64 {
    if second.rem_euclid(60) < 20 { 12 } else { 1 }
}

/// Ten hours of that, up to now, without a counter of deletes; a sample a second at the end, as Prometheus scrapes here.
fn history(instance: &str) -> String {
    let end = Timestamp::now().as_second();
    let mut text = String::from("# TYPE etcd_mvcc_put counter\n");
    let mut puts = 0;
    for second in end - 36_000..end {
        puts += rhythm(second);
        if second % 2 == 0 || second > end - 90 {
            let _ = writeln!(
                text,
                "etcd_mvcc_put_total{{job=\"etcd\",instance=\"{instance}\"}} {puts} {second}"
            );
        }
    }
    text + "# EOF\n"
}

/// A look as the running loop logged it.
struct Look {
    now: Timestamp,
    action: String,
    reason: String,
    numbers: [f64; 3],
    min_seconds: f64,
}

fn looks(log: &str) -> Vec<Look> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["fields"].clone())
        .filter(|fields| fields["message"] == "decided")
        .map(|fields| {
            let text = |name: &str| fields[name].as_str().unwrap().to_owned();
            let number = |name: &str| fields[name].as_f64().unwrap();
            Look {
                now: text("now").parse().unwrap(),
                action: text("action"),
                reason: text("reason"),
                numbers: ["exposure", "area", "budget"].map(number),
                min_seconds: number("min_seconds"),
            }
        })
        .collect()
}

/// The cells of a series that the loop still keeps at `now`, up to then.
fn kept(series: &Series, now: Timestamp, first: bool) -> Series {
    let length = SignedDuration::from_secs(KEPT * CELL);
    let ended = series.until(now);
    // The first look reads whole cells; those after it drop what is older than the length.
    let oldest = if first { ended.end() } else { now } - length;
    let points = (0..ended.len())
        .filter_map(|cell| ended.point(cell))
        .filter(|point: &Point| point.at >= oldest);
    Series::from_points(u32::try_from(CELL).unwrap(), points).unwrap()
}

#[test]
fn beside_a_real_etcd_and_prometheus_it_decides_look_for_look_as_the_simulation() {
    let etcd = Etcd::start("3.6");
    let target = format!("127.0.0.1:{}", etcd.metrics_port(0));
    let prometheus = Prometheus::start(&history(&target), std::slice::from_ref(&target));
    let site = Site::new(
        &etcd,
        &format!(
            "prometheus: {{url: '{}'}}\nlog: {{level: 'etcdguardian=debug', format: Json}}",
            prometheus.url
        ),
    );
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: main}}\nspec:\n  schedule: '*/2 * * * *'\n  immediate: true\n  aiOptimization: {{enabled: true, minInterval: 12s, maxInterval: 6m}}\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {}\n",
        site.local()
    );
    std::fs::write(site.path("manifests/main.yaml"), text).unwrap();
    // What was scraped must not be younger than the loop's first look, or etcd's counter would begin in its sight.
    until("the first scrapes", || {
        let up = prometheus.query("count_over_time(up[1m]) > 5");
        (up.as_array().is_some_and(|found| !found.is_empty())).then_some(())
    });

    let running = site.start();
    let log = || std::fs::read_to_string(site.path("run.log")).unwrap_or_default();
    let begun = std::time::Instant::now();
    // Until there are enough looks, backups among them; slow machines get longer.
    loop {
        // Three times as busy as the history tells, so that the next backup is not far.
        let puts = rhythm(Timestamp::now().as_second()) * 3 / 2;
        etcd.fill("/registry/pods/", usize::try_from(puts).unwrap(), 20);
        std::thread::sleep(std::time::Duration::from_millis(500));
        let looks = looks(&log());
        let backups = looks.iter().filter(|look| look.action == "Backup").count();
        if looks.len() >= 45 && backups >= 2 {
            break;
        }
        assert!(
            begun.elapsed().as_secs() < 150,
            "{} looks, {backups} backups",
            looks.len()
        );
    }
    drop(running);
    let looks = looks(&log());
    let taken: Vec<(Timestamp, i64)> = {
        let mut backups: Vec<(Timestamp, i64)> = site
            .backups(&site.url())
            .iter()
            .map(|one| {
                let created = one["created"].as_str().unwrap();
                (created.parse().unwrap(), one["revision"].as_i64().unwrap())
            })
            .collect();
        backups.sort();
        backups
    };

    let (first, last) = (looks.first().unwrap().now, looks.last().unwrap().now);
    let span = last.duration_since(first) + SignedDuration::from_secs((KEPT + 2) * CELL);
    let window = Window::before(last, span, u32::try_from(CELL).unwrap());
    let source = etcdguardian::api::PrometheusSource {
        url: Some(prometheus.url.clone()),
        ..Default::default()
    };
    let reader = PrometheusReader::new(&source, None).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (recorded, _) = runtime.block_on(reader.read(&window)).unwrap();
    assert!(floor::less_floor(&recorded).is_none());
    let record = std::fs::read_dir(site.path("state/schedules")).unwrap();
    let record = record.map(|entry| entry.unwrap().path()).next().unwrap();
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    let seen: Timestamp = record["firstSeen"].as_str().unwrap().parse().unwrap();

    let mut state = State::new(seen);
    let mut archive = Archive::default();
    let mut taken = taken.into_iter();
    let mut modes = std::collections::BTreeSet::new();
    for (index, look) in looks.iter().enumerate() {
        let history = History::new(&kept(&recorded, look.now, index == 0));
        let policy = Policy {
            min_interval: SignedDuration::from_millis((1000.0 * look.min_seconds) as i64),
            ..fast()
        };
        let observation = Observation {
            cadence: Some(1.0),
            ..Observation::default()
        };
        tick::prepare(&policy, &mut state, &history, &mut archive, look.now);
        let verdict = decide::verdict(&policy, &state, &history, &observation, look.now);
        modes.insert(format!("{:?}", verdict.mode));
        let action = if verdict.choice.backup {
            "Backup"
        } else {
            "Wait"
        };
        let decided = (action.to_owned(), format!("{:?}", verdict.choice.reason));
        let logged = (look.action.clone(), look.reason.clone());
        assert_eq!(decided, logged, "look {index} at {}", look.now);
        let numbers = [verdict.exposure, verdict.area, verdict.area_budget];
        for (ours, theirs) in numbers.iter().zip(&look.numbers) {
            let near = (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0);
            assert!(near, "look {index}: {numbers:?} and {:?}", look.numbers);
        }
        if verdict.choice.backup
            && let Some((at, revision)) = taken.next()
        {
            state.backup_succeeded(at, Some(revision));
        }
    }
    assert!(modes.iter().any(|mode| mode != "Cron"), "{modes:?}");
}
