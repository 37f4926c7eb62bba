//! The same base and the same writes restored by etcdbrctl, which replays them through an etcd of its own, and by EtcdGuardian,
//! which merges them offline: whole commands, from a local store to a data directory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Server, etcd, first_revision, pour, set};

/// `brctl` is the path of etcdbrctl. etcd is 3.5, the version that it embeds and restores for.
pub fn delta_restores(runtime: &tokio::runtime::Runtime, scratch: &Path, brctl: &str) {
    let scratch = scratch.join("peer");
    std::fs::create_dir_all(&scratch).unwrap();
    let (_server, endpoint) = etcd("etcd-3.5", &scratch);
    first_revision(runtime, &endpoint);
    let rate = set("BENCH_RATE", 10_000);
    // The base that both begin with.
    runtime.block_on(pour(&endpoint, 5, rate));
    let (theirs, ours) = (scratch.join("theirs"), scratch.join("ours"));
    std::fs::create_dir_all(&theirs).unwrap();
    let log = std::fs::File::create(scratch.join("etcdbrctl.log")).unwrap();
    let container = format!("--store-container={}", theirs.display());
    // It puts its local stores below its home.
    let snapshotter = Command::new(brctl)
        .env("HOME", "/")
        .args(["snapshot", "--storage-provider=Local", &container])
        .arg(format!("--endpoints={endpoint}"))
        .args(["--schedule=0 0 1 1 *", "--delta-snapshot-period=5s"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let snapshotter = Server(snapshotter);
    wait_for("etcdbrctl's full snapshot", || reached(&theirs, "Full-"));
    let url = format!("file://{}", ours.display());
    guardian(&[
        "backup",
        "create",
        "base",
        "--endpoints",
        &endpoint,
        "--to",
        &url,
    ]);
    let (writes, _, last) = runtime.block_on(pour(&endpoint, set("BENCH_SECONDS", 20), rate));
    wait_for("etcdbrctl's last delta", || {
        reached(&theirs, "Incr-").filter(|end| *end >= last)
    });
    drop(snapshotter);
    guardian(&[
        "backup",
        "create",
        "increment",
        "--mode",
        "incremental",
        "--endpoints",
        &endpoint,
        "--to",
        &url,
    ]);
    println!("\n### {writes} writes restored on their base, beside etcdbrctl\n");
    println!("| | took | writes a minute |");
    println!("| --- | ---: | ---: |");
    let mut took = Vec::new();
    for round in 0..3 {
        let to = scratch.join(format!("theirs-{round}"));
        let begin = Instant::now();
        let restored = Command::new(brctl)
            .env("HOME", "/")
            .args(["restore", "--storage-provider=Local", &container])
            .arg(format!("--data-dir={}", to.display()))
            .arg("--embedded-etcd-quota-bytes=8000000000")
            .output()
            .unwrap();
        let theirs = begin.elapsed();
        let said = String::from_utf8_lossy(&restored.stderr);
        assert!(restored.status.success(), "etcdbrctl restore: {said}");
        let to = scratch.join(format!("ours-{round}"));
        let begin = Instant::now();
        guardian(&[
            "restore",
            "--from",
            &url,
            "--data-dir",
            &to.display().to_string(),
        ]);
        took.push((theirs, begin.elapsed()));
    }
    let line = |what: &str, took: Duration| {
        let seconds = took.as_secs_f64();
        let pace = writes as f64 / seconds * 60.0 / 1e6;
        println!("| {what} | {seconds:.2} s | {pace:.1} million |");
    };
    line(
        "etcdbrctl restore",
        took.iter().map(|one| one.0).min().unwrap(),
    );
    line(
        "etcdguardian restore",
        took.iter().map(|one| one.1).min().unwrap(),
    );
}

fn guardian(words: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_etcdguardian"))
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{words:?}: {said}");
}

/// The last revision in a file name of the peer's: `Incr-FIRST-LAST-TIME`, somewhere below.
fn reached(folder: &Path, kind: &str) -> Option<i64> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            newest = newest.max(reached(&entry.path(), kind));
        }
        let name = entry.file_name().into_string().unwrap();
        if let Some(rest) = name.strip_prefix(kind) {
            newest = newest.max(rest.split('-').nth(1).and_then(|end| end.parse().ok()));
        }
    }
    newest
}

fn wait_for(what: &str, mut ready: impl FnMut() -> Option<i64>) {
    let begin = Instant::now();
    while ready().is_none() {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "{what} never came"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
