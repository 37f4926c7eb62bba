//! Alerts against a real mail server and Slack's contract: every channel delivers, and each way to fail is retried,
//! reported through the other channels and resolved.

mod webhook;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcdguardian::alert::{
    AlertObserver, Alerter, Event, Facts, Heartbeat, Kind, Subject, send_test,
};
use etcdguardian::api::{
    AlertChannel, AlertTemplates, AlertsConfig, DayOfWeek, DigestConfig, EmailChannel,
    HeartbeatConfig, HumanDuration, SlackChannel, SmtpConfig, SmtpTls, WebhookChannel,
};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::support::{Mailpit, Pki, SlackFake, until};

/// Remembers what the metrics would count.
#[derive(Default)]
struct Sent(Mutex<Vec<(String, bool)>>);

impl AlertObserver for Sent {
    fn expects(&self, _: &str) {}

    fn sent(&self, channel: &str, ok: bool) {
        self.0.lock().unwrap().push((channel.to_owned(), ok));
    }
}

impl Sent {
    fn count(&self, channel: &str, ok: bool) -> usize {
        let sent = self.0.lock().unwrap();
        sent.iter()
            .filter(|one| one.0 == channel && one.1 == ok)
            .count()
    }
}

struct Secrets(TempDir);

impl Secrets {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn webhook_channel(secrets: &Secrets, url: &str) -> AlertChannel {
    AlertChannel {
        name: "chat".to_owned(),
        slack: Some(SlackChannel {
            webhook_url_file: Some(secrets.file("webhook", &format!("{url}\n"))),
            ..SlackChannel::default()
        }),
        ..AlertChannel::default()
    }
}

fn bot_channel(secrets: &Secrets, slack: &SlackFake) -> AlertChannel {
    AlertChannel {
        name: "bot".to_owned(),
        slack: Some(SlackChannel {
            token_file: Some(secrets.file("token", "xoxb-test\n")),
            channel: Some("#etcd-backup".to_owned()),
            api_url: Some(slack.api.clone()),
            ..SlackChannel::default()
        }),
        ..AlertChannel::default()
    }
}

fn mail_channel(smtp: SmtpConfig) -> AlertChannel {
    AlertChannel {
        name: "mail".to_owned(),
        email: Some(EmailChannel {
            smtp,
            from: "etcdguardian <guardian@example.com>".to_owned(),
            to: vec!["oncall@example.com".to_owned()],
        }),
        ..AlertChannel::default()
    }
}

fn plain_smtp(mail: &Mailpit) -> SmtpConfig {
    SmtpConfig {
        host: "127.0.0.1".to_owned(),
        port: Some(mail.smtp_port),
        tls: SmtpTls::None,
        ..SmtpConfig::default()
    }
}

fn config(channels: Vec<AlertChannel>) -> AlertsConfig {
    AlertsConfig {
        channels,
        ..AlertsConfig::default()
    }
}

fn failed(name: &str) -> Event {
    let now = Timestamp::now();
    let ago = |seconds| now - Duration::from_secs(seconds);
    let facts = Facts {
        what: "The backup failed while it was uploaded: the store answered 503.".to_owned(),
        error: Some("PUT s3://backups/prod: 503 SlowDown <retry & wait>".to_owned()),
        next_step: Some("etcdguardian doctor --config /etc/etcdguardian/guardian.yaml".to_owned()),
        last_good: Some(ago(8040)),
        exposure: Some(18_250.0),
        retry_at: Some(now + Duration::from_secs(300)),
        details: [("Store".to_owned(), "s3://backups/prod".to_owned())].into(),
    };
    Event::trouble(Kind::BackupFailed, subject(name), now, facts)
}

fn over(name: &str) -> Event {
    let facts = Facts {
        what: "Backup etcd-20261125 is stored and proved.".to_owned(),
        last_good: Some(Timestamp::now()),
        ..Facts::default()
    };
    Event::recovered(Kind::BackupFailed, subject(name), Timestamp::now(), facts)
}

fn subject(name: &str) -> Subject {
    Subject::schedule("prod-eu1", "etcd", name, &[])
}

fn unfolded(raw: &str) -> String {
    raw.replace("=\r\n", "").replace("=3D", "=")
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_and_mail_tell_of_a_failure_and_of_its_end() {
    let (slack, mail, secrets) = (SlackFake::start(), Mailpit::start(), Secrets::new());
    let sent = Arc::new(Sent::default());
    let channels = vec![
        webhook_channel(&secrets, &slack.webhook),
        mail_channel(plain_smtp(&mail)),
    ];
    let (alerter, task) = Alerter::start(config(channels), sent.clone(), None);
    alerter.tell(failed("every-6h"));
    alerter.tell(failed("every-6h"));
    until("both channels heard", || {
        (slack.messages().len() == 1 && mail.messages().len() == 1).then_some(())
    });
    let (standing, ..) = alerter.state();
    assert_eq!(standing[0].occurrences, 2);

    let message = slack.messages()[0].to_string();
    for words in [
        "Backup failed: etcd/every-6h on prod-eu1",
        "the store answered 503",
        "18,250",
        "2h 14m ago",
        "etcdguardian doctor --config /etc/etcdguardian/guardian.yaml",
        "docs/runbooks/BackupFailure.md",
        "&lt;retry &amp; wait&gt;",
    ] {
        assert!(message.contains(words), "{words} is not in {message}");
    }
    let first = mail.messages()[0].clone();
    assert_eq!(
        first["Subject"],
        "[WARNING] Backup failed: etcd/every-6h on prod-eu1"
    );
    let raw = unfolded(&mail.raw(first["ID"].as_str().unwrap()));
    for words in [
        "multipart/alternative",
        "Type next:",
        "18,250",
        "<pre style=",
        "&lt;retry &amp; wait&gt;",
    ] {
        assert!(raw.contains(words), "{words} is not in {raw}");
    }

    eprintln!(
        "{}\n{}",
        serde_json::to_string_pretty(&slack.messages()[0]).unwrap(),
        mail.raw(first["ID"].as_str().unwrap())
    );
    alerter.tell(over("every-6h"));
    until("both heard of the end", || {
        (slack.messages().len() == 2 && mail.messages().len() == 2).then_some(())
    });
    let reply = mail.messages()[0].clone();
    assert!(
        reply["Subject"]
            .as_str()
            .unwrap()
            .starts_with("[OK] Recovered after "),
        "{reply}"
    );
    let head = mail.raw(reply["ID"].as_str().unwrap());
    let id = first["MessageID"].as_str().unwrap();
    assert!(head.contains(&format!("In-Reply-To: <{id}>")), "{head}");
    alerter.finish(Duration::from_secs(5)).await;
    task.await.unwrap();
    assert_eq!((sent.count("chat", true), sent.count("mail", true)), (2, 2));
    assert!(alerter.state().0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_keeps_a_matter_in_one_thread_across_a_restart() {
    let (slack, secrets) = (SlackFake::start(), Secrets::new());
    let record = secrets.0.path().join("alerts.json");
    let mut settings = config(vec![bot_channel(&secrets, &slack)]);
    let start = |settings: &AlertsConfig| {
        Alerter::start(
            settings.clone(),
            Arc::new(Sent::default()),
            Some(record.clone()),
        )
    };
    let (alerter, _) = start(&settings);
    alerter.tell(failed("every-6h"));
    until("the first message", || {
        (slack.messages().len() == 1).then_some(())
    });
    alerter.finish(Duration::from_secs(5)).await;

    // Started again with the trouble still there: silence, until the interval is over.
    let (alerter, _) = start(&settings);
    alerter.tell(failed("every-6h"));
    alerter.finish(Duration::from_secs(5)).await;
    assert_eq!(slack.messages().len(), 1, "a restart must not repeat");

    settings.repeat_interval = HumanDuration::from_secs(1);
    let (alerter, _) = start(&settings);
    until("a repeat", || (slack.messages().len() >= 2).then_some(()));
    alerter.tell(over("every-6h"));
    until("the end", || {
        slack
            .messages()
            .iter()
            .any(|one| one["text"].as_str().unwrap().contains("Recovered"))
            .then_some(())
    });
    alerter.finish(Duration::from_secs(5)).await;
    let messages = slack.messages();
    let first = messages[0]["ts"].as_str().unwrap();
    for reply in &messages[1..] {
        assert_eq!(reply["thread_ts"], first, "{reply}");
        assert_eq!(reply["reply_broadcast"], true, "{reply}");
    }
    assert!(
        messages[1]["text"]
            .as_str()
            .unwrap()
            .contains("Still standing")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_with_a_password_and_implicit_tls_deliver_and_a_wrong_password_is_named() {
    let secrets = Secrets::new();
    let pki = Pki::create(&secrets.0.path().join("pki"));
    let strict = Mailpit::start_tls(&pki, "guardian", "correct-horse");
    let wrapped = Mailpit::start_implicit_tls(&pki);
    let smtp = |port, tls| SmtpConfig {
        host: "localhost".to_owned(),
        port: Some(port),
        tls,
        ca_file: Some(pki.ca.clone()),
        ..SmtpConfig::default()
    };
    let mut login = smtp(strict.smtp_port, SmtpTls::StartTLS);
    login.username_file = Some(secrets.file("user", "guardian\n"));
    login.password_file = Some(secrets.file("password", "correct-horse\n"));
    let now = Timestamp::now();
    for (mail, channel) in [
        (&strict, mail_channel(login.clone())),
        (
            &wrapped,
            mail_channel(smtp(wrapped.smtp_port, SmtpTls::Implicit)),
        ),
    ] {
        let results = send_test(&config(vec![channel]), None, "prod", now).await;
        results[0].1.as_ref().unwrap();
        assert_eq!(
            mail.messages()[0]["Subject"],
            "[TEST] Test alert from etcdguardian: mail on prod"
        );
    }

    // The password file is read anew, and what it holds is never said.
    secrets.file("password", "battery staple\n");
    let error = only_error(mail_channel(login.clone())).await;
    assert!(
        error.contains("535") && error.contains("smtp.passwordFile"),
        "{error}"
    );
    assert!(!error.contains("battery"), "{error}");

    let mut stranger = login.clone();
    stranger.ca_file = None;
    let error = only_error(mail_channel(stranger)).await;
    assert!(
        error.contains("UnknownIssuer") || error.contains("certificate"),
        "{error}"
    );

    // A server without STARTTLS: refused before anything is said in the clear.
    let open = Mailpit::start();
    login.port = Some(open.smtp_port);
    let error = only_error(mail_channel(login)).await;
    assert!(error.contains("smtp.tls"), "{error}");
    assert!(open.messages().is_empty());
}

async fn only_error(channel: AlertChannel) -> String {
    let results = send_test(&config(vec![channel]), None, "prod", Timestamp::now()).await;
    let [(_, Err(error))] = results.as_slice() else {
        panic!("an error was expected: {results:?}");
    };
    error.words()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_mail_server_is_retried_and_reported_through_slack_and_resolved() {
    let (slack, mail, secrets) = (SlackFake::start(), Mailpit::start(), Secrets::new());
    mail.chaos(r#"{"Sender":{"ErrorCode":451,"Probability":100}}"#);
    let sent = Arc::new(Sent::default());
    let channels = vec![
        webhook_channel(&secrets, &slack.webhook),
        mail_channel(plain_smtp(&mail)),
    ];
    let (alerter, _) = Alerter::start(config(channels), sent.clone(), None);
    alerter.tell(failed("every-6h"));
    until("slack hears that mail is down", || {
        slack
            .messages()
            .iter()
            .any(|one| {
                one["text"]
                    .as_str()
                    .unwrap()
                    .contains("Alert channel cannot deliver: mail")
            })
            .then_some(())
    });
    assert!(sent.count("mail", false) >= 3);
    let health = alerter.state().2;
    assert!(
        health[1].error.as_ref().unwrap().contains("451"),
        "{health:?}"
    );
    assert_eq!(health[0].error, None);

    mail.chaos("{}");
    until("the mail arrives after all", || {
        (mail.messages().len() == 1).then_some(())
    });
    until("slack hears that mail is up", || {
        slack
            .messages()
            .iter()
            .any(|one| one["text"].as_str().unwrap().contains("Recovered"))
            .then_some(())
    });
    assert_eq!(alerter.state().2[1].error, None);
    alerter.finish(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slacks_refusals_have_names_and_are_survived() {
    let (slack, secrets) = (SlackFake::start(), Secrets::new());
    let gone = webhook_channel(&secrets, &slack.webhook.replace("secret", "other-secret"));
    let error = only_error(gone).await;
    assert!(
        error.contains("404 no_service") && error.contains("new incoming webhook"),
        "{error}"
    );
    assert!(!error.contains("other-secret"), "{error}");

    let mut bot = bot_channel(&secrets, &slack);
    secrets.file("token", "xoxb-wrong");
    let error = only_error(bot.clone()).await;
    assert!(
        error.contains("invalid_auth") && error.contains("slack.tokenFile"),
        "{error}"
    );
    assert!(!error.contains("xoxb-wrong"), "{error}");
    secrets.file("token", "xoxb-test");
    bot.slack.as_mut().unwrap().channel = Some("#nowhere".to_owned());
    let error = only_error(bot).await;
    assert!(
        error.contains("channel_not_found") && error.contains("slack.channel"),
        "{error}"
    );

    let missing = AlertChannel {
        slack: Some(SlackChannel {
            webhook_url_file: Some(Path::new("/no/such/file").to_owned()),
            ..SlackChannel::default()
        }),
        ..webhook_channel(&secrets, &slack.webhook)
    };
    assert!(only_error(missing).await.contains("/no/such/file"));

    // A limit is obeyed to the second, and a cut connection is tried again.
    slack.fault(r#"{"match":"services","status":429,"retry_after":2,"count":1}"#);
    slack.fault(r#"{"match":"services","drop":true,"count":1}"#);
    let sent = Arc::new(Sent::default());
    let channels = vec![webhook_channel(&secrets, &slack.webhook)];
    let begun = std::time::Instant::now();
    let (alerter, _) = Alerter::start(config(channels), sent.clone(), None);
    alerter.tell(failed("every-6h"));
    until("the message arrives", || {
        (slack.messages().len() == 1).then_some(())
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "Retry-After was not obeyed"
    );
    until("the count", || {
        (sent.count("chat", true) == 1).then_some(())
    });
    assert_eq!(sent.count("chat", false), 2);
    alerter.finish(Duration::from_secs(5)).await;

    // So is the Web API's.
    slack.fault(r#"{"match":"chat.postMessage","status":429,"retry_after":2,"error":"ratelimited","count":1}"#);
    let channels = vec![bot_channel(&secrets, &slack)];
    let begun = std::time::Instant::now();
    let (alerter, _) = Alerter::start(config(channels), sent.clone(), None);
    alerter.tell(failed("every-6h"));
    until("the bot's message arrives", || {
        (slack.messages().len() == 2).then_some(())
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "it was asked to wait"
    );
    alerter.finish(Duration::from_secs(5)).await;
    assert_eq!((sent.count("bot", true), sent.count("bot", false)), (1, 1));
}
