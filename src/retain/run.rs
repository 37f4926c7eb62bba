//! Carries a plan out: increments before what they build on, so that whatever remains at any instant is whole.

use std::collections::HashSet;

use super::{Outcome, RetentionPlan};
use crate::repository::{Catalog, Manifest, Repository};

/// Carries a plan out; deletes nothing that the plan does not name.
pub async fn run(repository: &Repository, catalog: &Catalog, plan: &RetentionPlan) -> Outcome {
    let named: HashSet<(&str, &str)> = plan
        .dropped
        .iter()
        .map(|judged| (judged.cluster_id.as_str(), judged.id.as_str()))
        .collect();
    let dropped = |backup: &&Manifest| named.contains(&(&backup.cluster_id, &backup.id));
    let (increments, heads): (Vec<&Manifest>, Vec<&Manifest>) = catalog
        .backups
        .iter()
        .filter(dropped)
        .partition(|backup| backup.is_part());
    let mut outcome = Outcome::default();
    // A base of which an increment could not be deleted stays as well.
    let mut held: HashSet<(&str, &str)> = HashSet::new();
    // The newest increments first; the oldest heads first, so that an early end leaves the newest.
    for backup in increments.into_iter().rev().chain(heads) {
        let base = backup
            .chain
            .as_ref()
            .map_or("", |chain| chain.base.as_str());
        let cluster = backup.cluster_id.as_str();
        let is_increment = backup.is_part();
        if held.contains(&(cluster, if is_increment { base } else { &backup.id })) {
            outcome.failures.push(format!(
                "backup {} stays, as a newer increment of its chain could not be deleted",
                backup.id
            ));
            continue;
        }
        match repository.delete(backup).await {
            Ok(()) => outcome.deleted.push(backup.id.clone()),
            Err(error) => {
                if is_increment {
                    held.insert((cluster, base));
                }
                outcome
                    .failures
                    .push(format!("backup {} was not deleted: {error}", backup.id));
            }
        }
    }
    outcome
}
