//! What is remembered of a schedule or a single backup across restarts. Pure: each change is a function of what happened.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::api::{BackupHistoryEntry, ErrorClass};
use crate::repository::Manifest;
use crate::schedule::size::{self, Expected, Past};
use crate::schedule::state::STATE_VERSION;
use crate::serve::{DayTally, DrillState};

/// The API keeps this many in `status.backupHistory`.
const HISTORY: usize = 20;
/// Days whose backups are counted.
const DAYS: usize = 35;
/// Drills that are remembered.
const DRILLS: usize = 10;

/// What is remembered of a schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleRecord {
    /// The scheduling core's own state.
    pub core: Option<crate::schedule::State>,
    /// When this schedule was first seen: a new one is not "unprotected" before its first slot.
    pub first_seen: Option<Timestamp>,
    /// A run that had begun; still there after a restart when the process died in the middle.
    pub in_flight: Option<Run>,
    /// When the last backup began.
    pub last_backup: Option<Timestamp>,
    /// The newest good backup.
    pub last_successful: Option<GoodBackup>,
    /// The newest proved backup.
    pub last_verified: Option<GoodBackup>,
    /// The moment of the oldest proved backup that the store still holds.
    pub recoverable_from: Option<Timestamp>,
    /// Sizes and durations of the last good backups, oldest first: what the next one is expected from.
    pub sizes: VecDeque<Past>,
    /// What failed since the last good backup.
    pub failure: Option<Failure>,
    /// The last restore drill.
    pub drill: Option<DrillRecord>,
    /// Drills that ended, newest first.
    pub drills: VecDeque<DrillState>,
    /// The newest backups, newest first.
    pub history: VecDeque<BackupHistoryEntry>,
    /// What came of the backups of the last weeks, a day each, oldest first.
    pub days: VecDeque<DayTally>,
    /// Slots that passed without a backup.
    pub missed_slots: i64,
    /// The newest value of the trigger annotation that was heeded.
    pub trigger: Option<String>,
    /// Switched off by `schedule suspend`.
    pub suspended: bool,
}

/// What is remembered of a single backup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRecord {
    /// A run that had begun.
    pub in_flight: Option<Run>,
    /// The backup, once it is good.
    pub done: Option<GoodBackup>,
    /// What failed last.
    pub failure: Option<Failure>,
}

/// One attempt at a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Identity of the attempt; also in the manifest.
    pub run_id: String,
    /// Name of the backup.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// Why it began: a sentence.
    pub trigger: String,
}

/// A backup whose manifest is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoodBackup {
    /// Id in the catalogue.
    pub id: String,
    /// Name of the backup.
    pub name: String,
    /// Identity of the attempt that made it.
    pub run_id: String,
    /// etcd's cluster id, hexadecimal.
    pub cluster_id: String,
    /// Last revision in it.
    pub revision: i64,
    /// The moment that it holds: everything that etcd acknowledged before is in it.
    pub taken: Timestamp,
    /// When it was complete.
    pub completed: Timestamp,
    /// Full, Increment or Export.
    #[serde(default)]
    pub kind: String,
    /// The id of the whole backup that it continues; absent when it is whole itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Stored, Verified, Consistent or Drilled.
    pub level: String,
    /// Bytes before and after compression.
    pub raw_size: u64,
    /// Stored bytes.
    pub stored_size: u64,
    /// Where it is.
    pub location: String,
}

/// The last restore drill of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillRecord {
    /// When it began.
    pub begun: Timestamp,
    /// When it ended; absent while it works.
    pub ended: Option<Timestamp>,
    /// When one last proved its backup.
    pub succeeded: Option<Timestamp>,
    /// Id of the newest backup of the chain.
    pub backup: String,
    /// Drilled, or what the backup was before.
    pub level: String,
    /// Why it proved nothing.
    pub problem: Option<String>,
    /// Bytes in a second that the last one that proved its backup went at.
    pub pace: Option<f64>,
}

/// Failures since the last good backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// How many in a row.
    pub count: u32,
    /// When the first of them was.
    pub since: Timestamp,
    /// When the last of them was.
    pub at: Timestamp,
    /// CamelCase reason of the last.
    pub reason: String,
    /// What the last said.
    pub message: String,
}

impl GoodBackup {
    /// What a manifest says of it; `location` is the URL of its data.
    pub fn of(manifest: &Manifest, location: String) -> Self {
        Self {
            id: manifest.id.clone(),
            name: manifest.backup_name.clone(),
            run_id: manifest.run_id.clone(),
            cluster_id: manifest.cluster_id.clone(),
            revision: manifest.revision,
            taken: manifest.covers(),
            completed: manifest.completed,
            kind: manifest.kind.to_string(),
            base: manifest.chain.as_ref().map(|chain| chain.base.clone()),
            level: manifest.level.to_string(),
            raw_size: manifest.raw_size,
            stored_size: manifest.stored_size,
            location,
        }
    }

    /// How long it took, never negative.
    pub fn duration(&self) -> SignedDuration {
        self.completed
            .duration_since(self.taken)
            .max(SignedDuration::ZERO)
    }

    /// The cluster and revision, for counting changes since.
    pub fn point(&self) -> Option<(u64, i64)> {
        let cluster = u64::from_str_radix(&self.cluster_id, 16).ok()?;
        Some((cluster, self.revision))
    }

    /// Whether it was proved from the store.
    pub fn is_verified(&self) -> bool {
        self.level != "Stored"
    }
}

impl Failure {
    /// One failure more, after those of `before`.
    pub fn after(before: Option<&Self>, at: Timestamp, reason: &str, message: String) -> Self {
        Self {
            count: before.map_or(1, |failure| failure.count.saturating_add(1)),
            since: before.map_or(at, |failure| failure.since.min(at)),
            at,
            reason: reason.to_owned(),
            message,
        }
    }
}

