//! The standing watch of an incremental schedule: begun after the last backup of its chain, and anew after a full one.

use std::sync::Arc;

use super::ScheduleTask;
use crate::cause::with_causes;
use crate::engine::policy::records;
use crate::etcd::Etcd;
use crate::pipeline::origin_after;
use crate::recorder::watch::Recorder;
use crate::repository::{Kind, increments_of};

/// Bytes on disk that changes may take between two backups.
const BUDGET: u64 = 4 << 30;

impl ScheduleTask {
    /// Sees to it that the changes since the last backup are being recorded, where the schedule wants it; the sentence says why
    /// a backup is due at once.
    pub(super) async fn stand_watch(&mut self) -> Option<String> {
        let spec = &self.schedule.spec;
        self.recording.full_every.clone_from(&spec.full_every);
        if !records(spec) {
            self.recording.recorder = None;
            return None;
        }
        let last = self.record.last_successful.as_ref()?;
        if let Some(recorder) = &self.recording.recorder
            && recorder.is_alive()
            && (last.kind != Kind::Full.to_string() || recorder.origin().base == last.id)
        {
            return recorder
                .problem()
                .map(|problem| format!("the recording of changes has a gap: {problem}"));
        }
        // The old one must have let go of its folder before another takes it.
        self.recording.recorder = None;
        match self.begin_recording().await {
            Ok(recorder) => self.recording.recorder = recorder.map(Arc::new),
            Err(error) => {
                tracing::warn!(schedule = %self.name, "changes are not being recorded: {error}");
            }
        }
        None
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
        let Some(origin) = origin_after(last) else {
            return Ok(None);
        };
        let options = self.services.connect_options(spec, namespace).await;
        let options = options.map_err(|error| words(&error))?;
        let folder = self.services.state.root().join("recording");
        let folder = folder.join(format!("{namespace}_{}", self.name.name));
        let revision = origin.revision;
        let recorder = Recorder::start(
            Etcd::unconnected(&options),
            origin,
            &folder,
            BUDGET,
            self.signals.counter(),
        );
        let recorder = recorder.map_err(|error| words(&error))?;
        tracing::info!(schedule = %self.name, base = base.id, after = revision, "changes are being recorded");
        Ok(Some(recorder))
    }
}
