//! The samples of etcd's own Status: at most one a cell, bounded, turned into rates and exact exposure. Pure.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::HISTORY_CELLS;
use super::series::{Point, Series, SeriesError};

/// Two samples further apart than this many cells leave a gap between them: when the changes happened is not known.
const SPREAD_CELLS: i64 = 3;

/// One look at etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The cluster.
    pub cluster_id: u64,
    /// The newest revision.
    pub revision: i64,
    /// Bytes of the database.
    pub db_size: i64,
}

impl Sample {
    /// Whether `next` continues this history: the same cluster, and its revision did not go back.
    fn continues_to(&self, next: &Self) -> bool {
        self.cluster_id == next.cluster_id && self.revision <= next.revision
    }
}

/// Changes since a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// How many.
    pub changes: i64,
    /// Whether the count is exact: same cluster, and the revision did not go back.
    pub exact: bool,
}

/// What became of a new sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It follows the others.
    Appended,
    /// The clock went back: this many samples from its future were dropped.
    Rewound(usize),
}

/// Samples in the order of time.
#[derive(Debug, Default)]
pub(super) struct Samples {
    kept: VecDeque<Sample>,
    step: i64,
}

impl Samples {
    pub(super) fn new(step_seconds: u32) -> Self {
        Self {
            kept: VecDeque::new(),
            step: i64::from(step_seconds.max(1)),
        }
    }

    /// Takes a sample in. Within a cell only the newest one stays; beyond the kept length the oldest one goes.
    pub(super) fn take(&mut self, sample: Sample) -> Taken {
        let before = self.kept.len();
        while self.kept.back().is_some_and(|newest| newest.at > sample.at) {
            self.kept.pop_back();
        }
        let dropped = before - self.kept.len();
        let cell = |sample: &Sample| sample.at.as_second().div_euclid(self.step);
        let newest = self.kept.back();
        // The sample before a break stays: it says where the history ended.
        if newest
            .is_some_and(|newest| cell(newest) == cell(&sample) && newest.continues_to(&sample))
        {
            self.kept.pop_back();
        }
        self.kept.push_back(sample);
        while self.kept.len() > HISTORY_CELLS {
            self.kept.pop_front();
        }
        if dropped > 0 {
            Taken::Rewound(dropped)
        } else {
            Taken::Appended
        }
    }

    pub(super) fn newest(&self) -> Option<Sample> {
        self.kept.back().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.kept.iter()
    }

    /// The history as changes a second. The changes between two samples are spread evenly over the time between them; a
    /// cell is known when half of it is covered.
    pub(super) fn series(&self, step_seconds: u32) -> Result<Series, SeriesError> {
        if step_seconds == 0 {
            return Err(SeriesError::ZeroStep);
        }
        let step = f64::from(step_seconds);
        let Some(newest) = self.newest() else {
            return Series::empty(Timestamp::UNIX_EPOCH, step_seconds);
        };
        let cell_of = |at: Timestamp| at.as_second().div_euclid(i64::from(step_seconds));
        let end = cell_of(newest.at);
        let keep = i64::try_from(HISTORY_CELLS).unwrap_or(i64::MAX);
        let first = self
            .kept
            .front()
            .map_or(end, |oldest| cell_of(oldest.at))
            .max(end - keep);
        let cells = usize::try_from(end - first).unwrap_or(0);
        let mut changes = vec![0.0; cells];
        let mut covered = vec![0.0; cells];
        let mut sizes = vec![None; cells];
        let start = first as f64 * step;
        for (before, after) in self.kept.iter().zip(self.kept.iter().skip(1)) {
            if let Some(size) = usize::try_from(cell_of(before.at) - first)
                .ok()
                .and_then(|cell| sizes.get_mut(cell))
            {
                *size = Some(before.db_size.max(0) as f64);
            }
            let (from, to) = (seconds(before.at) - start, seconds(after.at) - start);
            let apart = to - from;
            if !before.continues_to(after)
                || apart <= 0.0
                || apart > (SPREAD_CELLS * self.step.max(i64::from(step_seconds))) as f64
            {
                continue;
            }
            let rate = (after.revision - before.revision) as f64 / apart;
            let mut cell = (from / step).floor().max(0.0) as usize;
            while (cell as f64) * step < to
                && let (Some(changed), Some(known)) = (changes.get_mut(cell), covered.get_mut(cell))
            {
                let low = from.max(cell as f64 * step);
                let high = to.min((cell + 1) as f64 * step);
                *changed += rate * (high - low).max(0.0);
                *known += (high - low).max(0.0);
                cell += 1;
            }
        }
        let at = Timestamp::from_second(first * i64::from(step_seconds)).unwrap_or(Timestamp::MIN);
        let mut series = Series::empty(at, step_seconds)?;
        for ((changed, known), size) in changes.into_iter().zip(covered).zip(sizes) {
            series.push(&Point {
                writes: (known >= 0.5 * step).then(|| changed / known),
                db_size: size,
                ..Point::at(at)
            });
        }
        Ok(series)
    }

    /// Changes since a revision of a cluster. After a break in the history, such as a restore into an older state, a
    /// revision that could belong to either side makes the count inexact.
    pub(super) fn exposure_since(&self, cluster_id: u64, revision: i64) -> Option<Exposure> {
        let newest = self.newest()?;
        if newest.cluster_id != cluster_id {
            // Nothing of this cluster is backed up.
            return Some(Exposure {
                changes: newest.revision.max(0),
                exact: false,
            });
        }
        let mut after_break = newest;
        let mut highest_before = None;
        for sample in self.kept.iter().rev().skip(1) {
            if highest_before.is_some() || !sample.continues_to(&after_break) {
                if sample.cluster_id == cluster_id {
                    highest_before = highest_before.max(Some(sample.revision));
                } else {
                    highest_before = highest_before.max(Some(i64::MIN));
                }
            } else {
                after_break = *sample;
            }
        }
        let ambiguous = highest_before.is_some_and(|highest| revision <= highest);
        let exact = !ambiguous && revision <= newest.revision;
        let from = if ambiguous {
            revision.min(after_break.revision)
        } else {
            revision
        };
        Some(Exposure {
            changes: (newest.revision - from).max(0),
            exact,
        })
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
