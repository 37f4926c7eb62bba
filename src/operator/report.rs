//! What whoever does the work says of it: the operator's own process and a Job say the same. Pure.

use serde::{Deserialize, Serialize};

use crate::repository::Manifest;

/// How far a run is, and what came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The run.
    pub run_id: String,
    /// The stage that it is in.
    pub stage: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A backup is in the store.
    Completed(Box<Finished>),
    /// It was not begun: a right is missing.
    Rejected {
        /// Which, and who can give it.
        message: String,
    },
    /// Nothing came of it.
    Failed {
        /// CamelCase.
        reason: String,
        /// What happened, and what to do.
        message: String,
    },
}

/// A finished backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// Its manifest.
    pub manifest: Manifest,
    /// URL of its data.
    pub location: String,
    /// What went wrong without failing it.
    pub warnings: Vec<String>,
    /// Seconds that each stage took.
    pub stages: Vec<(String, f64)>,
    /// Ids of backups that retention deleted.
    #[serde(default)]
    pub retired: Vec<String>,
    /// What else came of the run.
    #[serde(default)]
    pub remark: Option<String>,
}
