//! Which backup of a repository is restored when none is named: the newest that was proved.

use std::collections::BTreeSet;

use crate::repository::{Kind, Level, Manifest};

/// Full backups of the repository's one cluster in the order in which they are tried: those that were proved before those that
/// are only stored, each newest first.
///
/// # Errors
/// In words, when the repository holds several clusters, or no full backup.
pub fn candidates(backups: &[Manifest]) -> Result<Vec<&Manifest>, String> {
    let clusters: BTreeSet<&str> = backups
        .iter()
        .map(|backup| backup.cluster_id.as_str())
        .collect();
    if clusters.len() > 1 {
        let ids: Vec<&str> = clusters.into_iter().collect();
        return Err(format!(
            "it holds backups of several clusters ({}): name a backup with --backup ID, or the cluster with --cluster-id ID",
            ids.join(", ")
        ));
    }
    let mut fulls: Vec<&Manifest> = backups
        .iter()
        .filter(|backup| backup.kind == Kind::Full)
        .collect();
    if fulls.is_empty() {
        return Err("it holds no full backup: take one with 'etcdguardian backup create'".into());
    }
    fulls.sort_by_key(|backup| {
        std::cmp::Reverse((
            backup.level >= Level::Verified,
            backup.created,
            backup.revision,
        ))
    });
    Ok(fulls)
}

/// What a person should know of a choice; nothing when it is the newest and proved.
pub fn doubt(chosen: &Manifest, all: &[Manifest]) -> Option<String> {
    let newer = all
        .iter()
        .filter(|backup| backup.kind == Kind::Full && backup.created > chosen.created)
        .max_by_key(|backup| backup.created);
    if chosen.level < Level::Verified {
        return Some(format!("backup '{}' was never verified", chosen.id));
    }
    newer.map(|newer| {
        format!(
            "backup '{}' is newer, but was never verified: to restore it add --backup {}",
            newer.id, newer.id
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;

    use super::*;

    fn backup(id: &str, hour: i64, level: &str, kind: &str, cluster: &str) -> Manifest {
        let time = Timestamp::from_second(hour * 3600).unwrap();
        serde_json::from_value(serde_json::json!({
            "formatVersion": 1, "id": id, "kind": kind, "clusterId": cluster, "clusterName": "c",
            "memberId": "1", "etcdVersion": "3.6.0", "backupName": id, "namespace": "default",
            "runId": id, "created": time, "completed": time, "revision": hour, "compactRevision": -1,
            "keyCount": 1, "dataKey": id, "rawSize": 1, "storedSize": 1, "plainSha256": "",
            "storedSha256": "", "compression": "Zstd", "level": level, "toolVersion": "0",
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_proved_one_comes_first_and_a_newer_doubtful_one_is_named() {
        let all = [
            backup("old", 1, "Verified", "Full", "a"),
            backup("good", 2, "Consistent", "Full", "a"),
            backup("new", 3, "Stored", "Full", "a"),
            backup("increment", 4, "Verified", "Increment", "a"),
        ];
        let order: Vec<&str> = candidates(&all)
            .unwrap()
            .iter()
            .map(|backup| backup.id.as_str())
            .collect();
        assert_eq!(order, ["good", "old", "new"]);
        assert!(doubt(&all[1], &all).unwrap().contains("--backup new"));
        assert!(doubt(&all[2], &all).unwrap().contains("never verified"));
        assert_eq!(doubt(&all[1], &all[..2]), None);
    }

    #[test]
    fn no_full_backup_or_two_clusters_is_an_error_in_words() {
        let increment = [backup("i", 1, "Verified", "Increment", "a")];
        assert!(
            candidates(&increment)
                .unwrap_err()
                .contains("no full backup")
        );
        let two = [
            backup("x", 1, "Verified", "Full", "a"),
            backup("y", 1, "Verified", "Full", "b"),
        ];
        assert!(candidates(&two).unwrap_err().contains("--cluster-id"));
    }
}