impl ScheduleRecord {
    /// What was stored, made fit for use: a core of another version is dropped, models that fail their check too.
    pub fn checked(mut self, now: Timestamp) -> Self {
        self.first_seen.get_or_insert(now);
        self.core = self.core.filter(|core| core.version == STATE_VERSION);
        if let Some(core) = &mut self.core {
            core.models.retain(|model| model.check().is_ok());
        }
        self
    }

    /// A backup that the store holds but the record does not know: the state folder was lost, or a run was finished
    /// after the process died. Older than what is known changes nothing.
    pub fn found(&mut self, backup: GoodBackup) {
        let newer = |known: &Option<GoodBackup>| {
            let known = known.as_ref().map(|known| (known.taken, known.revision));
            known < Some((backup.taken, backup.revision))
        };
        if backup.is_verified() && newer(&self.last_verified) {
            self.last_verified = Some(backup.clone());
        }
        if newer(&self.last_successful) {
            if let Some(core) = &mut self.core {
                core.backup_succeeded(backup.taken, Some(backup.revision));
            }
            self.last_successful = Some(backup);
        }
    }

    /// What is expected of the next backup; `db_size` is the database's size now, bytes.
    pub fn expected(&mut self, db_size: Option<i64>) -> Option<Expected> {
        #[expect(clippy::cast_precision_loss, reason = "sizes are compared by ratio")]
        let db_size = db_size.map(|size| size as f64);
        size::expect(self.sizes.make_contiguous(), db_size)
    }

    /// Remembers a backup's size and duration. What continues another one says nothing about the size of whole ones.
    #[expect(clippy::cast_precision_loss, reason = "sizes are compared by ratio")]
    pub fn measured(&mut self, backup: &GoodBackup, db_size: Option<i64>) {
        if backup.base.is_some() {
            return;
        }
        let raw_size = backup.raw_size as f64;
        self.sizes.push_back(Past {
            db_size: db_size.map_or(raw_size, |size| size as f64),
            raw_size,
            stored_size: backup.stored_size as f64,
            seconds: backup.duration().as_secs_f64(),
        });
        while self.sizes.len() > size::KEPT {
            self.sizes.pop_front();
        }
    }

    /// A run that was under way when the process died left nothing in the store.
    pub fn abandoned(&mut self, run: &Run) {
        self.note(run, "Failed");
        self.in_flight = None;
    }

    /// A run begins.
    pub fn begun(&mut self, run: Run) {
        self.last_backup = Some(run.started);
        self.note(&run, "Running");
        self.in_flight = Some(run);
    }

    /// The run ended well.
    pub fn succeeded(&mut self, run: &Run, backup: GoodBackup) {
        self.note(run, "Completed");
        if let Some(day) = self.day(backup.completed) {
            *day.levels.entry(backup.level.clone()).or_default() += 1;
        }
        self.in_flight = None;
        self.failure = None;
        if backup.is_verified() {
            self.last_verified = Some(backup.clone());
        }
        self.last_successful = Some(backup);
    }

    /// The run failed.
    pub fn failed(&mut self, run: &Run, at: Timestamp, class: ErrorClass, message: String) {
        self.note(run, "Failed");
        if let Some(day) = self.day(at) {
            day.failed += 1;
        }
        self.in_flight = None;
        self.failure = Some(Failure::after(
            self.failure.as_ref(),
            at,
            class.reason(),
            message,
        ));
    }

    /// The tally of a moment's day; a clock that went back counts on in the newest.
    fn day(&mut self, at: Timestamp) -> Option<&mut DayTally> {
        let day = at.strftime("%Y-%m-%d").to_string();
        if self.days.back().is_none_or(|newest| newest.day < day) {
            self.days.push_back(DayTally {
                day,
                ..DayTally::default()
            });
            if self.days.len() > DAYS {
                self.days.pop_front();
            }
        }
        self.days.back_mut()
    }

    /// A drill that began `begun` ended.
    pub fn drilled(&mut self, drill: DrillState) {
        self.drills.push_front(drill);
        self.drills.truncate(DRILLS);
    }

    /// Puts the run's phase into the history, newest first, at most as many as the API keeps.
    fn note(&mut self, run: &Run, phase: &str) {
        self.history.retain(|entry| entry.uid != run.run_id);
        self.history.push_front(BackupHistoryEntry {
            name: run.name.clone(),
            uid: run.run_id.clone(),
            creation_timestamp: Some(run.started),
            status: phase.to_owned(),
        });
        self.history.truncate(HISTORY);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_continues_a_backup_is_not_expected_of_the_next_whole_one() {
        let backup = |base: Option<&str>, raw_size: u64| -> GoodBackup {
            serde_json::from_value(serde_json::json!({
                "id": "i", "name": "n", "runId": "r", "clusterId": "aa", "revision": 1, "base": base,
                "taken": "2026-11-20T09:00:00Z", "completed": "2026-11-20T09:00:05Z", "level": "Verified",
                "rawSize": raw_size, "storedSize": 1, "location": "file:///b",
            }))
            .unwrap()
        };
        let mut record = ScheduleRecord::default();
        for _ in 0..4 {
            record.measured(&backup(None, 1_000_000), Some(1_000_000));
            record.measured(&backup(Some("i"), 1_000), Some(1_000_000));
        }
        let likely = record.expected(Some(1_000_000)).unwrap().raw_size.likely;
        assert!((900_000.0..1_100_000.0).contains(&likely), "{likely}");
    }
}
