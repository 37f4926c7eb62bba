//! Traces of backups as a collector gets them, by a process that is told of it in OpenTelemetry's own variables: what they hold, what
//! else carries their id, and that nothing waits for a collector that does not answer.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backup::{Desk, files};
use crate::run::Site;
use crate::support::{
    Collector, Etcd, Pki, Process, Seen, guardian_command, http, open_metrics, tool, until,
};

/// The stages of a full backup, in order.
const STAGES: [&str; 6] = ["snapshot", "check", "store", "verify", "commit", "retain"];

/// The spans of one trace, by name; its first one.
fn trace(spans: &[Seen]) -> (Seen, BTreeMap<&str, &Seen>) {
    let root = spans.iter().find(|span| span.parent.is_empty()).unwrap();
    assert!(
        spans.iter().all(|span| span.trace == root.trace),
        "{spans:?}"
    );
    let named: BTreeMap<&str, &Seen> = spans.iter().map(|s| (s.name.as_str(), s)).collect();
    assert_eq!(named.len(), spans.len(), "{spans:?}");
    (root.clone(), named)
}

#[test]
fn a_backup_is_a_trace_of_its_stages_and_log_and_manifest_carry_its_id() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 200, 100);
    let desk = Desk::local(&etcd);
    desk.add("log: {format: Json, level: 'etcdguardian=debug'}\n");
    let collector = Collector::start();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
    ];
    let words = ["backup", "create", "traced", "-o", "json"];
    let ran = desk.run_as(&environment, &words);
    let log = ran.stderr.clone();
    let made = ran.json();
    let spans = collector.spans();
    let (root, named) = trace(&spans);
    assert_eq!(root.name, "backup");
    assert_eq!(root.status, 1, "{root:?}");
    for (name, value) in [
        ("owner", "default/traced"),
        ("cluster", "test"),
        ("backup.mode", "Full"),
        ("backup.kind", "Full"),
        ("backup.level", "Consistent"),
        ("backup.id", made["id"].as_str().unwrap()),
        ("backup.revision", &made["revision"].to_string()),
        ("backup.stored_bytes", &made["storedSize"].to_string()),
    ] {
        assert_eq!(root.attributes[name], value, "{name}: {root:?}");
    }
    for (name, value) in [
        ("service.name", "etcdguardian"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment", "test"),
    ] {
        assert_eq!(root.resource[name], value, "{:?}", root.resource);
    }
    assert_eq!(root.headers["x-tenant"], "blue");

    // The stages follow one another inside the backup; sealing and upload are the work of one of them.
    let mut before = root.from;
    for stage in STAGES {
        let span = named[stage];
        assert_eq!(span.parent, root.id, "{stage}");
        assert!(
            before <= span.from && span.to <= root.to,
            "{stage}: {spans:?}"
        );
        before = span.to;
    }
    for part in ["seal", "upload"] {
        let (span, store) = (named[part], named["store"]);
        assert_eq!(span.parent, store.id, "{part}");
        assert!(store.from <= span.from && span.to <= store.to, "{spans:?}");
    }
    assert_eq!(spans.len(), 1 + STAGES.len() + 2, "{spans:?}");

    let stored = files(&desk.path("store"));
    let manifest = stored.iter().find(|file| file.ends_with("manifest.json"));
    let manifest = std::fs::read(manifest.unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["traceId"], root.trace);
    assert_eq!(manifest["runId"], root.attributes["run"]);
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let within: Vec<&Value> = lines
        .iter()
        .filter(|line| line["span"]["name"] == "backup")
        .collect();
    assert!(!within.is_empty(), "{log}");
    for line in within {
        assert_eq!(line["span"]["trace_id"], root.trace, "{line}");
    }
}

#[test]
fn a_backup_that_fails_is_a_trace_that_says_where_and_why() {
    let collector = Collector::start();
    let desk = Desk::new("{name: gone, endpoints: ['http://127.0.0.1:1']}", "");
    desk.add(&format!(
        "store: {{provider: Local, bucket: {}}}\ntracing: {{endpoint: '{}/'}}\n",
        desk.path("store").display(),
        collector.url
    ));
    let ran = desk.run(&["backup", "create", "lost"]).code(13);
    let spans = collector.spans();
    let (root, named) = trace(&spans);
    for span in [&root, named["snapshot"]] {
        assert_eq!(span.status, 2, "{span:?}");
        assert!(span.message.contains("127.0.0.1:1"), "{span:?}");
    }
    assert_eq!(root.attributes["error.type"], "EtcdUnavailable");
    assert!(ran.stderr.contains("127.0.0.1:1"), "{}", ran.stderr);
}

