//! Which increments follow on a full backup without a gap. Pure: revisions and digests decide, never a clock.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Kind, Level, Manifest};

/// Where in its chain an increment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Id of the full backup, or of the whole export.
    pub base: String,
    /// SHA-256 of the stored bytes of the backup before this one.
    pub parent_sha256: String,
    /// Fencing epoch of the writer.
    pub epoch: u64,
    /// What it was merged from, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<MergedFrom>,
}

/// The smaller increments that a larger one was merged from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MergedFrom {
    /// How many.
    pub count: u32,
    /// SHA-256 of the stored bytes of the last of them: what followed on that follows on the larger one.
    pub last_sha256: String,
    /// Fencing epoch of the last of them.
    #[serde(default)]
    pub last_epoch: u64,
}

/// The chain that a synthetic full backup was merged from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Synthetic {
    /// Id of its full backup.
    pub base: String,
    /// How many increments were merged.
    pub increments: u32,
    /// When the full backup that it all stands on was read from etcd.
    pub read: Timestamp,
}

/// The increments of `all` that continue `base`, each beginning where the one before it ended and naming its digest.
pub fn increments_of<'a>(base: &Manifest, all: &'a [Manifest]) -> Vec<&'a Manifest> {
    follow(base, all, |_| true)
}

/// As [`increments_of`], for a chain that is to hold `last` itself: not a larger increment that it was merged into.
pub fn increments_to<'a>(
    base: &Manifest,
    last: &Manifest,
    all: &'a [Manifest],
) -> Vec<&'a Manifest> {
    follow(base, all, |one| one.id == last.id || !holds(one, last))
}

/// An export with all that it builds on, the whole one first.
///
/// # Errors
/// In words, when one of them is not there.
pub fn exports_to<'a>(
    last: &'a Manifest,
    all: &'a [Manifest],
) -> Result<Vec<&'a Manifest>, String> {
    let mut chain = vec![last];
    while let Some(part) = chain.last().and_then(|one| one.chain.as_ref()) {
        let parent = all.iter().find(|one| {
            one.kind == Kind::Export
                && one.cluster_id == last.cluster_id
                && one.stored_sha256 == part.parent_sha256
                && !chain.iter().any(|known| known.id == one.id)
        });
        let Some(parent) = parent else {
            return Err(format!(
                "export {} holds only what changed since another export of base {}, which is not in the store any more",
                last.id, part.base
            ));
        };
        chain.push(parent);
    }
    chain.reverse();
    Ok(chain)
}

/// The larger increment that a small one was merged into, when it is proved as well as the small one.
pub fn replacement<'a>(increment: &Manifest, all: &'a [Manifest]) -> Option<&'a Manifest> {
    // The rows are the same, so a comparison of the small one with the live cluster holds for the larger one.
    let level = increment.level.min(Level::Verified);
    all.iter()
        .find(|one| one.id != increment.id && one.level >= level && holds(one, increment))
}

/// Whether an increment was merged from others, of which this is one.
fn holds(merged: &Manifest, increment: &Manifest) -> bool {
    let chain = merged.chain.as_ref().filter(|chain| chain.merged.is_some());
    let base = increment.chain.as_ref().map(|chain| &chain.base);
    chain.is_some()
        && chain.map(|chain| &chain.base) == base
        && merged.cluster_id == increment.cluster_id
        && merged.start_revision <= increment.start_revision
        && increment.revision <= merged.revision
}

fn follow<'a>(
    base: &Manifest,
    all: &'a [Manifest],
    wanted: impl Fn(&Manifest) -> bool,
) -> Vec<&'a Manifest> {
    let mut rest: Vec<&Manifest> = all
        .iter()
        .filter(|backup| backup.kind == Kind::Increment && backup.cluster_id == base.cluster_id)
        .filter(|backup| {
            backup
                .chain
                .as_ref()
                .is_some_and(|chain| chain.base == base.id)
        })
        .filter(|backup| wanted(backup))
        .collect();
    let mut chain: Vec<&Manifest> = Vec::new();
    loop {
        let last = chain.last().copied().unwrap_or(base);
        let follows = |backup: &&Manifest| continues(backup, last) && !is_fenced(backup, last);
        // Two writers may have gone on from one place: the later holder of the lease is the one that was meant to.
        let Some(next) = rest.iter().copied().filter(follows).max_by_key(|backup| {
            let epoch = backup.chain.as_ref().map_or(0, |chain| chain.epoch);
            (epoch, backup.revision)
        }) else {
            return chain;
        };
        chain.push(next);
        rest.retain(|backup| backup.start_revision > Some(next.revision));
    }
}

/// Whether an increment begins where a backup ends, and names its digest.
fn continues(increment: &Manifest, last: &Manifest) -> bool {
    let chain = increment.chain.as_ref();
    increment.start_revision == Some(last.revision + 1)
        && chain.is_some_and(|chain| ends_with(last, &chain.parent_sha256))
}

