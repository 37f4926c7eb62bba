//! The loop of one schedule: observe → fit → decide → dispatch, at every sample, until the schedule goes away.

mod back_up;
mod drill;
mod inbox;
mod judge;
mod publish;
mod sources;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use self::inbox::Asked;
pub use self::inbox::{Inbox, TRIGGER_ANNOTATION, Wish};
use self::sources::{open_signals, signals_setup};
use super::ResourceName;
use super::dispatch::{Failed, StageName};
use super::lookout::SHARED_AT_MOST;
use super::meter;
use super::observe::Signals;
use super::policy::policy_of;
use super::record::{GoodBackup, ScheduleRecord};
use super::services::{About, Services};
use crate::alert::{Facts, Kind};
use crate::api::{ErrorClass, EtcdBackupSchedule};
use crate::pipeline::Recording;
use crate::recorder::watch::Beside;
use crate::repository::Window;
use crate::schedule::backtest::Archive;
use crate::schedule::decide::{Action, Decision};
use crate::schedule::timescale::Timescale;
use crate::schedule::{Policy, explain, slots};
use crate::serve::{ChainState, Fills};

/// The record is saved at least this often; what a crash loses is counted again from the history.
const SAVE_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// What a schedule is told by another one's look is at most this part of the time between looks old.
const SHARED_PART: f64 = 1.0 / 60.0;

/// How long a schedule waits for its turn to look.
const TURN: Duration = Duration::from_secs(5);

/// One schedule at work.
pub struct ScheduleTask {
    services: Arc<Services>,
    name: ResourceName,
    schedule: Arc<EtcdBackupSchedule>,
    policy: Policy,
    signals: Signals,
    archive: Archive,
    record: ScheduleRecord,
    saved: Option<Timestamp>,
    stage: StageName,
    store_error: Option<Failed>,
    etcd_error: Option<Failed>,
    silent: u32,
    conditions: Vec<Condition>,
    db_size: Option<i64>,
    backups: Vec<GoodBackup>,
    backup_warnings: Vec<String>,
    model_warning: Option<String>,
    recording: Recording,
    /// What the watch that stands had heard beside its rows when the state was last published.
    beside: Beside,
    /// The watch that stands is to be followed by another.
    renew: bool,
    recording_problem: Option<String>,
    windows: Vec<Window>,
    chains: Vec<ChainState>,
    fills: Option<Fills>,
    drilling: Option<drill::Drilling>,
    /// Told when it ends.
    drill_over: Arc<Notify>,
}

/// How a look at a schedule ended, for `run --once`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Nothing was due.
    Waited,
    /// A backup completed.
    Completed,
    /// A backup failed.
    Failed(ErrorClass),
}

impl ScheduleTask {
    /// Opens the record and the history of a schedule whose fields were checked.
    ///
    /// # Errors
    /// One sentence when the schedule cannot be followed.
    pub async fn open(
        services: Arc<Services>,
        name: ResourceName,
        schedule: impl Into<Arc<EtcdBackupSchedule>>,
    ) -> Result<Self, String> {
        let schedule = schedule.into();
        let now = Timestamp::now();
        let policy = policy_of(&schedule.spec).map_err(|error| error.to_string())?;
        let record = services.host.load(&name).await?;
        let record = record.unwrap_or_default().checked(now);
        let setup = signals_setup(&services, &name, &schedule, &policy);
        let signals = open_signals(&services, setup, None).await?;
        let mut task = Self {
            services,
            name,
            schedule,
            policy,
            signals,
            archive: Archive::default(),
            record,
            saved: None,
            stage: StageName::default(),
            store_error: None,
            etcd_error: None,
            silent: 0,
            conditions: Vec::new(),
            db_size: None,
            backups: Vec::new(),
            backup_warnings: Vec::new(),
            model_warning: None,
            recording: Recording::default(),
            beside: Beside::default(),
            renew: false,
            recording_problem: None,
            windows: Vec::new(),
            chains: Vec::new(),
            fills: None,
            drilling: None,
            drill_over: Arc::default(),
        };
        task.apply_record();
        task.services
            .metrics
            .expect_schedule(&task.name.namespace, &task.name.name);
        Ok(task)
    }

