//! Everything that a schedule remembers between ticks: small, versioned, and enough to go on after a restart.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::calibrate::Calibration;
use super::drift::Drift;
use super::exposure::Exposure;
use super::forecast::Outlook;
use super::history::seconds_of;
use super::model::Model;
use super::shadow::Shadow;

/// The only layout that is understood.
pub const STATE_VERSION: u32 = 1;

/// Models of the last days: the back-test needs each day's own.
pub const KEPT_MODELS: usize = 15;

/// A schedule's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// When the schedule was first seen.
    pub created: Timestamp,
    /// The last good backup.
    pub last_success: Option<Success>,
    /// Failures since then.
    pub failures: Option<Failures>,
    /// The last cron slot that was dispatched or given up.
    pub last_slot: Option<Timestamp>,
    /// Cron slots that passed without a run of their own.
    pub missed_slots: u64,
    /// What is at risk.
    pub exposure: Exposure,
    /// The daily loop's last result.
    pub calibration: Calibration,
    /// The real schedule beside the cron.
    pub shadow: Shadow,
    /// Whether the forecast is distrusted for now.
    pub drift: Drift,
    /// The forecast in force, kept to bridge holes in the signal.
    pub outlook: Option<Outlook>,
    /// The interval fixed at the last backup, seconds, in planned-ahead mode.
    pub planned: Option<f64>,
    /// The models of the last days, newest last.
    pub models: Vec<Model>,
}

/// A backup that was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Success {
    /// When its revision was the newest: the moment that exposure counts from.
    pub at: Timestamp,
    /// That revision.
    pub revision: Option<i64>,
}

/// Tries that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// How many in a row.
    pub count: u32,
    /// When the last one failed.
    pub last: Timestamp,
}

/// Why a stored state was not taken up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not the JSON of a state.
    #[error(
        "the schedule's stored state cannot be read; delete it to start from the history alone"
    )]
    Syntax(#[source] serde_json::Error),
    /// Another layout.
    #[error(
        "the schedule's stored state has version {found}, this program reads {STATE_VERSION}; delete it to start from the history alone"
    )]
    UnknownVersion {
        /// What the file says.
        found: u32,
    },
}

impl State {
    /// The state of a schedule that was never seen before.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let at = seconds_of(now);
        Self {
            version: STATE_VERSION,
            created: now,
            last_success: None,
            failures: None,
            last_slot: None,
            missed_slots: 0,
            exposure: Exposure::zero(at),
            calibration: Calibration::cold(f64::MIN),
            shadow: Shadow::default(),
            drift: Drift::default(),
            outlook: None,
            planned: None,
            models: Vec::new(),
        }
    }

    /// Reads a stored state; models that fail their check are dropped, since they can be fitted again.
    ///
    /// # Errors
    /// When it is not a state of this version.
    pub fn from_json(text: &str) -> Result<Self, StateError> {
        let mut state: Self = serde_json::from_str(text).map_err(StateError::Syntax)?;
        if state.version != STATE_VERSION {
            return Err(StateError::UnknownVersion {
                found: state.version,
            });
        }
        state.models.retain(|model| model.check().is_ok());
        Ok(state)
    }

    /// The model in force.
    #[must_use]
    pub fn model(&self) -> Option<&Model> {
        self.models.last()
    }

    /// Takes up a model, from a fit or a file.
    pub fn adopt(&mut self, model: Model) {
        self.models.push(model);
        if self.models.len() > KEPT_MODELS {
            self.models.remove(0);
        }
    }

    /// A backup was proved. `snapshot_at` is when its revision was the newest, `slot` the cron slot it answered, if any.
    pub fn backup_succeeded(&mut self, snapshot_at: Timestamp, revision: Option<i64>) {
        let at = seconds_of(snapshot_at);
        self.last_success = Some(Success {
            at: snapshot_at,
            revision,
        });
        self.failures = None;
        self.planned = None;
        self.last_slot = Some(
            self.last_slot
                .map_or(snapshot_at, |slot| slot.max(snapshot_at)),
        );
        // What was counted after the snapshot's moment stays at risk; it is counted again from the series.
        self.exposure = Exposure::zero(at);
        self.shadow.backup();
    }

    /// A try failed: the exposure goes on growing, and the next try backs off.
    pub fn backup_failed(&mut self, at: Timestamp) {
        let count = self.failures.map_or(0, |failures| failures.count);
        self.failures = Some(Failures {
            count: count.saturating_add(1),
            last: at,
        });
    }
}
