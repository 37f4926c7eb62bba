//! Evidence → verdict: what is in the store is read back, unsealed and proved, level by level.

mod error;
mod mapped;
mod plan;
mod read_back;
mod run;

pub use error::VerifyError;
pub use mapped::Mapped;
pub use plan::{Live, Verdict, comparable, is_structure, judge};
pub use read_back::ReadBack;
pub use run::{deep, fetch, prove, read_back, shallow};
