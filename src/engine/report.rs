//! What a schedule says of itself: the status of its resource with conditions, the state that the page shows. Pure.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::ResourceName;
use super::dispatch::Failed;
use super::plan::Protection;
use super::record::{DrillRecord, GoodBackup, ScheduleRecord};
use crate::api::{DecisionStatus, DrillStatus, EtcdBackupScheduleStatus};
use crate::recorder::watch::Progress;
use crate::repository::Window;
use crate::schedule::Policy;
use crate::schedule::decide::{Decision, Source};
use crate::schedule::plan::{Mode, Reason};
use crate::serve::{BackupState, RatePoint};
use crate::signals::series::Series;

/// What a report is made of.
pub struct Facts<'a> {
    /// What is remembered.
    pub record: &'a ScheduleRecord,
    /// The wishes.
    pub policy: &'a Policy,
    /// The decision in force.
    pub decision: Option<&'a Decision>,
    /// Whether it protects.
    pub protection: Protection,
    /// Why the store cannot be used.
    pub store_error: Option<&'a Failed>,
    /// Why etcd does not answer.
    pub etcd_error: Option<&'a Failed>,
    /// Why the change rate is not known.
    pub signal_error: Option<&'a str>,
    /// Where the standing watch is, when the schedule wants one.
    pub recording: Option<&'a RecordingState>,
    /// Generation of the resource.
    pub generation: Option<i64>,
}

/// Where the standing watch of a schedule is.
#[derive(Debug, Clone, Default)]
pub struct RecordingState {
    /// How far it is; `None` while there is none.
    pub progress: Option<Progress>,
    /// Revisions that it is behind etcd, when etcd answers.
    pub lag: Option<i64>,
    /// Alarms that etcd has raised, while it is asked.
    pub alarms: Option<Vec<String>>,
    /// Why it does not record.
    pub problem: Option<String>,
    /// What the store covers without a hole.
    pub windows: Vec<Window>,
}

/// Where a schedule's whole decision is kept for `schedule explain`.
pub fn decision_file(state_root: &Path, name: &ResourceName) -> PathBuf {
    state_root
        .join("decisions")
        .join(format!("{}_{}.json", name.namespace, name.name))
}

/// The decision as the resource's status holds it: whole numbers.
pub fn decision_status(decision: &Decision) -> DecisionStatus {
    let whole = |value: f64| value.round().clamp(0.0, 9e15) as i64;
    let percent = |value: f64| value.round().clamp(-9e15, 9e15) as i64;
    let planned = (decision.at < Timestamp::MAX).then_some(decision.at);
    DecisionStatus {
        source: format!("{:?}", decision.source),
        interval_seconds: planned.map(|_| decision.interval_seconds),
        at: planned,
        reasons: decision.reasons.clone(),
        model: decision.model.clone(),
        exposure: whole(decision.exposure),
        budget: (decision.budget > 0.0).then(|| whole(decision.budget)),
        saved_percent: decision.saved_percent.map(percent),
        exposure_ratio_percent: decision.exposure_ratio_percent.map(percent),
        potential_percent: decision.potential_percent.map(percent),
    }
}

/// The status of the resource; `before` gives the conditions' transition times.
pub fn status(facts: &Facts<'_>, before: &[Condition], now: Timestamp) -> EtcdBackupScheduleStatus {
    let record = facts.record;
    let suspended = facts.policy.suspend;
    let decision = facts.decision.map(decision_status);
    EtcdBackupScheduleStatus {
        phase: Some(if suspended { "Suspended" } else { "Active" }.to_owned()),
        last_backup_time: record.last_backup,
        next_backup_time: decision
            .as_ref()
            .and_then(|decision| decision.at)
            .filter(|_| !suspended),
        last_successful_time: record
            .last_successful
            .as_ref()
            .map(|backup| backup.completed),
        last_verified_time: record.last_verified.as_ref().map(|backup| backup.completed),
        recoverable_from: record.recoverable_from,
        recoverable_to: record.last_verified.as_ref().map(|backup| backup.taken),
        missed_slots: Some(record.missed_slots),
        drill: record.drill.as_ref().map(drill_status),
        backup_history: record.history.iter().cloned().collect(),
        decision,
        conditions: conditions(facts, before, now),
        message: Some(message(facts)),
        observed_generation: facts.generation,
    }
}

fn drill_status(drill: &DrillRecord) -> DrillStatus {
    DrillStatus {
        last_time: Some(drill.begun),
        last_successful_time: drill.succeeded,
        backup: (!drill.backup.is_empty()).then(|| drill.backup.clone()),
        level: (!drill.level.is_empty()).then(|| drill.level.clone()),
        message: drill.problem.clone(),
    }
}

