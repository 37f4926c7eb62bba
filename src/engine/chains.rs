//! The chains of a schedule's store as the page shows them: full backups, the increments on each, the holes between. Pure.

use crate::repository::{Kind, Level, Manifest, Window, increments_of};
use crate::serve::{ChainState, Fills, HoleState};

/// So many chains are shown, the newest.
const SHOWN: usize = 12;
/// So many holes are shown, the newest.
const HOLES: usize = 20;

/// The newest chains, newest first; none while the store holds no increment.
pub fn chains(mine: &[Manifest]) -> Vec<ChainState> {
    if !mine.iter().any(|one| one.kind == Kind::Increment) {
        return Vec::new();
    }
    let mut fulls: Vec<&Manifest> = mine.iter().filter(|one| one.kind == Kind::Full).collect();
    fulls.sort_by_key(|one| std::cmp::Reverse((one.created, one.revision)));
    fulls.truncate(SHOWN);
    fulls.into_iter().map(|base| chain(base, mine)).collect()
}

fn chain(base: &Manifest, mine: &[Manifest]) -> ChainState {
    let increments = increments_of(base, mine);
    let last = increments.last().copied().unwrap_or(base);
    // What lies beyond the last that follows: a backup between is gone, or is not the one that was meant.
    let beyond = mine
        .iter()
        .filter(|one| {
            one.chain
                .as_ref()
                .is_some_and(|chain| chain.base == base.id)
        })
        .filter(|one| one.start_revision > Some(last.revision))
        .count();
    let weakest = increments
        .iter()
        .map(|one| one.level)
        .fold(base.level, Level::min);
    ChainState {
        base: base.id.clone(),
        from: base.created,
        to: last.created,
        first: base.revision,
        last: last.revision,
        increments: increments.len() as u64,
        stored_size: base.stored_size + increments.iter().map(|one| one.stored_size).sum::<u64>(),
        level: weakest.to_string(),
        cut_off: beyond as u64,
    }
}

/// The newest holes between what can be restored, newest first.
pub fn holes(windows: &[Window]) -> Vec<HoleState> {
    let pairs = windows.iter().zip(windows.iter().skip(1)).rev();
    pairs
        .take(HOLES)
        .map(|(before, next)| HoleState {
            from: before.to,
            to: next.from,
            what: before.hole_before(next),
        })
        .collect()
}

/// What fills the database, as the newest proved full backup that says so.
pub fn fills(mine: &[Manifest]) -> Option<Fills> {
    let newest = mine
        .iter()
        .filter(|one| one.kind == Kind::Full && one.level >= Level::Verified)
        .filter(|one| !one.shares.is_empty())
        .max_by_key(|one| one.created)?;
    Some(Fills {
        backup: newest.id.clone(),
        time: newest.created,
        shares: newest.shares.clone(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::repository::windows;

    fn backup(id: &str, hour: u32, first: Option<i64>, last: i64, links: [&str; 3]) -> Manifest {
        let [base, parent, stored] = links;
        let created = format!("2026-01-01T{hour:02}:00:00Z");
        let mut value = serde_json::json!({
            "formatVersion": 1, "id": id, "kind": "Full", "clusterId": "c", "clusterName": "c",
            "memberId": "1", "etcdVersion": "3.6.0", "backupName": id, "namespace": "default",
            "runId": id, "created": created, "completed": created,
            "revision": last, "compactRevision": 100, "keyCount": 1, "dataKey": id, "rawSize": 9,
            "storedSize": 5, "plainSha256": "", "storedSha256": stored, "compression": "Zstd",
            "level": "Consistent", "toolVersion": "0",
        });
        if let Some(first) = first {
            value["kind"] = "Increment".into();
            value["level"] = "Verified".into();
            value["startRevision"] = first.into();
            value["chain"] = serde_json::json!({"base": base, "parentSha256": parent, "epoch": 1});
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_chain_ends_where_an_increment_is_missing_and_the_hole_is_told() {
        let mut all = vec![
            backup("a", 1, None, 10, ["", "", "s0"]),
            backup("a1", 2, Some(11), 20, ["a", "s0", "s1"]),
            backup("a2", 3, Some(21), 30, ["a", "s1", "s2"]),
            backup("a3", 4, Some(31), 40, ["a", "s2", "s3"]),
            backup("b", 5, None, 200, ["", "", "t0"]),
        ];
        let whole = &chains(&all)[1];
        assert_eq!((whole.increments, whole.last, whole.cut_off), (3, 40, 0));
        assert_eq!((whole.stored_size, whole.level.as_str()), (20, "Verified"));
        all.remove(2);
        let shown = chains(&all);
        let bases: Vec<&str> = shown.iter().map(|one| one.base.as_str()).collect();
        assert_eq!(bases, ["b", "a"], "the newest first");
        assert_eq!(
            (shown[1].increments, shown[1].last, shown[1].cut_off),
            (1, 20, 1)
        );
        let holes = holes(&windows(&all));
        assert_eq!(holes.len(), 1);
        assert_eq!(
            (holes[0].from, holes[0].to),
            (all[1].created, all[3].created)
        );
        assert!(
            holes[0]
                .what
                .contains("revisions 21 to 100 are in no backup"),
            "{}",
            holes[0].what
        );
        all.retain(|one| one.kind == Kind::Full);
        assert!(
            chains(&all).is_empty(),
            "without increments there is nothing to show"
        );
    }

    #[test]
    fn what_fills_the_database_is_of_the_newest_proved_full_that_says_so() {
        let share = |bytes| crate::snapshot::Share {
            prefix: "/registry/pods/".to_owned(),
            bytes,
            ..Default::default()
        };
        let mut all = vec![
            backup("a", 1, None, 10, ["", "", "s0"]),
            backup("b", 2, None, 20, ["", "", "s1"]),
            backup("c", 3, None, 30, ["", "", "s2"]),
            backup("d", 4, None, 40, ["", "", "s3"]),
        ];
        for (place, one) in all.iter_mut().take(3).enumerate() {
            one.shares = vec![share(place as u64)];
        }
        all[2].level = Level::Stored;
        let fills = fills(&all).unwrap();
        assert_eq!((fills.backup.as_str(), fills.shares[0].bytes), ("b", 1));
    }
}
