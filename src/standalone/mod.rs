//! The main loop without Kubernetes: a folder of YAML in place of the API server, a folder of state in place of status.
//!
//! In: the config. Out: backups in the store, status for the page and the CLI, alerts. [`plan`] holds the choices that are
//! not about when, [`run`] keeps one task a schedule, `schedule_task` is the loop of one schedule.

mod board;
mod dispatch;
mod manifests;
mod meter;
mod observe;
pub mod plan;
mod policy;
mod record;
mod report;
pub mod requests;
mod run;
mod schedule_task;
mod services;
mod single_task;
mod state;

pub use manifests::{Desired, FolderWatch, ResourceName};
pub use policy::policy_of;
pub use record::{BackupRecord, ScheduleRecord};
pub use report::{decision_file, decision_status};
pub use run::{LoopError, Start, run};
pub use state::{StateDir, StateError};
