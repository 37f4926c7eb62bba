//! Keeps one task a schedule and one a single backup, as the manifests folder wants them, and serves what they say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::host::FolderHost;
use super::{Desired, FolderWatch, requests, single_task};
use crate::alert::{AlertObserver, Alerter, Facts, Heartbeat, Kind};
use crate::api::{ErrorClass, EtcdGuardianConfig};
use crate::engine::{
    About, Board, Keeper, LOOKS, Looked, Lookouts, ResourceName, ScheduleTask, Services, Slots,
    StateDir, StateError, Trust, digest, policy_of,
};
use crate::secrets::Secrets;
use crate::serve::{self, Metrics};

/// The folder is read anew this often even when nothing was heard of a change: mounted folders do not always tell.
const RELOAD: Duration = Duration::from_secs(30);
/// Wishes of commands are looked for, and the status is saved, this often.
const TICK: Duration = Duration::from_millis(500);
/// Pipelines that run at once: two databases in scratch and two uploads are enough for one host.
const CONCURRENT_BACKUPS: usize = 2;
/// How long alerts may take to leave when the process ends by itself.
const FLUSH: Duration = Duration::from_secs(20);

/// Why the loop could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// A field of the config that stand-alone mode needs.
    #[error("the config has no {field}: add it, such as {example}")]
    Missing {
        field: &'static str,
        example: &'static str,
    },
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The listener.
    #[error(transparent)]
    Listen(#[from] serve::ListenError),
}

impl LoopError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Missing { .. } => ErrorClass::Usage,
            Self::State(error) => error.class(),
            Self::Listen(error) => error.class(),
        }
    }
}

/// What the loop is started with.
pub struct Start {
    /// The config file's content.
    pub config: EtcdGuardianConfig,
    /// The config file.
    pub config_file: Option<PathBuf>,
    /// Where credentials come from.
    pub secrets: Arc<dyn Secrets>,
    /// One round instead of for ever.
    pub once: bool,
}

/// Runs the loop: for ever, or one round. Returns the class of the first failure of a round.
///
/// # Errors
/// When the config lacks a folder, the state folder is in use, or the listener cannot start.
pub async fn run(start: Start) -> Result<Result<(), ErrorClass>, LoopError> {
    let missing = |field, example| LoopError::Missing { field, example };
    let folder = start.config.manifests.clone().ok_or(missing(
        "manifests",
        "manifests: /etc/etcdguardian/manifests",
    ))?;
    let state_root = start
        .config
        .state_dir
        .clone()
        .ok_or(missing("stateDir", "stateDir: /var/lib/etcdguardian"))?;
    let state = StateDir::open(&state_root)?;
    state.empty_scratch()?;
    let metrics = Arc::new(Metrics::new());
    let (alerter, _dispatcher) = Alerter::start(
        start.config.alerts.clone(),
        Arc::clone(&metrics) as Arc<dyn AlertObserver>,
        Some(state.alerts_file()),
    );
    let cluster = start
        .config
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.name.clone());
    let board = Board::new(
        cluster.as_deref().unwrap_or("etcd"),
        Timestamp::now(),
        &state,
    );
    let (ready, is_ready) = watch::channel(false);
    let listen = start.config.serve.listen.clone();
    let server = if listen.is_empty() || start.once {
        None
    } else {
        Some(
            serve::start(
                &start.config.serve,
                Arc::clone(&metrics),
                board.subscribe(),
                is_ready,
            )
            .await?,
        )
    };
    let services = Arc::new(Services {
        trust: Trust::Everyone,
        discovered: std::sync::RwLock::default(),
        slots: Slots::new(CONCURRENT_BACKUPS),
        looks: Arc::new(Semaphore::new(LOOKS)),
        host: Arc::new(FolderHost(state.clone())),
        config: start.config,
        config_file: start.config_file,
        secrets: start.secrets,
        clusters: crate::etcd::SharedClusters::default(),
        lookouts: Lookouts::default(),
        metrics,
        alerter,
        state,
        board,
    });
    if let Some(server) = &server {
        tracing::info!("status page and metrics on http://{}", server.address);
    }
    if start.once {
        let outcome = one_round(&services, &folder).await;
        services.alerter.finish(FLUSH).await;
        return Ok(outcome);
    }
    // Dropped with this function, and what runs beside the loop with it.
    let mut beside = tokio::task::JoinSet::new();
    beside.spawn(digest::run(Arc::clone(&services)));
    if let Some(config) = services.config.alerts.heartbeat.clone() {
        let observer = Arc::clone(&services.metrics) as Arc<dyn AlertObserver>;
        beside.spawn(Heartbeat::new(config, observer).run());
    }
    let mut keeper = FolderLoop {
        schedules: Keeper::new(Arc::clone(&services)),
        services,
        folder,
        singles: BTreeMap::new(),
    };
    keeper.keep(ready).await;
    Ok(Ok(()))
}

