//! The resources in the API server: each controller observes, decides in its `plan.rs`, acts, and reports in status, events,
//! metrics and audit lines. The schedules' own loop is `engine`; this room is its second host.
//!
//! [`run`] starts the process and ends it when its lease is lost; [`backup`], [`schedule`] and [`restore`] are the controllers;
//! [`job`] is work in Jobs, seen from outside, and `job_process` from inside.

pub mod backup;
mod conditions;
mod context;
mod discovery;
mod hooks;
pub mod job;
mod job_process;
pub mod labels;
pub mod lease;
mod manifests;
pub mod report;
pub mod restore;
mod retries;
pub mod rights;
mod run;
mod runs;
pub mod schedule;
mod secrets;
mod tenancy;
mod velero;
mod work;

pub use job_process::{Told, back_up};
pub use run::{Ended, OperatorError, Start, namespace_of, run};
pub use secrets::ClusterSecrets;
pub use work::Handed;
