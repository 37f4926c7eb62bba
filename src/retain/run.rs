//! Carries a plan out, chain by chain: manifests first and the newest increments before what they build on, so that whatever remains
//! at any instant is whole; data only when nobody has begun to read the chain meanwhile.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::{Outcome, RetentionPlan};
use crate::repository::{Catalog, Manifest, Repository};

/// Carries a plan out; deletes nothing that the plan does not name.
pub async fn run(repository: &Repository, catalog: &Catalog, plan: &RetentionPlan) -> Outcome {
    let named: HashSet<(&str, &str)> = plan
        .dropped
        .iter()
        .map(|judged| (judged.cluster_id.as_str(), judged.id.as_str()))
        .collect();
    let mut outcome = Outcome::default();
    for chain in chains(&catalog.backups, &named) {
        retire(repository, chain, &mut outcome).await;
    }
    outcome
}

/// What is to go, a list for each chain, the oldest chain first, so that an early end leaves the newest.
fn chains<'a>(backups: &'a [Manifest], named: &HashSet<(&str, &str)>) -> Vec<Vec<&'a Manifest>> {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut chains: Vec<Vec<&Manifest>> = Vec::new();
    for backup in backups {
        if !named.contains(&(&backup.cluster_id, &backup.id)) {
            continue;
        }
        let chain = backup.chain.as_ref();
        let base = chain.map_or(backup.id.as_str(), |chain| chain.base.as_str());
        let place = *places
            .entry((&backup.cluster_id, base))
            .or_insert(chains.len());
        match chains.get_mut(place) {
            Some(chain) => chain.push(backup),
            None => chains.push(vec![backup]),
        }
    }
    chains
}

async fn retire(repository: &Repository, chain: Vec<&Manifest>, outcome: &mut Outcome) {
    let (increments, heads): (Vec<&Manifest>, Vec<&Manifest>) =
        chain.into_iter().partition(|backup| backup.is_part());
    let mut order = increments.into_iter().rev().chain(heads);
    let mut unlisted: Vec<&Manifest> = Vec::new();
    for backup in order.by_ref() {
        match repository.unlist(backup).await {
            Ok(()) => unlisted.push(backup),
            Err(error) => {
                let failure = format!("backup {} was not deleted: {error}", backup.id);
                outcome.failures.push(failure);
                break;
            }
        }
    }
    // What an increment that could not be deleted builds on stays as well.
    outcome.failures.extend(order.map(|backup| {
        format!(
            "backup {} stays, as a newer increment of its chain could not be deleted",
            backup.id
        )
    }));
    let Some(first) = unlisted.first() else {
        return;
    };
    let why = match repository.pin_on(first, Timestamp::now()).await {
        Ok(None) => None,
        Ok(Some(pin)) => Some(format!("{} has begun to read it", pin.who)),
        Err(error) => Some(format!("nobody knows who reads it: {error}")),
    };
    match why {
        Some(why) => put_back(repository, &unlisted, &why, outcome).await,
        None => {
            for backup in unlisted {
                match repository.discard(backup).await {
                    Ok(()) => outcome.deleted.push(backup.id.clone()),
                    Err(error) => outcome.failures.push(format!(
                        "the data of backup {} was not deleted: {error}; it is swept after a day",
                        backup.id
                    )),
                }
            }
        }
    }
}

/// Manifests whose data is still there are written again, each after what it builds on.
async fn put_back(
    repository: &Repository,
    unlisted: &[&Manifest],
    why: &str,
    outcome: &mut Outcome,
) {
    for backup in unlisted.iter().rev() {
        outcome
            .failures
            .push(match repository.commit(backup).await {
                Ok(()) => format!("backup {} stays for now: {why}", backup.id),
                Err(error) => format!(
                    "backup {} is no longer listed, though {why}: {error}",
                    backup.id
                ),
            });
    }
}
