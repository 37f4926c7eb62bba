//! The summary of a week: backups by level, the window that can be restored, what was saved against the cron.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::services::Services;
use crate::alert::{Event, Facts, Kind, Subject};
use crate::api::{DigestConfig, parse_time_of_day, parse_zone};
use crate::records::{read_record, write_record};
use crate::serve::{ScheduleState, StatusSnapshot};

/// How often it is looked whether the summary is due.
const LOOK: Duration = Duration::from_secs(30);
/// How many days a summary is about.
const DAYS: i64 = 7;
/// More schedules than this are counted, not listed.
const LISTED: usize = 30;

/// What is kept across restarts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sent {
    last: Option<Timestamp>,
}

/// Sends a summary at each of its times, for as long as the future is driven; never ends.
pub async fn run(services: Arc<Services>) {
    let Some(config) = services.config.alerts.digest.clone() else {
        return std::future::pending().await;
    };
    let file = services.state.digest_file();
    let mut sent: Sent = read_record(&file).unwrap_or_default();
    if sent.last.is_none() {
        sent.last = Some(Timestamp::now());
        keep(&file, &sent);
    }
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        let now = Timestamp::now();
        let due = last_slot(&config, now).filter(|slot| sent.last.is_none_or(|last| last < *slot));
        if due.is_none() {
            continue;
        }
        let facts = summary(&services.board.subscribe().borrow(), now);
        let subject = Subject::schedule(&services.cluster_name(), "", "", &[]);
        let event = Event::trouble(Kind::Digest, subject, now, facts);
        services.alerter.digest(event);
        sent.last = Some(now);
        keep(&file, &sent);
    }
}

fn keep(file: &Path, sent: &Sent) {
    if let Err(error) = write_record(file, sent) {
        tracing::warn!(%error, "when the digest was sent is not kept: a restart may repeat it");
    }
}

/// The newest moment at or before `now` at which a summary is to be sent.
pub fn last_slot(config: &DigestConfig, now: Timestamp) -> Option<Timestamp> {
    let time = parse_time_of_day(&config.at)?;
    let zone = parse_zone(config.time_zone.as_deref())?;
    let day: Weekday = config.day.into();
    let today = zone.to_datetime(now).date();
    (0..=7_i64)
        .filter_map(|back| today.checked_sub(back.days()).ok())
        .filter(|date| date.weekday() == day)
        .filter_map(|date| zone.to_timestamp(date.to_datetime(time)).ok())
        .find(|slot| *slot <= now)
}

/// What a week was like, as of `now`.
pub fn summary(status: &StatusSnapshot, now: Timestamp) -> Facts {
    let weeks: Vec<Week<'_>> = status
        .schedules
        .iter()
        .map(|schedule| Week::of(schedule, now))
        .collect();
    let taken: u64 = weeks.iter().map(Week::taken).sum();
    let failed: u64 = weeks.iter().map(|week| week.failed).sum();
    let active = weeks.iter().filter(|week| !week.suspended());
    let none_active = active.clone().count() == 0;
    let unsafe_now = active.filter(|week| !week.schedule.protected).count();
    let mut what = format!(
        "{taken} {} taken in the last {DAYS} days, {} failed. {}",
        if taken == 1 {
            "backup was"
        } else {
            "backups were"
        },
        match failed {
            0 => "no attempt".to_owned(),
            1 => "1 attempt".to_owned(),
            many => format!("{many} attempts"),
        },
        match (weeks.len(), unsafe_now) {
            (0, _) => "There is no schedule, so nothing is protected.".to_owned(),
            _ if none_active => "Every schedule is suspended: no backups are taken.".to_owned(),
            (_, 0) => "Every active schedule is protected.".to_owned(),
            (_, 1) => "1 schedule is NOT protected.".to_owned(),
            (_, many) => format!("{many} schedules are NOT protected."),
        }
    );
    let mut listed: Vec<&Week<'_>> = weeks.iter().collect();
    // Those that need a person first; the order of the rest is that of their names.
    listed.sort_by_key(|week| {
        (
            week.schedule.protected || week.suspended(),
            week.failed == 0,
        )
    });
    if listed.len() > LISTED {
        listed.truncate(LISTED);
        what.push_str(&format!(
            " Of {} schedules {LISTED} are listed, first those that are not protected or failed.",
            weeks.len()
        ));
    }
    Facts {
        what,
        details: listed
            .into_iter()
            .map(|week| {
                let ScheduleState {
                    namespace, name, ..
                } = week.schedule;
                (format!("{namespace}/{name}"), week.words())
            })
            .collect(),
        ..Facts::default()
    }
}

/// A schedule's week.
struct Week<'a> {
    schedule: &'a ScheduleState,
    levels: BTreeMap<&'a str, u64>,
    failed: u64,
}

