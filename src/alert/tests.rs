//! Who hears of what and when, in tables and properties; what each channel's message looks like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod quiet;
mod routes;
mod same;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::lane::Lane;
use super::plan::hearers;
use super::*;
use crate::api::{AlertChannel, AlertRoute, AlertSeverity, AlertsConfig, HumanDuration};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn config(channels: &[&str]) -> AlertsConfig {
    AlertsConfig {
        channels: channels
            .iter()
            .map(|name| AlertChannel {
                name: (*name).to_owned(),
                ..AlertChannel::default()
            })
            .collect(),
        repeat_interval: HumanDuration::from_secs(3600),
        ..AlertsConfig::default()
    }
}

fn route(schedules: &[&str], severities: &[AlertSeverity], channels: &[&str]) -> AlertRoute {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    AlertRoute {
        schedules: owned(schedules),
        severities: severities.to_vec(),
        channels: owned(channels),
    }
}

fn trouble(kind: Kind, name: &str, seconds: i64) -> Event {
    let facts = Facts {
        what: "the store did not answer".to_owned(),
        ..Facts::default()
    };
    Event::trouble(
        kind,
        Subject::schedule("prod", "etcd", name, &[]),
        at(seconds),
        facts,
    )
}

fn recovered(kind: Kind, name: &str, seconds: i64) -> Event {
    Event {
        recovered: true,
        ..trouble(kind, name, seconds)
    }
}

/// Applies and delivers at once, as a healthy channel does.
fn heard(
    state: &mut State,
    event: Event,
    config: &AlertsConfig,
    now: Timestamp,
) -> Vec<(Stage, String)> {
    let messages = state.apply(event, config, now);
    deliver_all(state, &messages, now)
}

fn deliver_all(state: &mut State, messages: &[Outgoing], now: Timestamp) -> Vec<(Stage, String)> {
    messages
        .iter()
        .map(|message| {
            state.delivered(&message.key(), &message.channel, now, None);
            (message.stage, message.channel.clone())
        })
        .collect()
}

#[test]
fn a_matter_is_told_once_then_repeated_at_the_interval_then_resolved() {
    let config = config(&["a"]);
    let mut state = State::default();
    let told = |stage| vec![(stage, "a".to_owned())];
    let kind = Kind::BackupFailed;
    assert_eq!(
        heard(&mut state, trouble(kind, "x", 0), &config, at(0)),
        told(Stage::New)
    );
    for minute in 1..60 {
        let now = at(minute * 60);
        assert_eq!(
            heard(&mut state, trouble(kind, "x", minute * 60), &config, now),
            vec![]
        );
        assert_eq!(state.due(&config, now), vec![]);
    }
    assert_eq!(state.next_due(&config, at(3540)), Some(at(3600)));
    let due = state.due(&config, at(3600));
    assert_eq!(deliver_all(&mut state, &due, at(3600)), told(Stage::Repeat));
    assert_eq!(state.standing[0].occurrences, 60);
    assert_eq!(state.standing[0].since, at(0));
    assert_eq!(
        heard(&mut state, recovered(kind, "x", 4000), &config, at(4000)),
        told(Stage::Recovered)
    );
    assert_eq!(state.next_due(&config, at(4000)), None);
    assert_eq!(
        heard(&mut state, recovered(kind, "x", 4001), &config, at(4001)),
        vec![]
    );
}

#[test]
fn recovery_is_silent_where_the_config_says_so_and_where_nobody_was_told() {
    let mut quiet = config(&["a"]);
    quiet.resolve = false;
    let mut state = State::default();
    heard(
        &mut state,
        trouble(Kind::BackupFailed, "x", 0),
        &quiet,
        at(0),
    );
    assert_eq!(
        heard(
            &mut state,
            recovered(Kind::BackupFailed, "x", 1),
            &quiet,
            at(1)
        ),
        vec![]
    );
    assert!(state.standing.is_empty());

    let nobody = config(&[]);
    heard(
        &mut state,
        trouble(Kind::NotProtected, "x", 0),
        &nobody,
        at(0),
    );
    let later = config(&["a"]);
    assert_eq!(
        heard(
            &mut state,
            recovered(Kind::NotProtected, "x", 1),
            &later,
            at(1)
        ),
        vec![]
    );
}

