//! The listener: every promised series with its labels, health with reasons, a page that shows what it is given.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcdguardian::alert::AlertObserver;
use etcdguardian::api::ServeConfig;
use etcdguardian::serve::{self, BackupLabels, Metrics, Server, StatusSnapshot, Took};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::support::{Prometheus, http, repository, until};

pub(crate) struct Listener {
    pub port: u16,
    pub server: Server,
    pub metrics: Arc<Metrics>,
    status: watch::Sender<StatusSnapshot>,
    ready: watch::Sender<bool>,
}

/// A free port of this host, for everybody.
pub(crate) fn loopback() -> ServeConfig {
    ServeConfig {
        listen: "127.0.0.1:0".to_owned(),
        token_file: None,
    }
}

pub(crate) async fn listener() -> Listener {
    listener_of(&loopback()).await
}

async fn listener_of(config: &ServeConfig) -> Listener {
    let metrics = Arc::new(Metrics::new());
    let status = watch::Sender::new(StatusSnapshot::default());
    let ready = watch::Sender::new(false);
    let server = serve::start(
        config,
        metrics.clone(),
        status.subscribe(),
        ready.subscribe(),
    )
    .await
    .unwrap();
    Listener {
        port: server.address.port(),
        server,
        metrics,
        status,
        ready,
    }
}

/// The trace of the backup that took a minute.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Something of everything that can happen.
pub(crate) fn everything(metrics: &Metrics) {
    let (namespace, schedule) = ("etcd", "every-6h");
    let labels = BackupLabels {
        namespace: namespace.to_owned(),
        schedule: schedule.to_owned(),
        mode: "Full".to_owned(),
    };
    let minute = Duration::from_secs(60);
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    metrics.expect_schedule(namespace, schedule);
    metrics.expects("mail");
    let mut took = Took {
        duration: minute,
        trace_id: Some(TRACE.to_owned()),
    };
    metrics.backup_succeeded(&labels, &took, 1 << 20, now, true);
    took = Took {
        duration: minute * 3,
        trace_id: None,
    };
    metrics.backup_failed(&labels, &took, "StoreUnavailable");
    metrics.stage_ended("store", minute);
    metrics.validation_failed("digest");
    metrics.restore_ended("Full", minute);
    metrics.cluster_sampled("prod", 1 << 30, 7_000_000, minute);
    metrics.certificate_expires("prod", now, minute);
    metrics.exposure(namespace, schedule, Some(18_250.0), minute);
    metrics.proved(namespace, schedule, 7, [0.25, 0.99, 0.7]);
    metrics.proved(namespace, schedule, 28, [0.3, 0.98, 0.7]);
    metrics.planned(namespace, schedule, "Cron", Some(minute * 60), Some(now));
    metrics.planned(namespace, schedule, "Model", Some(minute * 90), Some(now));
    metrics.decided(namespace, schedule, "Model", "Due");
    metrics.recoverable(namespace, schedule, Some(now), Some(now), true);
    metrics.model(namespace, schedule, Some("enet-1"));
    metrics.drill_succeeded(namespace, schedule, now);
    metrics.retention_deleted(namespace, schedule, 2);
    metrics.recorder_lag(namespace, schedule, 3, minute);
    metrics.alarms("prod", 1, minute);
    metrics.store_request("put", true);
    metrics.sent("mail", false);
    metrics.reconciled("EtcdBackup", true);
    metrics.leading(true);
}

/// The names in a text of metrics, as users query them.
fn families(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(|name| {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            base.unwrap_or(name).to_owned()
        })
        .collect()
}

#[test]
fn the_reference_names_every_series_and_only_those() {
    let metrics = Metrics::new();
    everything(&metrics);
    let shown = families(&metrics.render());
    let page = std::fs::read_to_string(repository("docs/reference/metrics.md")).unwrap();
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `etcdguardian_")?.split('`').next())
        .map(|name| format!("etcdguardian_{name}"))
        .collect();
    assert_eq!(shown, documented);
}

