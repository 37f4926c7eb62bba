//! etcdguardian beside etcd's own tools, in the same run, on the same files: `make bench`. Prints docs/performance.md's tables.
//!
//! Rounds are interleaved and begin with either side in turn; what is printed is the median of the rounds' ratios with the
//! smallest and the largest, so that whatever else the machine does is seen and hits both. BENCH_SIZES (as 100M,1G),
//! BENCH_SHAPES, BENCH_PARTS (check,restore), BENCH_ROUNDS and BENCH_DIR say what is run and where.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "peers/generate.rs"]
mod generate;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const MIB: u64 = 1 << 20;
/// Memory that a check may take: this and so many bytes a live key.
const MEMORY: (u64, u64) = (64 * MIB, 16);

fn main() {
    // Under `cargo test --benches` there is nothing to do.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    let set =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let folder = PathBuf::from(set(
        "BENCH_DIR",
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench"),
    ));
    let rounds: usize = set("BENCH_ROUNDS", "5")
        .parse()
        .expect("BENCH_ROUNDS is a number");
    let shapes = set("BENCH_SHAPES", "small,large,history,tombstones");
    let parts = set("BENCH_PARTS", "check,restore");
    let wanted = |part: &str| parts.split(',').any(|one| one == part);
    std::fs::create_dir_all(&folder).unwrap();
    for size in set("BENCH_SIZES", "100M").split(',') {
        let mut files = Vec::new();
        for shape in shapes.split(',') {
            files.push((shape, Snapshot::made(&folder, shape, size)));
        }
        if wanted("check") {
            println!("\n### Digest, pages, rows, HashKV and status of {size}\n");
            println!(
                "| rows | file | live keys | etcdutl status + etcdutl hashkv + bbolt check | etcdguardian snapshot check | faster | memory | allowed |"
            );
            println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
            for (shape, file) in &files {
                check(shape, file, rounds);
            }
        }
        if wanted("restore") {
            println!("\n### Restore of {size}\n");
            println!(
                "| rows | etcdutl, one member | etcdguardian, one | faster | etcdguardian, raised for Kubernetes | etcdutl, three members | etcdguardian, three | faster | three over one |"
            );
            println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
            for (shape, file) in &files {
                restore(shape, file, rounds);
            }
        }
    }
}

/// A generated snapshot, and a copy of it that etcdutl may change.
struct Snapshot {
    file: PathBuf,
    spoiled: PathBuf,
    live_keys: u64,
}

impl Snapshot {
    fn made(folder: &Path, shape: &str, size: &str) -> Self {
        let file = folder.join(format!("{shape}-{size}.db"));
        if !file.exists() {
            generate::generate(&file, shape, bytes_of(size));
        }
        let spoiled = folder.join("spoiled.db");
        let status: Value = answer(ours(&["snapshot", "check", "-o", "json"]).arg(&file));
        assert_eq!(status["ok"], true, "{status}");
        let live_keys = status["status"]["totalKeys"].as_u64().unwrap();
        let made = Self {
            file,
            spoiled,
            live_keys,
        };
        made.agrees(&status);
        made
    }

    /// All say the same of it, or the times compare nothing.
    fn agrees(&self, ours: &Value) {
        let theirs: Value = answer(
            peer("etcdutl-3.7")
                .args(["snapshot", "status", "-w", "json"])
                .arg(&self.file),
        );
        let (said, status) = (&ours["hashKv"], &ours["status"]);
        assert_eq!(status["hash"], theirs["hash"]);
        assert_eq!(status["totalKeys"], theirs["totalKey"]);
        assert_eq!(status["revision"], theirs["revision"]);
        std::fs::copy(&self.file, &self.spoiled).unwrap();
        let theirs: Value = answer(
            peer("etcdutl-3.7")
                .args(["hashkv", "-w", "json"])
                .arg(&self.spoiled),
        );
        assert_eq!(said["hash"], theirs["hash"], "{theirs}");
        assert_eq!(said["compactRevision"], theirs["compactRevision"]);
    }
}

fn check(shape: &str, snapshot: &Snapshot, rounds: usize) {
    std::fs::copy(&snapshot.file, &snapshot.spoiled).unwrap();
    let theirs = || {
        timed(peer("etcdutl-3.7").args(["snapshot", "status", "-w", "json"]).arg(&snapshot.file))
            // It opens the file for writing, and breaks the digest: it gets a file of its own.
            + timed(peer("etcdutl-3.7").args(["hashkv", "-w", "json"]).arg(&snapshot.spoiled))
            + timed(peer("bbolt").arg("check").arg(&snapshot.file))
    };
    let own = || timed(ours(&["snapshot", "check"]).arg(&snapshot.file));
    let pairs = paired(rounds, theirs, own, || ());
    let memory = peak(ours(&["snapshot", "check"]).arg(&snapshot.file));
    let allowed = MEMORY.0 + MEMORY.1 * snapshot.live_keys;
    println!(
        "| {shape} | {} MB | {} | {} | {} | {} | {} MiB | {} MiB |",
        std::fs::metadata(&snapshot.file).unwrap().len() / 1_000_000,
        snapshot.live_keys,
        seconds(pairs.iter().map(|pair| pair.0)),
        seconds(pairs.iter().map(|pair| pair.1)),
        ratio(&pairs),
        memory / MIB,
        allowed / MIB,
    );
}

