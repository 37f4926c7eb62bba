//! What a cluster does, from Prometheus, etcd itself or a trace file, as one [`series::Series`].

mod answer;
mod error;
pub mod floor;
mod prometheus;
mod queries;
mod report;
mod sampler;
mod samples;
mod window;

#[cfg(test)]
mod sampler_tests;
#[cfg(test)]
mod samples_tests;

pub mod series;
pub mod trace;

pub use crate::etcd::StatusSource;
pub use error::SignalError;
pub use prometheus::PrometheusReader;
pub use report::{Signal, SignalReport, SignalSource};
pub use sampler::Sampler;
pub use samples::{Exposure, Sample};
pub use window::Window;

/// History that is worth keeping: 16,384 cells, which is 56 days of 5-minute steps.
pub const HISTORY_CELLS: usize = 16_384;
