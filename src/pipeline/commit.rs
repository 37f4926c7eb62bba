//! The end of a backup: the manifest that makes it exist, then retention; or, after a failure, the cleaning up.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::run::{Attempt, Made};
use super::{Completed, PipelineError, Stage};
use crate::repository::{Manifest, Repository};
use crate::retain;

/// How long the manifest may take: the deadline must not cut it off, as nobody would know whether the backup exists.
const COMMIT_LIMIT: Duration = Duration::from_secs(120);
/// How long retention and the sweep may take; the backup stands by then.
const RETAIN_LIMIT: Duration = Duration::from_secs(600);
/// How long a failed backup's data may take to be deleted; what stays is swept after a day.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);

impl Attempt<'_> {
    pub(super) async fn commit(&self, ready: Made) -> Result<Completed, PipelineError> {
        let Made {
            repository,
            mut manifest,
            mut warnings,
        } = ready;
        self.stages.begin(Stage::Commit);
        // From here on nothing is cleaned up: a manifest may be there although its reply was lost.
        self.remember(None);
        manifest.completed = Timestamp::now();
        tokio::time::timeout(COMMIT_LIMIT, repository.commit(&manifest))
            .await
            .map_err(|_| PipelineError::Interrupted {
                what: "the writing of the manifest",
            })??;
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
        for warning in &warnings {
            tracing::warn!(backup = manifest.id, "{warning}");
        }
        Ok(Completed {
            location: repository.url_of(&manifest),
            manifest,
            stages: Vec::new(),
            retired,
            warnings,
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
                    let plan = retain::plan(&catalog.backups, &scope, policy, now);
                    let outcome = retain::run(repository, &catalog, &plan).await;
                    retired = outcome.deleted;
                    warnings.extend(outcome.failures);
                    warnings.extend(catalog.damaged);
                }
            }
        }
        match repository.sweep(manifest.completed).await {
            Ok(swept) if !swept.is_empty() => {
                tracing::info!(count = swept.len(), "orphans of killed backups were swept");
            }
            Ok(_) => {}
            Err(error) => warnings.push(format!("orphans were not swept: {error}")),
        }
        retired
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