#[test]
fn a_schedule_has_zeros_from_the_start_and_leaves_nothing_behind() {
    let metrics = Metrics::new();
    metrics.expect_schedule("etcd", "every-6h");
    let text = metrics.render();
    for mode in ["Full", "Incremental"] {
        for status in ["success", "failed"] {
            let line = format!(
                "etcdguardian_backup_total{{namespace=\"etcd\",schedule=\"every-6h\",mode=\"{mode}\",status=\"{status}\"}} 0"
            );
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
    for line in [
        "etcdguardian_validation_failures_total{reason=\"VerificationFailed\"} 0",
        "etcdguardian_restore_duration_seconds_count{mode=\"PointInTime\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    everything(&metrics);
    let text = metrics.render();
    assert!(text.contains("schedule_interval_seconds{namespace=\"etcd\",schedule=\"every-6h\",source=\"Model\"} 5400"), "{text}");
    assert!(
        !text.contains("source=\"Cron\"}"),
        "the source that no longer rules is gone"
    );
    metrics.planned("etcd", "every-6h", "Guard", None, None);
    let text = metrics.render();
    let planned = [
        "schedule_interval_seconds{",
        "schedule_next_timestamp_seconds{",
    ];
    assert!(!planned.iter().any(|name| text.contains(name)), "{text}");
    metrics.forget_schedule("etcd", "every-6h");
    assert!(!metrics.render().contains("every-6h"));
}

#[test]
fn a_value_that_nobody_confirms_disappears() {
    let metrics = Metrics::new();
    metrics.cluster_sampled("prod", 5, 6, Duration::ZERO);
    metrics.exposure("etcd", "x", Some(1.0), Duration::ZERO);
    metrics.recorder_lag("etcd", "x", 1, Duration::ZERO);
    metrics.alarms("prod", 1, Duration::ZERO);
    metrics.cluster_sampled("other", 5, 6, Duration::from_secs(600));
    let text = metrics.render();
    assert!(
        !text.contains("prod") && !text.contains("schedule=\"x\""),
        "{text}"
    );
    assert!(
        text.contains("etcd_revision{cluster=\"other\"} 6"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_it() {
    let listener = listener().await;
    everything(&listener.metrics);
    let prometheus = Prometheus::start("", &[format!("127.0.0.1:{}", listener.port)]);
    until("the series are there", || {
        let answer = prometheus.query("etcdguardian_backup_total{status=\"failed\",mode=\"Full\"}");
        answer.to_string().contains("\"1\"").then_some(())
    });
    let pointed = prometheus.exemplars("etcdguardian_backup_duration_seconds_bucket");
    let exemplars = pointed[0]["exemplars"].as_array().unwrap();
    assert_eq!(
        exemplars.len(),
        1,
        "one backup of two was traced: {pointed}"
    );
    assert_eq!(exemplars[0]["labels"]["trace_id"], TRACE);
    assert_eq!(exemplars[0]["value"], "60");
    listener.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_why_and_only_reading_is_allowed() {
    let listener = listener().await;
    let port = listener.port;
    let get = |path: &str| http("GET", port, path, "").unwrap();
    assert_eq!(get("/livez").status, 200);
    listener.status.send_modify(|status| {
        status
            .problems
            .push("etcd.yaml: spec.schedule is no cron expression".to_owned());
    });
    let answer = get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("etcd.yaml"), "{}", answer.body);
    listener.ready.send_replace(true);
    assert_eq!(get("/readyz").status, 200);
    assert_eq!(get("/no-such-page").status, 404);
    for verb in ["POST", "PUT", "DELETE"] {
        assert_eq!(http(verb, port, "/status.json", "{}").unwrap().status, 405);
    }
    let page = get("/").body;
    for foreign in ["http://", "https://", "src="] {
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !outside.contains(foreign),
            "the page must hold everything itself: {foreign}"
        );
    }

    etcdguardian::init_tls();
    let client = reqwest::Client::new();
    let answer = client
        .get(format!("http://127.0.0.1:{port}/"))
        .send()
        .await
        .unwrap();
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    listener.server.stop().await;
    assert!(http("GET", port, "/livez", "").is_none(), "it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_read_anew_and_health_needs_none() {
    etcdguardian::init_tls();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "open-sesame\n").unwrap();
    let config = ServeConfig {
        token_file: Some(file.clone()),
        ..loopback()
    };
    let listener = listener_of(&config).await;
    listener
        .status
        .send_modify(|status| status.problems.push("a name in a manifest".to_owned()));
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", listener.port);
    for path in ["/", "/status.json", "/metrics"] {
        let refused = client.get(url(path)).send().await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
        let asks = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(asks.starts_with("Basic"), "{asks}");
        assert!(!refused.text().await.unwrap().contains("manifest"));
        let get = || client.get(url(path));
        for (request, wanted) in [
            (get().bearer_auth("open-sesame"), 200),
            (get().basic_auth("anybody", Some("open-sesame")), 200),
            (get().bearer_auth("open-sesam"), 401),
            (get().bearer_auth(""), 401),
            (get().basic_auth("open-sesame", Some("")), 401),
            (get().header("authorization", "Basic not-base64!"), 401),
        ] {
            let request = request.build().unwrap();
            let words = format!("{path} {:?}", request.headers());
            let answer = client.execute(request).await.unwrap();
            assert_eq!(answer.status(), wanted, "{words}");
        }
    }
    let one = client.get(url("/schedule.json?namespace=a&name=b"));
    assert_eq!(one.send().await.unwrap().status(), 401);
    let health = client.get(url("/readyz")).send().await.unwrap();
    assert_eq!(health.status(), 503);
    assert!(!health.text().await.unwrap().contains("manifest"));
    assert_eq!(
        client.get(url("/livez")).send().await.unwrap().status(),
        200
    );

    std::fs::write(&file, "another\n").unwrap();
    let with = |token: &'static str| client.get(url("/")).bearer_auth(token).send();
    assert_eq!(with("open-sesame").await.unwrap().status(), 401);
    assert_eq!(with("another").await.unwrap().status(), 200);
    // A token that is gone or empty opens nothing.
    std::fs::write(&file, "\n").unwrap();
    assert_eq!(with("").await.unwrap().status(), 503);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(with("another").await.unwrap().status(), 503);
    listener.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_what_was_last_written() {
    let listener = listener().await;
    let sample = std::fs::read_to_string(repository("tests/samples/status.json")).unwrap();
    let status: StatusSnapshot = serde_json::from_str(&sample).unwrap();
    listener.status.send_replace(status.clone());
    let mut shown = http("GET", listener.port, "/status.json", "")
        .unwrap()
        .json();
    let verdict = shown.as_object_mut().unwrap().remove("verdict").unwrap();
    assert_eq!(
        verdict,
        serde_json::to_value(serve::verdict(&status.schedules)).unwrap()
    );
    assert_eq!(shown, serde_json::to_value(&status).unwrap());
    assert_eq!(
        shown["schedules"][0]["status"]["decision"]["source"],
        "Model"
    );

    // In brief: the same facts, of each schedule those on its card; the whole of one apart.
    let brief = http("GET", listener.port, "/status.json?schedules=brief", "");
    let mut brief = brief.unwrap().json();
    assert_eq!(
        brief.as_object_mut().unwrap().remove("verdict"),
        Some(verdict)
    );
    let (whole, cards) = (shown["schedules"].clone(), brief["schedules"].clone());
    let cards = cards.as_array().unwrap();
    assert_eq!(cards.len(), whole.as_array().unwrap().len());
    for (card, whole) in cards.iter().zip(whole.as_array().unwrap()) {
        for (field, value) in card.as_object().unwrap() {
            if field == "status" {
                for (field, value) in value.as_object().unwrap() {
                    assert_eq!(*value, whole["status"][field], "{field}");
                }
            } else {
                assert_eq!(*value, whole[field], "{field}");
            }
        }
        assert!(
            card["backups"].is_null() && card["rates"].is_null(),
            "{card}"
        );
        let asked = format!(
            "/schedule.json?namespace={}&name={}",
            whole["namespace"].as_str().unwrap(),
            whole["name"].as_str().unwrap()
        );
        let one = http("GET", listener.port, &asked, "").unwrap();
        assert_eq!(one.json(), *whole);
    }
    shown["schedules"] = brief["schedules"].clone();
    assert_eq!(shown, brief, "nothing else is left out");
    let none = http(
        "GET",
        listener.port,
        "/schedule.json?namespace=a&name=b",
        "",
    );
    assert_eq!(none.unwrap().status, 404);
    let half = http("GET", listener.port, "/schedule.json?name=b", "");
    assert_eq!(half.unwrap().status, 400);
    listener.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_cut_off() {
    use std::io::{Read, Write};
    let listener = listener().await;
    let port = listener.port;
    let read = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(25)))
            .unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = read.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408"),
        "{text}"
    );
    listener.server.stop().await;
}
