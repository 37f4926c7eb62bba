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
        }),
        ..AlertChannel::default()
    };
    let dead = AlertChannel {
        webhook: Some(WebhookChannel {
            url: "http://127.0.0.1:9/?token=hidden".to_owned(),
            headers_file: None,
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