/// One sentence: protected or not, and why.
pub fn protection_sentence(facts: &Facts<'_>) -> String {
    let moment = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    if facts.policy.suspend {
        let last = match &facts.record.last_verified {
            Some(backup) => format!(
                "the newest proved one is of {} (revision {}, {})",
                moment(backup.taken),
                backup.revision,
                backup.level.to_lowercase()
            ),
            None => "there is no proved one".to_owned(),
        };
        return format!("suspended: no backups are taken; {last}");
    }
    match (facts.protection, &facts.record.last_verified) {
        (Protection::Protected { until }, Some(backup)) => format!(
            "protected: the backup of {} (revision {}) is {} and counts until {}",
            moment(backup.taken),
            backup.revision,
            backup.level.to_lowercase(),
            moment(until)
        ),
        (Protection::Protected { until }, None) => format!("protected until {}", moment(until)),
        (Protection::Waiting { until }, _) => {
            format!(
                "not protected yet: no proved backup exists; the first is overdue after {}",
                moment(until)
            )
        }
        (Protection::Overdue { .. }, Some(backup)) => format!(
            "NOT PROTECTED: the newest proved backup is of {}; a newer one is overdue",
            moment(backup.taken)
        ),
        (Protection::Overdue { .. }, None) => "NOT PROTECTED: no proved backup exists".to_owned(),
    }
}

fn message(facts: &Facts<'_>) -> String {
    match &facts.record.failure {
        Some(failure) if failure.count == 1 => {
            format!("the last backup failed: {}", failure.message)
        }
        Some(failure) => format!(
            "the last {} tries failed: {}",
            failure.count, failure.message
        ),
        None => facts.etcd_error.map_or_else(
            || protection_sentence(facts),
            |error| format!("etcd does not answer: {}", error.message),
        ),
    }
}

