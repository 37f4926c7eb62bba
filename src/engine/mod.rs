//! The main loop of one schedule, whoever holds it: observe → fit → decide → dispatch at every sample. The folder of YAML
//! (`standalone`) and the API server (`operator`) are two hosts of it.
//!
//! In: a schedule's resource and its [`Host`]. Out: backups that the host carries out, status, metrics, alerts. [`plan`] holds the
//! choices that are not about when.

mod board;
mod chains;
mod counts;
pub mod digest;
mod dispatch;
mod host;
mod keeper;
mod lookout;
mod meter;
mod name;
mod observe;
pub mod plan;
mod policy;
mod readings;
mod record;
mod report;
mod schedule_task;
mod services;
mod slots;
mod state;

pub use board::Board;
pub use dispatch::{Done, Failed, Order, StageName};
pub use host::Host;
pub use keeper::Keeper;
pub use lookout::Lookouts;
pub use name::ResourceName;
pub use policy::{policy_of, records};
pub use record::{BackupRecord, Failure, GoodBackup, Run, ScheduleRecord};
pub use report::{decision_file, decision_status};
pub use schedule_task::{Inbox, Looked, ScheduleTask, TRIGGER_ANNOTATION, Wish};
pub use services::{About, LOOKS, Services, Trust, cluster_name};
pub use slots::{Slot, Slots};
pub use state::{StateDir, StateError};
