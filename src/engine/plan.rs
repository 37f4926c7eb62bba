//! The choices of the loop that are not about when: what an interrupted run left, whether a single backup is still
//! wanted, whether a schedule protects its cluster. Pure.

use jiff::{SignedDuration, Timestamp};

use super::record::{BackupRecord, GoodBackup, Run};
use crate::schedule::{Cron, Policy};

/// Failed single backups are tried again this many times before a person must act.
pub const SINGLE_BACKUP_ATTEMPTS: u32 = 5;

/// What became of a run that was under way when the process died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupted {
    /// Nothing was under way.
    None,
    /// Its manifest is in the store: it is a good backup, and must not be made twice.
    Finished(Box<GoodBackup>, Run),
    /// No manifest: whatever lies in the store is an orphan that the sweep removes.
    Abandoned(Run),
}

/// Judges an interrupted run by what the catalogue says of its run id.
pub fn judge_interrupted(in_flight: Option<&Run>, in_catalogue: Option<GoodBackup>) -> Interrupted {
    match (in_flight, in_catalogue) {
        (None, _) => Interrupted::None,
        (Some(run), Some(backup)) => Interrupted::Finished(Box::new(backup), run.clone()),
        (Some(run), None) => Interrupted::Abandoned(run.clone()),
    }
}

/// What to do about a single backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleBackup {
    /// It is there.
    Done,
    /// Make it now.
    Make,
    /// It failed; try again then.
    RetryAt(Timestamp),
    /// It failed too often.
    GaveUp,
}

/// Decides about a single backup: made once, retried with doubling pauses from 30 seconds to an hour.
pub fn single_backup(record: &BackupRecord, now: Timestamp) -> SingleBackup {
    match (&record.done, &record.failure) {
        (Some(_), _) => SingleBackup::Done,
        (None, None) => SingleBackup::Make,
        (None, Some(failure)) if failure.count >= SINGLE_BACKUP_ATTEMPTS => SingleBackup::GaveUp,
        (None, Some(failure)) => {
            match failure.at.checked_add(retry_pause(failure.count)) {
                // A clock that jumped back must not hold the retry off for longer than its pause.
                Ok(at) if at > now && failure.at <= now => SingleBackup::RetryAt(at),
                _ => SingleBackup::Make,
            }
        }
    }
}

/// The pause after so many failures in a row: 30 seconds, doubling up to an hour.
pub fn retry_pause(failures: u32) -> SignedDuration {
    let seconds = 30_i64 << failures.saturating_sub(1).min(7);
    SignedDuration::from_secs(seconds.min(3600))
}

/// How well a schedule protects its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A proved backup is young enough, until then.
    Protected {
        /// When it will be too old.
        until: Timestamp,
    },
    /// There is none yet, and none is overdue.
    Waiting {
        /// When the first one is overdue.
        until: Timestamp,
    },
    /// The newest proved backup is too old, or the first one is overdue.
    Overdue {
        /// Since when.
        since: Timestamp,
    },
}

/// What a schedule's protection depends on.
#[derive(Debug, Clone, Copy)]
pub struct Cover {
    /// When the schedule was first seen.
    pub first_seen: Timestamp,
    /// The moment that the newest proved backup holds.
    pub last_verified: Option<Timestamp>,
}

/// Judges the protection: a proved backup counts until the next one is overdue, which is the longest interval that the
/// policy allows after it (the cron's own next slot when the cron alone decides), and a grace for the work itself.
pub fn protection(policy: &Policy, cover: &Cover, now: Timestamp) -> Protection {
    let from = cover.last_verified.unwrap_or(cover.first_seen);
    let due = if policy.ai_enabled {
        from.checked_add(policy.max_interval).ok()
    } else {
        policy.cron.next_after(from)
    };
    let due = due.unwrap_or(Timestamp::MAX);
    let interval = due.duration_since(from);
    let until = due
        .checked_add(grace(policy, interval))
        .unwrap_or(Timestamp::MAX);
    match cover.last_verified {
        _ if until < now => Protection::Overdue { since: until },
        Some(_) => Protection::Protected { until },
        None => Protection::Waiting { until },
    }
}

