//! A generic webhook: what it is sent, and that a dead channel holds nobody up.

use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_json_with_its_headers_and_a_dead_channel_holds_nobody_up() {
    let (slack, secrets) = (SlackFake::start(), Secrets::new());
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/hook"))
        .and(header("authorization", "Bearer of-news"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;
    let hook = AlertChannel {
        name: "hook".to_owned(),
        webhook: Some(WebhookChannel {
            url: format!("{}/hook", server.uri()),
            headers_file: Some(
                secrets.file("headers", "Authorization: Bearer of-news\nX-Team: sre\n"),
            ),
            signing_secret_file: None,
        }),
        ..AlertChannel::default()
    };
    let dead = AlertChannel {
        webhook: Some(WebhookChannel {
            url: "http://127.0.0.1:9/?token=hidden".to_owned(),
            ..WebhookChannel::default()
        }),
        name: "dead".to_owned(),
        ..AlertChannel::default()
    };
    let error = only_error(dead.clone()).await;
    assert!(!error.contains("hidden"), "{error}");
    let channels = vec![dead, hook, webhook_channel(&secrets, &slack.webhook)];
    let record = secrets.0.path().join("alerts.json");
    let (alerter, _) = Alerter::start(
        config(channels),
        Arc::new(Sent::default()),
        Some(record.clone()),
    );
    let begun = std::time::Instant::now();
    for _ in 0..5000 {
        alerter.tell(failed("every-6h"));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "telling must not wait"
    );
    until("slack heard", || {
        (!slack.messages().is_empty()).then_some(())
    });
    let (start, limit) = (std::time::Instant::now(), Duration::from_secs(1));
    alerter.finish(limit).await;
    assert!(
        start.elapsed() < limit * 3,
        "a dead channel must not hold the end up"
    );

    let requests = server.received_requests().await.unwrap();
    let body: serde_json::Value = requests[0].body_json().unwrap();
    assert_eq!(body["version"], 1);
    assert_eq!(body["status"], "firing");
    assert_eq!(body["kind"], "BackupFailed");
    assert_eq!(
        body["nextStep"],
        "etcdguardian doctor --config /etc/etcdguardian/guardian.yaml"
    );
    assert_eq!(requests[0].headers["x-team"], "sre");
    let kept = std::fs::read_to_string(record).unwrap();
    assert!(
        !kept.contains("hidden") && !kept.contains("of-news"),
        "{kept}"
    );
}

const SECRET: [u8; 32] = *b"a secret of thirty-two bytes ...";

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_is_checked_by_its_receiver_and_speaks_the_receivers_shape() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let secrets = Secrets::new();
    let server = MockServer::start().await;
    // The first attempt fails: what is tried again has the same id.
    Mock::given(path("/hook"))
        .respond_with(ResponseTemplate::new(500))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(path("/hook"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let secret = format!("whsec_{}\n", STANDARD.encode(SECRET));
    let hook = AlertChannel {
        name: "hook".to_owned(),
        webhook: Some(WebhookChannel {
            url: format!("{}/hook", server.uri()),
            signing_secret_file: Some(secrets.file("signing", &secret)),
            ..WebhookChannel::default()
        }),
        templates: Some(AlertTemplates {
            body: Some(
                r#"{"msgtype": "text", "text": {"content": {{ title | tojson }}}}"#.to_owned(),
            ),
            ..AlertTemplates::default()
        }),
        ..AlertChannel::default()
    };
    let sent = Arc::new(Sent::default());
    let (alerter, _) = Alerter::start(config(vec![hook.clone()]), sent.clone(), None);
    alerter.tell(failed("every-6h"));
    until("it is delivered", || {
        (sent.count("hook", true) == 1).then_some(())
    });
    alerter.finish(Duration::from_secs(5)).await;

    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 2);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &SECRET);
    for request in &requests {
        let header = |name: &str| request.headers[name].to_str().unwrap();
        let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        let signed = [
            header("webhook-id").as_bytes(),
            header("webhook-timestamp").as_bytes(),
            &request.body,
        ]
        .join(&b'.');
        ring::hmac::verify(&key, &signed, &signature).unwrap();
        assert_eq!(header("content-type"), "application/json");
        let body: serde_json::Value = request.body_json().unwrap();
        assert_eq!(
            body["text"]["content"],
            "Backup failed: etcd/every-6h on prod-eu1"
        );
    }
    assert_eq!(
        requests[0].headers["webhook-id"],
        requests[1].headers["webhook-id"]
    );

    secrets.file("signing", "whsec_c2hvcnQ=");
    let error = only_error(hook).await;
    assert!(error.contains("openssl rand"), "{error}");
    assert!(!error.contains("c2hvcnQ"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_reaches_its_channels_alone_and_is_no_reply_to_the_last() {
    let (slack, mail, secrets) = (SlackFake::start(), Mailpit::start(), Secrets::new());
    let channels = vec![
        bot_channel(&secrets, &slack),
        mail_channel(plain_smtp(&mail)),
    ];
    let mut settings = config(channels);
    settings.digest = Some(DigestConfig {
        day: DayOfWeek::Monday,
        at: "08:00".to_owned(),
        time_zone: None,
        channels: vec!["bot".to_owned()],
    });
    let (alerter, _) = Alerter::start(settings, Arc::new(Sent::default()), None);
    let status = std::fs::read_to_string(crate::support::repository("tests/samples/status.json"));
    let status = serde_json::from_str(&status.unwrap()).unwrap();
    let now = Timestamp::now();
    for number in 1..=2 {
        let facts = etcdguardian::engine::digest::summary(&status, now);
        let subject = Subject::schedule("prod-eu1", "", "", &[]);
        alerter.digest(Event::trouble(Kind::Digest, subject, now, facts));
        until("the digest", || {
            (slack.messages().len() == number).then_some(())
        });
    }
    alerter.finish(Duration::from_secs(5)).await;
    for message in slack.messages() {
        assert!(message["thread_ts"].is_null(), "{message}");
        let text = message.to_string();
        assert!(
            text.contains("Backups of the last week: prod-eu1"),
            "{text}"
        );
        assert!(text.contains("fewer backups than the cron"), "{text}");
        assert!(!text.contains("runbook"), "{text}");
    }
    assert!(mail.messages().is_empty());
    assert!(alerter.state().0.is_empty(), "nothing stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_called_until_the_process_ends_and_its_url_is_secret() {
    let secrets = Secrets::new();
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/ping/secret-of-the-url"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let file = secrets.file("ping", "http://127.0.0.1:9/ping/secret-of-the-url\n");
    let sent = Arc::new(Sent::default());
    let settings = HeartbeatConfig {
        url_file: file,
        interval: HumanDuration::from_secs(1),
    };
    let beating = tokio::spawn(Heartbeat::new(settings, sent.clone()).run());
    until("a call that nobody answers", || {
        (sent.count("heartbeat", false) >= 1).then_some(())
    });
    // The file is read anew.
    secrets.file(
        "ping",
        &format!("{}/ping/secret-of-the-url\n", server.uri()),
    );
    until("two calls", || {
        (sent.count("heartbeat", true) >= 2).then_some(())
    });
    beating.abort();
    assert!(beating.await.unwrap_err().is_cancelled());
    assert!(server.received_requests().await.unwrap().len() >= 2);
}