fn restore(shape: &str, snapshot: &Snapshot, rounds: usize) {
    const CLUSTER: &str =
        "a=http://127.0.0.1:12380,b=http://127.0.0.1:22380,c=http://127.0.0.1:32380";
    let target = snapshot.file.with_extension("restored");
    // What was written before must not be written out in somebody else's time.
    let clean = || {
        let _ = std::fs::remove_dir_all(&target);
        assert!(Command::new("sync").status().unwrap().success());
    };
    let theirs = |words: &[&str], to: &Path| {
        let mut command = peer("etcdutl-3.7");
        timed(
            command
                .args(["snapshot", "restore"])
                .arg(&snapshot.file)
                .args(words)
                .arg("--data-dir")
                .arg(to),
        )
    };
    let own = |words: &[&str]| {
        let mut command = ours(&["restore", "--snapshot"]);
        timed(
            command
                .arg(&snapshot.file)
                .args(words)
                .arg("--data-dir")
                .arg(&target),
        )
    };
    let one = paired(rounds, || theirs(&[], &target), || own(&["--exact"]), clean);
    let raised: Vec<Duration> = (0..rounds)
        .map(|_| {
            clean();
            own(&[])
        })
        .collect();
    let three_of_theirs = || {
        CLUSTER
            .split(',')
            .map(|member| {
                let (name, url) = member.split_once('=').unwrap();
                let words = [
                    "--name",
                    name,
                    "--initial-cluster",
                    CLUSTER,
                    "--initial-advertise-peer-urls",
                    url,
                ];
                theirs(&words, &target.join(name))
            })
            .sum()
    };
    let words = ["--exact", "--all-members", "--initial-cluster", CLUSTER];
    let three = paired(rounds, three_of_theirs, || own(&words), clean);
    clean();
    let over: Vec<(Duration, Duration)> = three
        .iter()
        .zip(&one)
        .map(|(three, one)| (three.1, one.1))
        .collect();
    println!(
        "| {shape} | {} | {} | {} | {} | {} | {} | {} | {} |",
        seconds(one.iter().map(|pair| pair.0)),
        seconds(one.iter().map(|pair| pair.1)),
        ratio(&one),
        seconds(raised.into_iter()),
        seconds(three.iter().map(|pair| pair.0)),
        seconds(three.iter().map(|pair| pair.1)),
        ratio(&three),
        ratio(&over),
    );
}

/// Times of both, round by round, each going first in turn.
fn paired(
    rounds: usize,
    theirs: impl Fn() -> Duration,
    ours: impl Fn() -> Duration,
    between: impl Fn(),
) -> Vec<(Duration, Duration)> {
    (0..rounds)
        .map(|round| {
            between();
            if round % 2 == 0 {
                let first = theirs();
                between();
                (first, ours())
            } else {
                let first = ours();
                between();
                (theirs(), first)
            }
        })
        .collect()
}

fn ratio(pairs: &[(Duration, Duration)]) -> String {
    let mut ratios: Vec<f64> = pairs
        .iter()
        .map(|(theirs, ours)| theirs.as_secs_f64() / ours.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (first, last) = (ratios[0], ratios[ratios.len() - 1]);
    format!(
        "**{:.1}×** ({first:.1}–{last:.1})",
        ratios[ratios.len() / 2]
    )
}

fn seconds(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    format!("{:.2} s", times[times.len() / 2].as_secs_f64())
}

fn ours(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdguardian"));
    command.args(words);
    command
}

/// One of etcd's tools, from where `make tools` puts them.
fn peer(name: &str) -> Command {
    let tools = std::env::var_os("ETCDGUARDIAN_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/etcdguardian/tools"),
        PathBuf::from,
    );
    let path = tools.join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make bench`",
        path.display()
    );
    Command::new(path)
}

fn timed(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let time = begin.elapsed();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    time
}

fn answer(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{command:?}: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The most private memory that a command takes: pages of mapped files are the kernel's to drop and do not count.
fn peak(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or_default();
        peak = peak.max(kib * 1024);
        std::thread::sleep(Duration::from_millis(1));
    }
    peak
}

fn bytes_of(size: &str) -> u64 {
    let (number, unit) = size.split_at(size.len() - 1);
    let unit = match unit {
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => panic!("BENCH_SIZES: {size} is not as 100M or 1G"),
    };
    number
        .parse::<u64>()
        .expect("BENCH_SIZES: a number and M or G")
        * unit
}
