//! The end of a backup: the manifest that makes it exist, then retention; or, after a failure, the cleaning up.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::increment::fence;
use super::run::{Attempt, Made};
use super::scratch::Scratch;
use super::{Completed, PipelineError, Stage};
use crate::repository::{Manifest, Repository};
use crate::retain;

/// How long the manifest may take: the deadline must not cut it off, as nobody would know whether the backup exists.
const COMMIT_LIMIT: Duration = Duration::from_secs(120);
/// How long a chain that becomes a full backup may take; the increment stands by then.
const MERGE_LIMIT: Duration = Duration::from_secs(3600);
/// How long retention and the sweep may take; the backup stands by then.
const RETAIN_LIMIT: Duration = Duration::from_secs(600);
/// How long copies to other stores may take; the next backup goes on where this one ended.
const REPLICATE_LIMIT: Duration = Duration::from_secs(3600);
/// How long a failed backup's data may take to be deleted; what stays is swept after a day.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);

impl Attempt<'_> {
    /// Writes the manifest, and then does what a backup that stands is followed by.
    pub(super) async fn commit(
        &self,
        ready: Made,
        scratch: Scratch,
    ) -> Result<Completed, PipelineError> {
        let Made {
            repository,
            mut manifest,
            lease,
            mut warnings,
            about,
            idle,
            merging,
        } = ready;
        self.stages.begin(Stage::Commit);
        if idle.is_none() {
            if let Some(lease) = &lease
                && let Err(error) = fence(lease, &mut manifest).await
            {
                self.clean_up().await;
                return Err(error);
            }
            // From here on nothing is cleaned up: a manifest may be there although its reply was lost.
            self.remember(None);
            manifest.completed = Timestamp::now();
            tokio::time::timeout(COMMIT_LIMIT, repository.commit(&manifest))
                .await
                .map_err(|_| PipelineError::Interrupted {
                    what: "the writing of the manifest",
                })??;
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        let mut synthetic = None;
        if let Some(merging) = merging {
            let work = self.store_synthetic(&repository, &merging, &manifest);
            match tokio::time::timeout(MERGE_LIMIT, work).await {
                Ok(Ok(made)) => synthetic = made,
                Ok(Err(error)) => warnings.push(format!(
                    "the chain of {} was not merged into a full backup: {error}",
                    merging.base.id
                )),
                Err(_) => warnings.push(format!(
                    "the merging of chain {} was given up after {} s",
                    merging.base.id,
                    MERGE_LIMIT.as_secs()
                )),
            }
        }
        drop(scratch);
        self.stages.begin(Stage::Retain);
        let retained = tokio::time::timeout(
            RETAIN_LIMIT,
            self.retain(&repository, &manifest, &mut warnings),
        )
        .await;
        let retired = retained.unwrap_or_else(|_| {
            warnings.push(format!(
                "retention was given up after {} s",
                RETAIN_LIMIT.as_secs()
            ));
            Vec::new()
        });
        if !self.request.spec.replicate_to.is_empty() {
            self.stages.begin(Stage::Replicate);
            let all = tokio::time::timeout(
                REPLICATE_LIMIT,
                self.copies(&repository, &manifest, &mut warnings),
            );
            if all.await.is_err() {
                warnings.push(format!(
                    "ReplicaBehind: copying was given up after {} s and goes on with the next backup",
                    REPLICATE_LIMIT.as_secs()
                ));
            }
        }
        for warning in &warnings {
            tracing::warn!(backup = manifest.id, "{warning}");
        }
        Ok(Completed {
            location: repository.url_of(&manifest),
            manifest,
            stages: Vec::new(),
            retired,
            warnings,
            export: about,
            idle,
            synthetic,
        })
    }

    /// Retention and the sweep of orphans; whatever goes wrong here is only said, for the backup stands.
    async fn retain(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        warnings: &mut Vec<String>,
    ) -> Vec<String> {
        let mut retired = Vec::new();
        if let Some(policy) = &self.request.spec.retention_policy {
            let scope = retain::Scope {
                namespace: Some(self.request.namespace.clone()),
                schedule: self.request.schedule.clone(),
            };
            match repository.catalog(Some(&manifest.cluster_id)).await {
                Err(error) => warnings.push(format!("retention was not applied: {error}")),
                Ok(catalog) => {
                    let now = manifest.completed;
                    let holds = retain::Holds::of(repository, &catalog);
                    let plan = retain::plan(&catalog.backups, &holds, &scope, policy, now);
                    let outcome = retain::run(repository, &catalog, &plan).await;
                    retired = outcome.deleted;
                    warnings.extend(outcome.failures);
                    warnings.extend(catalog.damaged);
                }
            }
        }
        match repository.sweep(manifest.completed).await {
            Ok((swept, manifests)) => {
                if !swept.is_empty() {
                    tracing::info!(count = swept.len(), "orphans of killed backups were swept");
                }
                if manifests <= 1 {
                    warnings.extend(set_up(repository).await);
                }
            }
            Err(error) => warnings.push(format!("orphans were not swept: {error}")),
        }
        retired
    }

    async fn copies(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        warnings: &mut Vec<String>,
    ) {
        match repository.catalog(Some(&manifest.cluster_id)).await {
            Ok(catalog) => {
                let now = manifest.completed;
                self.replicate(repository, &catalog, now, warnings).await;
            }
            Err(error) => warnings.push(format!("ReplicaBehind: nothing was copied: {error}")),
        }
    }

    pub(super) fn remember(&self, stored: Option<(Arc<Repository>, Manifest)>) {
        match self.stored.lock() {
            Ok(mut slot) => *slot = stored,
            Err(poisoned) => *poisoned.into_inner() = stored,
        }
    }

    /// Deletes what a failed attempt stored; best effort, as orphans are swept after a day.
    pub(super) async fn clean_up(&self) {
        let stored = match self.stored.lock() {
            Ok(mut slot) => slot.take(),
            Err(poisoned) => poisoned.into_inner().take(),
        };
        let Some((repository, manifest)) = stored else {
            return;
        };
        let deleted = tokio::time::timeout(CLEANUP_LIMIT, repository.delete(&manifest)).await;
        if !matches!(deleted, Ok(Ok(()))) {
            tracing::warn!(
                key = manifest.data_key,
                "a failed backup's data stays until it is swept after a day"
            );
        }
    }
}

/// The first backup in a store tries out whether it keeps to conditions; later it is `doctor` that does.
async fn set_up(repository: &Repository) -> Option<String> {
    match repository.probe().await {
        Ok(probe) if probe.create_only => None,
        Ok(_) => Some(format!(
            "StoreOverwrites: {} overwrites although it is told to create only; let one process alone write there",
            repository.location()
        )),
        Err(error) => Some(format!("the store could not be tried out: {error}")),
    }
}
