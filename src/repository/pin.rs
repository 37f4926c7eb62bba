//! Pins: whoever reads a chain says so in the bucket, and retention deletes nothing of it meanwhile. A pin is written anew while its
//! reader lives; one that a dead reader left counts for a quarter of an hour more, by the clock of the store.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::error::RepositoryError;
use super::key::{Key, is_cluster_id, is_id};
use super::{CONCURRENT_REQUESTS, Manifest, Repository};
use crate::api::Provider;

/// A pin counts for so long after it was written.
pub const LIFE: SignedDuration = SignedDuration::from_mins(15);
/// Its reader writes it anew so often: several tries before it ends.
const RENEW: Duration = Duration::from_secs(120);
/// A write that is under way as its reader ends is waited for so long.
const LAST_WRITE: Duration = Duration::from_secs(10);
/// A pin is a few hundred bytes.
const MOST_BYTES: u64 = 4096;

/// A chain that somebody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its cluster.
    pub cluster_id: String,
    /// Id of its full backup, or of the export.
    pub base: String,
    /// Who reads it, for people.
    pub who: String,
    /// It counts until then.
    pub until: Timestamp,
}

impl Pin {
    /// Whether it holds the chain of a backup at `now`.
    pub fn holds(&self, backup: &Manifest, now: Timestamp) -> bool {
        self.until > now && self.cluster_id == backup.cluster_id && self.base == base_of(backup)
    }
}

/// Where a listing found a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PinAt {
    key: String,
    cluster_id: String,
    base: String,
    written: Timestamp,
}

impl PinAt {
    /// The pin that an object below the prefix is; `None` for everything else.
    pub fn of(below: &str, meta: &ObjectMeta) -> Option<Self> {
        let parts: Vec<&str> = below.split('/').collect();
        let [cluster, "v1", "pin", base, file] = parts[..] else {
            return None;
        };
        let ours = is_cluster_id(cluster) && is_id(base) && file.ends_with(".json");
        let written = Timestamp::from_second(meta.last_modified.timestamp()).ok();
        ours.then_some(Self {
            key: below.to_owned(),
            cluster_id: cluster.to_owned(),
            base: base.to_owned(),
            written: written?,
        })
    }
}

/// What lies under a pin's key.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    who: String,
    at: Timestamp,
}

