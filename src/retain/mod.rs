//! Which backups stay: catalogue + policy + now → kept and dropped, each with its reasons.

use jiff::Timestamp;
use serde::Serialize;

use crate::api::RetentionPolicy;
use crate::repository::{Catalog, Manifest, Repository};

/// Which backups a policy speaks about: those of one schedule, or those of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The schedule's namespace; every namespace when absent.
    pub namespace: Option<String>,
    /// The schedule.
    pub schedule: Option<String>,
}

/// A backup and why it stays or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Its cluster, as an id is unique only within one.
    pub cluster_id: String,
    /// Its id.
    pub id: String,
    /// Sentences.
    pub reasons: Vec<String>,
}

/// What is kept and what goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPlan {
    /// These stay.
    pub kept: Vec<Judged>,
    /// These go.
    pub dropped: Vec<Judged>,
}

impl RetentionPlan {
    /// The plan as a table for people.
    pub fn render(&self) -> String {
        todo!()
    }
}

/// What came of a plan.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Ids that are gone.
    pub deleted: Vec<String>,
    /// One sentence for each that could not be deleted.
    pub failures: Vec<String>,
}

/// Applies a policy to the backups of a scope; the last verified full backup and what kept increments need always stay.
pub fn plan(
    _backups: &[Manifest],
    _scope: &Scope,
    _policy: &RetentionPolicy,
    _now: Timestamp,
) -> RetentionPlan {
    todo!()
}

/// Why a backup must not be deleted by hand; `None` when it may.
pub fn must_keep(_backups: &[Manifest], _id: &str) -> Option<String> {
    todo!()
}

/// Carries a plan out; deletes nothing that the plan does not name.
pub async fn run(_repository: &Repository, _catalog: &Catalog, _plan: &RetentionPlan) -> Outcome {
    todo!()
}
