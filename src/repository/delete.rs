//! Deletes backups: the manifest first, so that no listing shows half of one, then the data.

use std::path::Path;

use super::error::RepositoryError;
use super::{Kind, Manifest, Repository, data_key, key, manifest};
use crate::api::Provider;

impl Repository {
    /// Deletes a backup: the manifest first, so that no listing shows half of it, then its data.
    ///
    /// # Errors
    /// When the store refuses, or the manifest names anything outside its own folder.
    pub async fn delete(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        self.unlist(manifest).await?;
        self.discard(manifest).await
    }

    /// Deletes a backup's manifest alone: no listing shows it from here on, and it can be put back.
    ///
    /// # Errors
    /// When the store refuses, or the manifest is none that could be written.
    pub async fn unlist(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        let own = manifest::check(manifest).map_err(|source| RepositoryError::Manifest {
            id: manifest.id.clone(),
            source,
        })?;
        data_key(&manifest.data_key)?;
        self.bucket.delete(&own).await
    }

    /// Deletes the data of a backup whose manifest is gone.
    ///
    /// # Errors
    /// When the store refuses, or the manifest names anything outside its own folder.
    pub async fn discard(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        manifest::check(manifest).map_err(|source| RepositoryError::Manifest {
            id: manifest.id.clone(),
            source,
        })?;
        let data = data_key(&manifest.data_key)?;
        self.bucket.delete(&data).await?;
        self.tidy(&data);
        if manifest.kind == Kind::Full {
            self.forget_leases(&manifest.cluster_id, &manifest.id).await;
        }
        Ok(())
    }

    /// Deletes data under this key when no manifest names it: the rest of what was broken off. Only for whoever alone may write there,
    /// as the holder of a chain's lease.
    ///
    /// # Errors
    /// When the store refuses, or the key is not one of data.
    pub async fn discard_rest(&self, key: &str) -> Result<(), RepositoryError> {
        let data = data_key(key)?;
        let there = self.bucket.head(&data).await?.is_some();
        if there && self.bucket.head(&data.manifest()).await?.is_none() {
            tracing::info!(%data, "the rest of what was broken off is removed");
            self.bucket.delete(&data).await?;
        }
        Ok(())
    }

    /// Directories outlive their last file, unlike the folders of object stores.
    pub(super) fn tidy(&self, key: &key::Key) {
        if self.location.provider != Provider::Local {
            return;
        }
        let root = Path::new(&self.location.bucket).join(&self.location.prefix);
        if let Some(folder) = root.join(key.to_string()).parent() {
            // Only an empty directory can be removed so; any other stays.
            drop(std::fs::remove_dir(folder));
        }
    }
}
