//! The standing watch that writes increments: every revision exactly once, whole, in order, or a gap with a name.

pub mod audit;
pub mod concat;
pub mod group;
pub mod merge;
pub mod segment;
pub mod significance;
pub mod spill;
pub mod watch;
