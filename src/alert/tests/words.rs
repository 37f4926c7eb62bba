//! Words of the user's, the signature of a webhook, and the summary of a week.

use super::*;
use crate::alert::plan::Outgoing;
use crate::alert::{signature, template};
use crate::api::{AlertTemplates, WebhookChannel};

fn channel(title: &str, what: &str, body: Option<&str>) -> AlertChannel {
    AlertChannel {
        name: "hook".to_owned(),
        webhook: Some(WebhookChannel::default()),
        templates: Some(AlertTemplates {
            title: Some(title.to_owned()),
            what: Some(what.to_owned()),
            body: body.map(str::to_owned),
        }),
        ..AlertChannel::default()
    }
}

#[test]
fn a_template_says_it_in_the_users_words_and_a_broken_one_costs_only_its_words() {
    let failed = failed_message(Stage::New);
    let hook = channel(
        "{{ severity | upper }} {{ kind }} bei {{ cluster }}\r\nBcc: thief@example.com",
        "{% if lastGoodBackup %}Letzte gute Sicherung: {{ lastGoodBackup }}{% endif %}",
        None,
    );
    let message = template::words(&hook, &failed, at(30)).unwrap();
    assert_eq!(
        message.title,
        "WARNING BackupFailed bei prod  Bcc: thief@example.com"
    );
    assert_eq!(message.what, "Letzte gute Sicherung: 2026-09-21T12:13:20Z");
    assert!(message.next_step.is_some(), "the rest is as it was");

    let built_in = Message::new(&failed, at(30));
    let broken = channel(
        "{{ no_such_field }}",
        "{% for x in range(100000000) %}.{% endfor %}",
        None,
    );
    assert_eq!(template::words(&broken, &failed, at(30)).unwrap(), built_in);
}

#[test]
fn the_body_of_a_webhook_is_the_users_json_or_a_named_error() {
    let failed = failed_message(Stage::New);
    let payload = webhook::Payload::new(Message::new(&failed, at(30)), &failed);
    let body = |text: &str| template::body(&channel("", "", Some(text)), &payload);
    let made =
        body(r#"{"msgtype": "text", "text": {"content": {{ (title ~ "\n" ~ error) | tojson }}}}"#);
    let made: serde_json::Value = serde_json::from_str(&made.unwrap()).unwrap();
    let content = made["text"]["content"].as_str().unwrap();
    assert!(content.contains("503 <SlowDown> & `tired`"), "{content}");
    let error = body("{\"text\": {{ what }}}").unwrap_err().to_string();
    assert!(error.contains("tojson"), "{error}");
    let error = body("{{ whta }}").unwrap_err().to_string();
    assert!(error.contains("templates.body"), "{error}");
}

#[test]
fn a_channels_own_words_go_before_those_of_all() {
    let all = AlertTemplates {
        title: Some("all".to_owned()),
        what: Some("all".to_owned()),
        body: Some("{}".to_owned()),
    };
    let mut config = config(&["chat", "hook"]);
    config.channels[0].templates = Some(AlertTemplates {
        title: Some("own".to_owned()),
        ..AlertTemplates::default()
    });
    config.channels[1].webhook = Some(WebhookChannel::default());
    config.templates = Some(all.clone());
    let chat = template::with_defaults(&config.channels[0], &config).templates;
    let chat = chat.unwrap();
    assert_eq!(chat.title.as_deref(), Some("own"));
    assert_eq!((chat.what.as_deref(), chat.body), (Some("all"), None));
    assert_eq!(
        template::with_defaults(&config.channels[1], &config).templates,
        Some(all)
    );
}

/// The example of the specification's reference libraries.
#[test]
fn a_signature_is_the_one_that_the_libraries_of_standard_webhooks_make() {
    let headers = signature::headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        Timestamp::from_second(1_614_265_330).unwrap(),
        br#"{"test": 2432232314}"#,
    )
    .unwrap();
    let [id, time, signature] = headers.map(|(_, value)| value.to_str().unwrap().to_owned());
    assert_eq!(id, "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(time, "1614265330");
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    for secret in ["", "whsec_", "whsec_c2hvcnQ=", "not base64 at all !!!"] {
        assert!(
            signature::headers(secret, "a", at(0), b"").is_none(),
            "{secret}"
        );
    }
}

pub(super) fn digest(facts: Facts) -> Outgoing {
    let subject = Subject::schedule("prod", "", "", &[]);
    Outgoing {
        channel: "a".to_owned(),
        stage: Stage::Digest,
        standing: Standing {
            event: Event::trouble(Kind::Digest, subject, at(0), facts),
            since: at(0),
            told: None,
            occurrences: 1,
            ended: None,
            channels: BTreeMap::new(),
        },
        recovery: None,
    }
}

#[test]
fn the_summary_of_a_week_reads_as_one_and_wakes_nobody() {
    let facts = Facts {
        what: "84 backups were taken, none failed.".to_owned(),
        details: BTreeMap::from([("etcd/main".to_owned(), "84 backups".to_owned())]),
        ..Facts::default()
    };
    let digest = digest(facts);
    let message = Message::new(&digest, at(0));
    assert_eq!(message.title, "Backups of the last week: prod");
    let text = message.text();
    assert!(text.contains("etcd/main  84 backups"), "{text}");
    for absent in ["Runbook", "Type next", "Since", "Last good backup"] {
        assert!(!text.contains(absent), "{text}");
    }
    assert_eq!(message.severity, AlertSeverity::Info);
}
