//! Schedules as weapons: queries to the operator's Prometheus, and its credentials told to another one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::Tenant;
use crate::operator::{Site, condition};
use crate::support::until;

/// A Prometheus that knows nothing and remembers what it was asked.
pub struct Asked {
    /// Its URL.
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Asked {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if let Some(request) = answer(stream) {
                    heard.lock().unwrap().push(request);
                }
            }
        });
        Self { url, requests }
    }

    /// The requests with these words, each its head in small letters and its body.
    fn with(&self, words: &str) -> Vec<String> {
        let all = self.requests.lock().unwrap();
        let found = all.iter().filter(|request| request.contains(words));
        found.cloned().collect()
    }
}

fn answer(stream: TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
        head.push_str(&line);
        head.push('\n');
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let text = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
    .ok()?;
    Some(format!("{head}{}", String::from_utf8_lossy(&body)))
}

/// A schedule whose time a model chooses; its cron period sets the step of its questions, by which they are told apart.
fn chosen(site: &Site, namespace: &str, name: &str, minutes: u32, prometheus: &str, of: &str) {
    site.cluster.apply(&format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  schedule: '*/{minutes} * * * *'\n  aiOptimization: {{enabled: true, minInterval: 1m, maxInterval: 1d{prometheus}}}\n  backupTemplate: {{spec: {{backupMode: Full, executor: InProcess, {of}}}}}\n"
    ));
}

/// What is asked by the schedule with this cron period, a divisor of the hour, which is looked at 24 times in it.
fn asked_by(minutes: u32) -> String {
    format!("step={}", minutes * 60 / 24)
}

fn secret(site: &Site, namespace: &str, token: &str) {
    site.cluster.create(&serde_json::json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "prometheus", "namespace": namespace}, "stringData": {"token": token}}));
}

impl Tenant {
    fn chosen(&self, name: &str, minutes: u32, prometheus: &str) {
        let of = format!("storageLocation: {}, {}", self.storage(), self.selector());
        chosen(self.site(), &self.me, name, minutes, prometheus, &of);
    }

    fn schedule(&self, name: &str) -> Option<Value> {
        self.site().cluster.get("egs", &self.me, name)
    }
}

/// A schedule of the operator's own namespace asks: whatever else would, has had its time.
fn ask_as_the_operator(site: &Site, name: &str, minutes: u32) {
    let of = format!("storageLocation: {}", site.storage(site.store.port));
    chosen(site, "guardian", name, minutes, "", &of);
}

#[test]
fn a_tenants_queries_do_not_reach_the_operators_prometheus() {
    let tenant = Tenant::new("queries");
    let ours = &tenant.shared.prometheus;
    let query = "changeRateQuery: 'sum(kube_secret_info)'";
    for (name, minutes, prometheus, field) in [
        ("unnamed", 4, query.to_owned(), "changeRateQuery"),
        (
            "load",
            4,
            "loadQuery: 'count({job=~\".+\"})'".to_owned(),
            "loadQuery",
        ),
        ("named", 4, format!("url: '{}/', {query}", ours.url), "url"),
    ] {
        tenant.chosen(name, minutes, &format!(", prometheus: {{{prometheus}}}"));
        let message = until("the schedule is refused", || {
            let schedule = tenant.schedule(name)?;
            let ready = condition(&schedule, "Ready") == "False/SpecInvalid";
            ready.then(|| schedule["status"]["message"].to_string())
        });
        let field = format!("aiOptimization.prometheus.{field}");
        for words in [field.as_str(), "tells trusted namespaces alone"] {
            assert!(message.contains(words), "{words}: {message}");
        }
    }
    // Without a query it is the cron's, and its weights are no question either.
    for (name, minutes, prometheus) in [
        ("plain", 5, ""),
        ("weighs", 6, ", prometheus: {weights: {secrets: 900}}"),
    ] {
        tenant.chosen(name, minutes, prometheus);
        until("the schedule has looked", || {
            let schedule = tenant.schedule(name)?;
            schedule["status"]["nextBackupTime"]
                .is_string()
                .then_some(())
        });
    }
    ask_as_the_operator(tenant.site(), "asks-last", 10);
    until("the operator's own schedule asks", || {
        (!ours.with(&asked_by(10)).is_empty()).then_some(())
    });
    for minutes in [4, 5, 6] {
        assert_eq!(ours.with(&asked_by(minutes)), Vec::<String>::new());
    }
    assert_eq!(ours.with("kube_secret_info"), Vec::<String>::new());
}

#[test]
fn the_operators_prometheus_is_asked_with_its_own_credentials_and_no_other_with_them() {
    let tenant = Tenant::new("credentials");
    let (site, ours) = (tenant.site(), &tenant.shared.prometheus);
    // Secrets of the name that the operator's config names, in every other place.
    secret(site, &tenant.me, "of-the-tenant");
    secret(site, "team-a", "of-team-a");
    let (theirs, another) = (Asked::start(), Asked::start());
    let own = |server: &Asked| format!(", prometheus: {{url: '{}'}}", server.url);
    tenant.chosen("theirs", 12, &own(&theirs));
    let of = format!("storageLocation: {}", site.storage(site.store.port));
    chosen(site, "team-a", "shared", 15, "", &of);
    chosen(site, "team-a", "another", 20, &own(&another), &of);
    let asked = until("the operator's Prometheus is asked for team-a", || {
        let asked = ours.with(&asked_by(15));
        (!asked.is_empty()).then_some(asked)
    });
    let right = "authorization: bearer of-the-operator\n";
    assert!(asked.iter().all(|one| one.contains(right)), "{asked:?}");
    for (server, minutes) in [(&theirs, 12), (&another, 20)] {
        until("a Prometheus of somebody's own is asked", || {
            (!server.with(&asked_by(minutes)).is_empty()).then_some(())
        });
        assert_eq!(server.with("authorization:"), Vec::<String>::new());
    }
}
