//! What killed processes leave, removed a day later: data that never got a manifest, uploads that were never finished, and the objects
//! with which a store was tried out.

use std::collections::HashSet;

use jiff::Timestamp;
use object_store::{Error, ObjectStoreExt};

use super::bucket::Listed;
use super::error::RepositoryError;
use super::key::{Key, Role};
use super::{Pin, Repository};
use crate::api::ErrorClass;
use crate::cause::with_causes;

/// How long data may lie without a manifest, and an upload be unfinished: longer than any backup takes.
const ORPHAN_AGE_SECONDS: i64 = 24 * 3600;

impl Repository {
    /// Deletes data that has had no manifest for a day and trials as old, and aborts uploads that were begun longer ago and never
    /// finished; returns what went and how many manifests there are.
    ///
    /// # Errors
    /// When the store does not answer; what could not be deleted stays for the next sweep.
    pub async fn sweep(&self, now: Timestamp) -> Result<(Vec<String>, usize), RepositoryError> {
        let listing = self.bucket.list_clusters(None).await?;
        let (listed, pins) = (listing.objects, listing.pins);
        let manifests = listed
            .iter()
            .filter(|listed| listed.key.role == Role::Manifest)
            .count();
        let mut swept = Vec::new();
        self.forget_pins(&pins, now).await;
        let pins = self.read_pins(pins).await;
        for key in orphans(&listed, now) {
            // What retention had begun to delete is still being read.
            let base = key.base();
            let read =
                |pin: &Pin| pin.until > now && pin.cluster_id == key.cluster && pin.base == base;
            // A backup may have been committed since the listing.
            if pins.iter().any(read) || self.bucket.head(&key.manifest()).await?.is_some() {
                continue;
            }
            match self.bucket.delete(&key).await {
                Ok(()) => {
                    self.tidy(&key);
                    swept.push(key.to_string());
                }
                // Locked objects are normal in write-once buckets.
                Err(error) if error.class() == ErrorClass::Credentials => {
                    tracing::debug!(%key, %error, "an orphan stays");
                }
                Err(error) => return Err(error),
            }
        }
        swept.extend(self.sweep_uploads(now).await);
        swept.extend(self.sweep_trials(now).await?);
        Ok((swept, manifests))
    }

    /// Deletes what a trial of the store left more than a day ago.
    async fn sweep_trials(&self, now: Timestamp) -> Result<Vec<String>, RepositoryError> {
        let mut swept = Vec::new();
        for (path, written) in self.bucket.trials().await? {
            if now.as_second() - written <= ORPHAN_AGE_SECONDS {
                continue;
            }
            let deleted = self.bucket.store.delete(&path).await;
            match self.bucket.observe("delete", deleted) {
                Ok(()) | Err(Error::NotFound { .. }) => swept.push(format!("{path} (a trial)")),
                Err(error) => tracing::debug!(%path, %error, "a trial stays"),
            }
        }
        Ok(swept)
    }

    /// Aborts what was begun more than a day ago. A store that does not list it, or not to this identity, keeps it: backups are
    /// whole without this, so that is only said.
    async fn sweep_uploads(&self, now: Timestamp) -> Vec<String> {
        let Some(uploads) = &self.bucket.uploads else {
            return Vec::new();
        };
        let begun = uploads.begun(&self.bucket.prefix).await;
        let begun = match self.bucket.observe("list", begun) {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!(
                    location = self.bucket.location,
                    error = with_causes(&error),
                    "unfinished uploads cannot be listed, so a lifecycle rule of the bucket should remove them"
                );
                return Vec::new();
            }
        };
        let mut swept = Vec::new();
        for one in begun {
            let is_old = now.as_second() - one.at > ORPHAN_AGE_SECONDS;
            if !is_old || !self.bucket.is_ours(&one.path) {
                continue;
            }
            match self.bucket.observe("delete", uploads.abort(&one).await) {
                Ok(()) | Err(Error::NotFound { .. }) => {
                    swept.push(format!("{} (unfinished upload)", one.path));
                }
                Err(error) => {
                    tracing::debug!(path = %one.path, %error, "an unfinished upload stays");
                }
            }
        }
        swept
    }
}

/// Data without a manifest that is older than a day.
fn orphans(listed: &[Listed], now: Timestamp) -> Vec<Key> {
    let manifests: HashSet<&Key> = listed
        .iter()
        .filter(|listed| listed.key.role == Role::Manifest)
        .map(|listed| &listed.key)
        .collect();
    let mut orphans: Vec<Key> = listed
        .iter()
        .filter(|listed| listed.key.role != Role::Manifest)
        .filter(|listed| now.as_second() - listed.written > ORPHAN_AGE_SECONDS)
        .filter(|listed| !manifests.contains(&listed.key.manifest()))
        .map(|listed| listed.key.clone())
        .collect();
    orphans.sort();
    orphans
}
