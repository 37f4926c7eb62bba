//! What the page asks for again and again: the status with of each schedule no more than its card shows, as a thousand whole ones
//! are tens of megabytes. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::{AlertStatus, ChannelStatus, ScheduleState, StatusSnapshot, StoreState};

/// The status in brief. Fields have the names that they have in the whole one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Brief<'a> {
    version: &'a str,
    cluster: &'a str,
    started: Option<Timestamp>,
    now: Option<Timestamp>,
    schedules: Vec<Card<'a>>,
    stores: &'a [StoreState],
    alerts: &'a [AlertStatus],
    past_alerts: &'a [AlertStatus],
    channels: &'a [ChannelStatus],
    problems: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Card<'a> {
    namespace: &'a str,
    name: &'a str,
    schedule: &'a str,
    ai_enabled: bool,
    protected: bool,
    protection: &'a str,
    running: Option<&'a str>,
    why: &'a str,
    status: Window<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Window<'a> {
    phase: Option<&'a str>,
    next_backup_time: Option<Timestamp>,
    recoverable_from: Option<Timestamp>,
    recoverable_to: Option<Timestamp>,
}

impl<'a> Brief<'a> {
    /// Of the whole status.
    pub fn of(whole: &'a StatusSnapshot) -> Self {
        Self {
            version: &whole.version,
            cluster: &whole.cluster,
            started: whole.started,
            now: whole.now,
            schedules: whole.schedules.iter().map(|one| card(one)).collect(),
            stores: &whole.stores,
            alerts: &whole.alerts,
            past_alerts: &whole.past_alerts,
            channels: &whole.channels,
            problems: &whole.problems,
        }
    }
}

fn card(whole: &ScheduleState) -> Card<'_> {
    Card {
        namespace: &whole.namespace,
        name: &whole.name,
        schedule: &whole.schedule,
        ai_enabled: whole.ai_enabled,
        protected: whole.protected,
        protection: &whole.protection,
        running: whole.running.as_deref(),
        why: &whole.why,
        status: Window {
            phase: whole.status.phase.as_deref(),
            next_backup_time: whole.status.next_backup_time,
            recoverable_from: whole.status.recoverable_from,
            recoverable_to: whole.status.recoverable_to,
        },
    }
}
