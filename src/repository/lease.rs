//! A lease on a chain, in the bucket itself, so that two writers never interleave one: each holder takes the next epoch by a
//! create-only write, and a manifest carries the epoch of its writer. No clock of another machine is believed: a holder that has
//! shown no life for as long as the waiting one has watched is taken over, and finds that out before it commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::RepositoryError;
use super::{Repository, process};

/// A lease is a few hundred bytes.
const MOST_BYTES: u64 = 4096;

/// How long a lease lives and how long one waits for it.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// The holder takes the next epoch so often.
    pub renew: Duration,
    /// A holder that has not for so long is taken over: several times `renew`, as requests are retried.
    pub dead: Duration,
    /// A living holder is waited for no longer than this.
    pub patience: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(15),
            dead: Duration::from_secs(60),
            patience: Duration::from_secs(120),
        }
    }
}

/// What lies under an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    holder: String,
    who: String,
    at: Timestamp,
    #[serde(default)]
    released: bool,
    /// The process that wrote it, where its machine can say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<String>,
}

/// The right to write a chain, kept alive until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    held: Held,
    renewing: JoinHandle<()>,
}

#[derive(Clone)]
struct Held {
    repository: Arc<Repository>,
    folder: String,
    holder: String,
    who: String,
    epoch: Arc<AtomicU64>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Takes the lease on the chain of `base`. `who` is shown to whoever waits; `floor` is an epoch that the chain has reached.
    ///
    /// # Errors
    /// When somebody else holds it and is alive, or the store does not answer.
    pub async fn lease(
        self: &Arc<Self>,
        cluster: &str,
        base: &str,
        who: &str,
        floor: u64,
        times: LeaseTimes,
    ) -> Result<Lease, RepositoryError> {
        let held = Held {
            repository: Arc::clone(self),
            folder: folder(cluster, base),
            holder: uuid::Uuid::new_v4().simple().to_string(),
            who: who.to_owned(),
            epoch: Arc::new(AtomicU64::new(0)),
        };
        let start = Instant::now();
        let mut watched: Option<(u64, Instant)> = None;
        loop {
            let newest = self.newest_lease(&held.folder).await?;
            let next = newest.as_ref().map_or(0, |(epoch, _)| *epoch).max(floor) + 1;
            if let Some((epoch, record)) = newest.filter(|(_, record)| !record.released) {
                let since = match watched {
                    Some((seen, since)) if seen == epoch => since,
                    _ => Instant::now(),
                };
                watched = Some((epoch, since));
                let gone = record.process.as_deref().is_some_and(process::is_gone);
                if !gone && since.elapsed() < times.dead {
                    if start.elapsed() > times.patience {
                        return Err(self.locked(base, &record));
                    }
                    tokio::time::sleep(times.dead / 20).await;
                    continue;
                }
                tracing::warn!(
                    base,
                    holder = record.who,
                    "a lease without life is taken over"
                );
            }
            match held.take(next, false).await {
                Ok(()) => {}
                // Another was faster: look again who it is.
                Err(RepositoryError::Conflict { .. }) => continue,
                Err(error) => return Err(error),
            }
            if held.is_newest(next).await? {
                held.forget_older(next).await;
                let renewing = tokio::spawn(held.clone().keep(times.renew));
                return Ok(Lease { held, renewing });
            }
        }
    }

    fn locked(&self, base: &str, record: &Record) -> RepositoryError {
        RepositoryError::Locked {
            location: self.location(),
            base: base.to_owned(),
            holder: record
                .who
                .chars()
                .filter(|c| !c.is_control())
                .take(120)
                .collect(),
        }
    }

    /// The newest lease of a chain.
    async fn newest_lease(&self, folder: &str) -> Result<Option<(u64, Record)>, RepositoryError> {
        loop {
            let Some(epoch) = self.epochs(folder).await?.into_iter().max() else {
                return Ok(None);
            };
            let key = key(folder, epoch);
            // It may have been replaced by a newer one since the listing: look again.
            if let Some(bytes) = self.bucket.get_small(&key, MOST_BYTES).await? {
                let record =
                    serde_json::from_slice(&bytes).map_err(|_| RepositoryError::Damaged {
                        location: self.location(),
                        key,
                        problem: "it is no lease; delete it when no backup is running".to_owned(),
                    })?;
                return Ok(Some((epoch, record)));
            }
        }
    }

    /// The epochs under which a lease lies.
    async fn epochs(&self, folder: &str) -> Result<Vec<u64>, RepositoryError> {
        let path = self.bucket.path(folder);
        let found: object_store::Result<Vec<u64>> = self
            .bucket
            .store
            .list(Some(&path))
            .try_filter_map(|meta| {
                let name = meta
                    .location
                    .filename()
                    .and_then(|name| name.strip_suffix(".json"));
                std::future::ready(Ok(name.and_then(|name| name.parse::<u64>().ok())))
            })
            .try_collect()
            .await;
        self.bucket
            .observe("list", found)
            .map_err(|error| self.bucket.attempt("list", folder).failed(error))
    }

