//! The table of attacks, held: a test of its own for each, and no attack here that the table does not name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::support::repository;

/// The names of the tests in a Rust file, or in all files of a folder.
fn tests_below(place: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut places: Vec<PathBuf> = vec![repository(place)];
    while let Some(path) = places.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).unwrap();
            places.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut after_mark = false;
            for line in text.lines().map(str::trim) {
                let name = line.trim_start_matches("async ").strip_prefix("fn ");
                if let (true, Some(name)) = (after_mark, name) {
                    found.extend(name.split_once('(').map(|(name, _)| name.to_owned()));
                }
                after_mark = line == "#[test]" || line.starts_with("#[tokio::test");
            }
        }
    }
    found
}

#[test]
fn every_attack_of_the_page_has_a_test_of_its_own() {
    let page = std::fs::read_to_string(repository("docs/explanation/security.md")).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| attack |"));
    let rows: Vec<&str> = rows
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(rows.len() >= 15, "{rows:?}");
    let all = tests_below("tests").into_iter().chain(tests_below("src"));
    let all: BTreeSet<String> = all.collect();
    let mut named = BTreeSet::new();
    for row in rows {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let name = cell.trim_matches('`');
        assert!(all.contains(name), "{row}: no test is called so");
        assert!(named.insert(name.to_owned()), "{row}: another's test");
    }
    let mut here = tests_below("tests/it/operator/attacks");
    here.extend(tests_below("tests/it/operator/attacks.rs"));
    let own = "every_attack_of_the_page_has_a_test_of_its_own";
    let missing: Vec<&String> = here
        .iter()
        .filter(|name| *name != own && !named.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "attacks that the page does not name: {missing:?}"
    );
}