/// The conditions of the contract; each keeps its transition time while its status stays.
fn conditions(facts: &Facts<'_>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let protected = matches!(facts.protection, Protection::Protected { .. });
    let protection_reason = match facts.protection {
        _ if facts.policy.suspend => "Suspended",
        Protection::Protected { .. } => "VerifiedBackupFresh",
        Protection::Waiting { .. } => "NoBackupYet",
        Protection::Overdue { .. } => "BackupOverdue",
    };
    let (optimized, optimized_reason, optimized_message) = optimized(facts);
    let store = facts
        .store_error
        .map_or("the store answers", |error| &error.message);
    let ready = facts.record.failure.is_none() && facts.etcd_error.is_none();
    let ready_reason = match (&facts.record.failure, facts.etcd_error) {
        (Some(failure), _) => &failure.reason,
        (None, Some(error)) => error.class.reason(),
        (None, None) => "Working",
    };
    let wanted = [
        ("Ready", ready, ready_reason, message(facts)),
        (
            "Protected",
            protected,
            protection_reason,
            protection_sentence(facts),
        ),
        (
            "AIOptimized",
            optimized,
            optimized_reason,
            optimized_message,
        ),
        (
            "StoreReachable",
            facts.store_error.is_none(),
            facts
                .store_error
                .map_or("Reachable", |error| error.class.reason()),
            store.to_owned(),
        ),
    ];
    let recording = facts.recording.map(recording);
    let recording = recording.map(|(holds, reason, message)| ("Recording", holds, reason, message));
    wanted
        .into_iter()
        .chain(recording)
        .map(|(kind, holds, reason, message)| {
            let status = if holds { "True" } else { "False" };
            let since = before
                .iter()
                .find(|old| old.type_ == kind && old.status == status)
                .map_or(Time(now), |old| old.last_transition_time.clone());
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: facts.generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// The condition `Recording`: whether changes are recorded now, and what can be restored to the moment.
fn recording(state: &RecordingState) -> (bool, &'static str, String) {
    let moment = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let mut message = match (state.progress, &state.problem) {
        (_, Some(problem)) => problem.clone(),
        (None, None) => "nothing is recorded before the first full backup".to_owned(),
        (Some(progress), None) => {
            let lag = match state.lag {
                Some(lag) => format!(", {lag} behind etcd"),
                None => String::new(),
            };
            let waits = match progress.unpublished_since {
                Some(since) => format!("what came since {} is on this disk only", moment(since)),
                None => "all of it is in the store".to_owned(),
            };
            format!(
                "changes are recorded up to revision {}{lag}; {waits}",
                progress.committed
            )
        }
    };
    if let Some(window) = state.windows.last() {
        message.push_str(&format!(
            "; every moment from {} to {} can be restored",
            moment(window.from),
            moment(window.to)
        ));
    }
    if let Some(alarms) = state.alarms.as_ref().filter(|alarms| !alarms.is_empty()) {
        message.push_str(&format!("; etcd has raised alarms: {}", alarms.join(", ")));
    }
    if let [.., before, newest] = &state.windows[..] {
        message.push_str(&format!("; {}", before.hole_before(newest)));
    }
    match (state.progress, &state.problem) {
        (_, Some(_)) => (false, "Gap", message),
        (None, None) => (false, "NotBegun", message),
        (Some(_), None) => (true, "Watching", message),
    }
}

fn optimized(facts: &Facts<'_>) -> (bool, &'static str, String) {
    if !facts.policy.ai_enabled {
        return (
            false,
            "Disabled",
            "aiOptimization is off: the cron alone decides".to_owned(),
        );
    }
    let Some(decision) = facts.decision else {
        return (false, "NotDecidedYet", "nothing was decided yet".to_owned());
    };
    let why = decision.reasons.join("; ");
    match (decision.source, decision.mode, decision.reason) {
        (_, _, Reason::SignalLost) => (
            false,
            "SignalLost",
            facts.signal_error.map_or(why, str::to_owned),
        ),
        (Source::Fallback, ..) | (_, Mode::Cron, _) => {
            let reason = if facts.signal_error.is_some() {
                "SignalLost"
            } else {
                "CronRules"
            };
            (false, reason, facts.signal_error.map_or(why, str::to_owned))
        }
        (_, Mode::Forecast, _) => (true, "ForecastInForce", why),
        (_, Mode::Reactive, _) => (true, "ReactiveRuleInForce", why),
    }
}

/// Points of the history that the page draws.
const DRAWN: usize = 288;

/// How far back the page looks.
pub fn drawn_span(policy: &Policy) -> SignedDuration {
    policy.max_interval * 8
}

/// The cron's slots in the span that the page draws, and in as much of the future as the forecast covers.
pub fn drawn_slots(policy: &Policy, now: Timestamp) -> Vec<Timestamp> {
    let from = now
        .checked_sub(drawn_span(policy))
        .unwrap_or(Timestamp::MIN);
    let to = now
        .checked_add(policy.max_interval * 2)
        .unwrap_or(Timestamp::MAX);
    let mut slots = Vec::new();
    let mut slot = policy.cron.next_after(from);
    while let Some(at) = slot.filter(|at| *at <= to && slots.len() < DRAWN) {
        slots.push(at);
        slot = policy.cron.next_after(at);
    }
    slots
}

/// The newest of a series' known rates, thinned to what the page can draw.
pub fn drawn_rates(series: &Series, horizon: SignedDuration, now: Timestamp) -> Vec<RatePoint> {
    let from = now.checked_sub(horizon).unwrap_or(Timestamp::MIN);
    let recent = series.since(from);
    let coarse = recent.coarsened(recent.len().div_ceil(DRAWN));
    let rates = coarse.rates().iter().enumerate();
    rates
        .filter(|(_, rate)| rate.is_finite())
        .map(|(index, rate)| RatePoint {
            at: coarse.time_of(index),
            rate: *rate,
        })
        .collect()
}

/// The forecast as the page draws it.
pub fn drawn_forecast(decision: &Decision) -> Vec<RatePoint> {
    decision
        .forecast
        .iter()
        .map(|bin| RatePoint {
            at: bin.at,
            rate: bin.rate,
        })
        .collect()
}

/// The newest backups of the store and the failure since, newest first.
pub fn drawn_backups(backups: &[GoodBackup], record: &ScheduleRecord) -> Vec<BackupState> {
    const SHOWN: usize = 50;
    let failed = record.failure.iter().map(|failure| BackupState {
        id: record
            .history
            .front()
            .map(|entry| entry.name.clone())
            .unwrap_or_default(),
        time: Some(failure.at),
        error: Some(failure.message.clone()),
        ..BackupState::default()
    });
    let good = backups.iter().rev().map(|backup| BackupState {
        id: backup.id.clone(),
        time: Some(backup.taken),
        kind: backup.kind.clone(),
        level: backup.level.clone(),
        revision: backup.revision,
        size: backup.raw_size,
        stored_size: backup.stored_size,
        duration_seconds: Some(backup.duration().as_secs_f64()),
        error: None,
    });
    failed.chain(good).take(SHOWN).collect()
}