/// Whether an increment was written under an older epoch than what it continues: its writer had lost the chain by then.
fn is_fenced(increment: &Manifest, last: &Manifest) -> bool {
    let epoch = increment.chain.as_ref().map_or(0, |chain| chain.epoch);
    epoch < last_epoch(last)
}

/// The epoch of a backup's last writer; 0 of a full one.
fn last_epoch(backup: &Manifest) -> u64 {
    let Some(chain) = &backup.chain else { return 0 };
    let merged = chain.merged.as_ref();
    merged.map_or(chain.epoch, |merged| merged.last_epoch)
}

/// Why a chain ends at `last` although an increment begins there, in words.
pub fn refused(last: &Manifest, all: &[Manifest]) -> Option<String> {
    let fenced = all.iter().find(|one| {
        one.kind == Kind::Increment
            && one.cluster_id == last.cluster_id
            && continues(one, last)
            && is_fenced(one, last)
    })?;
    Some(format!(
        "increment {} was written under epoch {}, and {} before it under {}: its writer had lost the chain",
        fenced.id,
        fenced.chain.as_ref().map_or(0, |chain| chain.epoch),
        last.id,
        last_epoch(last)
    ))
}

/// Whether a backup ends with these stored bytes: its own, or those of the last increment that it was merged from.
fn ends_with(backup: &Manifest, sha256: &str) -> bool {
    let merged = backup
        .chain
        .as_ref()
        .and_then(|chain| chain.merged.as_ref());
    backup.stored_sha256 == sha256 || merged.is_some_and(|merged| merged.last_sha256 == sha256)
}

/// A stretch of time of which every moment can be restored, and its revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: Timestamp,
    /// Its last moment.
    pub to: Timestamp,
    /// Its first revision; those of the first full backup's own history are not counted.
    pub first: i64,
    /// Its last revision.
    pub last: i64,
    /// Compact revision of its first full backup: later ones are in that backup's own history.
    pub compacted: i64,
}

impl Window {
    /// The hole between this window and the next one, in words.
    pub fn hole_before(&self, next: &Self) -> String {
        let moment = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let lost = match next.compacted.min(next.first) {
            compacted if compacted > self.last => {
                format!(
                    "; revisions {} to {compacted} are in no backup",
                    self.last + 1
                )
            }
            _ => "; each of their revisions can".to_owned(),
        };
        format!(
            "moments between {} and {} cannot be restored{lost}",
            moment(self.to),
            moment(next.from)
        )
    }
}

