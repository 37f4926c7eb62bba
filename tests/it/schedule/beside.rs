//! `run` beside a real etcd and a real Prometheus, on a compressed clock: the core alone decides the same on the series that
//! Prometheus recorded, look for look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use etcdguardian::schedule::backtest::Archive;
use etcdguardian::schedule::decide::Observation;
use etcdguardian::schedule::history::History;
use etcdguardian::schedule::{Cron, Policy, State, decide, tick};
use etcdguardian::signals::series::{Point, Series};
use etcdguardian::signals::{PrometheusReader, Window};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::run::Site;
use crate::support::{Etcd, Prometheus, until};

/// A cell of the series of a cron of two minutes, seconds.
const CELL: u32 = 5;
/// How many of them the loop keeps.
const KEPT: i64 = 16_384;
/// Looks that are compared, and backups among them.
const ENOUGH: (usize, usize) = (30, 2);
/// Runs until one is found whose scrapes all came in time: on a machine that stands still for a second some do not.
const RUNS: usize = 6;

/// A cron of two minutes, looked at each second.
fn fast() -> Policy {
    Policy {
        min_interval: SignedDuration::from_secs(12),
        max_interval: SignedDuration::from_secs(360),
        immediate: true,
        ..Policy::with_defaults(Cron::parse("*/2 * * * *", "UTC").unwrap())
    }
}

/// Puts a second in the history: of four minutes one of many, the rest of few, so that a rule saves something.
fn rhythm(second: i64) -> i64 {
    if second.rem_euclid(240) < 60 { 12 } else { 1 }
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
    /// The end of the newest cell that it knew, and the changes a second in it.
    newest: (Timestamp, Option<f64>),
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
                newest: (
                    text("known_until").parse().unwrap(),
                    fields["rate"].as_f64(),
                ),
            }
        })
        .collect()
}

/// The cells that the loop keeps of a series at a look: up to the newest that it knew.
fn kept(series: &Series, look: &Look, first: bool) -> Series {
    let length = SignedDuration::from_secs(KEPT * i64::from(CELL));
    let ended = series.until(look.newest.0);
    // The first look reads whole cells; those after it drop what is older than the length.
    let oldest = if first { ended.end() } else { look.now } - length;
    let points = (0..ended.len())
        .filter_map(|cell| ended.point(cell))
        .filter(|point: &Point| point.at >= oldest);
    Series::from_points(CELL, points).unwrap()
}

/// What a run left behind.
struct Recorded {
    looks: Vec<Look>,
    /// Moment and revision of each backup.
    taken: Vec<(Timestamp, i64)>,
    first_seen: Timestamp,
    series: Series,
}

/// Has `run` look at a cluster that is written to, until there are enough looks.
fn record() -> Recorded {
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
    let begun = Instant::now();
    loop {
        // In shorter turns than the history has and busier, so that the next backup is not far.
        let busy = Timestamp::now().as_second().rem_euclid(20) < 12;
        etcd.fill("/registry/pods/", if busy { 9 } else { 1 }, 20);
        std::thread::sleep(Duration::from_millis(500));
        let looks = looks(&log());
        let backups = looks.iter().filter(|look| look.action == "Backup").count();
        if looks.len() >= ENOUGH.0 && backups >= ENOUGH.1 {
            break;
        }
        let patience = Duration::from_secs(240);
        assert!(
            begun.elapsed() < patience,
            "{} looks, {backups} backups",
            looks.len()
        );
    }
    drop(running);

    let looks = looks(&log());
    let mut taken: Vec<(Timestamp, i64)> = site
        .backups(&site.url())
        .iter()
        .map(|one| {
            let created = one["time"].as_str().unwrap();
            (created.parse().unwrap(), one["revision"].as_i64().unwrap())
        })
        .collect();
    taken.sort();
    let first_seen = std::fs::read_dir(site.path("state/schedules"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .filter_map(|text| serde_json::from_str::<Value>(&text).ok())
        .find_map(|record| record["firstSeen"].as_str().map(str::to_owned));

    let (first, last) = (looks.first().unwrap(), looks.last().unwrap());
    let span = last.newest.0.duration_since(first.now)
        + SignedDuration::from_secs((KEPT + 2) * i64::from(CELL));
    let window = Window::before(last.newest.0, span, CELL);
    let source = etcdguardian::api::PrometheusSource {
        url: Some(prometheus.url.clone()),
        ..Default::default()
    };
    let reader = PrometheusReader::new(&source, None).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (series, _) = runtime.block_on(reader.read(&window)).unwrap();
    Recorded {
        looks,
        taken,
        first_seen: first_seen.unwrap().parse().unwrap(),
        series,
    }
}

impl Recorded {
    /// The cells that held less when a look first knew them than they do now: a scrape in them came late.
    fn late(&self) -> usize {
        let mut first_known: BTreeMap<Timestamp, Option<f64>> = BTreeMap::new();
        for look in &self.looks {
            first_known.entry(look.newest.0).or_insert(look.newest.1);
        }
        let differs = |(end, rate): (&Timestamp, &Option<f64>)| {
            let cell = self.series.cells_before(*end)?.checked_sub(1)?;
            let now = self.series.rates().get(cell).copied()?;
            Some(rate.is_none_or(|rate| !near(rate, now)))
        };
        let found = first_known.iter().map(differs);
        found.filter(|differs| *differs != Some(false)).count()
    }

    /// Decides every look again with the core alone.
    fn replay(self) {
        let mut state = State::new(self.first_seen);
        let mut archive = Archive::default();
        let mut taken = self.taken.into_iter();
        let mut modes = BTreeSet::new();
        for (index, look) in self.looks.iter().enumerate() {
            let history = History::new(&kept(&self.series, look, index == 0));
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
            let decided = (action, format!("{:?}", verdict.choice.reason));
            let logged = (look.action.as_str(), look.reason.clone());
            assert_eq!(decided, logged, "look {index} at {}", look.now);
            let numbers = [verdict.exposure, verdict.area, verdict.area_budget];
            for (ours, theirs) in numbers.iter().zip(&look.numbers) {
                assert!(
                    near(*ours, *theirs),
                    "look {index}: {numbers:?} and {:?}",
                    look.numbers
                );
            }
            if verdict.choice.backup
                && let Some((at, revision)) = taken.next()
            {
                state.backup_succeeded(at, Some(revision));
            }
        }
        assert!(modes.iter().any(|mode| mode != "Cron"), "{modes:?}");
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
}

#[test]
fn beside_a_real_etcd_and_prometheus_the_loop_decides_as_the_core_alone() {
    let mut late = Vec::new();
    for _ in 0..RUNS {
        let recorded = record();
        late.push(recorded.late());
        if late.last() == Some(&0) {
            return recorded.replay();
        }
    }
    panic!(
        "scrapes came too late in every run: cells that changed after they were known: {late:?}"
    );
}
