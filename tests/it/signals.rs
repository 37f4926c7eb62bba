//! The Prometheus reader against a real Prometheus with back-filled history, and against servers that answer badly.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use etcdguardian::api::{ErrorClass, PrometheusSource};
use etcdguardian::secrets::Secret;
use etcdguardian::signals::{PrometheusReader, Signal, SignalError, Window};
use jiff::{SignedDuration, Timestamp};
use wiremock::matchers::{any, header};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::Prometheus;

/// Labels, and the counter's value at a time.
type Labelled<'a> = (&'a str, &'a dyn Fn(i64) -> f64);

/// The end of the history: a round hour some days ago, so that nothing depends on today.
fn end() -> i64 {
    (Timestamp::now().as_second() / 3600 - 48) * 3600
}

/// Counters every 30 s for `hours`: three members that all count each write, the second of which restarts half way; an
/// API server when `api_server`. Rates: 4 puts and 1 delete a second in etcd; in the API server 2 pods, 3 leases.
fn history(hours: i64, api_server: bool) -> String {
    let (to, span) = (end(), hours * 3600);
    let mut text = String::new();
    let times: Vec<i64> = ((to - span)..=to).step_by(30).collect();
    let mut family = |name: &str, series: &[(&str, &dyn Fn(i64) -> f64)]| {
        let family = name.trim_end_matches("_total");
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let _ = writeln!(text, "# TYPE {family} {kind}");
        for (labels, value) in series {
            for at in &times {
                let _ = writeln!(text, "{name}{{{labels}}} {} {at}", value(*at));
            }
        }
    };
    let since = move |at: i64| (at - (to - span)) as f64;
    let restarted = move |at: i64| {
        let half = (span / 2) as f64;
        if since(at) < half {
            since(at)
        } else {
            since(at) - half
        }
    };
    let members = ["a", "b", "c"].map(|name| format!("job=\"etcd\",instance=\"{name}\""));
    let counter = |name: &str, rate: f64, family: &mut dyn FnMut(&str, &[Labelled<'_>])| {
        let whole = move |at: i64| rate * since(at);
        let reset = move |at: i64| rate * restarted(at);
        family(
            name,
            &[
                (&members[0], &whole),
                (&members[1], &reset),
                (&members[2], &whole),
            ],
        );
    };
    counter("etcd_mvcc_put_total", 4.0, &mut family);
    counter("etcd_mvcc_delete_total", 1.0, &mut family);
    family(
        "etcd_mvcc_db_total_size_in_bytes",
        &[
            (&members[0], &|_| 5e6),
            (&members[1], &|at| if at == to { f64::NAN } else { 6e6 }),
        ],
    );
    if api_server {
        let request = |resource: &str, verb: &str, code: &str, sub: &str| {
            format!(
                "job=\"apiserver\",resource=\"{resource}\",verb=\"{verb}\",code=\"{code}\",subresource=\"{sub}\""
            )
        };
        family(
            "apiserver_request_total",
            &[
                (&request("pods", "POST", "201", ""), &|at| 2.0 * since(at)),
                (&request("pods", "PATCH", "200", "status"), &|at| {
                    5.0 * since(at)
                }),
                (&request("pods", "GET", "200", ""), &|at| 90.0 * since(at)),
                (&request("pods", "POST", "409", ""), &|at| 7.0 * since(at)),
                (&request("leases", "PUT", "200", ""), &|at| 3.0 * since(at)),
                (&request("events", "POST", "201", ""), &|at| 3.0 * since(at)),
                (&request("configmaps", "PUT", "200", ""), &|at| {
                    0.5 * since(at)
                }),
            ],
        );
    }
    text.push_str("# EOF\n");
    text
}

fn window(hours: i64) -> Window {
    let at = Timestamp::from_second(end()).unwrap();
    Window::before(at, SignedDuration::from_hours(hours), 300)
}

fn source(url: &str) -> PrometheusSource {
    PrometheusSource {
        url: Some(url.to_owned()),
        ..PrometheusSource::default()
    }
}

fn assert_all_near(values: &[f64], wanted: f64) {
    for (index, value) in values.iter().enumerate() {
        assert!(
            (value - wanted).abs() < 0.02 * wanted,
            "cell {index}: {value}, not {wanted}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_count_once_and_a_restart_is_no_gap() {
    let prometheus = tokio::task::spawn_blocking(|| Prometheus::start(&history(30, false), &[]))
        .await
        .unwrap();
    let reader = PrometheusReader::new(&source(&prometheus.url), None).unwrap();
    let (series, report) = reader.read(&window(24)).await.unwrap();
    assert_eq!(
        (report.signal, series.len(), report.gaps),
        (Signal::EtcdWrites, 288, 0)
    );
    assert!(
        report.why.contains("no apiserver_request_total"),
        "{}",
        report.why
    );
    assert_eq!(report.warnings, [] as [&str; 0]);
    assert_all_near(series.rates(), 5.0);
    assert_all_near(series.db_size(), 6e6);
    assert_eq!(
        report.fresh_until,
        Some(Timestamp::from_second(end()).unwrap())
    );
    // A window beyond the data: gaps, and a word about them.
    let later = Timestamp::from_second(end() + 7200).unwrap();
    let beyond = Window::before(later, SignedDuration::from_mins(60), 300);
    let (series, report) = reader.read(&beyond).await.unwrap();
    assert_eq!(
        (series.len(), report.samples, report.signal),
        (12, 0, Signal::None)
    );
    assert!(
        report.warnings[0].contains("knows no change rate"),
        "{:?}",
        report.warnings
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn significant_writes_are_preferred_and_weighted() {
    let prometheus = tokio::task::spawn_blocking(|| Prometheus::start(&history(8, true), &[]))
        .await
        .unwrap();
    let reader = PrometheusReader::new(&source(&prometheus.url), None).unwrap();
    let (series, report) = reader.read(&window(6)).await.unwrap();
    assert_eq!(report.signal, Signal::ApiServerRequests, "{}", report.why);
    // 2 pods + 20 % of 5 statuses + 0.5 config maps; neither leases nor events, reads or conflicts.
    assert_all_near(series.rates(), 3.5);
    assert_all_near(series.writes(), 5.0);
    let weighted = PrometheusSource {
        weights: BTreeMap::from([
            ("configmaps".to_owned(), 400),
            ("pods/status".to_owned(), 0),
            ("leases".to_owned(), 10),
        ]),
        ..source(&prometheus.url)
    };
    let reader = PrometheusReader::new(&weighted, None).unwrap();
    let (series, _) = reader.read(&window(6)).await.unwrap();
    assert_all_near(series.rates(), 2.0 + 4.0 * 0.5 + 0.1 * 3.0);
    // The schedule's own queries; one with a mistake.
    let own = PrometheusSource {
        change_rate_query: Some("rate(etcd_mvcc_put_total[$__rate_interval])".to_owned()),
        db_size_query: Some("vector(7)".to_owned()),
        ..source(&prometheus.url)
    };
    let (series, report) = PrometheusReader::new(&own, None)
        .unwrap()
        .read(&window(6))
        .await
        .unwrap();
    assert_eq!(report.signal, Signal::CustomQuery);
    assert_all_near(series.rates(), 4.0);
    assert_all_near(series.db_size(), 7.0);
    assert!(
        report.warnings[0].contains("3 series"),
        "{:?}",
        report.warnings
    );
    let wrong = PrometheusSource {
        change_rate_query: Some("rate(".to_owned()),
        ..source(&prometheus.url)
    };
    let error = PrometheusReader::new(&wrong, None)
        .unwrap()
        .read(&window(6))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            SignalError::Rejected {
                query: "changeRateQuery",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Usage);
}

async fn answering(template: ResponseTemplate) -> (MockServer, SignalError) {
    etcdguardian::init_tls();
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(template)
        .mount(&server)
        .await;
    let reader = PrometheusReader::new(&source(&server.uri()), None).unwrap();
    let error = reader.read(&window(6)).await.unwrap_err();
    (server, error)
}

#[tokio::test]
async fn bad_answers_get_names() {
    let json = |status: u16, body: &str| {
        ResponseTemplate::new(status).set_body_raw(body.as_bytes().to_vec(), "application/json")
    };
    let html = |status: u16| {
        ResponseTemplate::new(status).set_body_raw("<html>sign in</html>", "text/html")
    };
    let bad_data = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let slow = r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
    for (template, wanted, class) in [
        (
            html(200),
            "does not answer like Prometheus (HTTP 200, text/html)",
            ErrorClass::Failed,
        ),
        (
            html(404),
            "does not answer like Prometheus (HTTP 404",
            ErrorClass::Failed,
        ),
        (html(502), "fails on the", ErrorClass::Failed),
        (json(500, "oops"), "(HTTP 500)", ErrorClass::Failed),
        (
            html(401),
            "refuses the credentials (HTTP 401)",
            ErrorClass::Credentials,
        ),
        (
            json(403, "{}"),
            "refuses the credentials (HTTP 403)",
            ErrorClass::Credentials,
        ),
        (json(400, bad_data), "rejects the", ErrorClass::Usage),
        (json(503, slow), "did not answer the", ErrorClass::Timeout),
        (
            json(200, r#"{"status":"success"}"#),
            "does not answer like",
            ErrorClass::Failed,
        ),
        (json(200, ""), "does not answer like", ErrorClass::Failed),
    ] {
        let (_server, error) = answering(template).await;
        assert!(error.to_string().contains(wanted), "{error}");
        assert_eq!(error.class(), class, "{error}");
    }
}

#[tokio::test]
async fn nobody_there_and_impossible_sources_get_names() {
    etcdguardian::init_tls();
    let gone = PrometheusReader::new(&source("http://127.0.0.1:1"), None).unwrap();
    let error = gone.read(&window(1)).await.unwrap_err();
    assert!(matches!(error, SignalError::Unreachable { .. }), "{error}");
    for (url, class) in [
        ("", ErrorClass::Usage),
        ("prometheus:9090", ErrorClass::Usage),
        ("ftp://prometheus", ErrorClass::Usage),
        ("http://", ErrorClass::Usage),
    ] {
        let error = PrometheusReader::new(&source(url), None).err().expect(url);
        assert_eq!(error.class(), class, "{error}");
    }
    let secret = Secret::new(
        "prom",
        BTreeMap::from([("other".to_owned(), b"x".to_vec())]),
    );
    let error = PrometheusReader::new(&source("http://a"), Some(&secret))
        .err()
        .unwrap();
    assert!(matches!(error, SignalError::NoCredentials), "{error}");
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    etcdguardian::init_tls();
    let server = MockServer::start().await;
    let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    for authorization in ["Bearer s3cret-token", "Basic dXNlcjpzM2NyZXQ="] {
        Mock::given(header("Authorization", authorization))
            .respond_with(ResponseTemplate::new(200).set_body_raw(empty, "application/json"))
            .mount(&server)
            .await;
    }
    let secret = |keys: &[(&str, &str)]| {
        let values = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Secret::new("prom", values.collect())
    };
    let token = secret(&[("token", "s3cret-token\n")]);
    let basic = secret(&[("username", "user"), ("password", "s3cret")]);
    for known in [&token, &basic] {
        let reader = PrometheusReader::new(&source(&server.uri()), Some(known)).unwrap();
        reader.read(&window(1)).await.unwrap();
    }
    let with_user = server.uri().replace("http://", "http://user:s3cret@");
    PrometheusReader::new(&source(&with_user), None)
        .unwrap()
        .read(&window(1))
        .await
        .unwrap();
    // The wrong one is refused by a 404 of the mock; no message tells it.
    let wrong = server.uri().replace("http://", "http://user:s3cret-wrong@");
    let error = PrometheusReader::new(&source(&wrong), None)
        .unwrap()
        .read(&window(1))
        .await
        .unwrap_err();
    let all = format!("{error} {error:?}");
    assert!(!all.contains("s3cret"), "{all}");
    let broken = secret(&[("token", "s3cret\ntwo lines")]);
    let error = PrometheusReader::new(&source(&server.uri()), Some(&broken))
        .err()
        .unwrap();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    assert_eq!(error.class(), ErrorClass::Credentials);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let (_server, error) =
        answering(ResponseTemplate::new(200).set_delay(Duration::from_secs(3600))).await;
    assert!(matches!(error, SignalError::Timeout { .. }), "{error}");
}
