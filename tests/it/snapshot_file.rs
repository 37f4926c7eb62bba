//! Snapshots of every release: the verbs say what that etcd and etcdutl said of them.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{guardian, repository};

pub const VERSIONS: [&str; 4] = ["3.4", "3.5", "3.6", "3.7"];

/// The bytes of the golden snapshot of a release.
pub fn golden(version: &str) -> Vec<u8> {
    let file = repository("tests/golden").join(format!("etcd-{version}.db.zst"));
    zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap()
}

fn written(scratch: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let file = scratch.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn golden_snapshots_are_what_etcd_and_etcdutl_said() {
    let said = std::fs::read_to_string(repository("tests/golden/golden.json")).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        let said = &said[version];
        let file = written(&scratch, version, &golden(version));
        let file = file.to_str().unwrap();
        let before = std::fs::read(file).unwrap();
        let status = guardian(&["snapshot", "status", file, "-o", "json"]).json();
        let newest = &said["status"]["3.7"];
        for (ours, theirs) in [
            ("hash", "hash"),
            ("revision", "revision"),
            ("totalKeys", "totalKey"),
            ("dbSize", "totalSize"),
        ] {
            assert_eq!(status[ours], newest[theirs], "{version}: {ours}");
        }
        assert_eq!(
            status["storageVersion"].as_str().unwrap_or_default(),
            newest["version"]
        );
        assert_eq!(status["digest"], "ok");
        assert_eq!(status["leases"], 1);
        assert_eq!(status["authEnabled"], true);
        let checked = guardian(&["snapshot", "check", file, "-o", "json"]).json();
        assert_eq!(
            (&checked["ok"], &checked["level"]),
            (&true.into(), &"Verified".into())
        );
        for answer in said["hashKv"].as_array().unwrap() {
            let (revision, compacted) = (answer[0].to_string(), answer[1].to_string());
            let words = [
                "snapshot",
                "hashkv",
                file,
                "-o",
                "json",
                "--revision",
                &revision,
                "--compact-revision",
                &compacted,
            ];
            let found = guardian(&words).json();
            assert_eq!(found["hash"], answer[2], "{version} at {revision}");
        }
        assert_eq!(std::fs::read(file).unwrap(), before, "the file was changed");
        // As a copy of a data directory's file.
        let bare = written(&scratch, "bare", &before[..before.len() - 32]);
        let bare = bare.to_str().unwrap();
        let status = guardian(&["snapshot", "status", bare, "-o", "json"]).json();
        assert_eq!(
            (&status["digest"], &status["hash"]),
            (&"missing".into(), &newest["hash"])
        );
        let checked = guardian(&["snapshot", "check", bare, "-o", "json"]).json();
        assert_eq!(checked["level"], "Stored");
    }
}

#[test]
fn keys_are_listed_read_and_compared_without_a_server() {
    let scratch = tempfile::tempdir().unwrap();
    let file = written(&scratch, "a", &golden("3.6"));
    let file = file.to_str().unwrap();
    let listing = guardian(&["snapshot", "ls", file, "k/l", "-o", "json"]).json();
    let keys: Vec<&str> = listing["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["k/large", "k/late", "k/leased"]);
    assert_eq!(listing["items"][0]["size"], 9007);
    assert_ne!(listing["items"][2]["lease"], 0);
    let sums = guardian(&["snapshot", "ls", file, "-o", "json"]).json();
    assert_eq!(sums["prefixes"][0]["prefix"], "k/");
    assert_eq!(sums["prefixes"][0]["keys"], 11);
    assert!(sums["prefixes"][0]["history"].as_u64().unwrap() > 0);
    assert_eq!(guardian(&["snapshot", "get", file, "k/4"]).ok(), "back");
    let earlier = guardian(&["snapshot", "get", file, "k/4", "--revision=13"]).ok();
    assert_eq!(earlier, "value-4");
    let gone = guardian(&["snapshot", "get", file, "k/4", "--revision=15"]).code(4);
    assert!(gone.stderr.contains("'k/4'"), "{}", gone.stderr);
    let too_old = guardian(&["snapshot", "get", file, "k/4", "--revision=3"]).code(4);
    assert!(too_old.stderr.contains("12 to 17"), "{}", too_old.stderr);
    let same = guardian(&["snapshot", "diff", file, file, "-o", "json"]).json();
    assert_eq!(same["created"].as_array().unwrap().len(), 0);
    assert_eq!(same["prefixes"].as_array().unwrap().len(), 0);
}

#[test]
fn a_damaged_file_ends_every_verb_with_words_and_a_code() {
    let scratch = tempfile::tempdir().unwrap();
    let mut bytes = golden("3.5");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let flipped = written(&scratch, "flipped", &bytes);
    let cut = written(&scratch, "cut", &golden("3.5")[..20_000]);
    let empty = written(&scratch, "empty", b"");
    let noise = written(&scratch, "noise", &[0x5a; 8192]);
    for file in [&flipped, &cut, &empty, &noise] {
        let file = file.to_str().unwrap();
        guardian(&["snapshot", "check", file, "-o", "json"]).code(3);
        guardian(&["snapshot", "status", file, "-o", "json"]).code(3);
        let target = scratch.path().join("restored");
        let target = target.to_str().unwrap();
        guardian(&["restore", "--snapshot", file, "--data-dir", target]).code(3);
        assert!(!std::path::Path::new(target).exists());
    }
    guardian(&["snapshot", "status", "/does/not/exist"]).code(4);
}
