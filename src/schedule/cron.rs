//! Cron slots as Kubernetes reads them, on top of the `cron` crate: five fields, Sunday 0 or 7, day-of-month *or*
//! day-of-week, macros, evaluated in civil time and mapped to instants so that they never run backwards.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

const DAY_NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// How many occurrences are averaged for [`Cron::typical_period`]: enough to see a month of hourly slots.
const PERIOD_SAMPLES: usize = 400;

/// Why a cron expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "the schedule `{expression}` has {found} fields; Kubernetes cron has five \
         (minute hour day-of-month month day-of-week), without seconds and years: `0 */2 * * *`"
    )]
    FieldCount {
        /// What was written.
        expression: String,
        /// How many fields were found.
        found: usize,
    },
    /// A `TZ=` prefix.
    #[error("the schedule `{expression}` carries a time zone; put the zone in `timeZone` instead")]
    ZonePrefix {
        /// What was written.
        expression: String,
    },
    /// A macro that is not known.
    #[error(
        "the schedule `{expression}` is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
    )]
    UnknownMacro {
        /// What was written.
        expression: String,
    },
    /// A field that cannot be read.
    #[error("the schedule `{expression}` cannot be read: {reason}")]
    BadField {
        /// What was written.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A date that never comes.
    #[error("the schedule `{expression}` never fires (no such date); check the day and the month")]
    Impossible {
        /// What was written.
        expression: String,
    },
    /// A time zone that is not in the IANA database.
    #[error(
        "the time zone `{zone}` is not known; use an IANA name such as `Europe/Berlin` or `UTC`"
    )]
    UnknownZone {
        /// What was written.
        zone: String,
    },
}

/// A parsed schedule in its time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    expression: String,
    zone: TimeZone,
    zone_name: String,
    /// One schedule, or two whose union counts when both day fields are restricted.
    schedules: Vec<cron::Schedule>,
    period: SignedDuration,
}

impl Cron {
    /// Reads a five-field expression or macro, in an IANA time zone (empty means UTC).
    ///
    /// # Errors
    /// Named ones for a wrong number of fields, unreadable fields, dates that never come and unknown zones.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        let zone_name = if zone.is_empty() { "UTC" } else { zone };
        let zone = match zone_name {
            // Known to everyone, also where the system has no time zones, as in a container with nothing else in it.
            "UTC" => TimeZone::UTC,
            _ => TimeZone::get(zone_name).map_err(|_| CronError::UnknownZone {
                zone: zone_name.to_owned(),
            })?,
        };
        let text = expression.trim();
        let schedules = six_field_forms(text)?
            .iter()
            .map(|form| {
                cron::Schedule::from_str(form).map_err(|_| CronError::BadField {
                    expression: text.to_owned(),
                    reason: bad_field(form),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let period = mean_period(&schedules).ok_or_else(|| CronError::Impossible {
            expression: text.to_owned(),
        })?;
        Ok(Self {
            expression: text.to_owned(),
            zone,
            zone_name: zone_name.to_owned(),
            schedules,
            period,
        })
    }

    /// The first slot strictly after `t`; `None` only past the end of the calendar.
    #[must_use]
    pub fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        // A fold maps civil times after `t` to instants before it, so go on until the instant is later. A zone's fold
        // is at most a day long, so looking from a little earlier is not needed: civil time leads the instant.
        let mut civil = self.zone.to_datetime(t);
        loop {
            civil = self.next_civil(civil)?;
            let instant = self.instant_of(civil)?;
            if instant > t {
                return Some(instant);
            }
        }
    }

    /// The last slot at or before `t`, if there is one within the last nine years.
    #[must_use]
    pub fn previous_or_at(&self, t: Timestamp) -> Option<Timestamp> {
        let guess = self.period.as_secs().max(60);
        [2 * guess, 8 * guess, 64 * guess, 9 * 366 * 86_400]
            .into_iter()
            .find_map(|back| {
                let mut from = t.checked_sub(SignedDuration::from_secs(back)).ok()?;
                let mut found = None;
                while let Some(slot) = self.next_after(from).filter(|slot| *slot <= t) {
                    found = Some(slot);
                    from = slot;
                }
                found
            })
    }

    /// The mean time between slots: the period that the cron stands for where a single number is needed.
    #[must_use]
    pub fn typical_period(&self) -> SignedDuration {
        self.period
    }

    /// The schedule as the user wrote it, with its zone.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("`{}` ({})", self.expression, self.zone_name)
    }

    /// The expression as written, without surrounding space.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    fn next_civil(&self, after: civil::DateTime) -> Option<civil::DateTime> {
        let after = to_chrono(after)?;
        let next = self
            .schedules
            .iter()
            .filter_map(|schedule| schedule.after(&after).next())
            .min()?;
        from_chrono(next)
    }

    fn instant_of(&self, civil: civil::DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        let in_gap = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        // "Compatible" takes the earlier instant of a fold, and moves a gap forward by its length;
        // a slot inside a gap belongs at the gap's end, which is the transition just before that.
        let instant = ambiguous.compatible().ok()?;
        if !in_gap {
            return Some(instant);
        }
        let just_after = instant.checked_add(1.nanosecond()).ok()?;
        self.zone
            .preceding(just_after)
            .next()
            .map(|transition| transition.timestamp())
    }
}

