//! The spill keeps what was recorded within its budget, across restarts.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::recorder::group::Row;

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
