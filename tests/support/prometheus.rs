//! A real Prometheus: with back-filled history, with targets it scrapes, or both.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Process, free_port, http, tool};

/// A running Prometheus.
pub struct Prometheus {
    /// Its base URL.
    pub url: String,
    port: u16,
    /// To kill it, or to read its log.
    pub process: Process,
    _scratch: TempDir,
}

impl Prometheus {
    /// Starts one. `history` is OpenMetrics text with times in seconds, grouped by family and ending in `# EOF`; empty for none.
    /// `targets` are `host:port` of job `etcd`, scraped every second.
    pub fn start(history: &str, targets: &[String]) -> Self {
        Self::with_rules(history, targets, &[])
    }

    /// The same with files of rules, which are looked at every second.
    pub fn with_rules(history: &str, targets: &[String], rules: &[PathBuf]) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let data = scratch.path().join("data");
        if !history.is_empty() {
            backfill(scratch.path(), &data, history);
        }
        let config = scratch.path().join("prometheus.yml");
        let quoted: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let files: Vec<String> = rules
            .iter()
            .map(|file| format!("'{}'", file.display()))
            .collect();
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n- job_name: etcd\n  static_configs: [{{targets: [{}]}}]\n",
            files.join(", "),
            quoted.join(", ")
        );
        std::fs::write(&config, text).expect("write prometheus.yml");
        let port = free_port();
        let mut process = Process::start(
            "prometheus",
            Command::new(tool("prometheus"))
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                // The default of 15 days would delete most of the history at the start.
                .arg("--storage.tsdb.retention.time=90d")
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--enable-feature=exemplar-storage")
                .arg("--log.level=warn"),
            &scratch.path().join("prometheus.log"),
        );
        process.wait_ready(|| http("GET", port, "/-/ready", "").is_some_and(|a| a.status == 200));
        Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            process,
            _scratch: scratch,
        }
    }

    /// The result of an instant query.
    pub fn query(&self, expression: &str) -> serde_json::Value {
        self.ask("query?query=", expression)["result"].clone()
    }

    /// The values of a label in the series of a selector.
    pub fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let values = self.ask(&format!("label/{label}/values?match%5B%5D="), selector);
        serde_json::from_value(values).expect("a list of values")
    }

    /// What the observations of a selector point at, of whatever time.
    pub fn exemplars(&self, selector: &str) -> serde_json::Value {
        self.ask("query_exemplars?start=1&end=4000000000&query=", selector)
    }

    fn ask(&self, what: &str, expression: &str) -> serde_json::Value {
        let encoded: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let answer = http("GET", self.port, &format!("/api/v1/{what}{encoded}"), "");
        let answer = answer.expect("Prometheus answers");
        assert_eq!(answer.status, 200, "{expression}: {}", answer.body);
        answer.json()["data"].clone()
    }
}

fn backfill(scratch: &Path, data: &Path, history: &str) {
    let file = scratch.join("history.om");
    std::fs::write(&file, history).expect("write the history");
    let output = Command::new(tool("promtool"))
        // Two-day blocks: a fifth of the time and size of the default's two hours.
        .args([
            "tsdb",
            "create-blocks-from",
            "--max-block-duration=48h",
            "openmetrics",
        ])
        .arg(&file)
        .arg(data)
        .output()
        .expect("run promtool");
    assert!(
        output.status.success(),
        "promtool: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
