//! Carries a due backup out: the pipeline in one of the slots, its outcome to metrics and alerts.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tracing::Instrument;

use super::ResourceName;
use super::meter;
use super::record::{GoodBackup, Run};
use super::services::{About, Services};
use crate::alert::{Facts, Kind};
use crate::api::{ErrorClass, EtcdBackupSpec};
use crate::cause::with_causes;
use crate::export::resources::Selection;
use crate::pipeline::{self, Completed, Part, Progress, Recording, Request, Stage};
use crate::serve::{BackupLabels, Took};
use crate::snapshot::Share;

/// What is to be backed up, for whom.
pub struct Order<'a> {
    /// The schedule or single backup that wants it.
    pub owner: &'a ResourceName,
    /// Whether that is a schedule.
    pub scheduled: bool,
    /// What is wanted.
    pub spec: &'a EtcdBackupSpec,
    /// Channels that are told.
    pub channels: &'a [String],
    /// The attempt.
    pub run: &'a Run,
    /// What an incremental backup is cut from.
    pub recording: &'a Recording,
}

/// A failed attempt.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What kind of failure.
    pub class: ErrorClass,
    /// What happened, with its causes.
    pub message: String,
}

/// What a successful attempt left.
#[derive(Debug, Clone)]
pub struct Done {
    /// The backup.
    pub backup: GoodBackup,
    /// What went wrong without failing it.
    pub warnings: Vec<String>,
    /// What fills the database, when its proof said so.
    pub shares: Vec<Share>,
    /// Whether there was nothing to store, and the backup is the one before.
    pub idle: bool,
}

