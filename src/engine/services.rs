//! What every task of the loop shares: config, Secrets, metrics, alerts, the state folder, the board.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::ResourceName;
use super::board::Board;
use super::host::Host;
use super::lookout::Lookouts;
use super::policy::prometheus_in_force;
use super::slots::Slots;
use super::state::StateDir;
use crate::alert::{Alerter, Event, Facts, Kind, Subject};
use crate::api::{
    ClusterConfig, EtcdBackupScheduleSpec, EtcdBackupSpec, EtcdGuardianConfig, PrometheusSource,
};
use crate::etcd::{ConnectOptions, SharedClusters};
use crate::export::ApiServer;
use crate::pipeline::Services as PipelineServices;
use crate::pipeline::hooks::OnThisHost;
use crate::repository::{Repository, RepositoryError, StoreObserver};
use crate::secrets::Secrets;
use crate::serve::Metrics;

/// What every task of the loop shares.
pub struct Services {
    /// The config file's content.
    pub config: EtcdGuardianConfig,
    /// The config file, for the commands that alerts name.
    pub config_file: Option<PathBuf>,
    /// Where credentials come from.
    pub secrets: Arc<dyn Secrets>,
    /// Connections to etcd that schedules look through.
    pub clusters: SharedClusters,
    /// What schedules of the same cluster share.
    pub lookouts: Lookouts,
    /// The metrics that `/metrics` serves.
    pub metrics: Arc<Metrics>,
    /// Tells people.
    pub alerter: Alerter,
    /// What survives restarts.
    pub state: StateDir,
    /// What the page shows.
    pub board: Board,
    /// Whose resources may use what is this process's own.
    pub trust: Trust,
    /// Endpoints of the etcd that this process found by itself; used where the config names none.
    pub discovered: std::sync::RwLock<Vec<String>>,
    /// Bounds how many pipelines run at once.
    pub slots: Slots,
    /// Bounds how many schedules look at once.
    pub looks: Arc<Semaphore>,
    /// Where the records survive, and who carries backups out.
    pub host: Arc<dyn Host>,
}

/// Whose resources may use what is this process's own: its configured etcd, its cloud identity, its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Everybody's: whoever writes them can read this process's files anyway.
    Everyone,
    /// Those of these namespaces.
    Namespaces(std::collections::BTreeSet<String>),
}

impl Trust {
    /// Whether a namespace's resources are trusted so.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }

    /// The etcd of a backup: see [`Services::cluster_of`].
    pub fn cluster(
        &self,
        own: Option<&ClusterConfig>,
        found: &[String],
        spec: &EtcdBackupSpec,
        namespace: &str,
    ) -> ClusterConfig {
        if !self.covers(namespace) {
            return ClusterConfig::default().for_backup(spec);
        }
        let mut named = own.cloned().unwrap_or_default();
        if named.endpoints.is_empty() {
            named.endpoints = found.to_vec();
        }
        named.for_backup(spec)
    }
}

/// So many schedules look at once: enough to wait for many clusters and stores side by side, few enough to be held in memory.
pub const LOOKS: usize = 32;

/// Counts store requests in the metrics.
struct CountRequests(Arc<Metrics>);

impl StoreObserver for CountRequests {
    fn request(&self, operation: &'static str, ok: bool) {
        self.0.store_request(operation, ok);
    }
}

impl Services {
    /// A command of ours as it can be typed here: with the config file that this process has, if it has one.
    pub fn command(&self, words: &str) -> String {
        let config = self.config_file.as_ref();
        let config = config.map(|file| format!(" --config {}", file.display()));
        format!("etcdguardian {words}{}", config.unwrap_or_default())
    }

    /// The cluster's name in metrics, alerts and pages.
    pub fn cluster_name(&self) -> String {
        cluster_name(&self.config)
    }