#[test]
fn a_restart_neither_repeats_nor_forgets() {
    let config = config(&["heard", "deaf"]);
    let mut state = State::default();
    let messages = state.apply(trouble(Kind::NotProtected, "x", 0), &config, at(0));
    assert_eq!(messages.len(), 2);
    state.delivered(
        &messages[0].key(),
        "heard",
        at(0),
        Some("thread".to_owned()),
    );

    let kept = serde_json::to_string(&state).unwrap();
    let mut state: State = serde_json::from_str(&kept).unwrap();
    let due = state.due(&config, at(60));
    assert_eq!(
        due.iter()
            .map(|one| (one.stage, one.channel.as_str()))
            .collect::<Vec<_>>(),
        [(Stage::New, "deaf")],
        "who heard is not told again; who did not hear is told now"
    );
    assert_eq!(
        state.standing[0].channels["heard"].thread.as_deref(),
        Some("thread")
    );
}

#[test]
fn a_channel_that_is_down_is_reported_through_the_others() {
    let config = config(&["chat", "mail"]);
    let event = Event::trouble(
        Kind::ChannelDown,
        Subject::schedule("", "", "chat", &[]),
        at(0),
        Facts::default(),
    );
    assert_eq!(hearers(&event, &config), ["mail"]);
}

#[test]
fn a_removed_schedule_is_forgotten_without_a_word() {
    let config = config(&["a"]);
    let mut state = State::default();
    heard(
        &mut state,
        trouble(Kind::NotProtected, "x", 0),
        &config,
        at(0),
    );
    heard(
        &mut state,
        trouble(Kind::NotProtected, "y", 0),
        &config,
        at(0),
    );
    assert!(state.forget("etcd", "x"));
    assert_eq!(state.standing.len(), 1);
    assert_eq!(state.standing[0].event.subject.name, "y");
}

proptest! {
    /// Whatever happens: a channel hears New before Repeat or Recovered of a matter, never two New in a row, never more
    /// often than the interval, and the channel that heard of trouble hears of its end.
    #[test]
    fn every_story_has_a_beginning_at_most_one_voice_an_interval_and_an_end(
        steps in prop::collection::vec((0_usize..8, 0_usize..3, any::<bool>(), 0_i64..2000), 1..80)
    ) {
        let config = config(&["a", "b"]);
        let mut state = State::default();
        let mut now = at(0);
        let mut open: BTreeMap<(Key, String), Timestamp> = BTreeMap::new();
        for (kind, name, over, wait) in steps {
            now = now.checked_add(SignedDuration::from_secs(wait)).unwrap();
            let mut event = trouble(Kind::ALL[kind], ["x", "y", "z"][name], 0);
            event.at = now;
            event.recovered = over;
            let messages = state.apply(event, &config, now);
            for message in &messages {
                let place = (message.key(), message.channel.clone());
                match message.stage {
                    Stage::New => prop_assert!(open.insert(place, now).is_none()),
                    Stage::Repeat => {
                        let last = open.insert(place, now);
                        let last = last.expect("a repeat follows a beginning");
                        prop_assert!(now.duration_since(last) >= SignedDuration::from_secs(3600));
                    }
                    Stage::Recovered => prop_assert!(open.remove(&place).is_some()),
                    Stage::Test | Stage::Digest => prop_assert!(false),
                }
                state.delivered(&message.key(), &message.channel, now, None);
            }
            let standing: BTreeSet<Key> =
                state.standing.iter().map(|one| one.event.key()).collect();
            let heard: BTreeSet<Key> = open.keys().map(|(key, _)| key.clone()).collect();
            prop_assert_eq!(standing, heard);
        }
    }
}

fn outgoing(stage: Stage, name: &str) -> Outgoing {
    let mut state = State::default();
    let messages = state.apply(trouble(Kind::BackupFailed, name, 0), &config(&["a"]), at(0));
    let recovery = (stage == Stage::Recovered).then(|| recovered(Kind::BackupFailed, name, 10));
    Outgoing {
        stage,
        recovery,
        ..messages[0].clone()
    }
}

#[test]
fn a_lane_keeps_one_message_a_matter_and_is_silent_about_what_ended_unheard() {
    let lane = Lane::default();
    lane.push(outgoing(Stage::New, "x"));
    lane.push(outgoing(Stage::New, "y"));
    lane.push(outgoing(Stage::Repeat, "x"));
    let front = lane.take_up().unwrap();
    assert_eq!(front.standing.event.subject.name, "y");
    lane.put_down(&front, true);
    let second = lane.take_up().unwrap();
    assert_eq!(
        (second.standing.event.subject.name.as_str(), second.stage),
        ("x", Stage::New),
        "what replaces an unheard beginning is the beginning"
    );
    lane.push(outgoing(Stage::Recovered, "x"));
    lane.put_down(&second, false);
    lane.noted();
    assert!(
        !lane.is_done(),
        "an end waits for what became of it to be noted"
    );
    lane.noted();
    assert!(lane.is_done(), "the attempt failed, so neither is told");

    lane.push(outgoing(Stage::New, "x"));
    lane.push(outgoing(Stage::Recovered, "x"));
    assert!(lane.is_done());

    lane.push(outgoing(Stage::New, "x"));
    let flying = lane.take_up().unwrap();
    lane.push(outgoing(Stage::Recovered, "x"));
    lane.put_down(&flying, true);
    assert_eq!(lane.take_up().unwrap().stage, Stage::Recovered);
}

