//! The work that is under way in this process or watched by it, by the uid of the object that wants it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::report::Outcome;
use crate::engine::Slot;

/// One object's work.
enum Run {
    /// It waits for a slot.
    Queued,
    /// It goes on here, in a stage.
    Here(Option<String>),
    /// A Job does it; the slot is held until it ends.
    InJob(#[expect(dead_code, reason = "held, not read")] Slot),
    /// It ended here.
    Ended(Outcome),
}

/// What is known here of one object's work.
pub enum Known {
    /// Nothing.
    Nothing,
    /// It waits for a slot.
    Queued,
    /// It goes on in this process.
    Here(Option<String>),
    /// A Job does it.
    InJob,
    /// It ended in this process.
    Ended(Outcome),
}

/// All work.
#[derive(Default)]
pub struct Runs(Mutex<HashMap<String, Run>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an object's work.
    pub fn known(&self, uid: &str) -> Known {
        match self.lock().get(uid) {
            None => Known::Nothing,
            Some(Run::Queued) => Known::Queued,
            Some(Run::Here(stage)) => Known::Here(stage.clone()),
            Some(Run::InJob(_)) => Known::InJob,
            Some(Run::Ended(outcome)) => Known::Ended(outcome.clone()),
        }
    }

    /// Notes that work waits for a slot; `false` when there is work already.
    pub fn queue(&self, uid: &str) -> bool {
        let mut runs = self.lock();
        if runs.contains_key(uid) {
            return false;
        }
        runs.insert(uid.to_owned(), Run::Queued);
        true
    }

    /// The work is in a stage, here.
    pub fn here(&self, uid: &str, stage: Option<&str>) {
        self.lock()
            .insert(uid.to_owned(), Run::Here(stage.map(str::to_owned)));
    }

    /// A Job does it from now on.
    pub fn in_job(&self, uid: &str, slot: Slot) {
        self.lock().insert(uid.to_owned(), Run::InJob(slot));
    }

    /// The work ended, here.
    pub fn ended(&self, uid: &str, outcome: Outcome) {
        self.lock().insert(uid.to_owned(), Run::Ended(outcome));
    }

    /// The end was seen to, or the object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
}
