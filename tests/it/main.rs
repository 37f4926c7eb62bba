//! Every integration test, in one binary: one link instead of one a file.
//!
//! A new area is a new file here and a line below. Servers come from `support`: real ones, ready when the call returns and gone
//! when the value is dropped. A test that needs a tool fails when it is missing (`make tools`); none skips.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod architecture;
mod backup;
mod chains;
mod chart;
mod demo;
mod dockerfile;
mod docs;
mod drill;
mod etcd_room;
mod exports;
mod fuzz;
mod live_chain;
mod migration;
mod monitoring;
mod notebooks;
mod objects;
mod operator;
mod page;
mod page_used;
mod proxy;
mod recorder;
mod recording;
mod reference;
mod restore_boot;
mod restore_kept;
mod restore_safety;
mod run;
mod schedule;
mod serve;
mod signals;
mod snapshot_damage;
mod snapshot_file;
mod snapshot_foreign;
mod snapshot_live;
mod snapshot_store;
mod soak;
mod stores;
mod telemetry;
mod testbed;
mod tuning;
mod verbs;