/// The six-field forms (seconds first, day names instead of numbers) whose union is the five-field `text`.
fn six_field_forms(text: &str) -> Result<Vec<String>, CronError> {
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        return Err(CronError::ZonePrefix {
            expression: text.to_owned(),
        });
    }
    let text = if text.starts_with('@') {
        expand_macro(text)?
    } else {
        text
    };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let &[minute, hour, month_day, month, week_day] = fields.as_slice() else {
        return Err(CronError::FieldCount {
            expression: text.to_owned(),
            found: fields.len(),
        });
    };
    let any = |field: &str| field == "*" || field == "?";
    let form = |month_day: &str, week_day: &str| {
        let star = |field: &str| {
            if any(field) {
                "*".to_owned()
            } else {
                field.to_owned()
            }
        };
        format!(
            "0 {} {} {} {} {}",
            star(minute),
            star(hour),
            star(month_day),
            star(month),
            week_day
        )
    };
    let days = || {
        day_names(week_day).map_err(|reason| CronError::BadField {
            expression: text.to_owned(),
            reason,
        })
    };
    Ok(match (any(month_day), any(week_day)) {
        (_, true) => vec![form(month_day, "*")],
        (true, false) => vec![form("*", &days()?)],
        (false, false) => vec![form(month_day, "*"), form("*", &days()?)],
    })
}

/// Which field of a six-field form the `cron` crate refuses: its own words span lines and count the added seconds.
fn bad_field(form: &str) -> String {
    let ranges = [
        ("second", "0-59"),
        ("minute", "0-59"),
        ("hour", "0-23"),
        ("day of month", "1-31"),
        ("month", "1-12 or JAN-DEC"),
        ("day of week", "0-7 or SUN-SAT"),
    ];
    let fields: Vec<&str> = form.split_whitespace().collect();
    for (place, (field, (name, range))) in fields.iter().zip(ranges).enumerate() {
        let alone: Vec<&str> = (0..ranges.len())
            .map(|other| match other {
                other if other == place => *field,
                0 => "0",
                _ => "*",
            })
            .collect();
        if cron::Schedule::from_str(&alone.join(" ")).is_err() {
            return format!("`{field}` is not a {name} ({range}, lists, ranges and steps of them)");
        }
    }
    "its fields do not go together".to_owned()
}

fn expand_macro(text: &str) -> Result<&'static str, CronError> {
    match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(CronError::UnknownMacro {
            expression: text.to_owned(),
        }),
    }
}

/// A day-of-week field as a comma list of names, since the `cron` crate counts Sunday as 1 and Kubernetes as 0 or 7.
fn day_names(field: &str) -> Result<String, String> {
    let mut set = [false; 7];
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<usize>().ok().filter(|step| *step > 0);
                (
                    range,
                    Some(step.ok_or_else(|| format!("`{part}` is not a step of days"))?),
                )
            }
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (day_number(first)?, day_number(last)?),
            None if range == "*" || range == "?" => (0, 6),
            None => {
                let first = day_number(range)?;
                (first, if step.is_some() { 6.max(first) } else { first })
            }
        };
        if first > last {
            return Err(format!("the range of days `{range}` runs backwards"));
        }
        for day in (first..=last).step_by(step.unwrap_or(1)) {
            if let Some(slot) = set.get_mut(day % 7) {
                *slot = true;
            }
        }
    }
    let names: Vec<&str> = DAY_NAMES
        .iter()
        .zip(set)
        .filter_map(|(name, chosen)| chosen.then_some(*name))
        .collect();
    Ok(names.join(","))
}

fn day_number(text: &str) -> Result<usize, String> {
    let upper = text.to_ascii_uppercase();
    if let Some(index) = DAY_NAMES.iter().position(|name| *name == upper) {
        return Ok(index);
    }
    text.parse::<usize>()
        .ok()
        .filter(|day| *day <= 7)
        .ok_or_else(|| format!("`{text}` is not a day of the week (0-7 or SUN-SAT)"))
}

/// The mean distance of slots in civil time, from a leap year on; `None` when the schedule never fires twice.
fn mean_period(schedules: &[cron::Schedule]) -> Option<SignedDuration> {
    let start = NaiveDate::from_ymd_opt(2024, 1, 1)?
        .and_hms_opt(0, 0, 0)?
        .and_utc();
    let next = |after: &DateTime<Utc>| {
        schedules
            .iter()
            .filter_map(|schedule| schedule.after(after).next())
            .min()
    };
    let first = next(&start)?;
    let mut last = first;
    let mut gaps = 0;
    while gaps < PERIOD_SAMPLES {
        let Some(slot) = next(&last) else { break };
        last = slot;
        gaps += 1;
    }
    let seconds = (last - first).num_seconds();
    (gaps > 0).then(|| SignedDuration::from_secs(seconds / i64::try_from(gaps).unwrap_or(1)))
}

fn to_chrono(time: civil::DateTime) -> Option<DateTime<Utc>> {
    let clock = |value: i8| u32::try_from(value).ok();
    let date = NaiveDate::from_ymd_opt(
        i32::from(time.year()),
        clock(time.month())?,
        clock(time.day())?,
    )?;
    Some(
        date.and_hms_opt(
            clock(time.hour())?,
            clock(time.minute())?,
            clock(time.second())?,
        )?
        .and_utc(),
    )
}

fn from_chrono(time: DateTime<Utc>) -> Option<civil::DateTime> {
    let instant = Timestamp::from_second(time.timestamp()).ok()?;
    Some(TimeZone::UTC.to_datetime(instant))
}

#[cfg(test)]
mod tests;
