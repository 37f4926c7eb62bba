//! Which increments follow on a full backup without a gap. Pure: revisions and digests decide, never a clock.

use super::{Kind, Manifest};

/// The increments of `all` that continue `base`, each beginning where the one before it ended and naming its digest.
pub fn increments_of<'a>(base: &Manifest, all: &'a [Manifest]) -> Vec<&'a Manifest> {
    let mut rest: Vec<&Manifest> = all
        .iter()
        .filter(|backup| backup.kind == Kind::Increment && backup.cluster_id == base.cluster_id)
        .filter(|backup| {
            backup
                .chain
                .as_ref()
                .is_some_and(|chain| chain.base == base.id)
        })
        .collect();
    let mut chain: Vec<&Manifest> = Vec::new();
    loop {
        let last = chain.last().copied().unwrap_or(base);
        let follows = |backup: &&Manifest| {
            backup.start_revision == Some(last.revision + 1)
                && backup
                    .chain
                    .as_ref()
                    .is_some_and(|chain| chain.parent_sha256 == last.stored_sha256)
        };
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
        let without: Vec<Manifest> = all.iter().filter(|m| m.id != "i2").cloned().collect();
        assert_eq!(increments_of(&base, &without).len(), 1);
    }
}
