//! Quiet hours: who waits, until when, and that nothing is lost or told twice.

use super::*;
use crate::api::{DayOfWeek, QuietHours};

/// 22:00 to 07:00 in Berlin; `at(0)` is Monday 2026-09-21, 16:13:20 there.
fn quiet(channels: &[&str]) -> AlertsConfig {
    AlertsConfig {
        quiet_hours: Some(QuietHours {
            from: "22:00".to_owned(),
            to: "07:00".to_owned(),
            time_zone: Some("Europe/Berlin".to_owned()),
            whole_days: vec![DayOfWeek::Sunday],
            severities: vec![AlertSeverity::Warning, AlertSeverity::Info],
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
        }),
        ..config(&["chat", "mail"])
    }
}

const NIGHT: i64 = 8 * 3600;
const MORNING: i64 = 15 * 3600;

fn names(messages: &[(Stage, String)]) -> Vec<(Stage, &str)> {
    messages.iter().map(|(s, c)| (*s, c.as_str())).collect()
}

#[test]
fn hours_are_those_of_the_zone_and_cross_midnight() {
    let config = quiet(&[]);
    let quiet = super::super::quiet::Quiet::of(&config).unwrap();
    let covers = |seconds| quiet.covers(AlertSeverity::Warning, "chat", at(seconds));
    // 21:59:59 and 22:00:00, 06:59:59 and 07:00:00.
    let ten = 20_800;
    assert!(!covers(ten - 1) && covers(ten));
    assert!(covers(ten + 9 * 3600 - 1) && !covers(ten + 9 * 3600));
    assert!(covers(6 * 86_400), "a Sunday afternoon");
    assert!(!quiet.covers(AlertSeverity::Critical, "chat", at(NIGHT)));
}

#[test]
fn a_warning_of_the_night_is_told_in_the_morning_and_a_critical_one_at_once() {
    let config = quiet(&[]);
    let mut state = State::default();
    let warned = trouble(Kind::BackupFailed, "x", NIGHT);
    assert_eq!(heard(&mut state, warned, &config, at(NIGHT)), vec![]);
    assert_eq!(
        state.next_due(&config, at(NIGHT)),
        Some(at(NIGHT + 60)),
        "the end of the quiet hours is looked for"
    );
    let critical = trouble(Kind::NotProtected, "x", NIGHT);
    assert_eq!(
        names(&heard(&mut state, critical, &config, at(NIGHT))),
        [(Stage::New, "chat"), (Stage::New, "mail")]
    );
    let due: Vec<Stage> = state
        .due(&config, at(MORNING))
        .iter()
        .filter(|one| one.standing.event.kind == Kind::BackupFailed)
        .map(|one| one.stage)
        .collect();
    assert_eq!(due, [Stage::New, Stage::New]);
}

#[test]
fn what_began_and_ended_in_the_night_is_never_told() {
    let config = quiet(&[]);
    let mut state = State::default();
    let kind = Kind::BackupFailed;
    heard(&mut state, trouble(kind, "x", NIGHT), &config, at(NIGHT));
    let over = recovered(kind, "x", NIGHT + 60);
    assert_eq!(heard(&mut state, over, &config, at(NIGHT + 60)), vec![]);
    assert_eq!(state.due(&config, at(MORNING)), vec![]);
    assert!(state.standing.is_empty());
}

#[test]
fn an_end_in_the_night_waits_where_it_is_quiet_and_survives_a_restart() {
    let config = quiet(&["chat"]);
    let mut state = State::default();
    let kind = Kind::BackupFailed;
    heard(&mut state, trouble(kind, "x", 0), &config, at(0));
    let told: Vec<(Stage, String)> = state
        .apply(recovered(kind, "x", NIGHT), &config, at(NIGHT))
        .into_iter()
        .map(|one| (one.stage, one.channel))
        .collect();
    assert_eq!(names(&told), [(Stage::Recovered, "mail")]);
    assert_eq!(state.due(&config, at(NIGHT + 60)), vec![]);
    let kept = serde_json::to_string(&state).unwrap();
    let mut state: State = serde_json::from_str(&kept).unwrap();
    let due = state.due(&config, at(MORNING));
    assert_eq!(
        due.iter()
            .map(|one| (one.stage, one.channel.as_str()))
            .collect::<Vec<_>>(),
        [(Stage::Recovered, "chat")]
    );
    assert_eq!(due[0].recovery.as_ref().unwrap().at, at(NIGHT));
    assert_eq!(state.due(&config, at(MORNING + 60)), vec![], "told once");
    assert!(state.standing.is_empty());
}

#[test]
fn what_ends_and_begins_again_in_the_night_still_stands_in_the_morning() {
    let config = quiet(&[]);
    let mut state = State::default();
    let kind = Kind::BackupFailed;
    heard(&mut state, trouble(kind, "x", 0), &config, at(0));
    heard(&mut state, recovered(kind, "x", NIGHT), &config, at(NIGHT));
    let again = trouble(kind, "x", NIGHT + 600);
    heard(&mut state, again, &config, at(NIGHT + 600));
    let due = state.due(&config, at(MORNING));
    assert!(due.iter().all(|one| one.stage == Stage::Repeat));
    assert_eq!(due.len(), 2);
    assert_eq!(state.standing[0].since, at(0));
}
