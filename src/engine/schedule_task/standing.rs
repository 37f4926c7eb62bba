//! The standing watch of an incremental schedule: begun after the last backup of its chain, and anew after a full one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::ScheduleTask;
use crate::alert::{Facts, Kind as Alert};
use crate::cause::with_causes;
use crate::engine::policy::records;
use crate::engine::record::GoodBackup;
use crate::engine::report::RecordingState;
use crate::etcd::Etcd;
use crate::pipeline::origin_after;
use crate::recorder::watch::{Limits, Recorder};
use crate::repository::{Kind, LeaseTimes, Manifest, Repository, increments_of};

/// Bytes on disk that changes may take between two backups.
const BUDGET: u64 = 4 << 30;

impl ScheduleTask {
    /// Sees to it that the changes since the last backup are being recorded, where the schedule wants it; the sentence says why
    /// a backup is due at once.
    pub(super) async fn stand_watch(&mut self) -> Option<String> {
        let due = self.watch_changes().await;
        self.services.host.records(&self.name, &self.recording);
        due
    }

    async fn watch_changes(&mut self) -> Option<String> {
        let renew = std::mem::take(&mut self.renew);
        let full_every = &self.schedule.spec.full_every;
        self.recording.full_every.clone_from(full_every);
        self.recording.drilled_pace = self.record.drill.as_ref().and_then(|drill| drill.pace);
        if !self.wants_recording() {
            self.let_go().await;
            return None;
        }
        let last = self.record.last_successful.as_ref()?;
        // The newest full backup may be one that the chain was merged into.
        let full = |backup: &&GoodBackup| backup.kind == Kind::Full.to_string();
        let newest = self.backups.iter().chain([last]).filter(full);
        let newest = newest.max_by_key(|backup| (backup.taken, backup.revision));
        if let Some(recorder) = &self.recording.recorder
            && recorder.is_alive()
            && !renew
            && newest.is_none_or(|full| recorder.origin().base == full.id)
        {
            let gap = recorder.problem();
            let gap = gap.map(|problem| format!("the recording of changes has a gap: {problem}"));
            return gap.or_else(|| recorder.users_changed());
        }
        self.let_go().await;
        match self.begin_recording().await {
            Ok(recorder) => {
                self.recording.recorder = recorder.map(Arc::new);
                self.recording_problem = None;
            }
            Err(error) => {
                tracing::warn!(schedule = %self.name, "changes are not being recorded: {error}");
                self.recording_problem = Some(error);
            }
        }
        None
    }

    /// The old watch must have let go of its folder before another takes it.
    async fn let_go(&mut self) {
        if let Some(old) = self.recording.recorder.take() {
            old.stop().await;
        }
    }

    /// What the store has need not lie on this disk.
    pub(super) async fn forget_published(&self, backup: &GoodBackup) {
        if backup.kind != Kind::Increment.to_string() {
            return;
        }
        if let Some(recorder) = self
            .recording
            .recorder
            .as_ref()
            .filter(|one| one.is_alive())
            && let Err(error) = recorder.stored_to(backup.revision).await
        {
            tracing::warn!(schedule = %self.name, "published segments stay on the disk for now: {error}");
        }
    }

    /// Whether the schedule wants a standing watch.
    pub(super) fn wants_recording(&self) -> bool {
        records(&self.schedule.spec)
    }

