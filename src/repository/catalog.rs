//! What a repository holds, from a listing and its manifests alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;

use super::bucket::Listed;
use super::error::RepositoryError;
use super::key::{Key, Role};
use super::memo::{self, Memo};
use super::{Catalog, Kind, MANIFESTS_AT_ONCE, Manifest, Repository};

/// Manifests that need not be read from the store, and the keys of those that must.
struct Known {
    found: Vec<Manifest>,
    unread: Vec<Key>,
}

/// The order of backups: by revision and epoch, never by a clock of the bucket.
fn order(manifest: &Manifest) -> impl Ord + use<> {
    let epoch = manifest.chain.as_ref().map_or(0, |chain| chain.epoch);
    let kind = match manifest.kind {
        Kind::Export => 0,
        Kind::Increment => 1,
        Kind::Full => 2,
    };
    let cluster = manifest.cluster_id.clone();
    (
        cluster,
        manifest.revision,
        epoch,
        manifest.created,
        kind,
        manifest.id.clone(),
    )
}

impl Repository {
    /// Every backup of a cluster (hexadecimal id), or of all.
    ///
    /// # Errors
    /// When the store does not answer. A manifest that cannot be believed is reported in the catalogue.
    pub async fn catalog(&self, cluster_id: Option<&str>) -> Result<Catalog, RepositoryError> {
        let listing = self.bucket.list_clusters(cluster_id).await?;
        let (listed, pins) = (listing.objects, listing.pins);
        let sizes: HashMap<String, u64> = listed
            .iter()
            .filter(|listed| listed.key.role != Role::Manifest)
            .map(|listed| (listed.key.to_string(), listed.size))
            .collect();
        let listed: Vec<Listed> = listed
            .into_iter()
            .filter(|listed| listed.key.role == Role::Manifest)
            .collect();
        let Known { found, unread } = self.recall(&listed).await;
        let (recalled, mut read_now) = (found.len(), 0);
        let mut catalog = Catalog::default();
        let take = |catalog: &mut Catalog, manifest: Manifest| match data_problem(&manifest, &sizes)
        {
            None => catalog.backups.push(manifest),
            Some(problem) => {
                let key = Key::of_manifest(&manifest);
                let place = key.map(|key| damaged(&key, &problem));
                catalog.damaged.extend(place);
            }
        };
        for manifest in found {
            take(&mut catalog, manifest);
        }
        let mut reads = futures::stream::iter(unread)
            .map(|key| async move {
                let read = self.bucket.manifest(&key).await;
                (key, read)
            })
            .buffer_unordered(MANIFESTS_AT_ONCE);
        while let Some((key, read)) = reads.next().await {
            match read {
                Ok(Some(manifest)) => {
                    read_now += 1;
                    take(&mut catalog, manifest);
                }
                // Deleted since the listing.
                Ok(None) => {}
                Err(RepositoryError::Manifest { source, .. }) => {
                    let cause = std::error::Error::source(&source);
                    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                    catalog
                        .damaged
                        .push(damaged(&key, &format!("{source}{cause}")));
                }
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        if Memo::is_due(read_now, recalled + read_now) {
            catalog.backups = self.keep(&listed, catalog.backups).await;
        }
        catalog.pins = self.read_pins(pins).await;
        catalog.backups.sort_by_cached_key(order);
        catalog.damaged.sort();
        Ok(catalog)
    }

    /// What is known of the listed manifests on this machine, and which must be read from the store.
    async fn recall(&self, listed: &[Listed]) -> Known {
        let all = || listed.iter().map(|listed| listed.key.clone()).collect();
        let Some(folder) = self.memos.clone() else {
            return Known {
                found: Vec::new(),
                unread: all(),
            };
        };
        let mut clusters: HashMap<String, HashMap<Key, String>> = HashMap::new();
        let mut unread = Vec::new();
        for listed in listed {
            match memo::stamp(listed) {
                Some(stamp) => {
                    let cluster = clusters.entry(listed.key.cluster.clone()).or_default();
                    cluster.insert(listed.key.clone(), stamp);
                }
                None => unread.push(listed.key.clone()),
            }
        }
        let location = self.location.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            for (cluster, mut stamps) in clusters {
                if let Some(memo) = Memo::new(&folder, &location, &cluster) {
                    found.extend(memo.recall(&mut stamps));
                }
                unread.extend(stamps.into_keys());
            }
            Known { found, unread }
        });
        reading.await.unwrap_or_else(|_| Known {
            found: Vec::new(),
            unread: all(),
        })
    }

