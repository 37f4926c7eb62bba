//! The recorder under writes of a real etcd, and the merge of increments: `make bench-recorder`. Prints docs/performance.md's section.
//!
//! BENCH_SECONDS says how long is written, BENCH_RATE how many writes a second, BENCH_EVENTS how many events are merged. Every write
//! is a key of its own with 1 KiB, 25 to a transaction, so that it is the recorder and not etcd's log that is measured; etcd runs
//! without fsync. The recorder is a process of its own, whose private memory is watched. ETCDBRCTL names a binary of Gardener's
//! etcdbrctl, whose restore of a base and what was written after it is then timed beside ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "peers/generate.rs"]
mod generate;
#[path = "recorder/peer.rs"]
mod peer;

use std::io::{BufRead, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcd_client::{Client, Txn, TxnOp};
use etcdguardian::etcd::{ConnectOptions, Etcd, StatusSource};
use etcdguardian::recorder::group::Row;
use etcdguardian::recorder::merge::Until;
use etcdguardian::recorder::segment::{Header, SegmentWriter};
use etcdguardian::recorder::watch::{Origin, Recorder};
use etcdguardian::restore::chain;
use etcdguardian::snapshot::mvcc::KeyValue;
use jiff::Timestamp;

const VALUE: usize = 1024;
const PUTS: usize = 25;
const WRITERS: usize = 4;

fn set(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    etcdguardian::init_tls();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let [_, verb, endpoint, folder] = &words[..]
        && verb == "record"
    {
        runtime.block_on(record(endpoint, Path::new(folder)));
        return;
    }
    // Under `cargo test --benches` there is nothing to do.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("\n### The recorder beside etcd 3.6\n");
    println!(
        "| what | writes | over | rate | behind at the end | caught up after | private memory | processor |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    keeping_up(&runtime, scratch.path());
    merging(scratch.path());
    if let Ok(brctl) = std::env::var("ETCDBRCTL") {
        peer::delta_restores(&runtime, scratch.path(), &brctl);
    }
}

/// The recorder in a process of its own: says how far it is until its input ends.
async fn record(endpoint: &str, folder: &Path) {
    let options = ConnectOptions::plain(endpoint.to_owned());
    let etcd = Etcd::connect(&options).await.unwrap();
    let status = etcd.status().await.unwrap();
    let from = std::env::var("BENCH_FROM").map_or(status.revision, |text| text.parse().unwrap());
    let origin = Origin {
        cluster_id: status.cluster_id,
        base: "bench".to_owned(),
        parent_sha256: String::new(),
        revision: from,
        covered_to: Timestamp::now(),
        epoch: 1,
        auth_revision: None,
    };
    let recorder = Recorder::start(etcd, origin, folder, 64 << 30, None).unwrap();
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    while !ended.is_finished() {
        println!("{}", recorder.progress().committed);
        assert_eq!(recorder.problem(), None);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Recording {
    process: Child,
    committed: Arc<AtomicI64>,
    memory: Arc<AtomicU64>,
}

impl Recording {
    fn start(endpoint: &str, folder: &Path, from: Option<i64>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["record", endpoint]).arg(folder);
        if let Some(from) = from {
            command.env("BENCH_FROM", from.to_string());
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let committed = Arc::new(AtomicI64::new(0));
        let memory = Arc::new(AtomicU64::new(0));
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (to, peak, pid) = (Arc::clone(&committed), Arc::clone(&memory), process.id());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                to.store(line.parse().unwrap(), Ordering::SeqCst);
                peak.fetch_max(private_memory(pid), Ordering::SeqCst);
            }
        });
        Self {
            process,
            committed,
            memory,
        }
    }

    fn wait_for(&self, revision: i64) -> Duration {
        let begin = Instant::now();
        while self.committed.load(Ordering::SeqCst) < revision {
            assert!(begin.elapsed() < Duration::from_secs(300), "it never came");
            std::thread::sleep(Duration::from_millis(5));
        }
        begin.elapsed()
    }

    /// Seconds of a processor that it took.
    fn processor(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn private_memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server by its name among the tests' tools, and its client URL.
fn etcd(name: &str, folder: &Path) -> (Server, String) {
    let port = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let (client, peer) = (
        format!("http://127.0.0.1:{}", port()),
        format!("http://127.0.0.1:{}", port()),
    );
    let tools = std::env::var_os("ETCDGUARDIAN_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/etcdguardian/tools"),
        PathBuf::from,
    );
    let process = Command::new(tools.join("bin").join(name))
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args(["--unsafe-no-fsync", "--quota-backend-bytes=8000000000"])
        .args(["--log-level=error", "--snapshot-count=10000000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("an etcd: run `make tools`");
    (Server(process), client)
}

/// Waits until etcd has a leader; its revision then.
fn first_revision(runtime: &tokio::runtime::Runtime, endpoint: &str) -> i64 {
    let begin = Instant::now();
    loop {
        let options = ConnectOptions::plain(endpoint.to_owned());
        let status = runtime.block_on(async { Etcd::connect(&options).await?.status().await });
        match status {
            Ok(status) if status.leader != 0 => return status.revision,
            _ => assert!(begin.elapsed() < Duration::from_secs(60), "etcd is not up"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn keeping_up(runtime: &tokio::runtime::Runtime, scratch: &Path) {
    let (_server, endpoint) = etcd("etcd-3.6", scratch);
    let first = first_revision(runtime, &endpoint);
    let recording = Recording::start(&endpoint, &scratch.join("live"), None);
    recording.wait_for(first);
    let (seconds, rate) = (set("BENCH_SECONDS", 20), set("BENCH_RATE", 10_000));
    let (writes, took, last) = runtime.block_on(pour(&endpoint, seconds, rate));
    let behind = last - recording.committed.load(Ordering::SeqCst);
    let caught_up = recording.wait_for(last);
    line(
        "writes as they come",
        writes,
        took,
        behind,
        caught_up,
        &recording,
    );
    drop(recording);
    // All of it again, as a recorder that was away has to: as fast as it can.
    let begin = Instant::now();
    let again = Recording::start(&endpoint, &scratch.join("again"), Some(first));
    again.wait_for(last);
    line(
        "the same from etcd's history",
        writes,
        begin.elapsed(),
        0,
        Duration::ZERO,
        &again,
    );
}

fn line(
    what: &str,
    writes: u64,
    took: Duration,
    behind: i64,
    caught_up: Duration,
    recording: &Recording,
) {
    println!(
        "| {what} | {writes} | {:.1} s | {:.0}/s | {behind} revisions | {:.2} s | {} MiB | {:.1} s |",
        took.as_secs_f64(),
        writes as f64 / took.as_secs_f64(),
        caught_up.as_secs_f64(),
        recording.memory.load(Ordering::SeqCst) >> 20,
        recording.processor(),
    );
}

/// Writes at a rate; how much, over which time, and up to which revision.
async fn pour(endpoint: &str, seconds: u64, rate: u64) -> (u64, Duration, i64) {
    let last = Arc::new(Mutex::new(0));
    let count = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let pause = Duration::from_secs_f64((WRITERS * PUTS) as f64 / rate as f64);
    let tasks = (0..WRITERS).map(|writer| {
        let (last, count, endpoint) = (Arc::clone(&last), Arc::clone(&count), endpoint.to_owned());
        tokio::spawn(async move {
            let mut client = Client::connect([endpoint], None).await.unwrap();
            let mut ticks = tokio::time::interval(pause);
            let mut noise = 0x9e37_79b9_7f4a_7c15_u64 ^ writer as u64;
            let mut number = 0_u64;
            while begin.elapsed().as_secs() < seconds {
                ticks.tick().await;
                let puts: Vec<TxnOp> = (0..PUTS)
                    .map(|_| {
                        number += 1;
                        let value: Vec<u8> = (0..VALUE / 8)
                            .flat_map(|_| {
                                noise ^= noise << 13;
                                noise ^= noise >> 7;
                                noise ^= noise << 17;
                                noise.to_le_bytes()
                            })
                            .collect();
                        let key = format!("/registry/pods/{writer}/{:06}", number % 20_000);
                        TxnOp::put(key, value, None)
                    })
                    .collect();
                let answer = client.txn(Txn::new().and_then(puts)).await.unwrap();
                let revision = answer.header().unwrap().revision();
                let mut last = last.lock().unwrap();
                *last = revision.max(*last);
                count.fetch_add(PUTS as u64, Ordering::SeqCst);
            }
        })
    });
    futures::future::join_all(tasks).await;
    let last = *last.lock().unwrap();
    (count.load(Ordering::SeqCst), begin.elapsed(), last)
}

/// A base and a million events in increments, merged into one snapshot.
fn merging(scratch: &Path) {
    let events = i64::try_from(set("BENCH_EVENTS", 1_000_000)).unwrap();
    let base = scratch.join("base.db");
    generate::generate(&base, "small", 100_000_000);
    let mapped = std::fs::read(&base).unwrap();
    let first = etcdguardian::snapshot::status(&mapped).unwrap().revision + 1;
    drop(mapped);
    let parts = 10;
    let files: Vec<PathBuf> = (0..parts)
        .map(|part| {
            let path = scratch.join(format!("{part}.seg"));
            let from = first + events / parts * part;
            segment(&path, from, events / parts);
            path
        })
        .collect();
    let bytes: u64 = files
        .iter()
        .map(|one| std::fs::metadata(one).unwrap().len())
        .sum();
    let to = scratch.join("merged.db");
    let begin = Instant::now();
    let merged = chain::assemble(&base, &files, Until::End, &to).unwrap();
    let took = begin.elapsed();
    assert_eq!(merged.added_rows, u64::try_from(events).unwrap());
    println!("\n### The merge of {events} events on a base of 100 MB\n");
    println!("| events | bytes of increments | took | events a minute | private memory |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    println!(
        "| {events} | {} MB | {:.2} s | {:.0} million | {} MiB |",
        bytes / 1_000_000,
        took.as_secs_f64(),
        events as f64 / took.as_secs_f64() * 60.0 / 1e6,
        private_memory(std::process::id()) >> 20,
    );
}

/// Events as Kubernetes makes them: one put of some hundred bytes to a revision.
fn segment(path: &Path, first: i64, events: i64) {
    let header = Header {
        cluster_id: "ab".to_owned(),
        member_id: "1".to_owned(),
        etcd_version: "3.6.1".to_owned(),
        base: "bench".to_owned(),
        parent_sha256: String::new(),
        epoch: 1,
        first_revision: first,
        raft_term: 2,
        started: Timestamp::UNIX_EPOCH,
    };
    let out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let mut writer = SegmentWriter::create(out, &header).unwrap();
    let mut value = Vec::new();
    for revision in first..first + events {
        value.clear();
        let key = format!("/registry/pods/namespace/added-{revision:012}");
        KeyValue {
            key: key.as_bytes(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: &[b'v'; 250],
            lease: 0,
        }
        .encode(&mut value);
        let at = Timestamp::from_millisecond(revision).unwrap();
        writer.begin(revision, at).unwrap();
        let row = Row {
            tombstone: false,
            value: value.clone(),
            lease: 0,
        };
        writer.row(&row).unwrap();
        writer.commit().unwrap();
    }
    writer.finish(2, None, None).unwrap();
}
