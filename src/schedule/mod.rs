//! The core: when a backup is worth taking, and why. Pure: series and state in, decisions out.
//!
//! Read [`plan`] first, it is the rule of every tick; [`calibrate`] is the daily loop that sets its knobs; [`decide`] puts
//! both together for one schedule. The formulas and scores are in `docs/explanation/scheduling.md`.

pub mod advance;
pub mod backtest;
pub mod calibrate;
#[cfg(test)]
mod core_tests;
pub mod cron;
pub mod decide;
pub mod decision;
mod design;
pub mod dp;
pub mod drift;
pub mod explain;
pub mod exposure;
pub mod features;
pub mod fit;
pub mod forecast;
pub mod guard;
pub mod history;
pub mod model;
pub mod plan;
pub mod policy;
pub mod prior;
pub mod proof;
pub mod score;
pub mod shadow;
pub mod simulate;
pub mod size;
pub mod slots;
pub mod state;
pub mod tick;
pub mod timescale;

pub use cron::{Cron, CronError};
pub use policy::Policy;
pub use state::State;
