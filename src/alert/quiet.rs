//! Quiet hours: what is not urgent waits until they are over. Pure.

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use crate::api::{AlertSeverity, AlertsConfig, parse_time_of_day, parse_zone};

/// The quiet hours of a config, read.
pub struct Quiet<'a> {
    from: Time,
    to: Time,
    zone: TimeZone,
    whole_days: Vec<Weekday>,
    severities: &'a [AlertSeverity],
    channels: &'a [String],
}

impl<'a> Quiet<'a> {
    /// The config's quiet hours; `None` when there are none. The config's check refuses times that cannot be read.
    pub fn of(config: &'a AlertsConfig) -> Option<Self> {
        let quiet = config.quiet_hours.as_ref()?;
        Some(Self {
            from: parse_time_of_day(&quiet.from)?,
            to: parse_time_of_day(&quiet.to)?,
            zone: parse_zone(quiet.time_zone.as_deref())?,
            whole_days: quiet.whole_days.iter().map(|day| (*day).into()).collect(),
            severities: &quiet.severities,
            channels: &quiet.channels,
        })
    }

    /// Whether a channel is to hear nothing of this severity now.
    pub fn covers(&self, severity: AlertSeverity, channel: &str, now: Timestamp) -> bool {
        let named = self.channels.is_empty() || self.channels.iter().any(|name| name == channel);
        named && self.severities.contains(&severity) && self.is_now(now)
    }

    fn is_now(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let time = local.time();
        if self.whole_days.contains(&local.date().weekday()) {
            true
        } else if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            // Over midnight; the whole day when both are the same.
            self.from <= time || time < self.to
        }
    }
}
