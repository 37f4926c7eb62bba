//! The database file that etcd keeps its rows in (bbolt's format, etcd-format.md §2): read, checked and written from nothing
//! but its bytes, none of which is trusted.

pub mod build;
pub mod check;
mod node;
mod nodes;
pub mod page;
mod read;

pub use node::{Row, row_at, row_data};
pub use read::{Bucket, Database, Rows};

use super::{Finding, Severity, SnapshotError};

/// What is wrong with the bytes at one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at {place}")]
pub struct Fault {
    /// A CamelCase word that tools can rely on.
    pub code: &'static str,
    /// A page, an element, a bucket.
    pub place: String,
    /// In words.
    pub problem: String,
}

impl Fault {
    /// A fault of a kind at a place.
    pub fn new(code: &'static str, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            code,
            place: place.into(),
            problem: problem.into(),
        }
    }
}

impl From<Fault> for SnapshotError {
    fn from(fault: Fault) -> Self {
        Self::Unreadable {
            problem: fault.problem,
            place: fault.place,
        }
    }
}

impl From<Fault> for Finding {
    fn from(fault: Fault) -> Self {
        Self {
            severity: Severity::Error,
            code: fault.code.to_owned(),
            place: fault.place,
            message: fault.problem,
        }
    }
}