/// This process as others see it in leases and pins.
pub fn this_process() -> String {
    let name = rustix::system::uname();
    format!(
        "{}, process {}",
        name.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// The chain that a backup belongs to.
fn base_of(backup: &Manifest) -> &str {
    let chain = backup.chain.as_ref();
    chain.map_or(backup.id.as_str(), |chain| chain.base.as_str())
}

fn folder(cluster: &str, base: &str) -> String {
    format!("{cluster}/v1/pin/{base}")
}

impl Repository {
    /// Does `work`, which reads these backups of one chain, the first of them its base, while a pin says so. A reader that may not
    /// write goes without, as it must be able to read all the same.
    ///
    /// # Errors
    /// When one of them is gone by the time that the pin is there; nothing was begun then.
    pub async fn pinned<T>(
        &self,
        read: &[&Manifest],
        who: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, RepositoryError> {
        self.pinned_every(RENEW, read, who, work).await
    }

    /// As [`Self::pinned`], with the pin written anew after each `renew`.
    ///
    /// # Errors
    /// As [`Self::pinned`].
    pub async fn pinned_every<T>(
        &self,
        renew: Duration,
        read: &[&Manifest],
        who: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, RepositoryError> {
        let Some(first) = read.first() else {
            return Ok(work.await);
        };
        let held = Held {
            repository: self,
            folder: folder(&first.cluster_id, base_of(first)),
            reader: uuid::Uuid::new_v4().simple().to_string(),
            who: who.to_owned(),
            number: AtomicU64::new(0),
        };
        if let Err(error) = held.write(0).await {
            tracing::warn!(chain = base_of(first), %error, "the chain is read without a pin: retention may delete it meanwhile");
            return Ok(work.await);
        }
        // Whoever deletes looks for pins after the manifests are gone: either this sees them gone, or that sees the pin.
        let outcome = match self.all_there(read).await {
            Err(error) => Err(error),
            Ok(()) => Ok(held.while_at(work, renew).await),
        };
        held.release().await;
        outcome
    }

    async fn all_there(&self, backups: &[&Manifest]) -> Result<(), RepositoryError> {
        let mut keys: Vec<(String, Key)> = Vec::new();
        for backup in backups {
            let key = Key::of_manifest(backup).map_err(|source| RepositoryError::Manifest {
                id: backup.id.clone(),
                source,
            })?;
            keys.push((backup.id.clone(), key));
        }
        futures::stream::iter(keys)
            .map(|(id, key)| async move {
                match self.bucket.head(&key).await? {
                    Some(_) => Ok(()),
                    None => Err(RepositoryError::NotFound {
                        location: self.location(),
                        id,
                    }),
                }
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await
    }

    /// Who reads the chain of a backup at this moment.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pin_on(
        &self,
        backup: &Manifest,
        now: Timestamp,
    ) -> Result<Option<Pin>, RepositoryError> {
        let folder = folder(&backup.cluster_id, base_of(backup));
        let found = self.bucket.list(&folder).await?.pins;
        let pins = self.read_pins(found).await;
        Ok(pins.into_iter().find(|pin| pin.holds(backup, now)))
    }

    /// What the pins of a listing say. One that cannot be read is a pin all the same.
    pub(super) async fn read_pins(&self, found: Vec<PinAt>) -> Vec<Pin> {
        let reads = found.into_iter().map(|at| async move {
            let bytes = match self.bucket.get_small(&at.key, MOST_BYTES).await {
                Ok(None) => return None,
                Ok(Some(bytes)) => Some(bytes),
                Err(_) => None,
            };
            let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            let who = record.map_or_else(|| "somebody".to_owned(), |record| record.who);
            Some(Pin {
                cluster_id: at.cluster_id,
                base: at.base,
                who: who.chars().filter(|c| !c.is_control()).take(120).collect(),
                until: at.written.checked_add(LIFE).unwrap_or(Timestamp::MAX),
            })
        });
        let reads = futures::stream::iter(reads).buffered(CONCURRENT_REQUESTS);
        reads.filter_map(std::future::ready).collect().await
    }

    /// Removes what dead readers left; what cannot be removed harms nobody.
    pub(super) async fn forget_pins(&self, found: &[PinAt], now: Timestamp) {
        for at in found {
            if now.duration_since(at.written) > LIFE * 2 {
                drop(self.bucket.store.delete(&self.bucket.path(&at.key)).await);
            }
        }
    }
}

struct Held<'a> {
    repository: &'a Repository,
    folder: String,
    reader: String,
    who: String,
    number: AtomicU64,
}

impl Held<'_> {
    fn key(&self, number: u64) -> String {
        format!("{}/{}.{number}.json", self.folder, self.reader)
    }

    async fn write(&self, number: u64) -> Result<(), RepositoryError> {
        let record = Record {
            who: self.who.clone(),
            at: Timestamp::now(),
        };
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        let bucket = &self.repository.bucket;
        bucket.create_settled(&self.key(number), bytes.into()).await
    }

    /// Does the work, with the pin kept meanwhile. What is being written as the work ends is waited for: a store may carry out a
    /// request that was given up, and that pin would have nobody to take it away.
    async fn while_at<T>(&self, work: impl Future<Output = T>, renew: Duration) -> T {
        let ended = CancellationToken::new();
        let working = async {
            let _ends = ended.clone().drop_guard();
            work.await
        };
        let given_up = async {
            ended.cancelled().await;
            tokio::time::sleep(LAST_WRITE).await;
        };
        let keeping = async {
            tokio::select! {
                () = self.keep(renew, &ended) => {}
                () = given_up => {}
            }
        };
        tokio::join!(working, keeping).0
    }

    /// Writes the pin anew again and again, each under a name of its own as nothing stored is overwritten.
    async fn keep(&self, renew: Duration, ended: &CancellationToken) {
        while ended
            .run_until_cancelled(tokio::time::sleep(renew))
            .await
            .is_some()
        {
            let last = self.number.load(Ordering::SeqCst);
            match self.write(last + 1).await {
                Ok(()) => {
                    self.number.store(last + 1, Ordering::SeqCst);
                    self.remove(last).await;
                }
                Err(error) => tracing::warn!(%error, "a pin could not be renewed; trying again"),
            }
        }
    }

    async fn remove(&self, number: u64) {
        let bucket = &self.repository.bucket;
        if let Err(error) = bucket.store.delete(&bucket.path(&self.key(number))).await {
            tracing::debug!(%error, "a pin runs out instead of being taken away");
        }
    }

    async fn release(self) {
        self.remove(self.number.load(Ordering::SeqCst)).await;
        let location = &self.repository.location;
        if location.provider == Provider::Local {
            let root = std::path::Path::new(&location.bucket).join(&location.prefix);
            // Only empty directories can be removed so.
            let own = root.join(&self.folder);
            if std::fs::remove_dir(&own).is_ok()
                && let Some(all) = own.parent()
            {
                drop(std::fs::remove_dir(all));
            }
        }
    }
}
