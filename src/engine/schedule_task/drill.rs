//! Restore drills at the slots of `drill.schedule`: beside the backups, in a slot of their own queue; what came of the last one
//! goes to status, metrics and alerts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::ScheduleTask;
use crate::alert::{Facts, Kind};
use crate::api::EtcdBackupSpec;
use crate::cause::with_causes;
use crate::engine::ResourceName;
use crate::engine::plan::drill_due;
use crate::engine::record::DrillRecord;
use crate::engine::services::Services;
use crate::recorder::merge::Until;
use crate::repository::Manifest;
use crate::restore::chain;
use crate::restore::drill::plan::Drilled;
use crate::restore::drill::{self, Options};
use crate::schedule::Cron;
use crate::seal::Unsealer;
use crate::serve::DrillState;

/// How long the etcd of a drill may take to answer.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

/// A drill at work.
pub(super) type Drilling = JoinHandle<Result<Drilled, String>>;

impl ScheduleTask {
    /// Takes in a drill that ended, and begins one that is due.
    pub(super) async fn drill(&mut self, now: Timestamp) {
        if self.drilling.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_drill().await;
        }
        let Some(cron) = self.drill_cron() else {
            return;
        };
        let last = self.record.drill.as_ref().map(|drill| drill.begun);
        let first_seen = self.record.first_seen.unwrap_or(now);
        let idle = self.drilling.is_none() && !self.policy.suspend && !self.backups.is_empty();
        if !idle || !drill_due(&cron, last, first_seen, now) {
            return;
        }
        let record = self.record.drill.get_or_insert_with(DrillRecord::default);
        record.begun = now;
        tracing::info!(schedule = %self.name, "a restore drill begins");
        let work = carry_out(
            Arc::clone(&self.services),
            self.name.clone(),
            self.schedule.spec.backup_template.spec.clone(),
        );
        // Its own: what is left of the drill before must not have anybody wait for this one.
        let over = Arc::<Notify>::default();
        self.drill_over = Arc::clone(&over);
        self.drilling = Some(tokio::spawn(async move {
            let drilled = work.await;
            over.notify_one();
            drilled
        }));
    }

    fn drill_cron(&self) -> Option<Cron> {
        let wanted = self.schedule.spec.drill.as_ref()?;
        let zone = self.schedule.spec.time_zone.as_deref().unwrap_or("UTC");
        // The expression was checked with the resource.
        Cron::parse(&wanted.schedule, zone).ok()
    }

    /// When the next drill is due.
    pub(super) fn next_drill(&self) -> Option<Timestamp> {
        let cron = self.drill_cron().filter(|_| !self.policy.suspend)?;
        let last = self.record.drill.as_ref().map(|drill| drill.begun);
        cron.next_after(last.or(self.record.first_seen)?)
    }

    /// Waits for a drill at work, if there is one, and tells what came of it.
    pub(super) async fn end_drill(&mut self) {
        let Some(drilling) = self.drilling.take() else {
            return;
        };
        let outcome = drilling
            .await
            .unwrap_or_else(|error| Err(format!("the drill broke off: {error}")));
        let now = Timestamp::now();
        let record = self.record.drill.get_or_insert_with(DrillRecord::default);
        let problem = match outcome {
            Ok(drilled) => {
                record.backup.clone_from(&drilled.backup);
                record.level = drilled.level.to_string();
                if drilled.ok && drilled.seconds > 0.0 {
                    #[expect(clippy::cast_precision_loss, reason = "a pace, roughly")]
                    let bytes = drilled.bytes as f64;
                    record.pace = Some(bytes / drilled.seconds);
                }
                drilled.problem()
            }
            Err(problem) => Some(problem),
        };
        record.ended = Some(now);
        record.problem.clone_from(&problem);
        let ended = DrillState {
            begun: record.begun,
            ended: now,
            backup: record.backup.clone(),
            level: record.level.clone(),
            problem: problem.clone(),
        };
        if problem.is_none() {
            record.succeeded = Some(now);
            self.services
                .metrics
                .drill_succeeded(&self.name.namespace, &self.name.name, now);
        }
        let backup = record.backup.clone();
        self.record.drilled(ended);
        match &problem {
            None => {
                tracing::info!(schedule = %self.name, backup, "the restore drill proved the backup")
            }
            Some(problem) => {
                tracing::error!(schedule = %self.name, backup, "the restore drill failed: {problem}")
            }
        }
        let facts = Facts {
            what: match &problem {
                None => format!(
                    "schedule {}: the restore drill proved backup {backup}",
                    self.name.name
                ),
                Some(_) => format!("schedule {}: the restore drill failed", self.name.name),
            },
            next_step: problem.as_ref().map(|_| {
                format!(
                    "etcdguardian drill --from {}",
                    self.schedule.spec.backup_template.spec.storage_location
                )
            }),
            error: problem.clone(),
            last_good: self
                .record
                .last_verified
                .as_ref()
                .map(|backup| backup.taken),
            ..Facts::default()
        };
        self.services.tell(
            Kind::DrillFailed,
            problem.is_none(),
            &self.about(now),
            facts,
        );
        self.save(now, true).await;
    }
}

/// Drills the newest chain of a schedule; in words why that could not be done.
async fn carry_out(
    services: Arc<Services>,
    name: ResourceName,
    spec: EtcdBackupSpec,
) -> Result<Drilled, String> {
    // A drill needs the room and the time of a backup, and waits its turn like one.
    let _slot = services.slots.acquire(&name.namespace).await;
    let namespace = &name.namespace;
    let repository = services.repository(&spec, namespace).await;
    let repository = repository.map_err(|error| with_causes(&error))?;
    let catalog = repository.catalog(None).await;
    let catalog = catalog.map_err(|error| with_causes(&error))?;
    let mine: Vec<Manifest> = catalog
        .backups
        .into_iter()
        .filter(|one| one.schedule.as_deref() == Some(&name.name) && one.namespace == *namespace)
        .collect();
    let chain = chain::resolve(&mine, None, Until::End)?;
    let secrets = services.secrets.as_ref();
    let unsealer = Unsealer::resolve(spec.encryption.as_ref(), namespace, secrets).await;
    let unsealer = unsealer.map_err(|error| with_causes(&error))?;
    let options = Options {
        scratch: services.state.scratch(),
        etcd: services
            .config
            .drill
            .etcd_binary
            .clone()
            .or_else(drill::etcd_on_path),
        boot_timeout: BOOT_TIMEOUT,
    };
    let drilled = drill::drill(&repository, &chain, &unsealer, &options).await;
    drilled.map_err(|error| with_causes(&error))
}