    /// Waits until what is recorded is to be published, by its age or its bytes; for ever while nothing is recorded, and while a
    /// failed backup waits for its next try.
    pub(super) fn segment_due(&self) -> impl Future<Output = String> + use<> {
        let wanted = self.schedule.spec.recording.clone().unwrap_or_default();
        let limits = Limits {
            age: wanted.segment_max_age.map(|age| age.as_signed()),
            bytes: wanted
                .segment_max_bytes
                .and_then(|bytes| u64::try_from(bytes).ok()),
        };
        let waits = self.record.failure.is_some() || self.policy.suspend;
        let recorder = self.recording.recorder.clone().filter(|_| !waits);
        async move {
            match recorder {
                Some(recorder) => recorder.due(limits).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until etcd tells other alarms or users than were published; for ever while nothing is recorded.
    pub(super) fn alarms_changed(&self) -> impl Future<Output = ()> + use<> {
        let (recorder, published) = (self.recording.recorder.clone(), self.beside.clone());
        async move {
            match recorder {
                Some(recorder) => recorder.beside_other_than(&published).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Where the recording stands, for status and metrics.
    pub(super) fn recording_state(&mut self, live: Option<i64>) -> Option<RecordingState> {
        let beside = self.recording.recorder.as_ref().map(|one| one.beside());
        self.beside = beside.unwrap_or_default();
        if !self.wants_recording() {
            let asked = self.schedule.spec.recording.as_ref();
            let asked = asked.is_some_and(|recording| recording.enabled);
            return asked.then(|| RecordingState {
                problem: Some(
                    "recording is enabled and does nothing: only increments out of etcd need it; set backupTemplate.spec.backupMode: Incremental"
                        .to_owned(),
                ),
                ..RecordingState::default()
            });
        }
        let recorder = self.recording.recorder.as_ref();
        let recorder = recorder.filter(|one| one.is_alive());
        let progress = recorder.map(|one| one.progress());
        let problem = recorder.and_then(|one| one.problem());
        Some(RecordingState {
            progress,
            alarms: recorder.and_then(|_| self.beside.alarms.clone()),
            lag: progress.and_then(|one| Some((live? - one.committed).max(0))),
            problem: problem.or_else(|| self.recording_problem.clone()),
            windows: self.windows.clone(),
        })
    }

    /// Tells people of a hole that a backup leaves before itself, or of a record that etcd contradicts; a later increment says that
    /// the recording goes on.
    pub(super) fn tell_of_recording(
        &self,
        backup: &GoodBackup,
        warnings: &[String],
        now: Timestamp,
    ) {
        if !self.wants_recording() {
            return;
        }
        let after = |begin: &str| {
            warnings
                .iter()
                .find_map(|warning| warning.strip_prefix(begin))
        };
        let is_full = backup.kind == Kind::Full.to_string();
        let hole = match &self.windows[..] {
            [.., before, newest] if is_full && newest.first == backup.revision => {
                Some(before.hole_before(newest))
            }
            _ => None,
        };
        let hole = hole.or_else(|| after("RecorderGap: ").map(str::to_owned));
        // That etcd contradicts its record is the graver news: the hole only follows from it.
        let said = [after("ChainDisagrees: ").map(str::to_owned), hole];
        let said: Vec<String> = said.into_iter().flatten().collect();
        let gap = (!said.is_empty()).then(|| said.join("; "));
        let facts = Facts {
            what: match &gap {
                Some(gap) => format!("schedule {}: {gap}", self.name.name),
                None => format!(
                    "schedule {}: changes are recorded without a hole again",
                    self.name.name
                ),
            },
            next_step: gap.as_ref().map(|_| self.services.command("status")),
            last_good: Some(backup.taken),
            ..Facts::default()
        };
        self.services
            .tell(Alert::RecorderGap, gap.is_none(), &self.about(now), facts);
    }

    /// An epoch of its own for the recorder, by the lease on its chain; while somebody writes the chain, the one that it has reached.
    async fn take_epoch(&self, repository: &Arc<Repository>, base: &Manifest, reached: u64) -> u64 {
        let who = format!("the recording of schedule {}", self.name);
        let times = LeaseTimes {
            patience: Duration::from_secs(1),
            ..LeaseTimes::default()
        };
        let lease = repository.lease(&base.cluster_id, &base.id, &who, reached, times);
        match lease.await {
            Ok(lease) => {
                let epoch = lease.epoch();
                lease.release().await;
                epoch
            }
            Err(error) => {
                tracing::debug!(schedule = %self.name, %error, "the recording has no epoch of its own");
                reached
            }
        }
    }

    async fn begin_recording(&self) -> Result<Option<Recorder>, String> {
        let spec = &self.schedule.spec.backup_template.spec;
        let namespace = &self.name.namespace;
        let words = |error: &dyn std::error::Error| with_causes(error);
        let repository = self.services.repository(spec, namespace).await;
        let repository = repository.map_err(|error| words(&error))?;
        let catalog = repository
            .catalog(None)
            .await
            .map_err(|error| words(&error))?;
        let base = catalog
            .backups
            .iter()
            .filter(|backup| backup.kind == Kind::Full && backup.namespace == *namespace)
            .filter(|backup| backup.schedule.as_deref() == Some(&self.name.name))
            .max_by_key(|backup| (backup.created, backup.revision));
        let Some(base) = base else { return Ok(None) };
        let last = increments_of(base, &catalog.backups).pop().unwrap_or(base);
        let Some(mut origin) = origin_after(last) else {
            return Ok(None);
        };
        origin.auth_revision = base.auth_revision;
        let repository = Arc::new(repository);
        origin.epoch = self.take_epoch(&repository, base, origin.epoch).await;
        let options = self.services.connect_options(spec, namespace).await;
        let options = options.map_err(|error| words(&error))?;
        let folder = self.services.state.root().join("recording");
        let folder = folder.join(format!("{namespace}_{}", self.name.name));
        let revision = origin.revision;
        // What lies on disk is read, and written anew when it is to stand on another base.
        let counter = self.signals.counter();
        let recorder = tokio::task::spawn_blocking(move || {
            let etcd = Etcd::unconnected(&options);
            Recorder::start(etcd, origin, &folder, BUDGET, counter)
        });
        let recorder = recorder.await.map_err(|error| words(&error))?;
        let recorder = recorder.map_err(|error| words(&error))?;
        tracing::info!(schedule = %self.name, base = base.id, after = revision, "changes are being recorded");
        Ok(Some(recorder))
    }
}