/// A tenth of the interval, at least a minute (half the interval on compressed clocks), and twice the expected duration.
fn grace(policy: &Policy, interval: SignedDuration) -> SignedDuration {
    let least = (interval / 2).min(SignedDuration::from_mins(1));
    let work = policy.expected_duration.unwrap_or(SignedDuration::ZERO) * 2;
    (interval / 10).max(least).max(work)
}

/// Whether a restore drill is due: a slot has passed since the last one began, or since the schedule was first seen. Slots that
/// were missed are made up for once.
pub fn drill_due(
    cron: &Cron,
    last: Option<Timestamp>,
    first_seen: Timestamp,
    now: Timestamp,
) -> bool {
    cron.next_after(last.unwrap_or(first_seen))
        .is_some_and(|slot| slot <= now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::record::Failure;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn failed(count: u32, seconds: i64) -> BackupRecord {
        let failure = Failure {
            count,
            since: at(0),
            at: at(seconds),
            reason: "Failed".to_owned(),
            message: "no".to_owned(),
        };
        BackupRecord {
            failure: Some(failure),
            ..BackupRecord::default()
        }
    }

    #[test]
    fn a_single_backup_is_made_once_and_retried_with_growing_pauses() {
        assert_eq!(
            single_backup(&BackupRecord::default(), at(0)),
            SingleBackup::Make
        );
        assert_eq!(
            single_backup(&failed(1, 0), at(1)),
            SingleBackup::RetryAt(at(30))
        );
        assert_eq!(single_backup(&failed(1, 0), at(30)), SingleBackup::Make);
        assert_eq!(
            single_backup(&failed(3, 0), at(60)),
            SingleBackup::RetryAt(at(120))
        );
        assert_eq!(single_backup(&failed(5, 0), at(9999)), SingleBackup::GaveUp);
        assert_eq!(
            single_backup(&failed(1, 500), at(0)),
            SingleBackup::Make,
            "clock jumped back"
        );
    }

    #[test]
    fn protection_lasts_until_the_next_backup_is_overdue() {
        let cron = crate::schedule::Cron::parse("0 9 * * 1-5", "UTC").unwrap();
        let mut policy = Policy {
            ai_enabled: false,
            ..Policy::with_defaults(cron)
        };
        let friday: Timestamp = "2026-11-20T09:00:30Z".parse().unwrap();
        let cover = Cover {
            first_seen: friday,
            last_verified: Some(friday),
        };
        let sunday: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let tuesday: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        assert!(matches!(
            protection(&policy, &cover, sunday),
            Protection::Protected { .. }
        ));
        assert!(matches!(
            protection(&policy, &cover, tuesday),
            Protection::Overdue { .. }
        ));
        let none = Cover {
            last_verified: None,
            ..cover
        };
        assert!(matches!(
            protection(&policy, &none, sunday),
            Protection::Waiting { .. }
        ));
        assert!(matches!(
            protection(&policy, &none, tuesday),
            Protection::Overdue { .. }
        ));
        policy.ai_enabled = true;
        let until = friday + SignedDuration::from_mins(6 * 60 + 36);
        assert_eq!(
            protection(&policy, &cover, friday),
            Protection::Protected { until }
        );
        assert_eq!(
            protection(&policy, &cover, sunday),
            Protection::Overdue { since: until }
        );
    }

    #[test]
    fn an_interrupted_run_is_finished_only_if_its_manifest_is_there() {
        let run = Run {
            run_id: "r".to_owned(),
            name: "n".to_owned(),
            started: at(0),
            trigger: "due".to_owned(),
        };
        assert_eq!(judge_interrupted(None, None), Interrupted::None);
        assert_eq!(
            judge_interrupted(Some(&run), None),
            Interrupted::Abandoned(run)
        );
    }
}
