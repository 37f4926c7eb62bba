//! The one place where tasks report what they do: published to the status page and to the state folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::ResourceName;
use super::state::StateDir;
use crate::alert::{Alerter, Standing};
use crate::records::{read_record, write_record};
use crate::serve::{AlertStatus, ChannelStatus, ScheduleState, StatusSnapshot, StoreState};

/// Collects the state of every schedule and publishes the whole after each change.
pub struct Board {
    parts: Mutex<Parts>,
    published: watch::Sender<StatusSnapshot>,
    file: PathBuf,
}

/// From so many schedules on the whole is published once in [`AT_MOST`], not after each change: their list is made anew each time.
const MANY: usize = 50;
/// How long a change of one of many may stay unpublished.
const AT_MOST: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Parts {
    published: Option<Instant>,
    unpublished: bool,
    snapshot: StatusSnapshot,
    schedules: BTreeMap<ResourceName, Arc<ScheduleState>>,
    stores: BTreeMap<String, StoreState>,
}

impl Board {
    /// A board for a process that started at `started`. What the one before it said of schedules stands until they were looked at:
    /// a process that dies at its start must not take it along.
    pub fn new(cluster: &str, started: Timestamp, state: &StateDir) -> Self {
        let file = StateDir::status_file(state.root());
        let before: StatusSnapshot = read_record(&file).unwrap_or_default();
        let snapshot = StatusSnapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: cluster.to_owned(),
            started: Some(started),
            now: Some(started),
            schedules: before.schedules.clone(),
            ..StatusSnapshot::default()
        };
        let schedules = before.schedules.into_iter().map(|state| {
            let name = ResourceName {
                namespace: state.namespace.clone(),
                name: state.name.clone(),
            };
            (name, state)
        });
        let (published, _) = watch::channel(snapshot.clone());
        let parts = Parts {
            snapshot,
            schedules: schedules.collect(),
            ..Parts::default()
        };
        Self {
            parts: Mutex::new(parts),
            published,
            file,
        }
    }

    /// Where the page reads.
    pub fn subscribe(&self) -> watch::Receiver<StatusSnapshot> {
        self.published.subscribe()
    }

    /// A schedule's state changed.
    pub fn schedule(&self, name: &ResourceName, state: ScheduleState, now: Timestamp) {
        self.change(now, |parts| {
            parts.schedules.insert(name.clone(), Arc::new(state));
        });
    }

    /// Changes part of a schedule's state, when it has one.
    pub fn amend(
        &self,
        name: &ResourceName,
        now: Timestamp,
        change: impl FnOnce(&mut ScheduleState),
    ) {
        self.change(now, |parts| {
            if let Some(state) = parts.schedules.get_mut(name) {
                change(Arc::make_mut(state));
            }
        });
    }

    /// Schedules that are no longer wanted disappear.
    pub fn retain(&self, wanted: impl Fn(&ResourceName) -> bool, now: Timestamp) {
        self.change(now, |parts| parts.schedules.retain(|name, _| wanted(name)));
    }

    /// A store answered, or did not.
    pub fn store(&self, url: &str, error: Option<String>, now: Timestamp) {
        let state = StoreState {
            url: url.to_owned(),
            reachable: error.is_none(),
            checked: Some(now),
            error: error.unwrap_or_default(),
        };
        self.change(now, |parts| {
            parts.stores.insert(url.to_owned(), state);
        });
    }

    /// What in the manifests or config is wrong.
    pub fn problems(&self, problems: Vec<String>, now: Timestamp) {
        self.change(now, |parts| parts.snapshot.problems = problems);
    }

    /// The alerts that stand, those that are over, and the channels' health.
    pub fn alerts(&self, alerter: &Alerter, now: Timestamp) {
        let (standing, past, channels) = alerter.state();
        let told = |all: Vec<Standing>| all.iter().map(AlertStatus::from).collect::<Vec<_>>();
        let (alerts, past) = (told(standing), told(past));
        let channels: Vec<_> = channels.iter().map(ChannelStatus::from).collect();
        {
            let shown = self.published.borrow();
            if shown.alerts == alerts && shown.past_alerts == past && shown.channels == channels {
                return;
            }
        }
        self.change(now, |parts| {
            parts.snapshot.alerts = alerts;
            parts.snapshot.past_alerts = past;
            parts.snapshot.channels = channels;
        });
    }

    fn change(&self, now: Timestamp, change: impl FnOnce(&mut Parts)) {
        let snapshot = {
            let mut parts = self
                .parts
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            change(&mut parts);
            parts.snapshot.now = Some(now);
            let lately = parts.published.is_some_and(|at| at.elapsed() < AT_MOST);
            if lately && parts.schedules.len() > MANY {
                parts.unpublished = true;
                return;
            }
            parts.published = Some(Instant::now());
            parts.unpublished = false;
            StatusSnapshot {
                schedules: parts.schedules.values().cloned().collect(),
                stores: parts.stores.values().cloned().collect(),
                ..parts.snapshot.clone()
            }
        };
        self.published.send_replace(snapshot);
    }

    /// Publishes what waits to be; whoever ticks calls it.
    pub fn flush(&self) {
        let waits = {
            let parts = self.parts.lock();
            parts
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .unpublished
        };
        if waits {
            self.change(Timestamp::now(), |_| ());
        }
    }

    /// Writes the published status to the state folder, where commands read it without a network.
    pub fn save(&self) {
        let snapshot = self.published.borrow().clone();
        if let Err(error) = write_record(&self.file, &snapshot) {
            tracing::warn!(%error, "cannot save the status");
        }
    }
}
