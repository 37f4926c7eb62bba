//! SIGKILL at random instants of a backup, a copy and a prune: whatever is listed afterwards is whole. `KILLS` and `SEED` in the
//! environment choose how many and which.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::backup::{Desk, cluster, files};
use crate::support::{Etcd, guardian_command};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// xorshift: the same instants for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// Runs to the end, or is killed after so many milliseconds; says whether it was.
fn killed_after(command: &mut Command, millis: u64) -> bool {
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(millis));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    !ended
}

fn listed(desk: &Desk, url: &str) -> Vec<Value> {
    let ran = desk.run(&["backup", "list", "--from", url, "-o", "json"]);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    ran.json()["items"].as_array().unwrap().clone()
}

fn everything_is_whole(desk: &Desk, url: &str) -> usize {
    let items = listed(desk, url);
    for item in &items {
        let id = item["id"].as_str().unwrap();
        desk.run(&["backup", "verify", id, "--from", url, "--deep"])
            .ok();
    }
    items.len()
}

#[test]
fn whatever_is_listed_after_a_kill_is_whole() {
    let (kills, seed) = (number("KILLS", 20), number("SEED", 0x5eed));
    eprintln!("KILLS={kills} SEED={seed}");
    let mut dice = Dice(seed | 1);
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 300, 2000);
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    let (first, second) = (desk.path("store"), desk.path("copies"));
    std::fs::create_dir_all(&second).unwrap();
    let url = |folder: &std::path::Path| format!("file://{}", folder.display());
    let (source, target) = (url(&first), url(&second));
    desk.add(&format!(
        "store: {{provider: Local, bucket: {}}}\n",
        first.display()
    ));
    let config = desk.path("guardian.yaml").display().to_string();
    let prune = [
        "backup",
        "prune",
        "--from",
        &source,
        "--max-backups",
        "2",
        "--yes",
    ];
    let copy = ["backup", "copy", "--from", &source, "--to", &target];
    // How long each takes when nobody kills it.
    let start = std::time::Instant::now();
    desk.create();
    let whole = u64::try_from(start.elapsed().as_millis()).unwrap();
    let mut cut = 0;
    for round in 0..kills {
        let words: &[&str] = match round % 4 {
            0 | 1 => &["backup", "create"],
            2 => &copy,
            _ => &prune,
        };
        let mut command = guardian_command();
        command.args(words).args(["--config", &config]);
        cut += u64::from(killed_after(&mut command, dice.below(whole + whole / 4)));
        // What was interrupted is not in the way of the next one.
        if round % 5 == 4 {
            desk.create();
        }
        assert!(!listed(&desk, &source).is_empty(), "round {round}");
    }
    assert!(cut > 0, "none of {kills} was cut short");
    assert!(everything_is_whole(&desk, &source) >= 1);
    desk.run(&copy).ok();
    desk.run(&prune).ok();
    let kept = everything_is_whole(&desk, &source);
    assert!(kept <= 2, "{kept}");
    assert!(everything_is_whole(&desk, &target) >= kept);
    assert!(!files(&second).is_empty());
}