#[test]
fn a_collector_behind_tls_is_reached_and_one_that_nobody_vouches_for_is_not() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    let pki = Pki::create(&desk.path("pki"));
    let collector = Collector::start_tls(&pki);
    let url = (
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        format!("{}/v1/traces", collector.url),
    );
    let url = (url.0, url.1.as_str());
    let ran = desk
        .run_as(&[url], &["backup", "create", "unknown"])
        .code(0);
    assert!(ran.stderr.contains("traces do not reach"), "{}", ran.stderr);
    let ca = pki.ca.display().to_string();
    let vouched = [url, ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str())];
    let ran = desk
        .run_as(&vouched, &["backup", "create", "known"])
        .code(0);
    assert!(!ran.stderr.contains("traces"), "{}", ran.stderr);
    let traced = collector.spans();
    assert_eq!(
        traced.iter().filter(|span| span.name == "backup").count(),
        1
    );
}

#[test]
fn no_backup_waits_for_a_collector() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    // Nobody listens; somebody listens and says nothing; what is named is no URL, or another protocol's.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let cases: [(&[(&str, &str)], &str); 4] = [
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")],
            "traces do not reach",
        ),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", &silent)], ""),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")],
            "no traces are sent",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), grpc],
            "only http/protobuf",
        ),
    ];
    for (number, (environment, said)) in cases.into_iter().enumerate() {
        let name = format!("alone-{number}");
        let began = Instant::now();
        let ran = desk
            .run_as(environment, &["backup", "create", &name])
            .code(0);
        // Three seconds at the end, and what a backup takes on a busy machine.
        assert!(began.elapsed() < Duration::from_secs(45), "{environment:?}");
        assert!(ran.stdout.contains("Consistent"), "{}", ran.stdout);
        assert!(ran.stderr.contains(said), "{environment:?}: {}", ran.stderr);
    }
    let collector = Collector::start();
    for off in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let named = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str());
        desk.run_as(&[named, off], &["backup", "create"]).code(0);
    }
    assert_eq!(collector.asked(), 0);
    assert_eq!(collector.spans().len(), 0);
}

#[test]
fn the_loop_sends_what_it_has_before_it_ends_and_its_metrics_point_at_the_traces() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 50, 50);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    let collector = Collector::start();
    // An overloaded collector gets the same batch again.
    collector.refuse(1);
    let mut command = guardian_command();
    command
        .args(["run", "--config"])
        .arg(site.config())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let mut process = Process::start("run", &mut command, &site.path("run.log"));
    site.wait_for_backups(&site.url(), 1);
    let port = site.port();
    let pointed = until("a trace in the metrics", || {
        let text = open_metrics(port)?;
        let line = text.lines().find(|line| {
            line.starts_with("etcdguardian_backup_duration_seconds_bucket") && line.contains('#')
        })?;
        let id = line.split("trace_id=\"").nth(1)?.split('"').next()?;
        Some(id.to_owned())
    });
    // Who asks for no other form gets the older one, which Prometheus' own linter finds nothing in.
    let plain = site.path("plain.txt");
    let answer = http("GET", port, "/metrics", "").unwrap();
    std::fs::write(&plain, answer.body).unwrap();
    let linted = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&plain).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&linted.stderr);
    assert!(linted.status.success() && said.is_empty(), "{said}");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(143));
    let log = process.log_text();
    let completed: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("backup completed"))
        .collect();
    let spans = collector.spans();
    let roots: Vec<&Seen> = spans.iter().filter(|s| s.name == "backup").collect();
    assert!(!roots.is_empty() && completed.len() <= roots.len(), "{log}");
    assert!(roots.iter().any(|root| root.trace == pointed), "{pointed}");
    for line in completed {
        let id = line.split("trace_id=").nth(1).unwrap();
        let id = id.split(['}', ' ']).next().unwrap();
        let root = roots.iter().find(|root| root.trace == id).unwrap();
        assert_eq!(root.attributes["owner"], "default/main");
        assert!(root.events.iter().any(|event| event == "backup completed"));
    }
    assert!(
        !log.contains("traces do not reach") || log.contains("again"),
        "{log}"
    );
}