    /// Works until the schedule is no longer wanted.
    pub async fn work(mut self: Box<Self>, mut inbox: Inbox) {
        // What only a look needs is on the heap while it looks: a task that waits, which nearly all do, is small. And they
        // look in turn, or a thousand that begin together would all need it at once.
        let mut turn = Some(self.turn().await);
        Box::pin(self.settle_interrupted(&mut turn)).await;
        let mut asked = None;
        let mut looked = Looked::Waited;
        loop {
            if turn.is_none() {
                turn = Some(self.turn().await);
            }
            // After a backup, and when one is asked for, it is the newest that counts.
            let within = if looked == Looked::Waited && asked.is_none() {
                Duration::from_secs_f64(self.cadence() * SHARED_PART).min(SHARED_AT_MOST)
            } else {
                Duration::ZERO
            };
            looked = Box::pin(self.look(asked.take(), within, &mut turn)).await;
            turn = None;
            let now = Timestamp::now();
            let pause = match looked {
                // What comes next is decided at once, not a whole sample later.
                Looked::Completed => Duration::from_millis(10),
                // No retry comes sooner than a second after a failure.
                Looked::Failed(_) => Duration::from_secs(1),
                Looked::Waited => self.pause(now),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = inbox.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let schedule = inbox.wanted.borrow_and_update().clone();
                    Box::pin(self.change(schedule)).await;
                }
                Some(wish) = inbox.wishes.recv() => asked = Box::pin(self.heed(wish)).await,
                why = self.segment_due() => asked = Some(Asked::because(why)),
                () = self.alarms_changed() => {}
                () = Arc::clone(&self.drill_over).notified_owned() => Box::pin(self.end_drill()).await,
            }
        }
        if let Some(drilling) = self.drilling.take() {
            drilling.abort();
        }
        Box::pin(self.save(Timestamp::now(), true)).await;
        self.services
            .metrics
            .forget_schedule(&self.name.namespace, &self.name.name);
        self.services
            .alerter
            .forget(&self.name.namespace, &self.name.name);
    }

    /// One round: what an interrupted run left, then observe, decide and, when due, dispatch. A round that was not due
    /// fails too when a backup could not be made now: whoever runs rounds by hand has no other way to hear of it.
    pub async fn once(&mut self) -> Looked {
        self.settle_interrupted(&mut None).await;
        let looked = self.look(None, Duration::ZERO, &mut None).await;
        if looked != Looked::Waited {
            // Nobody looks again: what came of the backup is published now.
            self.consider(Duration::ZERO, Timestamp::now()).await;
        }
        self.end_drill().await;
        match looked {
            Looked::Waited => {
                let trouble = self.store_error.as_ref().or(self.etcd_error.as_ref());
                trouble.map_or(Looked::Waited, |error| Looked::Failed(error.class))
            }
            looked => looked,
        }
    }

    /// A place among those that look. Who waits on something slow keeps it from nobody for long.
    fn turn(&self) -> impl Future<Output = Turn> + use<> {
        let looks = Arc::clone(&self.services.looks);
        async {
            let place = tokio::time::timeout(TURN, looks.acquire_owned()).await;
            Turn(place.ok().and_then(Result::ok))
        }
    }

    async fn look(
        &mut self,
        asked: Option<Asked>,
        within: Duration,
        turn: &mut Option<Turn>,
    ) -> Looked {
        let now = Timestamp::now();
        let decision = self.consider(within, now).await;
        let gap = self.stand_watch().await.filter(|_| self.may_try(now));
        let asked = asked.or_else(|| self.annotated());
        let decided =
            || (decision.action == Action::Backup).then(|| Asked::because(explain::why(&decision)));
        let trigger = asked.or(gap.map(Asked::because)).or_else(decided);
        // A run that may have finished elsewhere must be settled before another begins.
        let (Some(asked), None) = (trigger, &self.record.in_flight) else {
            if self.record.in_flight.is_some() {
                self.settle_interrupted(turn).await;
            }
            return Looked::Waited;
        };
        meter::decided(&self.services.metrics, &self.name, &decision);
        // A backup takes as long as it takes.
        *turn = None;
        self.back_up(asked, &decision).await
    }

    /// Observes, decides and says so.
    async fn consider(&mut self, within: Duration, now: Timestamp) -> Decision {
        let observed = self.observe(within, now).await;
        let decision = self.decide(&observed, now).await;
        self.drill(now).await;
        self.publish(&observed, &decision, now).await;
        decision
    }

    /// Whether a failed backup may be tried again now.
    fn may_try(&self, now: Timestamp) -> bool {
        self.retry_at().is_none_or(|at| at <= now)
    }

    /// When a failed backup may be tried again; nothing when none failed.
    fn retry_at(&self) -> Option<Timestamp> {
        let core = self.record.core.as_ref();
        core.filter(|_| self.record.failure.is_some())
            .and_then(|core| slots::retry_at(&self.policy, core))
    }

    /// What the record says about the policy: suspended by hand, and how long a backup takes.
    fn apply_record(&mut self) {
        self.policy.suspend = self.schedule.spec.suspend || self.record.suspended;
        // Before there is anything to expect it from, the last one stands for the next.
        let expected = self.record.expected(self.db_size).map(|expected| {
            SignedDuration::from_millis((1000.0 * expected.seconds.likely.min(1e9)) as i64)
        });
        // An increment is likelier to be followed by one than by a full backup, which is what is expected of.
        let last = self.record.last_successful.as_ref();
        let part = last.filter(|last| last.base.is_some());
        self.policy.expected_duration = part
            .map(GoodBackup::duration)
            .or(expected)
            .or_else(|| last.map(GoodBackup::duration));
    }

    fn pause(&self, now: Timestamp) -> Duration {
        let cadence = self.cadence();
        let planned = self
            .record
            .core
            .as_ref()
            .and_then(|core| slots::next(&self.policy, core, now));
        let until_slot = planned
            .filter(|_| !self.policy.ai_enabled)
            .map_or(f64::INFINITY, |slot| slot.duration_since(now).as_secs_f64());
        let retry = self.retry_at();
        let drill = self.next_drill().filter(|_| self.drilling.is_none());
        let sooner = [retry, drill].into_iter().flatten().filter(|at| *at > now);
        let until = sooner.map(|at| at.duration_since(now).as_secs_f64());
        let first = until.fold(until_slot, f64::min);
        Duration::from_secs_f64(cadence.min(first.max(0.05)))
    }

    /// Seconds between looks.
    fn cadence(&self) -> f64 {
        Timescale::live_cadence(&self.policy, f64::from(self.signals.step_seconds()))
    }

    async fn save(&mut self, now: Timestamp, must: bool) -> bool {
        let due = self
            .saved
            .is_none_or(|at| now.duration_since(at).abs() >= SAVE_EVERY);
        if !must && !due {
            return true;
        }
        match self.services.host.save(&self.name, &self.record).await {
            Ok(()) => {
                self.saved = Some(now);
                true
            }
            Err(message) => {
                tracing::error!(schedule = %self.name, "cannot save the state: {message}");
                let facts = Facts {
                    what: format!(
                        "schedule {}: the state cannot be saved, so no backup is begun",
                        self.name.name
                    ),
                    error: Some(message),
                    next_step: Some(format!("df -h, then {}", self.services.command("doctor"))),
                    ..Facts::default()
                };
                self.services
                    .tell(Kind::BackupFailed, false, &self.about(now), facts);
                false
            }
        }
    }

    fn about(&self, now: Timestamp) -> About<'_> {
        About {
            name: &self.name,
            channels: &self.schedule.spec.alerts,
            now,
        }
    }
}

/// A place among the schedules that look at their clusters and stores; whoever does not get one in time goes without.
pub(super) struct Turn(
    #[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>,
);
