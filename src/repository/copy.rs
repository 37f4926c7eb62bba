//! Copies a backup to another repository: verified there, resumed where it broke, its seal kept.

use ring::digest;
use tokio::io::AsyncReadExt;

use super::error::RepositoryError;
use super::{Manifest, Repository, data_key, manifest};

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
            let what = self.url_of(backup);
            let mut reader = self.read(&backup.data_key).await?;
            let stored = target
                .store_stream(
                    &backup.data_key,
                    backup.stored_size,
                    &what,
                    &mut reader,
                    progress,
                )
                .await?;
            let arrived = target.digest_of(&backup.data_key).await?;
            if stored.sha256 != backup.stored_sha256 || arrived != backup.stored_sha256 {
                target.bucket.delete(&data).await?;
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
                return Err(RepositoryError::Damaged {
                    location: place.location(),
                    key: backup.data_key.clone(),
                    problem: problem.to_owned(),
                });
            }
        }
        target.commit(backup).await?;
        Ok(copied)
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
