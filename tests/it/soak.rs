//! The long test of increments: a cluster under mixed load that is compacted, defragmented, cut off and killed, beside a recorder
//! that is killed too; at the end every recorded row, and random revisions and moments, are what the writers' own log says.
//!
//! `SOAK_SECONDS=3600 SOAK_SEED=1 cargo test --test it soak:: -- --nocapture` is the run of an hour; without them it is short.

mod check;
pub mod load;
mod model;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::run::Site;
use crate::support::{Etcd, Process, Toxiproxy, until_within};
use load::{Dice, Load};

/// Compaction leaves this much of the past, as kube-apiserver leaves five minutes: less than it takes to start a process again.
const HISTORY: Duration = Duration::from_secs(20);
const COMPACT_EVERY: Duration = Duration::from_secs(3);
/// The lease of a writer that was killed is taken over after a minute without life.
const SETTLED: Duration = Duration::from_secs(180);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

struct Soak {
    etcd: Etcd,
    proxies: Toxiproxy,
    site: Site,
    running: Process,
    dice: Dice,
    /// Revisions and when they were the newest, for compaction.
    seen: VecDeque<(Instant, i64)>,
    compacted: Instant,
}

impl Soak {
    fn start(version: &str, seed: u64, synthetic: bool) -> Self {
        let etcd = Etcd::of(version)
            .members(3)
            .arg("--quota-backend-bytes=2000000000")
            .start();
        let proxies = Toxiproxy::start();
        let endpoints: Vec<String> = etcd
            .endpoints()
            .iter()
            .enumerate()
            .map(|(index, url)| {
                let port = proxies.proxy(&format!("m{index}"), port_of(url));
                format!("http://127.0.0.1:{port}")
            })
            .collect();
        let site = Site::of(&endpoints, "");
        let schedule = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: soak}}\nspec:\n  schedule: '* * * * *'\n  immediate: true\n  aiOptimization: {{enabled: true, minInterval: 2s, maxInterval: 5s}}\n  recording: {{enabled: true}}\n  fullEvery: {{increments: 5, synthetic: {synthetic}}}\n  backupTemplate:\n    spec:\n      backupMode: Incremental\n      storageLocation: {}\n",
            site.local()
        );
        std::fs::write(site.path("manifests/soak.yaml"), schedule).unwrap();
        let running = site.start();
        Self {
            etcd,
            proxies,
            site,
            running,
            dice: Dice(seed),
            seen: VecDeque::new(),
            compacted: Instant::now(),
        }
    }

    /// Compacts to what was the newest revision a while ago.
    fn compact(&mut self) {
        if self.compacted.elapsed() < COMPACT_EVERY {
            return;
        }
        self.compacted = Instant::now();
        let command = |words: &[&str]| {
            let mut command = self.etcd.ctl_command();
            command.args(["--command-timeout=3s"]).args(words);
            command.output().unwrap()
        };
        let status = command(&["get", "x", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        if let Some(revision) = status["header"]["revision"].as_i64() {
            self.seen.push_back((Instant::now(), revision));
        }
        let mut old = None;
        while let Some((at, revision)) = self.seen.front()
            && at.elapsed() > HISTORY
        {
            old = Some(*revision);
            self.seen.pop_front();
        }
        if let Some(revision) = old {
            command(&["compaction", &revision.to_string()]);
        }
    }

    fn wait(&mut self, least: u64, most: u64) {
        let pause = Duration::from_millis(least + self.dice.roll(most - least));
        let end = Instant::now() + pause;
        while Instant::now() < end {
            self.compact();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One thing goes wrong, and is mended again.
    fn disturb(&mut self, load: &Load) -> &'static str {
        let member = self.dice.roll(3) as usize;
        let proxy = format!("m{member}");
        match self.dice.roll(8) {
            0 => {
                self.etcd.process(member).kill();
                self.wait(500, 2_500);
                self.etcd.restart(member);
                "a member was killed"
            }
            1 => {
                self.running.kill();
                self.wait(100, 2_000);
                self.running = self.site.start();
                "the recorder was killed"
            }
            2 => {
                let status = self.etcd.ctl(&["endpoint", "status", "-w", "json"]);
                let status: serde_json::Value = serde_json::from_str(&status).unwrap();
                let id = status[member]["Status"]["header"]["member_id"].as_u64();
                let mut command = self.etcd.ctl_command();
                command.args(["move-leader", &format!("{:x}", id.unwrap())]);
                command.output().unwrap();
                "the leader moved"
            }
            3 => {
                let url = self.etcd.endpoints()[member].clone();
                let mut command = self.etcd.ctl_command();
                command.args(["--command-timeout=20s", "defrag"]);
                command.arg(format!("--endpoints={url}")).output().unwrap();
                "a member was defragmented"
            }
            4 => {
                self.proxies.enabled(&proxy, false);
                self.wait(500, 3_000);
                self.proxies.heal();
                "one member was cut off"
            }
            5 => {
                for member in 0..3 {
                    self.proxies.enabled(&format!("m{member}"), false);
                }
                self.wait(500, 3_000);
                self.proxies.heal();
                "the network was cut"
            }
            6 => {
                // Bytes stop in the middle of whatever they were.
                let bytes = 10_000 + self.dice.roll(200_000);
                let limit = format!("{{\"bytes\":{bytes}}}");
                self.proxies.toxic(&proxy, "limit_data", &limit);
                self.wait(500, 3_000);
                self.proxies.heal();
                "a stream was torn"
            }
            _ => {
                load.burst(load.acknowledged() as u64);
                "writes came in a burst"
            }
        }
    }
}

/// `synthetic`: whether chains become full backups without etcd being read.
fn soak(version: &str, synthetic: bool) {
    let seed = number("SOAK_SEED", u64::from(std::process::id()));
    let seconds = number("SOAK_SECONDS", 45);
    let samples = usize::try_from(number("SOAK_SAMPLES", 50)).unwrap();
    eprintln!("soak of etcd {version}: SOAK_SEED={seed} SOAK_SECONDS={seconds}");
    let mut soak = Soak::start(version, seed, synthetic);
    let url = soak.site.url();
    soak.site.wait_for_backups(&url, 1);
    let load = Load::start(&soak.etcd.endpoints(), seed, 4);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut told = std::collections::BTreeMap::new();
    while Instant::now() < end {
        soak.wait(500, 2_500);
        *told.entry(soak.disturb(&load)).or_insert(0) += 1;
    }
    let log = load.stop();
    soak.wait(500, 600);
    let newest = soak.etcd.revision();
    until_within(SETTLED, "the newest revision in the store", || {
        let backups = soak.site.backups(&url);
        let reached = backups.iter().filter_map(|one| one["revision"].as_i64());
        (reached.max() >= Some(newest)).then_some(())
    });
    soak.running.kill();
    let said = soak.running.log_text();
    eprintln!("{} writes, {newest} revisions; {told:?}", log.len());
    check::all(
        &soak.site,
        &log,
        newest,
        &said,
        &mut Dice(seed ^ 1),
        samples,
    );
}

#[test]
fn every_row_and_any_moment_is_what_the_writers_were_told_on_3_4() {
    soak("3.4", false);
}

#[test]
fn every_row_and_any_moment_is_what_the_writers_were_told_on_3_6() {
    soak("3.6", true);
}
