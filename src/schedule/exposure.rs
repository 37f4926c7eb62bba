//! What a disaster now would lose: u, the changes since the last good backup, and A, the area under u since then.

use serde::{Deserialize, Serialize};

/// The exposure since the last good backup. Times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// When the last good backup's revision was current; the start of watching when there is none yet.
    pub since: f64,
    /// Up to when it is counted.
    pub until: f64,
    /// u: changes since then.
    pub changes: f64,
    /// A: ∫u dt, change-seconds.
    pub area: f64,
    /// How many of the changes are estimates that bridge holes in the signal.
    pub estimated: f64,
    /// When the count was last known exactly.
    pub exact_at: f64,
}

impl Exposure {
    /// Nothing at risk at `at`.
    #[must_use]
    pub fn zero(at: f64) -> Self {
        Self {
            since: at,
            until: at,
            changes: 0.0,
            area: 0.0,
            estimated: 0.0,
            exact_at: at,
        }
    }

    /// Counts a constant rate up to `until` (trapezoid); going back in time changes nothing.
    pub fn add(&mut self, until: f64, rate: f64, measured: bool) {
        let span = until - self.until;
        if !(span > 0.0 && rate.is_finite()) {
            return;
        }
        let rate = rate.max(0.0);
        self.area += self.changes * span + 0.5 * rate * span * span;
        self.changes += rate * span;
        if !measured {
            self.estimated += rate * span;
        }
        self.until = until;
    }

    /// Replaces the count by an exact one (the revision's distance), the area moving by half the correction over the
    /// time since the last exact one.
    pub fn correct(&mut self, changes: f64) {
        if !changes.is_finite() || changes < 0.0 {
            return;
        }
        let span = (self.until - self.exact_at.max(self.since)).max(0.0);
        let area = self.area + 0.5 * (changes - self.changes) * span;
        self.area = area.max(0.0);
        self.changes = changes;
        self.estimated = 0.0;
        self.exact_at = self.until;
    }

    /// Seconds since the last good backup, never negative: a clock that jumped back counts as no time.
    #[must_use]
    pub fn elapsed(&self, now: f64) -> f64 {
        (now - self.since).max(0.0)
    }
}