    /// The etcd of a backup: its own endpoints and credentials, each absent one taken from the config, or found; for a
    /// namespace that is not trusted its own alone.
    pub fn cluster_of(&self, spec: &EtcdBackupSpec, namespace: &str) -> ClusterConfig {
        let found = self.discovered.read();
        let found = found.unwrap_or_else(std::sync::PoisonError::into_inner);
        self.trust
            .cluster(self.config.cluster.as_ref(), &found, spec, namespace)
    }

    /// The Prometheus that a schedule reads. The config's tells of the config's cluster, and to trusted namespaces alone.
    pub fn prometheus_of(
        &self,
        spec: &EtcdBackupScheduleSpec,
        namespace: &str,
    ) -> Option<PrometheusSource> {
        prometheus_in_force(spec, &self.config, self.trust.covers(namespace))
    }

    /// A word for that cluster and for whom it is asked, the same from start to start: a file can have it as its name. The config's own
    /// is the same cluster whatever its endpoints are.
    pub fn cluster_key(&self, spec: &EtcdBackupSpec, namespace: &str) -> String {
        let own = spec.etcd_endpoints.is_empty() && self.trust.covers(namespace);
        if own && spec.etcd_certificates.is_none() && spec.etcd_auth.is_none() {
            return "own".to_owned();
        }
        let mut cluster = self.cluster_of(spec, namespace);
        if own {
            cluster.endpoints.clear();
        }
        let text = serde_json::to_vec(&cluster).unwrap_or_default();
        let digest = ring::digest::digest(&ring::digest::SHA256, &text);
        let short = digest.as_ref().iter().take(16);
        short.map(|byte| format!("{byte:02x}")).collect()
    }

    /// How to reach the etcd of a backup; credentials are read anew each time.
    pub async fn connect_options(
        &self,
        spec: &EtcdBackupSpec,
        namespace: &str,
    ) -> Result<ConnectOptions, crate::etcd::EtcdError> {
        let cluster = self.cluster_of(spec, namespace);
        ConnectOptions::resolve(&cluster, namespace, self.secrets.as_ref()).await
    }

    /// Opens the repository of a backup; the store's health goes to the board.
    pub async fn repository(
        &self,
        spec: &EtcdBackupSpec,
        namespace: &str,
    ) -> Result<Repository, RepositoryError> {
        let observer = Arc::new(CountRequests(Arc::clone(&self.metrics)));
        let (location, secrets) = (&spec.storage_location, self.secrets.as_ref());
        let mut repository = Repository::open(location, namespace, secrets, observer).await?;
        if !self.trust.covers(namespace) {
            repository.keep_to_secret();
        }
        Ok(repository)
    }

    /// What a pipeline needs of these services.
    pub fn for_pipeline(&self) -> PipelineServices {
        PipelineServices {
            secrets: Arc::clone(&self.secrets),
            observer: Arc::new(CountRequests(Arc::clone(&self.metrics))),
            commands: Arc::new(OnThisHost),
            api: ApiServer::Inferred,
        }
    }

    /// Tells people of trouble with a resource, or of its end.
    pub fn tell(&self, kind: Kind, recovered: bool, about: &About<'_>, facts: Facts) {
        let subject = Subject::schedule(
            &self.cluster_name(),
            &about.name.namespace,
            &about.name.name,
            about.channels,
        );
        let event = if recovered {
            Event::recovered(kind, subject, about.now, facts)
        } else {
            Event::trouble(kind, subject, about.now, facts)
        };
        self.alerter.tell(event);
    }
}

/// The name of the config's cluster in manifests, metrics and alerts.
pub fn cluster_name(config: &EtcdGuardianConfig) -> String {
    let cluster = config.cluster.as_ref();
    cluster
        .and_then(|cluster| cluster.name.clone())
        .unwrap_or_else(|| "etcd".to_owned())
}

/// Which resource an alert is about, who is to hear of it, and when it happened.
pub struct About<'a> {
    /// The resource.
    pub name: &'a ResourceName,
    /// Channels of the schedule; all when empty.
    pub channels: &'a [String],
    /// When.
    pub now: Timestamp,
}
