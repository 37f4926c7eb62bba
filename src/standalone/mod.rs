//! The main loop without Kubernetes: a folder of YAML in place of the API server, a folder of state in place of status.
//!
//! In: the config. Out: backups in the store, status for the page and the CLI, alerts. One task a schedule.

mod manifests;
mod state;

pub use crate::records::{RecordError, read_record, remove_record, write_record};
pub use manifests::{Desired, FolderWatch, ResourceName};
pub use state::{StateDir, StateError};
