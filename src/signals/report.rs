//! What a series is made of and how complete it is: for status, and for whoever wonders why the schedule believes it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::series::Series;

/// Where a series came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalSource {
    /// Range queries.
    Prometheus,
    /// etcd's own Status, sampled by this process.
    Sampler,
    /// The standing watch of this process.
    Recorder,
}

/// What counts as a change, from the most telling to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Signal {
    /// The query that the schedule names.
    CustomQuery,
    /// Changes that the recorder saw, weighed by their keys.
    RecorderCounts,
    /// Writes through the API server, without leases, events and their kin.
    ApiServerRequests,
    /// Puts and deletes that etcd counts, lease renewals and events included.
    EtcdWrites,
    /// The growth of etcd's revision, lease renewals and events included.
    EtcdRevision,
    /// Nothing is known.
    #[default]
    None,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CustomQuery => "the schedule's own query",
            Self::RecorderCounts => "the recorder's counts by key",
            Self::ApiServerRequests => "significant API server writes",
            Self::EtcdWrites => "etcd's puts and deletes",
            Self::EtcdRevision => "etcd's revision",
            Self::None => "nothing",
        })
    }
}

/// How complete a series is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalReport {
    /// Where it came from.
    pub source: SignalSource,
    /// What counts as a change.
    #[serde(default)]
    pub signal: Signal,
    /// Why that and nothing better, a sentence.
    #[serde(default)]
    pub why: String,
    /// Cells that are known.
    pub samples: usize,
    /// Cells that are not.
    pub gaps: usize,
    /// Where the last known cell ends.
    pub fresh_until: Option<Timestamp>,
    /// What is wrong with it, in sentences.
    pub warnings: Vec<String>,
}

impl SignalReport {
    /// Counts a series. What counts as a change is told from the source and from whether significant changes are known.
    #[must_use]
    pub fn of(source: SignalSource, series: &Series) -> Self {
        let samples = series
            .rates()
            .iter()
            .filter(|rate| rate.is_finite())
            .count();
        let (signal, why) = match source {
            _ if samples == 0 => (Signal::None, "no change rate is known yet"),
            SignalSource::Recorder => (
                Signal::RecorderCounts,
                "the standing watch sees every change and its key, so leases and events and their kin are told from the rest",
            ),
            SignalSource::Sampler => (
                Signal::EtcdRevision,
                "etcd's own revision is sampled, because no Prometheus answers for this schedule",
            ),
            SignalSource::Prometheus if series.significant().is_some() => (
                Signal::ApiServerRequests,
                "Prometheus has the API server's counters",
            ),
            SignalSource::Prometheus => (
                Signal::EtcdWrites,
                "Prometheus has no counters of an API server",
            ),
        };
        Self {
            source,
            signal,
            why: why.to_owned(),
            samples,
            gaps: series.len() - samples,
            fresh_until: series.fresh_until(),
            warnings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::signals::series::Point;

    #[test]
    fn known_and_unknown_cells_are_counted() {
        let mut series = Series::empty(Timestamp::UNIX_EPOCH, 60).unwrap();
        let empty = SignalReport::of(SignalSource::Sampler, &series);
        assert_eq!(
            (empty.signal, empty.samples, empty.fresh_until),
            (Signal::None, 0, None)
        );
        for writes in [Some(1.0), None, Some(f64::NAN), Some(2.0), None] {
            series.push(&Point {
                writes,
                ..Point::at(Timestamp::UNIX_EPOCH)
            });
        }
        let report = SignalReport::of(SignalSource::Sampler, &series);
        assert_eq!((report.samples, report.gaps), (2, 3));
        assert_eq!(
            report.fresh_until,
            Some(Timestamp::from_second(240).unwrap())
        );
        assert_eq!(report.signal, Signal::EtcdRevision);
    }
}
