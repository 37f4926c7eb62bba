//! What a restore depends on: the backup and its chain, the StatefulSet, the Jobs, and what the restored members answer.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::job;
use super::members::{members, static_pods};
use super::rules;
use super::seen::{Health, JobState, Seen, Source};
use super::static_pods::{self, Turn};
use crate::api::{ClusterConfig, Encryption, EtcdBackup, EtcdRestore, StorageLocation};
use crate::cause::with_causes;
use crate::etcd::{ConnectOptions, Etcd};
use crate::operator::context::Context;
use crate::recorder::merge::Until;
use crate::restore::chain;
use crate::snapshot::datadir::Cluster;

/// The backup that an object speaks of.
pub struct Stored {
    /// Its id in the catalogue.
    pub id: String,
    /// Last revision in it.
    pub revision: i64,
    /// Where it lies.
    pub location: StorageLocation,
    /// How it is encrypted.
    pub encryption: Option<Encryption>,
    /// The object itself.
    pub backup: EtcdBackup,
}

/// Looks at everything but the store.
pub async fn observe<'a>(
    context: &Context,
    restore: &'a EtcdRestore,
) -> Result<Seen<'a>, kube::Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let cluster = restore.spec.etcd_cluster.clone().unwrap_or_default();
    let sets: Api<StatefulSet> = context.api(&namespace);
    let stateful_set = match &cluster.stateful_set {
        Some(set) => sets.get_opt(&set.name).await?,
        None => None,
    };
    let phase = restore
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let turn = match phase {
        Some("Quiescing") => Some(Turn::Off),
        Some("Validating") => Some(Turn::On),
        _ => None,
    };
    let (mut states, mut turns) = (Vec::new(), Vec::new());
    let members = members(&restore.spec, stateful_set.as_ref()).unwrap_or_default();
    if phase == Some("Restoring") {
        for member in &members {
            states.push(job_state(context, &namespace, &job::job_name(restore, member)).await?);
        }
    }
    if let Some(turn) = turn {
        for member in static_pods(&restore.spec, members) {
            let name = static_pods::job_name(turn, restore, &member);
            turns.push(job_state(context, &namespace, &name).await?);
        }
    }
    let started = turns.iter().all(|state| *state == JobState::Done);
    let health = if phase == Some("Validating") && started {
        health(context, restore, stateful_set.as_ref()).await
    } else {
        Health::NotAsked
    };
    Ok(Seen {
        restore,
        problems: rules::problems(&restore.spec),
        trusted: context.services.trust.covers(&namespace),
        jobs: context.config.jobs.image.is_some(),
        own_etcd: stateful_set.is_none() && is_own(context, &cluster.endpoints),
        source: Source::NotLooked,
        stateful_set,
        states,
        turns,
        health,
    })
}

/// Whether one of these is an endpoint of the etcd that the operator was told of, or found in its cluster.
fn is_own(context: &Context, endpoints: &[String]) -> bool {
    let configured = context.services.config.cluster.as_ref();
    let found = context.services.discovered.read();
    let found = found.unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut own = found.iter().chain(
        configured
            .into_iter()
            .flat_map(|cluster| &cluster.endpoints),
    );
    own.any(|own| endpoints.contains(own))
}