fn failed_message(stage: Stage) -> Outgoing {
    let mut message = outgoing(stage, "every-6h");
    let event = &mut message.standing.event;
    event.facts = Facts {
        what: "The backup failed while it was uploaded; the store answered 503.".to_owned(),
        error: Some("PUT s3://backups/prod: 503 <SlowDown> & `tired` ```fence```".to_owned()),
        next_step: Some("etcdguardian doctor --config /etc/etcdguardian/guardian.yaml".to_owned()),
        last_good: Some(at(-7200)),
        exposure: Some(18_250.4),
        retry_at: Some(at(330)),
        details: BTreeMap::from([("Store".to_owned(), "s3://backups/prod".to_owned())]),
    };
    message.standing.occurrences = 3;
    message
}

#[test]
fn a_message_says_what_where_since_when_what_is_at_risk_and_what_to_type() {
    let text = Message::new(&failed_message(Stage::New), at(30)).text();
    insta::assert_snapshot!(text);
    let repeated = Message::new(&failed_message(Stage::Repeat), at(15_000));
    assert_eq!(
        repeated.title,
        "Still standing after 4h 10m: Backup failed: etcd/every-6h on prod"
    );
    let over = Message::new(&failed_message(Stage::Recovered), at(30)).text();
    insta::assert_snapshot!(over);
}

#[test]
fn slack_markup_and_limits_hold_whatever_the_error_says() {
    let mut message = failed_message(Stage::New);
    let facts = &mut message.standing.event.facts;
    facts.what = "<!channel> ".repeat(900);
    facts.error = Some("&".repeat(20_000));
    for number in 0..60 {
        facts
            .details
            .insert(format!("Detail {number}"), "<".repeat(3000));
    }
    let content = slack::content(&Message::new(&message, at(0)));
    let json = serde_json::to_value(&content).unwrap();
    let blocks = json["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    let text = json.to_string();
    assert!(!text.contains("<!channel>"));
    for block in blocks {
        let length = |value: &serde_json::Value| {
            value["text"]
                .as_str()
                .map_or(0, |text| text.chars().count())
        };
        let limit = if block["type"] == "header" { 150 } else { 3000 };
        assert!(length(&block["text"]) <= limit, "{block}");
        let fields = block["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields.len() <= 10);
        assert!(fields.iter().all(|field| length(field) <= 2000));
    }
}

#[test]
fn an_email_has_text_and_html_and_no_forged_header() {
    let mut outgoing = failed_message(Stage::Repeat);
    outgoing.standing.event.subject.name = "x\r\nBcc: thief@example.com".to_owned();
    let channel = crate::api::EmailChannel {
        from: "etcdguardian <guardian@example.com>".to_owned(),
        to: vec!["oncall@example.com".to_owned()],
        ..Default::default()
    };
    let message = Message::new(&outgoing, at(30));
    let mail = email::mail("mail", &channel, &message, Some("<first@x>"), "<second@x>").unwrap();
    let raw = String::from_utf8(mail.formatted()).unwrap();
    let (headers, body) = raw.split_once("\r\n\r\n").unwrap();
    assert!(!headers.contains("\r\nBcc:"), "{headers}");
    assert!(headers.contains("In-Reply-To: <first@x>"), "{headers}");
    assert!(
        headers.contains("Auto-Submitted: auto-generated"),
        "{headers}"
    );
    assert!(body.contains("text/plain") && body.contains("text/html"));
    assert!(!body.contains("<SlowDown>") || body.contains("&lt;SlowDown&gt;"));
}

#[test]
fn the_webhook_payload_is_the_documented_one() {
    let failed = failed_message(Stage::New);
    let payload = webhook::Payload::new(Message::new(&failed, at(30)), &failed);
    insta::assert_json_snapshot!(payload);
}

#[test]
fn each_kind_has_a_runbook_that_exists() {
    for kind in Kind::ALL {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(kind.runbook());
        assert!(path.is_file(), "{} is missing", path.display());
    }
}
