//! `doctor`: what is well is said to be well, and each trouble comes with its code and its fix.

use super::{Desk, cluster, files, objects, s3};
use crate::support::{Etcd, Mailpit, Versitygw, free_port};

#[test]
fn a_healthy_site_is_well_and_nothing_is_left_in_the_store() {
    let etcd = Etcd::start("3.6");
    let store = Versitygw::start(&["backups"]);
    let mail = Mailpit::start();
    let desk = Desk::new(&cluster(&etcd.endpoints()), &s3(store.port));
    desk.add(&format!(
        "alerts: {{channels: [{{name: mail, email: {{smtp: {{host: 127.0.0.1, port: {}, tls: None}}, from: a@example.com, to: [b@example.com]}}}}]}}\n",
        mail.smtp_port
    ));
    let report = desk.run(&["doctor", "-o", "json"]).json();
    assert_eq!(report["ok"], true, "{report}");
    let seen = report.to_string();
    for word in [
        "etcd quorum",
        "etcd snapshot",
        "refused to overwrite",
        "clock against",
        "disk of",
    ] {
        assert!(seen.contains(word), "{word}: {seen}");
    }
    assert!(objects(&store).is_empty(), "the trial is deleted again");
    assert!(mail.messages().is_empty());
    desk.run(&["doctor", "--send-test-alert"]).ok();
    assert_eq!(mail.messages().len(), 1);
    let unknown = desk.run(&["doctor", "--send-test-alert", "pager"]).code(4);
    assert!(unknown.stdout.contains("mail"), "{}", unknown.stdout);
}

#[test]
fn each_trouble_has_its_code_and_its_fix() {
    let etcd = Etcd::start("3.6");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let good = cluster(&etcd.endpoints());
    let cases = [
        (cluster(&[nowhere]), String::new(), 13, "start the member"),
        (good.clone(), s3(free_port()), 10, "firewall"),
        (
            good.clone(),
            "store: {provider: Local, bucket: /proc/nothing}".to_owned(),
            10,
            "rights and space",
        ),
        (
            good.clone(),
            "prometheus: {url: 'http://127.0.0.1:1'}".to_owned(),
            1,
            "prometheus.url",
        ),
        (
            good.clone(),
            "alerts: {channels: [{name: chat, slack: {webhookURLFile: /nowhere/hook}}]}".to_owned(),
            12,
            "/nowhere/hook",
        ),
        (
            good.clone(),
            "alerts: {channels: [{name: h, webhook: {url: 'https://example.com', signingSecretFile: /nowhere/key}}]}".to_owned(),
            12,
            "/nowhere/key",
        ),
        (
            good,
            "alerts: {heartbeat: {urlFile: /nowhere/beat}}".to_owned(),
            12,
            "/nowhere/beat",
        ),
    ];
    for (cluster, extra, code, word) in cases {
        let desk = Desk::new(&cluster, &extra);
        let ran = desk.run(&["doctor"]).code(code);
        // No number is said that nobody knows.
        assert!(!ran.stdout.contains("up to 0 B"), "{}", ran.stdout);
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
        assert!(ran.stdout.contains("FAILED"), "{}", ran.stdout);
        assert!(files(&desk.path("store")).is_empty());
    }
}

#[test]
fn an_alarm_is_a_failure() {
    let etcd = Etcd::of("3.5").arg("--quota-backend-bytes=2097152").start();
    let desk = Desk::local(&etcd);
    let mut command = etcd.ctl_command();
    let big = "x".repeat(100_000);
    command.args(["put", "big", &big]);
    crate::support::until("the quota is reached", || {
        let output = command.output().unwrap();
        (!output.status.success()).then_some(())
    });
    let ran = desk.run(&["doctor"]).code(1);
    assert!(ran.stdout.contains("NOSPACE"), "{}", ran.stdout);
    assert_eq!(
        desk.create()["level"],
        "Consistent",
        "a full etcd is backed up all the same"
    );
}