    /// Keeps what is known now on this machine, and gives it back.
    async fn keep(&self, listed: &[Listed], backups: Vec<Manifest>) -> Vec<Manifest> {
        let Some(folder) = self.memos.clone() else {
            return backups;
        };
        let stamps: HashMap<Key, String> = listed
            .iter()
            .filter_map(|listed| Some((listed.key.clone(), memo::stamp(listed)?)))
            .collect();
        let location = self.location.clone();
        let backups = Arc::new(backups);
        let kept = Arc::clone(&backups);
        let keeping = tokio::task::spawn_blocking(move || {
            let clusters: BTreeSet<&str> = kept.iter().map(|one| one.cluster_id.as_str()).collect();
            for cluster in clusters {
                let Some(memo) = Memo::new(&folder, &location, cluster) else {
                    continue;
                };
                let own = kept.iter().filter(|one| one.cluster_id == cluster);
                memo.keep(own.filter_map(|one| {
                    let key = Key::of_manifest(one).ok()?;
                    Some((one, stamps.get(&key)?.as_str()))
                }));
            }
        });
        // The catalogue is whole without it.
        if let Err(error) = keeping.await {
            tracing::debug!(%error, "known manifests are not kept");
        }
        Arc::unwrap_or_clone(backups)
    }

    /// One backup by id, name, run id or unique prefix of its id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn find(&self, id: &str) -> Result<Manifest, RepositoryError> {
        let catalog = self.catalog(None).await?;
        self.find_in(&catalog, id)
    }

    /// One backup of a catalogue by id, name, run id or unique prefix of its id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find_in(&self, catalog: &Catalog, id: &str) -> Result<Manifest, RepositoryError> {
        let location = self.location();
        let rules: [&dyn Fn(&Manifest) -> bool; 3] = [
            &|manifest| manifest.id == id || manifest.run_id == id,
            &|manifest| {
                manifest.backup_name == id
                    || id.split_once('/') == Some((&manifest.namespace, &manifest.backup_name))
            },
            &|manifest| begins(&manifest.id, id),
        ];
        for rule in rules {
            let found: Vec<&Manifest> = catalog
                .backups
                .iter()
                .filter(|manifest| rule(manifest))
                .collect();
            match found[..] {
                [] => {}
                [one] => return Ok(one.clone()),
                _ => {
                    let ids: Vec<&str> = found.iter().take(10).map(|m| m.id.as_str()).collect();
                    let candidates = ids.join(", ");
                    return Err(RepositoryError::Ambiguous {
                        location,
                        id: id.to_owned(),
                        candidates,
                    });
                }
            }
        }
        // A damaged manifest is not the same as none.
        match catalog
            .damaged
            .iter()
            .find(|words| !id.is_empty() && words.contains(id))
        {
            Some(words) => Err(RepositoryError::Damaged {
                location,
                key: id.to_owned(),
                problem: words.clone(),
            }),
            None => Err(RepositoryError::NotFound {
                location,
                id: id.to_owned(),
            }),
        }
    }
}

/// Whether an id is meant by its beginning. The id of a full backup, which those of its increments begin with, means none of them:
/// who names a backup that is not there must not get another.
fn begins(id: &str, wanted: &str) -> bool {
    let whole = wanted.contains("Z-");
    let rest = id.strip_prefix(wanted).filter(|_| !wanted.is_empty());
    rest.is_some_and(|rest| !(whole && rest.starts_with('.')))
}

fn data_problem(manifest: &Manifest, sizes: &HashMap<String, u64>) -> Option<String> {
    match sizes.get(&manifest.data_key) {
        None => Some("its data is not in the store".to_owned()),
        Some(size) if *size != manifest.stored_size => Some(format!(
            "its data has {size} bytes and {} were stored",
            manifest.stored_size
        )),
        Some(_) => None,
    }
}

fn damaged(key: &Key, problem: &str) -> String {
    format!("backup {} at {key} cannot be used: {problem}", key.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_id_of_a_full_backup_means_none_of_its_increments() {
        let full = "20261127T021836.014021682Z-26";
        let increment = "20261127T021836.014021682Z-26.27-29";
        for wanted in [
            full,
            "20261127T021836.014021682Z-2",
            "20261127T021836",
            "2026",
        ] {
            assert!(begins(full, wanted), "{wanted}");
        }
        assert!(!begins(increment, full));
        for wanted in [
            increment,
            "20261127T021836.014021682Z-26.27",
            "20261127T021836",
        ] {
            assert!(begins(increment, wanted), "{wanted}");
        }
        assert!(!begins(full, ""));
    }
}