impl<'a> Week<'a> {
    fn of(schedule: &'a ScheduleState, now: Timestamp) -> Self {
        let since = now
            .checked_sub(SignedDuration::from_hours(24 * DAYS))
            .unwrap_or(Timestamp::MIN);
        // Days of UTC: the one that the week began in counts in part, and is left out.
        let first = since.strftime("%Y-%m-%d").to_string();
        let mut week = Self {
            schedule,
            levels: BTreeMap::new(),
            failed: 0,
        };
        for tally in schedule.days.iter().filter(|tally| tally.day > first) {
            for (level, count) in &tally.levels {
                *week.levels.entry(level).or_default() += count;
            }
            week.failed += tally.failed;
        }
        week
    }

    fn taken(&self) -> u64 {
        self.levels.values().sum()
    }

    fn suspended(&self) -> bool {
        self.schedule.suspended()
    }

    fn words(&self) -> String {
        let status = &self.schedule.status;
        let mut parts = Vec::new();
        if self.suspended() {
            parts.push("suspended".to_owned());
        } else if !self.schedule.protected {
            parts.push("NOT PROTECTED".to_owned());
        }
        let levels: Vec<String> = self
            .levels
            .iter()
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        parts.push(match self.taken() {
            0 => "no backup".to_owned(),
            _ => format!("backups: {}", levels.join(", ")),
        });
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        let moment = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        parts.push(match (status.recoverable_from, status.recoverable_to) {
            (Some(from), Some(to)) => format!("restorable from {} to {}", moment(from), moment(to)),
            (None, Some(to)) => format!("restorable up to {}", moment(to)),
            (_, None) => "nothing to restore".to_owned(),
        });
        if let Some(decision) = &status.decision
            && let (Some(saved), Some(ratio)) =
                (decision.saved_percent, decision.exposure_ratio_percent)
        {
            parts.push(if saved < 0 {
                format!(
                    "{} % more backups than the cron at {ratio} % of its exposure",
                    -saved
                )
            } else {
                format!("{saved} % fewer backups than the cron at {ratio} % of its exposure")
            });
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::DayOfWeek;
    use crate::serve::DayTally;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_slot_is_that_of_the_zone_over_a_change_of_the_clock() {
        let config = DigestConfig {
            day: DayOfWeek::Monday,
            at: "08:00".to_owned(),
            time_zone: Some("Europe/Berlin".to_owned()),
            channels: Vec::new(),
        };
        let slot = |now: &str| last_slot(&config, at(now)).unwrap();
        assert_eq!(slot("2026-10-26T06:59:59Z"), at("2026-10-19T06:00:00Z"));
        assert_eq!(slot("2026-10-26T07:00:00Z"), at("2026-10-26T07:00:00Z"));
        assert_eq!(slot("2026-11-01T23:59:00Z"), at("2026-10-26T07:00:00Z"));
    }

    #[test]
    fn a_week_is_told_with_its_levels_its_window_and_what_was_saved() {
        let sample = include_str!("../../tests/samples/status.json");
        let mut status: StatusSnapshot = serde_json::from_str(sample).unwrap();
        status.schedules.retain(|schedule| schedule.name == "prod");
        let tally = |day: &str, consistent, failed| DayTally {
            day: day.to_owned(),
            levels: BTreeMap::from([("Consistent".to_owned(), consistent)]),
            failed,
        };
        Arc::make_mut(&mut status.schedules[0]).days = vec![
            tally("2026-11-18", 100, 100),
            tally("2026-11-19", 4, 0),
            tally("2026-11-25", 2, 1),
        ];
        let now = at("2026-11-25T08:00:00Z");
        let facts = summary(&status, now);
        assert_eq!(
            facts.what,
            "6 backups were taken in the last 7 days, 1 attempt failed. Every active schedule is protected."
        );
        assert_eq!(
            facts.details["etcd/prod"],
            "backups: 6 Consistent; 1 failed; restorable from 2026-10-26 03:40 UTC to 2026-11-25 01:28 UTC; 31 % fewer backups than the cron at 98 % of its exposure"
        );
        let one = (*status.schedules[0]).clone();
        status.schedules = (0..100)
            .map(|number| {
                Arc::new(ScheduleState {
                    name: format!("s{number:03}"),
                    protected: number != 77,
                    ..one.clone()
                })
            })
            .collect();
        let facts = summary(&status, now);
        assert_eq!(facts.details.len(), 30);
        assert!(facts.details["etcd/s077"].starts_with("NOT PROTECTED; "));
        assert!(
            summary(&StatusSnapshot::default(), now)
                .what
                .contains("no schedule")
        );
    }
}
