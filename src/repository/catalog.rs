//! What a repository holds, from a listing and its manifests alone.

use std::collections::HashMap;

use futures::StreamExt;

use super::error::RepositoryError;
use super::key::{Key, Role};
use super::{CONCURRENT_REQUESTS, Catalog, Kind, Manifest, Repository};

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
        let manifests = listed
            .into_iter()
            .filter(|listed| listed.key.role == Role::Manifest);
        let mut reads = futures::stream::iter(manifests)
            .map(|listed| async move {
                let read = self.bucket.manifest(&listed.key).await;
                (listed.key, read)
            })
            .buffer_unordered(CONCURRENT_REQUESTS);
        let mut catalog = Catalog::default();
        while let Some((key, read)) = reads.next().await {
            match read {
                Ok(Some(manifest)) => match data_problem(&manifest, &sizes) {
                    None => catalog.backups.push(manifest),
                    Some(problem) => catalog.damaged.push(damaged(&key, &problem)),
                },
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
        catalog.pins = self.read_pins(pins).await;
        catalog.backups.sort_by_cached_key(order);
        catalog.damaged.sort();
        Ok(catalog)
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
            &|manifest| !id.is_empty() && manifest.id.starts_with(id),
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
