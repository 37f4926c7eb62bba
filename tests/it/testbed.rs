//! The test bed itself: each server starts, answers and can be broken, so that a red test elsewhere means the product.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    Etcd, Mailpit, Pki, Prometheus, SlackFake, Toxiproxy, Versitygw, guardian, guardian_command,
    guardian_process, http, tools_dir, until,
};

#[test]
fn every_etcd_version_starts_and_keeps_what_is_put() {
    for version in ["3.4", "3.5", "3.6", "3.7"] {
        let etcd = Etcd::start(version);
        etcd.fill("k/", 250, 16);
        assert_eq!(etcd.revision(), 4, "three transactions after revision 1");
        assert_eq!(etcd.endpoints(), [etcd.endpoint()]);
        assert_eq!(
            etcd.ctl(&["get", "k/", "--prefix", "--keys-only"])
                .matches("k/")
                .count(),
            250
        );
        assert_eq!(etcd.hash_kv(0), etcd.hash_kv(4), "{version}");
        assert!(etcd.data_dir(0).join("member/snap/db").exists());
    }
}

#[test]
fn three_members_with_tls_and_a_password_survive_the_loss_of_one() {
    let mut etcd = Etcd::of("3.6")
        .members(3)
        .tls()
        .auth("pa55")
        .arg("--max-request-bytes=2000000")
        .start();
    etcd.fill("k/", 10, 16);
    assert_eq!(etcd.endpoints().len(), 3);
    assert!(etcd.pki.is_some());
    etcd.process(2).signal("STOP");
    etcd.process(2).signal("KILL");
    assert!(!etcd.process(2).wait().success());
    assert!(http("GET", etcd.metrics_port(2), "/health", "").is_none());
    etcd.restart(2);
    assert_eq!(
        http("GET", etcd.metrics_port(2), "/health", "")
            .unwrap()
            .status,
        200
    );
    let refused = etcd
        .ctl_command()
        .args(["--user=root:wrong", "get", "k"])
        .status()
        .unwrap();
    assert!(!refused.success());
}

#[test]
fn a_restored_data_directory_boots() {
    let scratch = tempfile::tempdir().unwrap();
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 16);
    let file = scratch.path().join("snapshot.db");
    etcd.ctl(&["snapshot", "save", file.to_str().unwrap()]);
    let restored = scratch.path().join("restored");
    let made = Command::new(crate::support::tool("etcdutl-3.6"))
        .args(["snapshot", "restore"])
        .arg(&file)
        .arg("--data-dir")
        .arg(&restored)
        .output()
        .unwrap();
    assert!(made.status.success());
    let copy = Etcd::of("3.6").data_dir(&restored).start();
    assert_eq!(copy.hash_kv(2), etcd.hash_kv(2));
}

#[test]
fn prometheus_scrapes_and_answers_from_backfilled_history() {
    let etcd = Etcd::start("3.6");
    let now = jiff::Timestamp::now().as_second();
    let mut history = String::from("# TYPE demo gauge\n");
    for hours in (4..48).rev() {
        writeln!(history, "demo {hours} {}", now - hours * 3600).unwrap();
    }
    history.push_str("# EOF\n");
    let mut prometheus =
        Prometheus::start(&history, &[format!("127.0.0.1:{}", etcd.metrics_port(0))]);
    assert!(prometheus.url.starts_with("http://127.0.0.1:"));
    let old = prometheus.query("max_over_time(demo[2d])");
    assert_eq!(old[0]["value"][1], "47");
    until("etcd is scraped", || {
        (prometheus.query("up{job=\"etcd\"} == 1").as_array()?.len() == 1).then_some(())
    });
    prometheus.process.kill();
}

#[test]
fn the_store_checks_signatures_and_the_proxy_breaks_connections() {
    let mut store = Versitygw::start(&["b"]);
    let mut proxy = Toxiproxy::start();
    let port = proxy.proxy("s3", store.port);
    assert!(store.url.ends_with(&store.port.to_string()));
    assert!(store.file("b", "").is_dir());
    assert!(
        http("GET", port, "/b/none", "").unwrap().status >= 400,
        "unsigned"
    );
    proxy.toxic("s3", "latency", r#"{"latency":300}"#);
    let start = Instant::now();
    assert!(http("GET", port, "/b/none", "").is_some());
    assert!(start.elapsed() >= Duration::from_millis(300));
    proxy.enabled("s3", false);
    assert!(http("GET", port, "/b/none", "").is_none());
    proxy.heal();
    assert!(http("GET", port, "/b/none", "").is_some());
    store.process.kill();
    assert!(http("GET", store.port, "/b/none", "").is_none());
    proxy.process.kill();
    assert!(http("GET", port, "/b/none", "").is_none());
}

#[test]
fn mail_and_slack_keep_what_they_take_and_refuse_on_demand() {
    let mut slack = SlackFake::start();
    let port: u16 = slack
        .api
        .trim_end_matches("/api/")
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let path = slack
        .webhook
        .split_once(&port.to_string())
        .unwrap()
        .1
        .to_owned();
    assert_eq!(
        http("POST", port, &path, r#"{"text":"hello"}"#)
            .unwrap()
            .body,
        "ok"
    );
    assert_eq!(slack.messages()[0]["text"], "hello");
    slack.fault(r#"{"match":"services","status":500,"count":1}"#);
    assert_eq!(
        http("POST", port, &path, r#"{"text":"hello"}"#)
            .unwrap()
            .status,
        500
    );
    assert_eq!(slack.messages().len(), 1);

    let mut mail = Mailpit::start();
    assert!(send(mail.smtp_port, "one"));
    let message = &mail.messages()[0];
    assert_eq!(message["Subject"], "one");
    assert!(
        mail.raw(message["ID"].as_str().unwrap())
            .contains("body of one")
    );
    mail.chaos(r#"{"Sender":{"ErrorCode":451,"Probability":100}}"#);
    assert!(!send(mail.smtp_port, "two"));
    mail.process.kill();
    slack.process.kill();
    assert!(http("GET", port, "/_ready", "").is_none());

    let scratch = tempfile::tempdir().unwrap();
    let strict = Mailpit::start_tls(&Pki::create(scratch.path()), "u", "p");
    assert!(!send(strict.smtp_port, "plain is refused"));
    assert!(strict.messages().is_empty());
}

/// Sends a mail without TLS; whether the server took it.
fn send(port: u16, subject: &str) -> bool {
    use lettre::{Message, SmtpTransport, Transport};
    let message = Message::builder()
        .from("a@example.com".parse().unwrap())
        .to("b@example.com".parse().unwrap())
        .subject(subject)
        .body(format!("body of {subject}"))
        .unwrap();
    SmtpTransport::builder_dangerous("127.0.0.1")
        .port(port)
        .build()
        .send(&message)
        .is_ok()
}

#[test]
fn the_binary_runs_to_its_end_or_until_a_signal() {
    assert!(
        guardian(&["version"])
            .ok()
            .contains(env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        guardian(&["version", "-o", "json"]).json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    assert!(
        guardian(&["no-such-verb"])
            .code(2)
            .stderr
            .contains("no-such-verb")
    );
    let scratch = tempfile::tempdir().unwrap();
    let mut process = guardian_process(&["version"], &scratch.path().join("log"));
    assert!(process.wait().success());
    assert!(process.log_text().contains(env!("CARGO_PKG_VERSION")));
    assert!(tools_dir().is_absolute());
    let here = guardian_command()
        .arg("version")
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert!(here.status.success());
}
