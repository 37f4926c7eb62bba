//! Exports of many objects, of few among many, and from a server that has more to do than it can.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fill;
use crate::backup::memory::private_bytes;
use crate::run::Site;
use crate::support::{Kubernetes, Process, guardian, guardian_process, http, tool, until};

/// A ConfigMap of a kilobyte as kube-apiserver reads it, and its key.
pub fn config_map(index: usize) -> (String, Value) {
    let (name, namespace) = (format!("many-{index:06}"), format!("n{}", index % 50));
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "x".repeat(1000)},
        "metadata": {"name": name, "namespace": namespace, "uid": format!("u{index}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"}});
    (format!("/registry/configmaps/{namespace}/{name}"), object)
}

/// Such ConfigMaps, put into the server's etcd behind its back: faster than by its door.
pub async fn put_config_maps(cluster: &Kubernetes, count: usize) {
    let mut client = cluster.etcd.client().await;
    let names: Vec<usize> = (0..count).collect();
    for chunk in names.chunks(100) {
        let puts = chunk.iter().map(|index| {
            let (key, object) = config_map(*index);
            etcd_client::TxnOp::put(key, object.to_string(), None)
        });
        let puts: Vec<etcd_client::TxnOp> = puts.collect();
        client
            .txn(etcd_client::Txn::new().and_then(puts))
            .await
            .unwrap();
    }
}

/// The most private memory of a process until it ends, bytes, and the seconds that it took.
pub fn watched(process: &mut Process) -> (u64, u64) {
    let (mut peak, began) = (0, Instant::now());
    while let Some(bytes) = private_bytes(process.pid()) {
        peak = peak.max(bytes);
        assert!(
            began.elapsed() < Duration::from_secs(900),
            "{}",
            process.log_text()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(process.wait().success(), "{}", process.log_text());
    (peak, began.elapsed().as_secs())
}

/// `ETCDGUARDIAN_EXPORT_OBJECTS=100000` measures what the documentation says; see docs/performance.md.
#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_exported_in_bounded_memory() {
    let count = std::env::var("ETCDGUARDIAN_EXPORT_OBJECTS");
    let count: usize = count.map_or(10_000, |text| text.parse().unwrap());
    let (cluster, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    put_config_maps(&cluster, count).await;
    let (url, kubeconfig) = (
        format!("file://{}", store.path().display()),
        cluster.admin().display().to_string(),
    );
    let words = ["export", "many", "--to", &url, "--kubeconfig", &kubeconfig];
    let mut process = guardian_process(&words, &store.path().join("log"));
    let (peak, seconds) = watched(&mut process);
    let shown = guardian(&["backup", "show", "many", "--from", &url, "-o", "json"]).json();
    assert_eq!(shown["level"], "Verified", "{shown}");
    let log = process.log_text();
    assert!(
        log.contains(&format!("{count} ")) || log.contains("configmaps"),
        "{log}"
    );
    eprintln!("{count} objects: {seconds} s, {} MiB", peak >> 20);
    assert!(peak > 1 << 20, "it was measured");
    assert!(peak < 128 << 20, "{} MiB for {count} objects", peak >> 20);
}

/// Priority and fairness of a real server: it lets one list of this user's run at a time and turns the others away, who wait as they are
/// told; the export is whole all the same.
#[test]
fn an_export_that_a_busy_server_turns_away_waits_and_is_whole() {
    let (cluster, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    fill(&cluster);
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=cluster-admin",
        "--serviceaccount=guardian:etcdguardian",
    ]);
    cluster.create(&json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "nothing"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}}));
    cluster.create(&json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "busy"},
        "spec": {"priorityLevelConfiguration": {"name": "nothing"}, "matchingPrecedence": 100, "rules": [{
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "etcdguardian", "namespace": "guardian"}}],
            "resourceRules": [{"verbs": ["list"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]}]}}));
    let counted = |what: &str| {
        let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]);
        let ours = |line: &&str| line.starts_with(what) && line.contains("flow_schema=\"busy\"");
        let counts = metrics.lines().filter(ours);
        let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        counts.sum::<f64>()
    };
    let (url, kubeconfig) = (
        format!("file://{}", store.path().display()),
        cluster.operator().display().to_string(),
    );
    // The rule is in force a moment after it is made.
    until("the rule is in force", || {
        let mut asked = std::process::Command::new(tool("kubectl"));
        asked.args(["--kubeconfig", &kubeconfig, "get", "nodes"]);
        assert!(asked.output().unwrap().status.success());
        (counted("apiserver_flowcontrol_dispatched_requests_total") >= 1.0).then_some(())
    });
    let words = [
        "export",
        "patient",
        "--to",
        &url,
        "--kubeconfig",
        &kubeconfig,
    ];
    guardian(&words).ok();
    let turned_away = counted("apiserver_flowcontrol_rejected_requests_total");
    eprintln!("{turned_away} lists were turned away");
    // Some six at once ask for a hundred kinds: most are turned away once or twice, and nobody hammers.
    assert!((1.0..1000.0).contains(&turned_away), "{turned_away}");
    let words = ["object", "ls", "-k", "cm", "--from", &url, "-o", "json"];
    let listed = guardian(&words).json();
    assert!(listed["items"].as_array().unwrap().len() >= 600);
}