/// What the proved backups of one cluster cover without a hole, the oldest first. A full backup alone is one moment; its increments
/// lengthen it, and chains that overlap are one stretch, as are those between which nothing was written.
pub fn windows(backups: &[Manifest]) -> Vec<Window> {
    let proved = |backup: &&Manifest| backup.level >= Level::Verified;
    let fulls = backups
        .iter()
        .filter(|one| one.kind == Kind::Full)
        .filter(proved);
    let mut all: Vec<Window> = fulls
        .map(|base| {
            let increments = increments_of(base, backups);
            let end = increments.into_iter().take_while(proved).last();
            let end = end.unwrap_or(base);
            Window {
                from: base.created,
                to: end.created,
                first: base.revision,
                last: end.revision,
                compacted: base.compact_revision,
            }
        })
        .collect();
    all.sort_by_key(|window| (window.first, window.from));
    let mut merged: Vec<Window> = Vec::new();
    for window in all {
        match merged.last_mut() {
            Some(last) if window.first <= last.last => {
                last.to = last.to.max(window.to);
                last.last = last.last.max(window.last);
            }
            _ => merged.push(window),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn backup(id: &str, first: Option<i64>, last: i64, parent: &str, stored: &str) -> Manifest {
        let mut value = serde_json::json!({
            "formatVersion": 1, "id": id, "kind": "Full", "clusterId": "c", "clusterName": "c",
            "memberId": "1", "etcdVersion": "3.6.0", "backupName": id, "namespace": "default",
            "runId": id, "created": "2026-01-01T00:00:00Z", "completed": "2026-01-01T00:00:00Z",
            "revision": last, "compactRevision": -1, "keyCount": 1, "dataKey": id, "rawSize": 1,
            "storedSize": 1, "plainSha256": "", "storedSha256": stored, "compression": "Zstd",
            "level": "Verified", "toolVersion": "0",
        });
        if let Some(first) = first {
            value["kind"] = "Increment".into();
            value["startRevision"] = first.into();
            value["chain"] = serde_json::json!({"base": "b", "parentSha256": parent, "epoch": 1});
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_merged_increment_stands_for_those_it_was_merged_from() {
        let base = backup("b", None, 10, "", "s0");
        let mut all = vec![
            backup("i1", Some(11), 20, "s0", "s1"),
            backup("i2", Some(21), 30, "s1", "s2"),
            backup("i3", Some(31), 40, "s2", "s3"),
        ];
        let mut merged = backup("m", Some(11), 30, "s0", "sm");
        merged.chain.as_mut().unwrap().merged = Some(crate::repository::MergedFrom {
            count: 2,
            last_sha256: "s2".to_owned(),
            last_epoch: 1,
        });
        all.push(merged);
        let ids = |chain: Vec<&Manifest>| chain.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(increments_of(&base, &all)), ["m", "i3"]);
        // With the small ones gone, and for who asks for one of them.
        assert_eq!(ids(increments_of(&base, &all[2..])), ["m", "i3"]);
        assert_eq!(ids(increments_to(&base, &all[0], &all)), ["i1", "i2", "i3"]);
        assert_eq!(replacement(&all[1], &all).unwrap().id, "m");
        assert!(replacement(&all[2], &all).is_none() && replacement(&all[3], &all).is_none());
        // Its own epoch is that of whoever merged: what followed on the last of the small ones is older, and goes on.
        all[3].chain.as_mut().unwrap().epoch = 7;
        assert_eq!(ids(increments_of(&base, &all)), ["m", "i3"]);
        // One that is proved less replaces nothing, and a comparison with the live cluster is as good through either.
        all[1].level = Level::Consistent;
        assert_eq!(replacement(&all[1], &all).unwrap().id, "m");
        all[3].level = Level::Stored;
        assert!(replacement(&all[1], &all).is_none());
    }

    #[test]
    fn chains_that_overlap_are_one_window_and_a_hole_is_seen() {
        let window = |backups: &[Manifest]| {
            let all = windows(backups);
            all.iter()
                .map(|one| (one.first, one.last))
                .collect::<Vec<_>>()
        };
        let mut all = vec![
            backup("b", None, 10, "", "s0"),
            backup("i1", Some(11), 20, "s0", "s1"),
            backup("c", None, 20, "", "s2"),
            backup("d", None, 35, "", "s3"),
        ];
        assert_eq!(window(&all), [(10, 20), (35, 35)]);
        let seen = windows(&all);
        assert!(
            seen[0]
                .hole_before(&seen[1])
                .contains("each of their revisions can")
        );
        all[3].compact_revision = 30;
        let seen = windows(&all);
        assert!(
            seen[0]
                .hole_before(&seen[1])
                .contains("revisions 21 to 30 are in no backup")
        );
        let mut i2 = backup("i2", Some(21), 36, "s2", "s4");
        i2.chain.as_mut().unwrap().base = "c".to_owned();
        all.push(i2);
        assert_eq!(window(&all), [(10, 36)]);
        // What is not proved is not counted on.
        all.last_mut().unwrap().level = Level::Stored;
        assert_eq!(window(&all), [(10, 20), (35, 35)]);
    }

    #[test]
    fn a_chain_ends_before_its_first_gap_and_at_a_foreign_parent() {
        let base = backup("b", None, 10, "", "s0");
        let all = [
            backup("i3", Some(31), 40, "s2", "s3"),
            backup("i1", Some(11), 20, "s0", "s1"),
            backup("short", Some(11), 15, "s0", "sx"),
            backup("i2", Some(21), 30, "s1", "s2"),
            backup("hole", Some(42), 50, "s3", "s4"),
            backup("fork", Some(41), 60, "other", "s5"),
        ];
        let ids: Vec<&str> = increments_of(&base, &all)
            .iter()
            .map(|m| m.id.as_str())
            .collect();
        assert_eq!(ids, ["i1", "i2", "i3"]);
        // A writer that lost its lease and came further does not hide what its successor wrote.
        let mut fenced: Vec<Manifest> = all.to_vec();
        fenced.push(backup("stale", Some(11), 28, "s0", "s9"));
        for manifest in &mut fenced {
            if manifest.id != "stale"
                && let Some(chain) = &mut manifest.chain
            {
                chain.epoch = 2;
            }
        }
        assert_eq!(increments_of(&base, &fenced).last().unwrap().id, "i3");
        // Nor does one that goes on under an older epoch than its parent's: the chain ends, and the reason is said.
        let mut late = all.to_vec();
        late[3].chain.as_mut().unwrap().epoch = 5;
        let chain = increments_of(&base, &late);
        assert_eq!(chain.last().unwrap().id, "i2");
        let why = refused(chain.last().unwrap(), &late).unwrap();
        assert!(
            why.contains("i3 was written under epoch 1") && why.contains("under 5"),
            "{why}"
        );
        assert_eq!(refused(&base, &late), None);
        let without: Vec<Manifest> = all.iter().filter(|m| m.id != "i2").cloned().collect();
        assert_eq!(increments_of(&base, &without).len(), 1);
    }
}
