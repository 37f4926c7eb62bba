//! Messages of a watch become whole revisions, or a gap with its name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use etcd_client::proto::PbResponseHeader;
use proptest::prelude::*;

use super::*;

const CLUSTER: u64 = 7;

fn put(revision: i64, key: &str) -> PbEvent {
    PbEvent {
        r#type: 0,
        kv: Some(PbKeyValue {
            key: key.as_bytes().to_vec(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: b"v".to_vec(),
            lease: 0,
        }),
        prev_kv: None,
    }
}

fn delete(revision: i64, key: &str) -> PbEvent {
    PbEvent {
        r#type: 1,
        kv: Some(PbKeyValue {
            key: key.as_bytes().to_vec(),
            mod_revision: revision,
            ..PbKeyValue::default()
        }),
        prev_kv: None,
    }
}

fn response(revision: i64, term: u64, fragment: bool, events: Vec<PbEvent>) -> PbWatchResponse {
    PbWatchResponse {
        header: Some(PbResponseHeader {
            cluster_id: CLUSTER,
            member_id: 1,
            revision,
            raft_term: term,
        }),
        fragment,
        events,
        ..PbWatchResponse::default()
    }
}

/// What a consumer keeps of the steps: whole revisions only.
#[derive(Default)]
struct Kept {
    whole: Vec<(i64, Vec<Row>)>,
    open: Option<(i64, Vec<Row>)>,
}

impl Kept {
    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Begin(revision) => self.open = Some((revision, Vec::new())),
                Step::Row(row) => self.open.as_mut().unwrap().1.push(row),
                Step::Commit(revision) => {
                    let open = self.open.take().unwrap();
                    assert_eq!(open.0, revision);
                    self.whole.push(open);
                }
                Step::Idle => assert!(self.open.is_none()),
            }
        }
    }
}

/// Revisions 2, 3, … with so many events each; every third event deletes.
fn history(sizes: &[usize]) -> Vec<Vec<PbEvent>> {
    sizes
        .iter()
        .enumerate()
        .map(|(index, &size)| {
            let revision = i64::try_from(index).unwrap() + 2;
            (0..size)
                .map(|sub| {
                    let key = format!("k{revision}/{sub}");
                    if (index + sub) % 3 == 0 {
                        delete(revision, &key)
                    } else {
                        put(revision, &key)
                    }
                })
                .collect()
        })
        .collect()
}