/// Bytes that an etcd has sent to anybody since it began.
fn sent_by(cluster: &Kubernetes) -> f64 {
    let metrics = http("GET", cluster.etcd.metrics_port(0), "/metrics", "").unwrap();
    let mut lines = metrics.body.lines();
    let line = lines.find(|line| line.starts_with("etcd_network_client_grpc_sent_bytes_total "));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Namespaces out of etcd: what the API shows of them, and nothing else of the database is read.
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_come_out_of_etcd_by_their_prefixes_alone() {
    let cluster = Kubernetes::start();
    fill(&cluster);
    cluster.kubectl(&["create", "namespace", "n7"]);
    put_config_maps(&cluster, 10_000).await;
    let site = Site::new(&cluster.etcd, "");
    site.schedule("tenant", &site.local(), "");
    let file = site.path("manifests/tenant.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let selector = "backupMode: Full\n      source: Direct\n      namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop, n7]}]}";
    std::fs::write(&file, text.replace("backupMode: Full", selector)).unwrap();
    let (config, before) = (site.config().display().to_string(), sent_by(&cluster));
    let words = [
        "backup",
        "create",
        "direct",
        "--from-schedule",
        "tenant",
        "--config",
        &config,
        "-o",
        "json",
    ];
    let direct = guardian(&words).json();
    let sent = sent_by(&cluster) - before;
    assert_eq!(
        (&direct["kind"], &direct["level"]),
        (&json!("Export"), &json!("Verified"))
    );
    // Some 10 MB lie in the other namespaces.
    assert!((1.0..2e6).contains(&sent), "{sent} bytes were read");

    let (url, kubeconfig) = (site.url(), cluster.admin().display().to_string());
    let words = [
        "export",
        "by-api",
        "-n",
        "shop",
        "-n",
        "n7",
        "--to",
        &url,
        "--kubeconfig",
        &kubeconfig,
    ];
    guardian(&words).ok();
    let listed = |backup: &str| {
        let words = [
            "object", "ls", "--backup", backup, "--from", &url, "-o", "json",
        ];
        let listed = guardian(&words).json();
        let named = |one: &Value| format!("{} {} {}", one["kind"], one["namespace"], one["name"]);
        let mut all: Vec<String> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(named)
            .collect();
        all.sort();
        all
    };
    let (found, shown) = (listed("direct"), listed("by-api"));
    assert_eq!(found, shown);
    for kind in ["Cactus", "Service", "Secret", "Namespace"] {
        assert!(found.iter().any(|one| one.contains(kind)), "{kind}");
    }
    let many = found.iter().filter(|one| one.contains("\"n7\" \"many-"));
    assert_eq!(many.count(), 200);
}