impl Order<'_> {
    /// Labels of this order in the metrics.
    pub fn labels(&self) -> BackupLabels {
        BackupLabels {
            namespace: self.owner.namespace.clone(),
            schedule: if self.scheduled {
                self.owner.name.clone()
            } else {
                String::new()
            },
            mode: format!("{:?}", self.spec.backup_mode),
        }
    }

    /// Runs the pipeline once a slot is free. Metrics hear of the outcome here, alerts by [`Order::tell`].
    pub async fn carry_out(&self, services: &Services, stage: &StageName) -> Result<Done, Failed> {
        let _slot = services.slots.acquire(&self.owner.namespace).await;
        let request = Request {
            spec: self.spec.clone(),
            namespace: self.owner.namespace.clone(),
            name: self.run.name.clone(),
            schedule: self.scheduled.then(|| self.owner.name.clone()),
            run_id: self.run.run_id.clone(),
            cluster_name: services.cluster_name(),
            cluster: services.cluster_of(self.spec, &self.owner.namespace),
            export: Selection::default(),
            makes_velero_pair: false,
            part: Part::Whole,
            scratch: services.state.scratch(),
            started: self.run.started,
        };
        let span = pipeline::span(&request);
        self.work(services, &request, stage).instrument(span).await
    }

    async fn work(
        &self,
        services: &Services,
        request: &Request,
        stage: &StageName,
    ) -> Result<Done, Failed> {
        let labels = self.labels();
        let began = std::time::Instant::now();
        let pipeline_services = services.for_pipeline();
        let outcome =
            pipeline::run_recorded(request, &pipeline_services, stage, self.recording).await;
        stage.clear();
        match outcome {
            Ok(completed) => {
                let now = Timestamp::now();
                let took = Took::now(began);
                meter::completed(&services.metrics, &labels, &completed, &took, now);
                let Completed {
                    manifest,
                    location,
                    warnings,
                    idle,
                    ..
                } = completed;
                for warning in &warnings {
                    tracing::warn!(owner = %self.owner, backup = %manifest.id, "{warning}");
                }
                if let Some(why) = &idle {
                    tracing::info!("nothing to store: {why}");
                }
                tracing::info!(
                    backup = %manifest.id, revision = manifest.revision,
                    level = %manifest.level, bytes = manifest.stored_size, "backup completed"
                );
                Ok(Done {
                    backup: GoodBackup::of(&manifest, location),
                    warnings,
                    shares: manifest.shares,
                    idle: idle.is_some(),
                })
            }
            Err(error) => {
                let failed = Failed {
                    class: error.class(),
                    message: with_causes(&error),
                };
                meter::failed(&services.metrics, &labels, &failed, &Took::now(began));
                let Failed { class, message } = &failed;
                tracing::error!(owner = %self.owner, run = %self.run.run_id, reason = class.reason(), "backup failed: {message}");
                Err(failed)
            }
        }
    }

    /// Tells people of a failure.
    pub fn tell_failed(
        &self,
        services: &Services,
        failed: &Failed,
        last_good: Option<&GoodBackup>,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let kind = alert_kind(failed.class);
        let (noun, name) = (
            if self.scheduled { "schedule" } else { "backup" },
            &self.owner.name,
        );
        let facts = Facts {
            what: format!("{noun} {name}: the backup did not complete"),
            error: Some(failed.message.clone()),
            next_step: Some(next_step(failed.class, name, self.scheduled, services)),
            last_good: last_good.map(|backup| backup.taken),
            retry_at,
            details: self.details(),
            ..Facts::default()
        };
        services.tell(kind, false, &self.about(now), facts);
    }

    /// Tells people that it works again.
    pub fn tell_recovered(&self, services: &Services, done: &Done, now: Timestamp) {
        for kind in [Kind::BackupFailed, Kind::VerificationFailed] {
            let facts = Facts {
                what: format!("{}: a backup completed again", self.owner.name),
                last_good: Some(done.backup.taken),
                details: self.details(),
                ..Facts::default()
            };
            services.tell(kind, true, &self.about(now), facts);
        }
        if self.spec.replicate_to.is_empty() {
            return;
        }
        let behind: Vec<&str> = done
            .warnings
            .iter()
            .filter_map(|warning| warning.strip_prefix("ReplicaBehind: "))
            .collect();
        let facts = Facts {
            what: match behind[..] {
                [] => format!("{}: every copy is up to date again", self.owner.name),
                _ => format!("{}: {}", self.owner.name, behind.join("; ")),
            },
            last_good: Some(done.backup.taken),
            details: self.details(),
            ..Facts::default()
        };
        let resolved = behind.is_empty();
        services.tell(Kind::ReplicaBehind, resolved, &self.about(now), facts);
    }

    fn details(&self) -> std::collections::BTreeMap<String, String> {
        [("store".to_owned(), self.spec.storage_location.to_string())].into()
    }

    fn about(&self, now: Timestamp) -> About<'_> {
        About {
            name: self.owner,
            channels: self.channels,
            now,
        }
    }
}

fn alert_kind(class: ErrorClass) -> Kind {
    match class {
        ErrorClass::VerificationFailed => Kind::VerificationFailed,
        _ => Kind::BackupFailed,
    }
}

/// The command to type next, by what failed.
fn next_step(class: ErrorClass, name: &str, scheduled: bool, services: &Services) -> String {
    match class {
        ErrorClass::VerificationFailed => services.command("backup verify latest --deep"),
        ErrorClass::StoreUnavailable | ErrorClass::Credentials | ErrorClass::EtcdUnavailable => {
            services.command("doctor")
        }
        _ if scheduled => services.command(&format!("schedule trigger {name}")),
        _ => services.command("doctor"),
    }
}

/// The stage that a pipeline is in, for the page.
#[derive(Clone, Default)]
pub struct StageName(Arc<Mutex<Option<&'static str>>>);

impl StageName {
    /// The stage's name while something runs.
    pub fn get(&self) -> Option<String> {
        self.lock().map(str::to_owned)
    }

    fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<&'static str>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for StageName {
    fn stage(&self, stage: Stage) {
        *self.lock() = Some(stage.name());
    }

    fn bytes(&self, _done: u64, _total: u64) {}
}