/// Looks once at every schedule, makes every single backup that is wanted.
async fn one_round(services: &Arc<Services>, folder: &std::path::Path) -> Result<(), ErrorClass> {
    let desired = Desired::load(folder, services.config.store.as_ref());
    let mut outcome = Ok(());
    for problem in &desired.problems {
        tracing::error!("{problem}");
        outcome = outcome.and(Err(ErrorClass::Usage));
    }
    if desired.problems.is_empty() {
        let wanted = |name: &ResourceName| desired.schedules.contains_key(name);
        services.board.retain(wanted, Timestamp::now());
    }
    for (name, schedule) in desired.schedules {
        let looked = match ScheduleTask::open(Arc::clone(services), name.clone(), schedule).await {
            Ok(mut task) => task.once().await,
            Err(error) => {
                tracing::error!(schedule = %name, "{error}");
                Looked::Failed(ErrorClass::Usage)
            }
        };
        if let Looked::Failed(class) = looked {
            outcome = outcome.and(Err(class));
        }
    }
    for (name, backup) in desired.backups {
        outcome = outcome.and(single_task::make(Arc::clone(services), name, backup, true).await);
    }
    services.board.save();
    outcome
}

struct FolderLoop {
    services: Arc<Services>,
    folder: PathBuf,
    schedules: Keeper,
    singles: BTreeMap<ResourceName, JoinHandle<()>>,
}

impl FolderLoop {
    async fn keep(&mut self, ready: watch::Sender<bool>) {
        let mut changes = FolderWatch::start(&self.folder);
        self.reload().await;
        ready.send_replace(true);
        let mut reload = tokio::time::interval(RELOAD);
        reload.reset();
        let mut tick = tokio::time::interval(TICK);
        let mut published = self.services.board.subscribe();
        // From the first moment on `status` has something to read.
        self.services.board.save();
        loop {
            tokio::select! {
                () = changes.changed() => self.reload().await,
                _ = reload.tick() => self.reload().await,
                _ = tick.tick() => {
                    self.heed_requests();
                    self.publish_alerts();
                    self.services.board.flush();
                    if published.has_changed().unwrap_or(false) {
                        published.mark_unchanged();
                        self.services.board.save();
                    }
                }
            }
        }
    }

    async fn reload(&mut self) {
        let now = Timestamp::now();
        let mut desired = Desired::load(&self.folder, self.services.config.store.as_ref());
        desired
            .schedules
            .retain(|name, schedule| match policy_of(&schedule.spec) {
                Ok(_) => true,
                Err(error) => {
                    desired
                        .problems
                        .push(format!("EtcdBackupSchedule {name}: {error}"));
                    false
                }
            });
        // A file that cannot be understood must not stop the backups that it used to ask for.
        if desired.problems.is_empty() {
            self.schedules
                .retain(|name| desired.schedules.contains_key(name));
            let schedules = &self.schedules;
            self.services.board.retain(
                |name| schedules.keeps(name) || desired.schedules.contains_key(name),
                now,
            );
        }
        self.tell_problems(&desired.problems, now);
        for (name, schedule) in desired.schedules {
            let words = format!("EtcdBackupSchedule {name}");
            if let Err(error) = self.schedules.want(name, schedule).await {
                desired.problems.push(format!("{words}: {error}"));
            }
        }
        for (name, backup) in desired.backups {
            if !self.singles.contains_key(&name) {
                let made =
                    single_task::make(Arc::clone(&self.services), name.clone(), backup, false);
                let task = tokio::spawn(async move {
                    let _ = made.await;
                });
                self.singles.insert(name, task);
            }
        }
        self.services.board.problems(desired.problems, now);
    }

    fn tell_problems(&self, problems: &[String], now: Timestamp) {
        let name = ResourceName {
            namespace: "default".to_owned(),
            name: "manifests".to_owned(),
        };
        for problem in problems {
            tracing::error!("{problem}");
        }
        let facts = Facts {
            what: match problems.len() {
                0 => "the manifests are valid again".to_owned(),
                1 => "a manifest is not valid and is ignored".to_owned(),
                count => format!("{count} things in the manifests are not valid and are ignored"),
            },
            error: problems.first().cloned(),
            next_step: problems
                .first()
                .map(|_| format!("ls -l {}", self.folder.display())),
            ..Facts::default()
        };
        let about = About {
            name: &name,
            channels: &[],
            now,
        };
        self.services
            .tell(Kind::ConfigInvalid, problems.is_empty(), &about, facts);
    }

    fn heed_requests(&mut self) {
        for (file, request) in requests::waiting(self.services.state.root()) {
            let heeded = match self.schedules.wish(&request.schedule(), request.wish) {
                // A full queue is tried again at the next tick.
                Some(taken) => taken,
                None => {
                    tracing::warn!(schedule = %request.schedule(), "a command asks for a schedule that is not there");
                    true
                }
            };
            if heeded && let Err(error) = std::fs::remove_file(&file) {
                tracing::warn!(file = %file.display(), %error, "cannot remove a heeded request");
            }
        }
    }

    fn publish_alerts(&self) {
        let services = &self.services;
        services.board.alerts(&services.alerter, Timestamp::now());
    }
}
