//! The spill keeps what was recorded within its budget, across restarts.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::recorder::group::Row;
use crate::recorder::watch::Origin;

fn header(first_revision: i64) -> Header {
    Header {
        cluster_id: "ab".to_owned(),
        member_id: "1".to_owned(),
        etcd_version: "3.6.1".to_owned(),
        base: "b".to_owned(),
        parent_sha256: "aa".to_owned(),
        epoch: 1,
        first_revision,
        raft_term: 2,
        started: Timestamp::UNIX_EPOCH,
    }
}

fn revision(revision: i64, whole: bool) -> Vec<Step> {
    let row = Row {
        tombstone: false,
        value: vec![7; 100],
        lease: 0,
    };
    let mut steps = vec![Step::Begin(revision), Step::Row(row)];
    if whole {
        steps.push(Step::Commit(revision));
    }
    steps
}

#[test]
fn a_killed_recorder_goes_on_after_its_last_whole_revision() {
    let folder = tempfile::tempdir().unwrap();
    let mut spill = Spill::open(folder.path(), 1 << 20, "ab").unwrap();
    assert_eq!(spill.last(), None);
    spill.begin(header(2)).unwrap();
    spill
        .apply(&revision(2, true), Timestamp::UNIX_EPOCH)
        .unwrap();
    assert_eq!(
        spill.cut(2).unwrap().unwrap().finished.footer.totals.rows,
        1
    );
    spill.begin(header(3)).unwrap();
    spill
        .apply(&revision(3, true), Timestamp::UNIX_EPOCH)
        .unwrap();
    spill
        .apply(&revision(4, false), Timestamp::UNIX_EPOCH)
        .unwrap();
    // Killed: nothing is closed.
    std::mem::forget(spill);
    let mut spill = Spill::open(folder.path(), 1 << 20, "ab").unwrap();
    assert_eq!((spill.last(), spill.waiting().count()), (Some(3), 1));
    spill
        .apply(&revision(4, true), Timestamp::UNIX_EPOCH)
        .unwrap();
    let ready = spill.cut(2).unwrap().unwrap().clone();
    assert_eq!(prove(&ready.path).unwrap(), ready);
    assert_eq!(ready.finished.footer.totals.last_revision, 4);
    let first = spill.waiting().next().unwrap().path.clone();
    spill.published(&first).unwrap();
    assert!(!first.exists());
    // Another cluster's segments are of no use.
    let spill = Spill::open(folder.path(), 1 << 20, "cd").unwrap();
    assert_eq!((spill.last(), spill.bytes()), (None, 0));
}

#[test]
fn the_budget_is_a_gap_and_keeps_whole_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let mut spill = Spill::open(folder.path(), 800, "ab").unwrap();
    spill.begin(header(2)).unwrap();
    spill
        .apply(&revision(2, true), Timestamp::UNIX_EPOCH)
        .unwrap();
    let mut full = None;
    for number in 3..20 {
        if let Err(error) = spill.apply(&revision(number, true), Timestamp::UNIX_EPOCH) {
            full = Some((number, error));
            break;
        }
    }
    let (number, error) = full.unwrap();
    assert!(matches!(
        error,
        SpillError::Gap(Gap::SpillFull { budget: 800 })
    ));
    let ready = spill.cut(2).unwrap().unwrap();
    assert_eq!(ready.finished.footer.totals.last_revision, number - 1);
    assert!(prove(&ready.path).is_ok());
}

fn origin(base: &str, revision: i64) -> Origin {
    Origin {
        cluster_id: 0xab,
        base: base.to_owned(),
        parent_sha256: "cc".to_owned(),
        revision,
        covered_to: Timestamp::UNIX_EPOCH,
        epoch: 9,
        auth_revision: None,
    }
}

/// Revisions 2 to 4 finished, 5 and 6 in the growing segment.
fn recorded(folder: &Path) -> Spill {
    let mut spill = Spill::open(folder, 1 << 20, "ab").unwrap();
    spill.begin(header(2)).unwrap();
    for number in 2..=6 {
        if number == 5 {
            spill.cut(2).unwrap();
            spill.begin(header(5)).unwrap();
        }
        let at = Timestamp::from_second(number * 10).unwrap();
        spill.apply(&revision(number, true), at).unwrap();
    }
    spill
}

#[test]
fn what_is_beyond_a_new_full_stands_on_it_with_its_times() {
    for full in 2..=5 {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = recorded(folder.path());
        assert!(spill.rebase(&origin("new", full)).unwrap());
        assert_eq!(spill.last(), Some(6));
        assert!(spill.continues("new", full));
        let one: Vec<Ready> = spill.waiting().cloned().collect();
        assert_eq!(one.len(), 1);
        assert_eq!(prove(&one[0].path).unwrap(), one[0]);
        assert_eq!(one[0].header.parent_sha256, "cc");
        let first = Timestamp::from_second((full + 1) * 10).unwrap();
        assert_eq!(one[0].finished.footer.totals.first_time, Some(first));
        assert_eq!(spill.bytes(), one[0].finished.bytes);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_full_that_the_record_does_not_reach_takes_nothing_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut spill = recorded(folder.path());
    assert!(!spill.rebase(&origin("new", 7)).unwrap());
    assert_eq!(spill.last(), Some(6));
    // At its very end nothing is left to take over, and nothing is missing.
    assert!(spill.rebase(&origin("new", 6)).unwrap());
    assert_eq!((spill.last(), spill.bytes()), (None, 0));
}

#[test]
fn a_death_between_the_new_segment_and_the_old_ones_end_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut spill = recorded(folder.path());
    spill.cut(2).unwrap();
    let kept: Vec<(PathBuf, Vec<u8>)> = spill
        .waiting()
        .map(|one| (one.path.clone(), std::fs::read(&one.path).unwrap()))
        .collect();
    assert!(spill.rebase(&origin("new", 3)).unwrap());
    // As if the newer of the old ones had not been removed yet, or none.
    for first in 0..kept.len() {
        for (path, bytes) in &kept[first..] {
            std::fs::write(path, bytes).unwrap();
        }
        let mut again = Spill::open(folder.path(), 1 << 20, "ab").unwrap();
        if !again.continues("new", 3) {
            assert!(again.rebase(&origin("new", 3)).unwrap());
        }
        assert_eq!((again.last(), again.continues("new", 3)), (Some(6), true));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
