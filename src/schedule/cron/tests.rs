//! Slots of cron expressions: held to another implementation in UTC, and to a table where clocks are changed.
#![allow(clippy::unwrap_used)]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::Cron;

/// The slots after a moment, as far as the second one.
fn slots(expression: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let cron = Cron::parse(expression, zone).unwrap();
    let (mut now, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
    let mut found = Vec::new();
    while let Some(slot) = cron.next_after(now).filter(|slot| *slot <= to) {
        found.push(slot.to_string());
        now = slot;
    }
    found
}

#[test]
fn a_slot_that_the_clock_skips_runs_as_it_jumps_and_one_that_it_repeats_runs_once() {
    // Berlin goes from 02:00 to 03:00 at 01:00Z on 2026-03-29, and from 03:00 back to 02:00 at 01:00Z on 2026-10-25.
    let cases: [(&str, &str, &str, &str, &[&str]); 7] = [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            "2026-03-30T12:00:00Z",
            &[
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z",
            ],
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-26T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        // Two slots that are skipped are one.
        (
            "0,30 2 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            "2026-03-29T12:00:00Z",
            &["2026-03-29T01:00:00Z"],
        ),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            "2026-03-29T02:30:00Z",
            &[
                "2026-03-29T00:00:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T02:00:00Z",
            ],
        ),
        // Asked between the two runs of a repeated hour.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:45:00Z",
            "2026-10-26T12:00:00Z",
            &["2026-10-26T01:30:00Z"],
        ),
        // Half an hour, and midnight that does not come.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            "2026-10-04T12:00:00Z",
            &["2026-10-03T15:30:00Z"],
        ),
        (
            "0 0 * * *",
            "Africa/Cairo",
            "2026-04-23T12:00:00Z",
            "2026-04-25T12:00:00Z",
            &["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"],
        ),
    ];
    for (expression, zone, from, to, expected) in cases {
        assert_eq!(
            slots(expression, zone, from, to),
            expected,
            "{expression} {zone}"
        );
    }
}

#[test]
fn the_slot_before_is_the_one_that_the_next_one_follows() {
    let zones = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia"];
    for zone in zones {
        for expression in ["0 3 * * *", "*/20 * * * *", "0 0 1 * *", "30 1 * * 0"] {
            let cron = Cron::parse(expression, zone).unwrap();
            let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            for _ in 0..200 {
                let slot = cron.next_after(now).unwrap();
                assert!(slot > now, "{expression} {zone}: time goes on");
                assert_eq!(cron.previous_or_at(slot), Some(slot), "{expression} {zone}");
                let just_before = slot - SignedDuration::from_nanos(1);
                assert!(cron.previous_or_at(just_before) < Some(slot));
                now = slot;
            }
        }
    }
}

/// One field between two numbers: all, one, a list, a range or a step.
fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let one = least..=most;
    prop_oneof![
        Just("*".to_owned()),
        one.clone().prop_map(|value| value.to_string()),
        (one.clone(), one.clone()).prop_map(|(a, b)| format!("{a},{b}")),
        (one.clone(), one).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (1..=(most - least)).prop_map(move |step| format!("{least}-{most}/{step}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_implementation_knows_the_same_next_slot(
        fields in (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)),
        start in 1_700_000_000_i64..1_900_000_000,
    ) {
        let (minute, hour, month_day, month, week_day) = fields;
        let expression = format!("{minute} {hour} {month_day} {month} {week_day}");
        let from = Timestamp::from_second(start).unwrap();
        let own = Cron::parse(&expression, "UTC").unwrap().next_after(from).unwrap();
        let other: croner::Cron = expression.parse().unwrap();
        let other = other.find_next_occurrence(&from.to_zoned(TimeZone::UTC), false).unwrap();
        prop_assert_eq!(own, other.timestamp(), "{}", expression);
    }
}
