//! What every task of the loop shares: config, Secrets, metrics, alerts, the state folder, the board.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::ResourceName;
use super::board::Board;
use super::state::StateDir;
use crate::alert::{Alerter, Event, Facts, Kind, Subject};
use crate::api::{ClusterConfig, EtcdBackupSpec, EtcdGuardianConfig};
use crate::etcd::ConnectOptions;
use crate::pipeline::Services as PipelineServices;
use crate::repository::{Repository, RepositoryError, StoreObserver};
use crate::secrets::Secrets;
use crate::serve::Metrics;

/// Pipelines that run at once: two databases in scratch and two uploads are enough for one host.
const CONCURRENT_BACKUPS: usize = 2;

/// What every task of the loop shares.
pub struct Services {
    /// The config file's content.
    pub config: EtcdGuardianConfig,
    /// The config file, for the commands that alerts name.
    pub config_file: Option<PathBuf>,
    /// Where credentials come from.
    pub secrets: Arc<dyn Secrets>,
    /// The metrics that `/metrics` serves.
    pub metrics: Arc<Metrics>,
    /// Tells people.
    pub alerter: Alerter,
    /// What survives restarts.
    pub state: StateDir,
    /// What the page shows.
    pub board: Board,
    /// Bounds how many pipelines run at once.
    pub slots: Semaphore,
}

/// Counts store requests in the metrics.
struct CountRequests(Arc<Metrics>);

impl StoreObserver for CountRequests {
    fn request(&self, operation: &'static str, ok: bool) {
        self.0.store_request(operation, ok);
    }
}

impl Services {
    /// A semaphore of as many permits as pipelines may run at once.
    pub fn slots() -> Semaphore {
        Semaphore::new(CONCURRENT_BACKUPS)
    }

    /// The cluster's name in metrics, alerts and pages.
    pub fn cluster_name(&self) -> String {
        self.config
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.name.clone())
            .unwrap_or_else(|| "etcd".to_owned())
    }

    /// The etcd of a backup: its own endpoints and credentials, each absent one taken from the config.
    pub fn cluster_of(&self, spec: &EtcdBackupSpec) -> ClusterConfig {
        let named = self.config.cluster.clone().unwrap_or_default();
        named.for_backup(spec)
    }

    /// How to reach the etcd of a backup; credentials are read anew each time.
    pub async fn connect_options(
        &self,
        spec: &EtcdBackupSpec,
        namespace: &str,
    ) -> Result<ConnectOptions, crate::etcd::EtcdError> {
        let cluster = self.cluster_of(spec);
        ConnectOptions::resolve(&cluster, namespace, self.secrets.as_ref()).await
    }

    /// Opens the repository of a backup; the store's health goes to the board.
    pub async fn repository(
        &self,
        spec: &EtcdBackupSpec,
        namespace: &str,
    ) -> Result<Repository, RepositoryError> {
        let observer = Arc::new(CountRequests(Arc::clone(&self.metrics)));
        Repository::open(
            &spec.storage_location,
            namespace,
            self.secrets.as_ref(),
            observer,
        )
        .await
    }

    /// What a pipeline needs of these services.
    pub fn for_pipeline(&self) -> PipelineServices {
        PipelineServices {
            secrets: Arc::clone(&self.secrets),
            observer: Arc::new(CountRequests(Arc::clone(&self.metrics))),
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

/// Which resource an alert is about, who is to hear of it, and when it happened.
pub struct About<'a> {
    /// The resource.
    pub name: &'a ResourceName,
    /// Channels of the schedule; all when empty.
    pub channels: &'a [String],
    /// When.
    pub now: Timestamp,
}
