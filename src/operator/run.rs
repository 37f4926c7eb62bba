//! Starts the operator: serves, waits for the lease, runs the controllers while it is held, and releases it at the end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use tokio::sync::{Semaphore, watch};

use super::context::Context;
use super::labels::MANAGER;
use super::lease::{Election, RELEASE};
use super::retries::Retries;
use super::runs::Runs;
use super::schedule::ClusterHost;
use super::secrets::{ClusterSecrets, own_cluster, own_prometheus};
use super::{backup, discovery, manifests, restore, schedule};
use crate::alert::{AlertObserver, Alerter, Heartbeat};
use crate::api::{ErrorClass, EtcdBackup, EtcdGuardianConfig};
use crate::cause::with_causes;
use crate::engine::{
    Board, Host, LOOKS, Lookouts, Services, Slots, StateDir, StateError, Trust, cluster_name,
    digest,
};
use crate::serve::{self, Metrics};

/// The page's word on alerts is renewed this often.
const TICK: Duration = Duration::from_secs(1);
/// Where the operator keeps what need not outlive it, when the config names no folder.
const STATE: &str = "/var/lib/etcdguardian";

/// Why the operator could not start, or a Job could not.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No API server.
    #[error(
        "the Kubernetes API server cannot be used: {0}; check the kubeconfig, or the service account and its role"
    )]
    Client(String),
    /// The CustomResourceDefinitions are not there, or may not be read.
    #[error(
        "the EtcdBackups cannot be listed: {0}; install the CustomResourceDefinitions (`make install`, or the chart) and the operator's role"
    )]
    Resources(String),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The listener.
    #[error(transparent)]
    Listen(#[from] serve::ListenError),
    /// Another replica may lead now.
    #[error("the lease is lost: {0}; another replica takes over, and this process ends")]
    LeaseLost(String),
    /// A Job that came too late.
    #[error("EtcdBackup {backup} does not wait for this Job's run: nothing was done")]
    Superseded {
        /// The object.
        backup: String,
    },
}

impl OperatorError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Client(_) | Self::Resources(_) | Self::Listen(_) => ErrorClass::Failed,
            Self::State(error) => error.class(),
            Self::LeaseLost(_) => ErrorClass::Locked,
            Self::Superseded { .. } => ErrorClass::Refused,
        }
    }

    /// Words of the client library are long chains of causes.
    pub(super) fn client(error: impl std::error::Error) -> Self {
        Self::Client(with_causes(&error))
    }
}

/// What the operator is started with.
pub struct Start {
    /// The config file's content.
    pub config: EtcdGuardianConfig,
    /// The config file, for the commands that alerts name.
    pub config_file: Option<PathBuf>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Told,
}

/// The namespace that the operator runs in.
pub fn namespace_of(config: &EtcdGuardianConfig, client: &Client) -> String {
    let named = config.operator.namespace.clone();
    named
        .or_else(|| std::env::var("POD_NAMESPACE").ok())
        .unwrap_or_else(|| client.default_namespace().to_owned())
}

/// Whose resources may use what is the operator's own.
pub(super) fn trust_of(config: &EtcdGuardianConfig, own_namespace: &str) -> Trust {
    let mut trusted: BTreeSet<String> =
        config.operator.trusted_namespaces.iter().cloned().collect();
    trusted.insert(own_namespace.to_owned());
    Trust::Namespaces(trusted)
}