fn expected(history: &[Vec<PbEvent>]) -> Vec<(i64, Vec<Row>)> {
    history
        .iter()
        .map(|events| {
            let rows = events
                .iter()
                .map(|event| row(event.kv.clone().unwrap(), event.r#type == 1).unwrap())
                .collect();
            (events[0].kv.as_ref().unwrap().mod_revision, rows)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// However etcd batches, fragments, repeats and breaks the stream: the same rows, and never a part of a revision.
    #[test]
    fn any_cutting_of_the_stream_commits_the_same_rows(
        sizes in prop::collection::vec(1usize..6, 1..30),
        batches in prop::collection::vec(1usize..5, 30),
        pieces in prop::collection::vec(1usize..7, 200),
        repeat in prop::collection::vec(0usize..3, 30),
        breaks in prop::collection::vec(0u8..12, 200),
    ) {
        let history = history(&sizes);
        let last = i64::try_from(sizes.len()).unwrap() + 1;
        let mut grouper = Grouper::new(CLUSTER, 1, 1);
        let mut kept = Kept::default();
        let (mut piece, mut attempts) = (pieces.iter().cycle(), 0usize);
        'connect: loop {
            // A new stream starts after what was committed.
            let mut next = usize::try_from(grouper.committed() - 1).unwrap();
            if next == history.len() {
                break;
            }
            for batch in 0.. {
                if next == history.len() {
                    break 'connect;
                }
                let end = (next + batches[batch % batches.len()]).min(history.len());
                let again = repeat[batch % repeat.len()].min(next);
                let events: Vec<PbEvent> = history[next - again..end].concat();
                let mut rest = events.as_slice();
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((*piece.next().unwrap()).min(rest.len()));
                    rest = later;
                    let mut steps = Vec::new();
                    grouper.feed(response(last, 1, !rest.is_empty(), now.to_vec()), &mut steps).unwrap();
                    kept.take(steps);
                    attempts += 1;
                    // The stream breaks now and then; what was begun is forgotten on both sides.
                    if attempts < 150 && breaks[attempts] == 0 {
                        grouper.reset();
                        kept.open = None;
                        continue 'connect;
                    }
                }
                next = end;
            }
        }
        prop_assert!(kept.open.is_none());
        prop_assert_eq!(kept.whole, expected(&history));
    }

    /// Whichever event is lost, unless it was one of several in its revision: a hole, and all before it is kept.
    #[test]
    fn a_lost_revision_is_a_hole(count in 3usize..20, lost in 1usize..18) {
        let lost = lost.min(count - 2);
        let history = history(&vec![2; count]);
        let mut grouper = Grouper::new(CLUSTER, 1, 1);
        let mut kept = Kept::default();
        let mut found = None;
        for (index, events) in history.iter().enumerate() {
            if index == lost {
                continue;
            }
            let mut steps = Vec::new();
            let fed = grouper.feed(response(100, 1, false, events.clone()), &mut steps);
            kept.take(steps);
            if let Err(gap) = fed {
                found = Some(gap);
                break;
            }
        }
        let wanted = i64::try_from(lost).unwrap() + 2;
        prop_assert_eq!(found, Some(Gap::Hole { wanted, found: wanted + 1 }));
        prop_assert_eq!(kept.whole, expected(&history[..lost]));
    }
}

fn feed(grouper: &mut Grouper, response: PbWatchResponse) -> (Vec<Step>, Option<Gap>) {
    let mut steps = Vec::new();
    let gap = grouper.feed(response, &mut steps).err();
    (steps, gap)
}

#[test]
fn half_a_revision_is_committed_only_when_a_later_one_or_the_last_fragment_comes() {
    let mut grouper = Grouper::new(CLUSTER, 1, 1);
    let (steps, _) = feed(
        &mut grouper,
        response(9, 1, true, vec![put(2, "a"), put(2, "b")]),
    );
    assert!(!steps.contains(&Step::Commit(2)));
    assert_eq!(grouper.committed(), 1);
    // A notice between two fragments says nothing about the revision that is open.
    assert_eq!(feed(&mut grouper, response(1, 1, false, vec![])).0, []);
    let (steps, _) = feed(
        &mut grouper,
        response(9, 1, true, vec![put(2, "c"), put(3, "d")]),
    );
    assert!(steps.contains(&Step::Commit(2)) && !steps.contains(&Step::Commit(3)));
    let (steps, _) = feed(&mut grouper, response(9, 1, false, vec![delete(3, "d")]));
    assert_eq!(steps.last(), Some(&Step::Commit(3)));
    assert_eq!(grouper.committed(), 3);
}

#[test]
fn a_notice_proves_idleness_only_at_the_committed_revision() {
    let mut grouper = Grouper::new(CLUSTER, 1, 5);
    assert_eq!(
        feed(&mut grouper, response(5, 1, false, vec![])).0,
        [Step::Idle]
    );
    assert_eq!(feed(&mut grouper, response(6, 1, false, vec![])).0, []);
}

#[test]
fn each_kind_of_gap_has_its_name() {
    let start = Grouper::new(CLUSTER, 3, 5);
    let compacted = PbWatchResponse {
        canceled: true,
        compact_revision: 9,
        ..response(20, 3, false, vec![])
    };
    let mut foreign = response(20, 3, false, vec![put(6, "a")]);
    foreign.header.as_mut().unwrap().cluster_id = 8;
    let mut wrong_version = put(6, "a");
    wrong_version.kv.as_mut().unwrap().version = 2;
    let mut unknown = put(6, "a");
    unknown.r#type = 5;
    for (response, reason) in [
        (compacted, "Compacted"),
        (foreign, "ClusterChanged"),
        (response(20, 2, false, vec![put(6, "a")]), "TermWentBack"),
        (response(4, 3, false, vec![]), "RevisionWentBack"),
        (response(20, 3, false, vec![put(7, "a")]), "Hole"),
        (response(20, 3, false, vec![put(6, "")]), "Malformed"),
        (response(20, 3, false, vec![wrong_version]), "Malformed"),
        (response(20, 3, false, vec![unknown]), "Malformed"),
    ] {
        let (steps, gap) = feed(&mut start.clone(), response);
        assert_eq!(gap.unwrap().reason(), reason);
        assert!(!steps.iter().any(|step| matches!(step, Step::Commit(_))));
    }
    // A higher term is an election, not a gap.
    let mut elected = start;
    assert_eq!(
        feed(&mut elected, response(6, 4, false, vec![put(6, "a")])).1,
        None
    );
    assert_eq!(elected.raft_term(), 4);
}
