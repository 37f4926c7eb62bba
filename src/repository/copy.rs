//! Copies a backup to another repository: by the store itself between its own buckets, else through here; verified there, resumed
//! where it broke, its seal kept.

use ring::digest;
use tokio::io::AsyncReadExt;

use super::error::RepositoryError;
use super::providers::MOST_AT_ONCE;
use super::{Manifest, Repository, data_key, manifest};
use crate::cause::with_causes;

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The backup was there already, with the same manifest.
    AlreadyThere,
    /// Its data was there from a copy that broke off; it was proved and the manifest written.
    Finished,
    /// Data and manifest were written.
    Whole,
}

impl Repository {
    /// Copies a backup into `target`. The stored bytes are not unsealed; what arrived is read back and its digest compared.
    ///
    /// # Errors
    /// When either store fails, the source is damaged, or another backup of that id is in the target.
    pub async fn copy_to(
        &self,
        target: &Self,
        backup: &Manifest,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Copied, RepositoryError> {
        let own = manifest::check(backup).map_err(|source| RepositoryError::Manifest {
            id: backup.id.clone(),
            source,
        })?;
        let data = data_key(&backup.data_key)?;
        if let Some(there) = target.bucket.manifest(&own).await? {
            return if there == *backup {
                Ok(Copied::AlreadyThere)
            } else {
                let (location, key) = (target.location(), own.to_string());
                Err(RepositoryError::Conflict { location, key })
            };
        }
        let mut copied = Copied::Whole;
        if target.bucket.head(&data).await?.is_some() {
            if target.digest_of(&backup.data_key).await? == backup.stored_sha256 {
                copied = Copied::Finished;
            } else {
                // No manifest names it, so it is the rest of something that never was a backup.
                target.bucket.delete(&data).await?;
            }
        }
        if copied == Copied::Whole {
            if self.taken_by(target, backup).await? {
                progress(backup.stored_size);
            } else {
                self.send_to(target, backup, progress).await?;
            }
        }
        target.commit(backup).await?;
        Ok(copied)
    }

    /// Has the target's server copy the data out of a bucket of its own, and reads back what arrived. False when it cannot or would
    /// not, or another thing arrived: then nothing is there.
    async fn taken_by(&self, target: &Self, backup: &Manifest) -> Result<bool, RepositoryError> {
        let (Some(from), Some(to)) = (&self.bucket.within, &target.bucket.within) else {
            return Ok(false);
        };
        if backup.stored_size > MOST_AT_ONCE || !to.can_take_from(from) {
            return Ok(false);
        }
        let data = data_key(&backup.data_key)?;
        let key = &backup.data_key;
        let (source, arrives) = (self.bucket.path(key), target.bucket.path(key));
        match to.take(from, &source, &arrives).await {
            Ok(()) => target.bucket.observer.request("copy", true),
            // Often it is the target's credentials, which need not see the source.
            Err(error) => tracing::debug!(
                backup = backup.id,
                error = with_causes(&error),
                "the store does not copy by itself"
            ),
        }
        // The answer may be lost, or told too early: what lies there decides.
        if target.bucket.head(&data).await?.is_none() {
            return Ok(false);
        }
        if target.digest_of(key).await? == backup.stored_sha256 {
            return Ok(true);
        }
        target.bucket.delete(&data).await?;
        Ok(false)
    }

    /// Reads the data here and stores it there; what arrived is read back.
    async fn send_to(
        &self,
        target: &Self,
        backup: &Manifest,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RepositoryError> {
        let what = self.url_of(backup);
        let mut reader = self.read(&backup.data_key).await?;
        let (key, size) = (&backup.data_key, backup.stored_size);
        let stored = target
            .store_stream(key, size, &what, &mut reader, progress)
            .await?;
        let arrived = target.digest_of(key).await?;
        if stored.sha256 == backup.stored_sha256 && arrived == backup.stored_sha256 {
            return Ok(());
        }
        target.bucket.delete(&data_key(key)?).await?;
        let (place, problem) = if stored.sha256 == backup.stored_sha256 {
            (
                target,
                "what arrived is not what was sent; try again, and mistrust that store",
            )
        } else {
            (
                self,
                "it is not what its manifest says; copy another backup",
            )
        };
        Err(RepositoryError::Damaged {
            location: place.location(),
            key: key.clone(),
            problem: problem.to_owned(),
        })
    }

    /// SHA-256 of a data object as it lies in the store, hexadecimal.
    async fn digest_of(&self, key: &str) -> Result<String, RepositoryError> {
        let mut reader = self.read(key).await?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 1024 * 1024];
        loop {
            let length =
                reader
                    .read(&mut buffer)
                    .await
                    .map_err(|source| RepositoryError::Source {
                        what: format!("{key} in {}", self.location()),
                        problem: "try again",
                        source,
                    })?;
            match buffer.get(..length) {
                Some([]) | None => break,
                Some(bytes) => hash.update(bytes),
            }
        }
        Ok(hex::encode(hash.finish()))
    }
}
