//! Promises of the loop that a whole run has to keep: etcd is only read, and what will expire is said in time.

use super::Site;
use crate::support::{Etcd, http, until};

/// Revision and raft index of a member, and the leases it knows.
fn traces_of_writing(etcd: &Etcd) -> (i64, i64, String) {
    let status: serde_json::Value =
        serde_json::from_str(&etcd.ctl(&["endpoint", "status", "-w", "json"])).unwrap();
    let status = &status[0]["Status"];
    (
        status["header"]["revision"].as_i64().unwrap(),
        status["raftIndex"].as_i64().unwrap(),
        etcd.ctl(&["lease", "list"]),
    )
}

#[test]
fn nothing_is_ever_written_to_etcd_not_even_to_its_log() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 50, 50);
    let before = traces_of_writing(&etcd);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    let mut run = site.start();
    site.wait_for_backups(&site.url(), 3);
    site.guardian(&["doctor"]);
    run.signal("TERM");
    run.wait();
    assert_eq!(before, traces_of_writing(&etcd));
}

#[test]
fn the_first_certificate_that_expires_is_a_metric() {
    let etcd = Etcd::of("3.6").tls().start();
    let site = Site::new(&etcd, "");
    let pki = etcd.pki.as_ref().unwrap();
    let certificates = format!(
        "certificates: {{ca: {}, cert: {}, key: {}}}",
        pki.ca.display(),
        pki.client_cert.display(),
        pki.client_key.display()
    );
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replacen("cluster: {", &format!("cluster: {{{certificates}, "), 1);
    std::fs::write(site.config(), &text).unwrap();
    site.schedule("main", &site.local(), "");
    let _run = site.start();
    let port = text
        .split_once("serve: {listen: '127.0.0.1:")
        .and_then(|(_, rest)| rest.split_once('\''))
        .and_then(|(port, _)| port.parse().ok())
        .unwrap();
    let shown = until("the metric", || {
        let answer = http("GET", port, "/metrics", "")?;
        answer
            .body
            .lines()
            .find(|line| line.starts_with("etcdguardian_certificate_expiry_timestamp_seconds{"))
            .map(str::to_owned)
    });
    let pem = std::fs::read(&pki.client_cert).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let ends = pem.parse_x509().unwrap().validity().not_after.timestamp();
    let value: f64 = shown.rsplit(' ').next().unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "seconds stay below 2^53")]
    let ends = ends as f64;
    assert_eq!(value, ends, "{shown}");
}
