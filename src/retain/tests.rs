//! Tables for what people expect, and properties against a model that is too simple to be wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

mod random;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::plan::{Grain, bucket};
use super::*;
use crate::api::{Compression, RetentionPolicy};
use crate::repository::{Chain, Kind, Level, Manifest, Pin};
use crate::seal::Seal;

const CLUSTER: &str = "cdf818194e3a8c32";

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

/// A verified full backup of revision `revision`, taken so many hours before now.
fn full(revision: i64, hours_ago: i64) -> Manifest {
    let created = now() - hours(hours_ago);
    let id = format!("full-{revision}");
    Manifest {
        format_version: 1,
        data_key: format!("{CLUSTER}/v1/full/{id}/snapshot.db"),
        id,
        kind: Kind::Full,
        cluster_id: CLUSTER.to_owned(),
        cluster_name: "test".to_owned(),
        member_id: "8e9e05c52164694d".to_owned(),
        etcd_version: "3.6.16".to_owned(),
        backup_name: format!("backup-{revision}"),
        namespace: "default".to_owned(),
        schedule: Some("hourly".to_owned()),
        run_id: format!("run-{revision}"),
        created,
        settled: None,
        covered_to: None,
        completed: created,
        start_revision: None,
        revision,
        compact_revision: -1,
        key_count: 1,
        raw_size: 1,
        stored_size: 1,
        plain_sha256: "0".repeat(64),
        stored_sha256: format!("{revision:064x}"),
        compression: Compression::None,
        seal: Seal::default(),
        chain: None,
        level: Level::Verified,
        checks: Vec::new(),
        hash_kv: None,
        shares: Vec::new(),
        export: None,
        auth_revision: None,
        trace_id: None,
        synthetic: None,
        tool_version: "0.1.0".to_owned(),
    }
}

fn increment(base: &Manifest, parent: &Manifest, revision: i64, hours_ago: i64) -> Manifest {
    let first = parent.revision + 1;
    Manifest {
        id: format!("{}.{first}-{revision}", base.id),
        kind: Kind::Increment,
        start_revision: Some(first),
        chain: Some(Chain {
            base: base.id.clone(),
            parent_sha256: parent.stored_sha256.clone(),
            epoch: 1,
            merged: None,
        }),
        ..full(revision, hours_ago)
    }
}

fn unproved(backup: Manifest) -> Manifest {
    Manifest {
        level: Level::Stored,
        ..backup
    }
}

fn hourly() -> Scope {
    Scope {
        namespace: None,
        schedule: Some("hourly".to_owned()),
    }
}

/// Nobody reads anything, and nothing is locked.
fn free() -> Holds {
    Holds::default()
}

fn policy(rules: &str) -> RetentionPolicy {
    serde_json::from_str(rules).unwrap()
}

fn kept(backups: &[Manifest], rules: &str) -> BTreeSet<String> {
    let plan = plan(backups, &free(), &hourly(), &policy(rules), now());
    let kept: BTreeSet<String> = plan.kept.into_iter().map(|one| one.id).collect();
    for dropped in &plan.dropped {
        assert!(!dropped.reasons.is_empty() && !kept.contains(&dropped.id));
    }
    assert_eq!(
        kept.len() + plan.dropped.len(),
        backups.len(),
        "everything in scope is judged once"
    );
    kept
}

fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn each_rule_keeps_what_it_says_and_a_backup_goes_when_none_does() {
    let backups = [
        full(1, 100),
        full(2, 50),
        full(3, 26),
        full(4, 25),
        full(5, 2),
        full(6, 1),
    ];
    for (rules, expected) in [
        (
            "{}",
            ids(&["full-1", "full-2", "full-3", "full-4", "full-5", "full-6"]),
        ),
        (r#"{"maxBackups": 2}"#, ids(&["full-5", "full-6"])),
        (r#"{"maxAge": "26h"}"#, ids(&["full-4", "full-5", "full-6"])),
        (r#"{"keepHourly": 1}"#, ids(&["full-6"])),
        // Noon minus 25 and 26 hours is the day before; minus 50 and 100 hours are two more.
        (r#"{"keepDaily": 3}"#, ids(&["full-2", "full-4", "full-6"])),
        (r#"{"keepMonthly": 5}"#, ids(&["full-6"])),
        (
            r#"{"maxBackups": 1, "keepDaily": 2}"#,
            ids(&["full-4", "full-6"]),
        ),
    ] {
        assert_eq!(kept(&backups, rules), expected, "{rules}");
    }
}

#[test]
fn unproved_backups_never_push_out_proved_ones() {
    let backups = [
        full(1, 90),
        full(2, 80),
        unproved(full(3, 3)),
        unproved(full(4, 2)),
        unproved(full(5, 1)),
    ];
    assert_eq!(
        kept(&backups, r#"{"maxBackups": 2}"#),
        ids(&["full-1", "full-2", "full-4", "full-5"])
    );
    // Days of failures: age alone would delete everything that restores.
    assert_eq!(
        kept(&backups, r#"{"maxAge": "1h30m"}"#),
        ids(&["full-2", "full-5"])
    );
    // With proofs switched off the rules still bound what is kept.
    let off = [
        unproved(full(1, 3)),
        unproved(full(2, 2)),
        unproved(full(3, 1)),
    ];
    assert_eq!(kept(&off, r#"{"maxBackups": 1}"#), ids(&["full-3"]));
}

#[test]
fn a_chain_stays_or_goes_as_one() {
    let old = full(10, 90);
    let old_one = increment(&old, &old, 15, 80);
    let new = full(20, 70);
    let new_one = increment(&new, &new, 25, 60);
    let new_two = increment(&new, &new_one, 30, 1);
    let backups = [old, old_one, new, new_one, new_two];
    assert_eq!(
        kept(&backups, r#"{"maxAge": "2h"}"#),
        ids(&["full-20", "full-20.21-25", "full-20.26-30"])
    );
    assert_eq!(kept(&backups, r#"{"maxBackups": 1}"#).len(), 3);
    // The base is not in the catalogue: somebody must look before anything is deleted.
    assert_eq!(
        kept(&backups[1..2], r#"{"maxBackups": 1}"#),
        ids(&["full-10.11-15"])
    );
}

#[test]
fn an_export_and_the_changes_on_it_stay_or_go_as_one() {
    let of_objects = |backup: Manifest| Manifest {
        kind: Kind::Export,
        ..backup
    };
    let old = of_objects(full(10, 90));
    let old_one = of_objects(increment(&old, &old, 15, 80));
    let new = of_objects(full(20, 70));
    let new_one = of_objects(increment(&new, &new, 25, 60));
    let new_two = of_objects(increment(&new, &new_one, 30, 1));
    let backups = [old, old_one, new, new_one, new_two];
    let whole = ids(&["full-20", "full-20.21-25", "full-20.26-30"]);
    assert_eq!(kept(&backups, r#"{"maxBackups": 1}"#), whole);
    assert_eq!(kept(&backups, r#"{"maxAge": "2h"}"#), whole);
    let needed = must_keep(&backups, "full-20.21-25");
    assert!(needed.is_some_and(|why| why.contains("full-20.26-30")));
}

#[test]
fn an_increment_of_another_scope_keeps_its_base() {
    let old = full(10, 90);
    let foreign = Manifest {
        schedule: Some("recorder".to_owned()),
        ..increment(&old, &old, 15, 80)
    };
    let backups = [old, foreign, full(20, 1)];
    let plan = plan(
        &backups,
        &free(),
        &hourly(),
        &policy(r#"{"maxBackups": 1}"#),
        now(),
    );
    assert!(plan.dropped.is_empty());
    assert_eq!(plan.kept.len(), 2);
}

#[test]
fn clusters_namespaces_and_schedules_are_judged_apart() {
    let other_cluster = Manifest {
        cluster_id: "00000000000000aa".to_owned(),
        ..full(9, 1)
    };
    let other_namespace = Manifest {
        namespace: "team".to_owned(),
        ..full(8, 2)
    };
    let by_hand = Manifest {
        schedule: None,
        ..full(7, 3)
    };
    let backups = [
        other_cluster,
        full(1, 50),
        by_hand,
        other_namespace,
        full(2, 5),
    ];
    let rules = policy(r#"{"maxBackups": 1}"#);
    let plan_of = |scope: &Scope| plan(&backups, &free(), scope, &rules, now());
    let all = plan_of(&hourly());
    assert_eq!(
        all.dropped
            .iter()
            .map(|one| one.id.as_str())
            .collect::<Vec<_>>(),
        ["full-1"]
    );
    assert_eq!(all.kept.len(), 3);
    let team = plan_of(&Scope {
        namespace: Some("team".to_owned()),
        ..hourly()
    });
    assert_eq!((team.kept.len(), team.dropped.len()), (1, 0));
    let hand = plan_of(&Scope::default());
    assert_eq!(
        hand.kept
            .iter()
            .map(|one| one.id.as_str())
            .collect::<Vec<_>>(),
        ["full-7"]
    );
}

#[test]
fn a_clock_that_went_back_deletes_nothing_new() {
    // Revision 3 was taken while the clock was nine days behind.
    let backups = [full(1, 30), full(2, 20), full(3, 236)];
    assert_eq!(
        kept(&backups, r#"{"maxAge": "24h"}"#),
        ids(&["full-2", "full-3"])
    );
    // Now itself is behind: everything seems to come from the future.
    let early = plan(
        &backups,
        &free(),
        &hourly(),
        &policy(r#"{"maxAge": "1h"}"#),
        now() - hours(1000),
    );
    assert!(early.dropped.is_empty());
}

#[test]
fn what_is_read_or_locked_says_so() {
    let backups = [full(1, 90), full(2, 1)];
    let reasons = |holds: &Holds| {
        let rules = policy(r#"{"maxBackups": 1}"#);
        plan(&backups, holds, &hourly(), &rules, now()).render()
    };
    let pin = Pin {
        cluster_id: CLUSTER.to_owned(),
        base: "full-1".to_owned(),
        who: "restore on host a".to_owned(),
        until: now() + hours(1),
    };
    let mut holds = Holds {
        pins: vec![pin],
        lock: None,
    };
    assert!(reasons(&holds).contains("keep   full-1   restore on host a reads it\n"));
    // Another cluster's chain of the same name is no matter.
    holds.pins[0].cluster_id = "00000000000000aa".to_owned();
    assert!(reasons(&holds).contains("drop   full-1"));
    holds.lock = Some(hours(91));
    let said = reasons(&holds);
    assert!(
        said.contains("keep   full-1   the store has locked it until 2026-11-25T13:00:00Z"),
        "{said}"
    );
    holds.lock = Some(hours(90));
    assert!(reasons(&holds).contains("drop   full-1"));
}

#[test]
fn what_is_needed_is_not_deleted_by_hand() {
    let one = full(1, 9);
    let child = increment(&one, &one, 5, 8);
    let grandchild = increment(&one, &child, 7, 7);
    let backups = [
        one.clone(),
        child.clone(),
        grandchild.clone(),
        unproved(full(9, 1)),
    ];
    assert!(must_keep(&backups, &one.id).unwrap().contains("needs it"));
    assert!(
        must_keep(&backups, &child.id)
            .unwrap()
            .contains(&grandchild.id)
    );
    assert_eq!(must_keep(&backups, &grandchild.id), None);
    assert_eq!(must_keep(&backups, "full-9"), None);
    let alone = [one.clone(), unproved(full(9, 1))];
    assert!(
        must_keep(&alone, &one.id)
            .unwrap()
            .contains("last verified")
    );
    assert_eq!(must_keep(&[one.clone(), full(9, 1)], &one.id), None);
}

#[test]
fn the_plan_reads_like_a_plan() {
    let text = plan(
        &[full(1, 50), full(2, 1)],
        &free(),
        &hourly(),
        &policy(r#"{"maxBackups": 1}"#),
        now(),
    )
    .render();
    assert_eq!(
        text,
        "keep   full-2   one of the newest 1; the last verified full backup\n\
         drop   full-1   not one of the newest 1\n"
    );
}
