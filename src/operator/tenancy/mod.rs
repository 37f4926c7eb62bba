//! Who may back up and restore whose objects: an object's own namespace always, any other only where its service account has the verb,
//! asked of the API server at each run, and the whole cluster only for trusted namespaces.

pub mod plan;
mod review;

pub use review::{Refused, Selected, allowed, may_exec, selected};