    /// Removes what is left of the leases of a chain that is gone; what cannot be removed harms nobody.
    pub(super) async fn forget_leases(&self, cluster: &str, base: &str) {
        let folder = folder(cluster, base);
        let epochs = self.epochs(&folder).await.unwrap_or_default();
        self.delete_leases(&folder, epochs).await;
    }

    async fn delete_leases(&self, folder: &str, epochs: Vec<u64>) {
        let deletes = epochs.into_iter().map(|epoch| async move {
            let path = self.bucket.path(&key(folder, epoch));
            if let Err(error) = self.bucket.store.delete(&path).await {
                tracing::debug!(%path, %error, "an old lease stays");
            }
        });
        futures::stream::iter(deletes)
            .buffer_unordered(super::CONCURRENT_REQUESTS)
            .collect::<()>()
            .await;
    }
}

impl Lease {
    /// The epoch that a manifest written now carries.
    pub fn epoch(&self) -> u64 {
        self.held.epoch.load(Ordering::SeqCst)
    }

    /// Makes sure, right before a commit, that nobody has taken over.
    ///
    /// # Errors
    /// When somebody has, or the store does not answer.
    pub async fn confirm(&self) -> Result<(), RepositoryError> {
        let held = &self.held;
        let newest = held.repository.newest_lease(&held.folder).await?;
        match newest {
            Some((_, record)) if record.holder == held.holder => Ok(()),
            Some((_, record)) => Err(held.repository.locked(held.base(), &record)),
            None => Err(RepositoryError::NoObject {
                location: held.repository.location(),
                key: held.folder.clone(),
            }),
        }
    }

    /// Gives the lease back, so that the next writer need not wait.
    pub async fn release(self) {
        self.renewing.abort();
        if let Err(error) = self.held.give_back(self.epoch() + 1).await {
            tracing::debug!(%error, "a lease runs out instead of being given back");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Held {
    fn base(&self) -> &str {
        self.folder.rsplit('/').next().unwrap_or_default()
    }

    /// Writes the record of an epoch, create-only; a lost reply is settled by reading back.
    async fn take(&self, epoch: u64, released: bool) -> Result<(), RepositoryError> {
        let record = Record {
            holder: self.holder.clone(),
            who: self.who.clone(),
            at: Timestamp::now(),
            released,
            process: process::this_process(),
        };
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        let key = key(&self.folder, epoch);
        self.repository
            .bucket
            .create_settled(&key, bytes.into())
            .await?;
        self.epoch.store(epoch, Ordering::SeqCst);
        Ok(())
    }

    /// Whether this epoch is the newest and ours, after it was written: an older one that was tidied away could be taken again, and
    /// a store that ignores conditions lets a later writer replace ours.
    async fn is_newest(&self, epoch: u64) -> Result<bool, RepositoryError> {
        let newest = self.repository.newest_lease(&self.folder).await?;
        Ok(newest.is_some_and(|(seen, record)| seen == epoch && record.holder == self.holder))
    }

    /// Writes that the lease is free from this epoch on, or from the next where a renewal that was given up took it all the same.
    async fn give_back(&self, mut epoch: u64) -> Result<(), RepositoryError> {
        let taken = self.take(epoch, true).await;
        if matches!(taken, Err(RepositoryError::Conflict { .. })) && self.is_newest(epoch).await? {
            epoch += 1;
            self.take(epoch, true).await?;
        } else {
            taken?;
        }
        self.forget_older(epoch).await;
        Ok(())
    }

    async fn forget_older(&self, epoch: u64) {
        let epochs = self
            .repository
            .epochs(&self.folder)
            .await
            .unwrap_or_default();
        let older = epochs.into_iter().filter(|old| *old < epoch).collect();
        self.repository.delete_leases(&self.folder, older).await;
    }

    /// Takes the next epoch again and again; ends when somebody else has.
    async fn keep(self, renew: Duration) {
        loop {
            tokio::time::sleep(renew).await;
            let next = self.epoch.load(Ordering::SeqCst) + 1;
            match self.take(next, false).await {
                Ok(()) => self.forget_older(next).await,
                Err(RepositoryError::Conflict { .. }) => return,
                Err(error) => tracing::warn!(%error, "a lease could not be renewed; trying again"),
            }
        }
    }
}

fn folder(cluster: &str, base: &str) -> String {
    format!("{cluster}/v1/lock/{base}")
}

fn key(folder: &str, epoch: u64) -> String {
    format!("{folder}/{epoch}.json")
}
