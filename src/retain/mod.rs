//! Which backups stay: catalogue + policy + now → kept and dropped, each with its reasons.

mod plan;
mod run;
#[cfg(test)]
mod tests;

use jiff::SignedDuration;
use serde::Serialize;

use crate::repository::{Catalog, Pin, Repository};

pub use plan::{must_keep, plan, reader};
pub use run::run;

/// Which backups a policy speaks about: those of one schedule, or those of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The schedule's namespace; every namespace when absent.
    pub namespace: Option<String>,
    /// The schedule.
    pub schedule: Option<String>,
}

/// What keeps backups whatever the rules say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Who reads which chains.
    pub pins: Vec<Pin>,
    /// For so long the store lets nobody delete what was written.
    pub lock: Option<SignedDuration>,
}

impl Holds {
    /// Those of a repository.
    pub fn of(repository: &Repository, catalog: &Catalog) -> Self {
        Self {
            pins: catalog.pins.clone(),
            lock: repository.lock(),
        }
    }
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

/// What is kept and what goes, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPlan {
    /// These stay.
    pub kept: Vec<Judged>,
    /// These go.
    pub dropped: Vec<Judged>,
}

impl RetentionPlan {
    /// The plan for people: a line for each backup.
    pub fn render(&self) -> String {
        let lines = |word: &str, judged: &[Judged]| -> String {
            let line = |one: &Judged| format!("{word}   {}   {}\n", one.id, one.reasons.join("; "));
            judged.iter().map(line).collect()
        };
        format!(
            "{}{}",
            lines("keep", &self.kept),
            lines("drop", &self.dropped)
        )
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