/// Runs until `told` to end, or until the lease is lost.
///
/// # Errors
/// When the API server, the state folder or the listener cannot be used, or the lease is lost.
pub async fn run(start: Start, told: impl Future<Output = ()>) -> Result<Ended, OperatorError> {
    crate::init_tls();
    let client = Client::try_default().await.map_err(OperatorError::client)?;
    let backups: Api<EtcdBackup> = Api::all(client.clone());
    backups
        .list(&ListParams::default().limit(1))
        .await
        .map_err(|error| OperatorError::Resources(with_causes(&error)))?;
    let mut config = start.config;
    let namespace = namespace_of(&config, &client);
    let trust = trust_of(&config, &namespace);
    config.cluster = config.cluster.map(own_cluster);
    config.prometheus = config.prometheus.map(own_prometheus);
    let state_root = config.state_dir.clone().unwrap_or_else(|| STATE.into());
    let state = StateDir::open(&state_root)?;
    state.empty_scratch()?;
    let metrics = Arc::new(Metrics::new());
    metrics.leading(false);
    let (alerter, _dispatcher) = Alerter::start(
        config.alerts.clone(),
        Arc::clone(&metrics) as Arc<dyn AlertObserver>,
        Some(state.alerts_file()),
    );
    let board = Board::new(&cluster_name(&config), Timestamp::now(), &state);
    let (ready, is_ready) = watch::channel(false);
    let listen = config.serve.listen.clone();
    let server = if listen.is_empty() {
        None
    } else {
        Some(
            serve::start(
                &config.serve,
                Arc::clone(&metrics),
                board.subscribe(),
                is_ready,
            )
            .await?,
        )
    };
    if let Some(server) = &server {
        tracing::info!("status page and metrics on http://{}", server.address);
    }
    // A replica that waits for the lease is ready to take over.
    ready.send_replace(true);
    let identity = identity();
    let mut election = Election::new(
        client.clone(),
        &namespace,
        config.operator.leader_election.clone(),
        identity.clone(),
    );
    let elects = config.operator.leader_election.enabled;
    let host = Arc::new(ClusterHost::default());
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: Some(identity),
    };
    let operator_config = config.operator.clone();
    let services = Arc::new(Services {
        slots: Slots::new(operator_config.concurrency),
        looks: Arc::new(Semaphore::new(LOOKS)),
        host: Arc::clone(&host) as Arc<dyn Host>,
        trust,
        discovered: std::sync::RwLock::default(),
        secrets: Arc::new(ClusterSecrets::new(client.clone(), namespace.clone())),
        config,
        config_file: start.config_file,
        clusters: crate::etcd::SharedClusters::default(),
        lookouts: Lookouts::default(),
        metrics,
        alerter,
        state,
        board,
    });
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        services,
        config: operator_config,
        namespace,
        runs: Runs::default(),
        retries: Retries::default(),
        recordings: watch::Sender::default(),
        tasks: std::sync::Mutex::default(),
    });
    host.set_context(Arc::clone(&context));
    let lead = async {
        if elects {
            election.win().await;
        }
        context.services.metrics.leading(true);
        tokio::select! {
            () = work(&context, &host) => "the controllers ended".to_owned(),
            why = hold(&mut election, elects) => why,
        }
    };
    let outcome = tokio::select! {
        why = lead => Err(OperatorError::LeaseLost(why)),
        () = told => Ok(Ended::Told),
    };
    context.services.metrics.leading(false);
    // A lease that is given up early would let another replica begin while this one still works: the work is dropped first.
    let _ = tokio::time::timeout(RELEASE, context.stop()).await;
    if elects && outcome.is_ok() {
        let _ = tokio::time::timeout(RELEASE, election.release()).await;
    }
    outcome
}

async fn hold(election: &mut Election, elects: bool) -> String {
    if elects {
        election.hold().await
    } else {
        std::future::pending().await
    }
}

/// The controllers; each goes on until the process ends.
async fn work(context: &Arc<Context>, host: &Arc<ClusterHost>) {
    discovery::look(context).await;
    manifests::apply(context).await;
    // Tasks of their own, so that one that waits holds up no other; none outlives this function.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(backup::control(Arc::clone(context)));
    tasks.spawn(schedule::control(Arc::clone(context), Arc::clone(host)));
    tasks.spawn(restore::control(Arc::clone(context)));
    tasks.spawn(discovery::discover(Arc::clone(context)));
    tasks.spawn(publish(Arc::clone(context)));
    tasks.spawn(digest::run(Arc::clone(&context.services)));
    // The one that leads alone: a replica that waits must not keep the alarm silent.
    if let Some(config) = context.services.config.alerts.heartbeat.clone() {
        let observer = Arc::clone(&context.services.metrics) as Arc<dyn AlertObserver>;
        tasks.spawn(Heartbeat::new(config, observer).run());
    }
    tasks.join_next().await;
}

/// The page and the alerts.
async fn publish(context: Arc<Context>) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        context.services.board.flush();
        let services = &context.services;
        services.board.alerts(&services.alerter, Timestamp::now());
    }
}

/// Differs from start to start, so that a process never takes another's lease for its own.
fn identity() -> String {
    let name = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "etcdguardian".to_owned());
    format!("{name}_{}", uuid::Uuid::new_v4().simple())
}
