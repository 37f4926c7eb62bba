//! The main loop without Kubernetes: a folder of YAML in place of the API server, a folder of state in place of status.
//!
//! In: the config. Out: backups in the store, status for the page and the CLI, alerts. [`run`] keeps one task a schedule as the
//! folder wants them; the loop itself is `engine`.

mod host;
mod manifests;
pub mod requests;
mod run;
mod single_task;

pub use manifests::{Desired, FolderWatch};
pub use run::{LoopError, Start, run};
