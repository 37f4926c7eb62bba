//! Copies to other stores after a backup: what the other store lacks of this schedule, however many runs it missed, then retention
//! by its own policy. A backup stands without its copies; what is behind is said.

use jiff::Timestamp;

use super::run::Attempt;
use crate::api::{Replica, RetentionPolicy};
use crate::cause::with_causes;
use crate::repository::{Catalog, Manifest, Repository, RepositoryError};
use crate::retain::{self, Scope};

impl Attempt<'_> {
    /// Brings every replica up to date; whatever goes wrong is a warning that says since when the replica is behind.
    pub(super) async fn replicate(
        &self,
        source: &Repository,
        catalog: &Catalog,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) {
        for replica in &self.request.spec.replicate_to {
            let copied = self.replicate_to(source, catalog, replica, now, warnings);
            if let Err(error) = copied.await {
                warnings.push(format!(
                    "ReplicaBehind: {} is not up to date: {}",
                    replica.storage_location,
                    with_causes(&error)
                ));
            }
        }
    }

    async fn replicate_to(
        &self,
        source: &Repository,
        catalog: &Catalog,
        replica: &Replica,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<(), RepositoryError> {
        let request = self.request;
        let secrets = self.services.secrets.as_ref();
        let observer = self.services.observer.clone();
        let location = &replica.storage_location;
        let target = Repository::open(location, &request.namespace, secrets, observer).await?;
        let scope = Scope {
            namespace: Some(request.namespace.clone()),
            schedule: request.schedule.clone(),
        };
        let policy = replica.retention_policy.as_ref();
        for backup in wanted(&catalog.backups, &scope, policy, now) {
            source.copy_to(&target, backup, &|_| {}).await?;
        }
        if let Some(policy) = policy {
            let there = target.catalog(None).await?;
            let holds = retain::Holds::of(&target, &there);
            let plan = retain::plan(&there.backups, &holds, &scope, policy, now);
            let outcome = retain::run(&target, &there, &plan).await;
            warnings.extend(outcome.failures);
        }
        target.sweep(now).await?;
        Ok(())
    }
}

/// What belongs into a replica: what its policy would keep of what is here, each increment after what it builds on.
fn wanted<'a>(
    backups: &'a [Manifest],
    scope: &Scope,
    policy: Option<&RetentionPolicy>,
    now: Timestamp,
) -> Vec<&'a Manifest> {
    let mine = |backup: &&Manifest| {
        backup.schedule == scope.schedule && scope.namespace.as_ref() == Some(&backup.namespace)
    };
    let kept = policy.map(|policy| {
        let holds = retain::Holds::default();
        retain::plan(backups, &holds, scope, policy, now).kept
    });
    let stays = |backup: &&Manifest| {
        kept.as_ref().is_none_or(|kept| {
            kept.iter()
                .any(|one| one.id == backup.id && one.cluster_id == backup.cluster_id)
        })
    };
    let mut found: Vec<&Manifest> = backups.iter().filter(mine).filter(stays).collect();
    found.sort_by_key(|backup| (backup.is_part(), backup.revision));
    found
}
