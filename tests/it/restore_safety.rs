//! A restore puts everything in place or nothing: damaged snapshots, occupied targets, no room, a kill in the middle.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::restore_boot::Taken;
use crate::support::{Etcd, guardian, guardian_command};

/// What lies beside the snapshot, without it.
fn beside(taken: &Taken) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(taken.scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "snapshot.db")
        .collect();
    names.sort();
    names
}

fn words<'a>(file: &'a Path, to: &'a Path) -> Vec<&'a str> {
    vec![
        "restore",
        "--snapshot",
        file.to_str().unwrap(),
        "--data-dir",
        to.to_str().unwrap(),
    ]
}

#[test]
fn a_damaged_snapshot_is_refused_and_leaves_nothing() {
    let taken = Taken::of("3.6", "k/");
    let good = fs::read(&taken.file).unwrap();
    let dir = taken.path("d");
    let bad = tempfile::NamedTempFile::new().unwrap();
    let page = good.len() / 2 / 4096 * 4096;
    let flipped = {
        let mut bytes = good.clone();
        bytes[page + 2000] ^= 1;
        bytes
    };
    let cut = good[..good.len() - 32 - 8192].to_vec();
    let zeroed = {
        let mut bytes = good.clone();
        bytes[page..page + 8192].fill(0);
        bytes
    };
    for (what, bytes, more, code) in [
        ("a flipped bit", &flipped, &[][..], 3),
        ("a cut file", &cut, &["--skip-hash-check"][..], 3),
        ("zeroed pages", &zeroed, &[][..], 3),
        (
            "not a database",
            &vec![7; 9000],
            &["--skip-hash-check"][..],
            3,
        ),
        ("no digest", &good[..good.len() - 32].to_vec(), &[][..], 5),
    ] {
        fs::write(bad.path(), bytes).unwrap();
        let mut words = words(bad.path(), &dir);
        words.extend(more);
        let ran = guardian(&words);
        assert_eq!(ran.code, code, "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains(bad.path().to_str().unwrap()) || code == 3);
        assert_eq!(beside(&taken), Vec::<String>::new(), "{what}");
    }
    let trailerless = &good[..good.len() - 32];
    fs::write(bad.path(), trailerless).unwrap();
    let mut words = words(bad.path(), &dir);
    words.push("--skip-hash-check");
    let said = guardian(&words).ok();
    assert!(said.contains("the digest is not checked"), "{said}");
    assert_eq!(beside(&taken), ["d"]);
}

#[test]
fn an_occupied_target_is_kept_beside_only_when_told() {
    let taken = Taken::of("3.6", "k/");
    let dir = taken.path("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("precious"), "x").unwrap();
    let refused = guardian(&words(&taken.file, &dir)).code(5);
    assert!(refused.stderr.contains("precious"), "{}", refused.stderr);
    let mut replace = words(&taken.file, &dir);
    replace.push("--replace");
    let refused = guardian(&replace).code(5);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    replace.push("--plan");
    assert!(guardian(&replace).ok().contains("d.before-"));
    assert_eq!(beside(&taken), ["d"]);
    assert!(dir.join("precious").exists());
    replace.pop();
    replace.push("--yes");
    guardian(&replace).ok();
    let names = beside(&taken);
    assert_eq!(names.len(), 2, "{names:?}");
    let old = taken.path(&names[1]);
    assert_eq!(fs::read_to_string(old.join("precious")).unwrap(), "x");
    for (path, mode) in [("", 0o700), ("member", 0o700), ("member/snap/db", 0o600)] {
        let about = fs::metadata(dir.join(path)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode, "{path}");
    }
    assert!(Etcd::of("3.6").data_dir(&dir).start().hash_kv(0).0 == taken.hash);
}

#[test]
fn nothing_is_moved_away_under_a_running_etcd() {
    let taken = Taken::of("3.6", "k/");
    let dir = taken.path("d");
    let etcd = Etcd::of("3.6").data_dir(&dir).start();
    let mut replace = words(&taken.file, &dir);
    replace.extend(["--replace", "--plan"]);
    let planned = guardian(&replace).ok();
    assert!(planned.contains("an etcd runs on the target"), "{planned}");
    replace.pop();
    replace.push("--yes");
    let refused = guardian(&replace).code(11);
    assert!(
        refused.stderr.contains("stop it first"),
        "{}",
        refused.stderr
    );
    assert_eq!(beside(&taken), ["d"]);
    drop(etcd);
    guardian(&replace).ok();
    assert_eq!(beside(&taken).len(), 2);
}

#[test]
fn impossible_wishes_are_named() {
    let taken = Taken::of("3.6", "k/");
    let dir = taken.path("d");
    let refused = |more: &[&str], code| {
        let mut words = words(&taken.file, &dir);
        words.extend(more);
        guardian(&words).code(code).stderr
    };
    assert!(refused(&["--to-revision", "2"], 4).contains("which holds"));
    assert!(refused(&["--to-revision", "999999"], 4).contains("which holds"));
    assert!(refused(&["--to-time", "2026-01-01T00:00:00Z"], 5).contains("no marks of time"));
    assert!(refused(&["--initial-cluster", "a=http://h:1"], 2).contains("--all-members"));
    assert!(refused(&["--exact", "--bump-revision=5"], 2).contains("cannot be used with"));
    assert!(refused(&["--initial-cluster", "default=h"], 2).contains("no scheme"));
    let absent = taken.path("absent");
    guardian(&words(&absent, &dir)).code(4);
    assert_eq!(beside(&taken), Vec::<String>::new());
}

#[test]
fn killed_at_any_instant_it_leaves_nothing_that_looks_whole() {
    let taken = Taken::of("3.6", "k/");
    let dir = taken.path("d");
    let mut interrupted = 0;
    for delay in (0..).map(|step| step * 5) {
        let mut child = guardian_command()
            .args(words(&taken.file, &dir))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = child.kill();
        let finished = child.wait().unwrap().success();
        let names = beside(&taken);
        if names.contains(&"d".to_owned()) {
            break;
        }
        assert!(
            !finished && (names.is_empty() || names == [".d.restoring"]),
            "{names:?}"
        );
        interrupted += usize::from(!names.is_empty());
        assert!(delay < 60_000);
    }
    assert!(interrupted > 0, "no kill hit the middle");
    let other = taken.path("e");
    fs::create_dir_all(taken.path(".e.restoring/data/member")).unwrap();
    let said = guardian(&words(&taken.file, &other)).ok();
    assert!(said.contains("remains of an interrupted restore"), "{said}");
    assert!(!taken.path(".e.restoring").exists());
    for dir in [dir, other] {
        let etcd = Etcd::of("3.6").data_dir(&dir).start();
        assert_eq!(etcd.hash_kv(0).0, taken.hash);
    }
}
