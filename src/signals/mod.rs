//! What a cluster does, from Prometheus, etcd itself or a trace file, as one [`series::Series`].

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::api::{ErrorClass, PrometheusSource};
use crate::secrets::Secret;

pub use crate::etcd::StatusSource;

pub mod series;
pub mod trace;

use series::{Series, SeriesError};

/// Where a series came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalSource {
    /// Range queries.
    Prometheus,
    /// etcd's own Status, sampled by this process.
    Sampler,
}

/// How complete a series is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalReport {
    /// Where it came from.
    pub source: SignalSource,
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
    /// Counts a series.
    pub fn of(_source: SignalSource, _series: &Series) -> Self {
        todo!()
    }
}

/// A span of time on a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Length of a cell, seconds.
    pub step_seconds: u32,
}

impl Window {
    /// The `span` before `now`, on the grid.
    pub fn before(_now: Timestamp, _span: SignedDuration, _step_seconds: u32) -> Self {
        todo!()
    }
}

/// Reads a Prometheus server by range queries.
pub struct PrometheusReader {}

impl PrometheusReader {
    /// A reader for a source; the Secret holds `token`, or `username` and `password`.
    ///
    /// # Errors
    /// When the URL or the Secret is wrong.
    pub fn new(_source: &PrometheusSource, _secret: Option<&Secret>) -> Result<Self, SignalError> {
        todo!()
    }

    /// Reads change rate, size and load of a window.
    ///
    /// # Errors
    /// When the server does not answer or refuses a query.
    pub async fn read(&self, _window: &Window) -> Result<(Series, SignalReport), SignalError> {
        todo!()
    }
}

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

/// Changes since a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// How many.
    pub changes: i64,
    /// Whether the count is exact: same cluster, and the revision did not go back.
    pub exact: bool,
}

/// Samples etcd's Status and keeps the history in a file.
pub struct Sampler {}

impl Sampler {
    /// Opens the history; one that cannot be read is set aside, which the second value says.
    pub fn open(_file: &Path, _step_seconds: u32) -> (Self, Option<String>) {
        todo!()
    }

    /// Takes a sample and saves it.
    ///
    /// # Errors
    /// When etcd does not answer, or the file cannot be written.
    pub async fn tick(
        &mut self,
        _etcd: &dyn StatusSource,
        _now: Timestamp,
    ) -> Result<Sample, SignalError> {
        todo!()
    }

    /// The history on a grid.
    ///
    /// # Errors
    /// When the history does not fit one.
    pub fn series(&self, _step_seconds: u32) -> Result<Series, SeriesError> {
        todo!()
    }

    /// The newest sample.
    pub fn newest(&self) -> Option<Sample> {
        todo!()
    }

    /// Changes since a revision of a cluster; `None` before the first sample.
    pub fn exposure_since(&self, _cluster_id: u64, _revision: i64) -> Option<Exposure> {
        todo!()
    }
}

/// Why no signal could be read.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// etcd did not answer.
    #[error("etcd's status could not be sampled")]
    Etcd(#[from] crate::etcd::EtcdError),
}

impl SignalError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Etcd(error) => error.class(),
        }
    }
}