async fn job_state(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<JobState, kube::Error> {
    let jobs: Api<Job> = context.api(namespace);
    let job = jobs.get_opt(name).await?;
    let state = job::state(job.as_ref(), &[]);
    let JobState::Failed(_) = state else {
        return Ok(state);
    };
    let pods: Api<Pod> = context.api(namespace);
    let params = ListParams::default().labels(&format!("job-name={name}"));
    Ok(job::state(job.as_ref(), &pods.list(&params).await?.items))
}

/// The backup that the restore names, from its object in the same namespace.
pub async fn stored(context: &Context, restore: &EtcdRestore) -> Option<Stored> {
    let api: Api<EtcdBackup> = context.api(&restore.namespace().unwrap_or_default());
    let backup = match (&restore.spec.backup_name, &restore.spec.snapshot_location) {
        (Some(name), _) => api.get_opt(name).await.ok()??,
        (None, Some(url)) => {
            let all = api.list(&ListParams::default()).await.ok()?;
            all.items.into_iter().find(|backup| {
                let status = backup.status.as_ref();
                status.and_then(|status| status.snapshot_location.as_ref()) == Some(url)
            })?
        }
        (None, None) => return None,
    };
    let status = backup.status.clone()?;
    Some(Stored {
        id: status.backup_id?,
        revision: status.etcd_revision?,
        location: backup.spec.storage_location.clone(),
        encryption: backup.spec.encryption.clone(),
        backup,
    })
}

/// The chain in the store that leads to the target.
pub async fn source(context: &Context, restore: &EtcdRestore) -> Source {
    let namespace = restore.namespace().unwrap_or_default();
    let Some(stored) = stored(context, restore).await else {
        let named = restore
            .spec
            .backup_name
            .as_deref()
            .or(restore.spec.snapshot_location.as_deref());
        return Source::Missing(format!(
            "no completed EtcdBackup of namespace {namespace} is {}: see kubectl -n {namespace} get etcdbackups",
            named.unwrap_or_default()
        ));
    };
    let opened = context
        .services
        .repository(&stored.backup.spec, &namespace)
        .await;
    let catalog = match opened {
        Ok(repository) => repository.catalog(None).await,
        Err(error) => Err(error),
    };
    let catalog = match catalog {
        Ok(catalog) => catalog,
        Err(error) => return Source::Unknown(with_causes(&error)),
    };
    let own = |manifest: &&crate::repository::Manifest| {
        manifest.id == stored.id && manifest.namespace == namespace
    };
    let Some(named) = catalog.backups.iter().find(own) else {
        return Source::Missing(format!("the store no longer holds backup {}", stored.id));
    };
    let same: Vec<_> = catalog
        .backups
        .iter()
        .filter(|one| one.cluster_id == named.cluster_id && one.namespace == namespace)
        .cloned()
        .collect();
    let until = rules::until(&restore.spec).unwrap_or(Until::Revision(named.revision));
    match chain::resolve(&same, Some(named), until) {
        Err(problem) => Source::Missing(problem),
        Ok(chain) => {
            let all = std::iter::once(chain.base).chain(chain.increments.iter().copied());
            Source::Found {
                chain: all.map(|backup| backup.id.clone()).collect(),
                version: chain.base.etcd_version.clone(),
            }
        }
    }
}

/// Asks every endpoint of the restored cluster for its hash.
async fn health(context: &Context, restore: &EtcdRestore, set: Option<&StatefulSet>) -> Health {
    let namespace = restore.namespace().unwrap_or_default();
    let named = restore.spec.etcd_cluster.clone().unwrap_or_default();
    if named.endpoints.is_empty() {
        return Health::NotAsked;
    }
    let cluster = ClusterConfig {
        endpoints: named.endpoints,
        certificates: named.certificates,
        ..ClusterConfig::default()
    };
    let secrets = context.services.secrets.as_ref();
    let options = match ConnectOptions::resolve(&cluster, &namespace, secrets).await {
        Ok(options) => options,
        Err(error) => return Health::Waiting(with_causes(&error)),
    };
    let members = members(&restore.spec, set).unwrap_or_default();
    let token = restore
        .status
        .as_ref()
        .and_then(|status| status.cluster_token.clone());
    let expected = Cluster::parse(&job::initial_cluster(&members), &token.unwrap_or_default());
    let expected = expected.map(|cluster| cluster.id).ok();
    let etcd = Etcd::unconnected(&options);
    let mut revisions = Vec::new();
    let mut endpoints = Vec::new();
    for (endpoint, status) in etcd.members().await {
        match status {
            Ok(status) if Some(status.cluster_id) != expected => {
                return Health::Waiting(format!(
                    "{endpoint} is not a member of the restored cluster: the old etcd still runs there"
                ));
            }
            Ok(status) if status.leader == 0 => {
                return Health::Waiting(format!("{endpoint} knows no leader yet"));
            }
            Ok(status) => {
                revisions.push(status.revision);
                endpoints.push(endpoint);
            }
            Err(error) => return Health::Waiting(format!("{endpoint} does not answer: {error}")),
        }
    }
    let Some(revision) = revisions.iter().copied().min() else {
        return Health::NotAsked;
    };
    let mut hashes = Vec::new();
    for endpoint in &endpoints {
        match etcd.hash_kv_of(endpoint, revision).await {
            Ok(hash) => hashes.push((endpoint.clone(), hash.hash.hash)),
            Err(error) => return Health::Waiting(format!("{endpoint} does not answer: {error}")),
        }
    }
    let first = hashes.first().map_or(0, |(_, hash)| *hash);
    match hashes.iter().find(|(_, hash)| *hash != first) {
        None => Health::Healthy {
            revision,
            hash: first,
        },
        Some((endpoint, hash)) => Health::Differ(format!(
            "the restored members differ: {endpoint} answers hash {hash} at revision {revision}, another {first}"
        )),
    }
}
