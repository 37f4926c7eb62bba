//! What is handed to Prometheus and Grafana: rules that fire when they should, a dashboard whose every query a real
//! Prometheus answers from our series.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::serve::{everything, listener};
use crate::support::{Prometheus, repository, tool, tools_dir, until};

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The series of ours that a text names.
fn series_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("etcdguardian_")
        .map(|(at, _)| {
            let rest = &text[at..];
            rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())].to_owned()
        })
        .collect()
}

/// Each is in the reference; of a histogram the name without its ending is.
fn are_documented(text: &str) {
    let reference = read("docs/reference/metrics.md");
    for series in series_in(text) {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| series.strip_suffix(end))
            .unwrap_or(&series);
        assert!(
            [series.as_str(), base]
                .iter()
                .any(|name| reference.contains(&format!("`{name}`"))),
            "{series} is not in the reference"
        );
    }
}

#[test]
fn every_rule_fires_when_it_should_and_has_a_runbook_and_known_series() {
    let output = Command::new(tool("promtool"))
        .args(["test", "rules", "alerts_test.yaml", "recording_test.yaml"])
        .current_dir(repository("monitoring"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let rules = read("monitoring/alerts.yaml");
    let tests = read("monitoring/alerts_test.yaml");
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        let runbook = format!("docs/runbooks/{name}.md");
        assert!(rules.contains(&format!("runbook_url: {runbook}")), "{name}");
        let page = read(&runbook).to_lowercase();
        for part in ["meaning", "impact", "diagnosis", "mitigation"] {
            assert!(page.contains(part), "{runbook} has no {part}");
        }
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts:")),
            "{name} is never seen firing"
        );
    }
    are_documented(&rules);

    let recording = read("monitoring/recording.yaml");
    let tests = read("monitoring/recording_test.yaml");
    let names: Vec<&str> = recording
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        assert!(
            tests.contains(&format!("{name}\n")) || tests.contains(&format!("{name},")),
            "{name}"
        );
        assert!(read("docs/reference/metrics.md").contains(name), "{name}");
    }
    are_documented(&recording);
}

#[test]
fn the_chart_has_the_same_files() {
    for name in ["alerts.yaml", "recording.yaml", "dashboard.json"] {
        assert_eq!(
            read(&format!("charts/etcdguardian/files/{name}")),
            read(&format!("monitoring/{name}")),
            "run `make generate`"
        );
    }
}

/// The panels that query, without the rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().unwrap();
    all.iter().filter(|panel| panel["type"] != "row").collect()
}

fn area(panel: &Value) -> [i64; 4] {
    ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_i64().unwrap())
}

/// The answers of a table are merged by all labels that they share, and each value has a name.
fn makes_one_row_a_schedule(table: &Value, answers: &BTreeSet<&str>) {
    for target in table["targets"].as_array().unwrap() {
        assert_eq!(target["format"], "table");
        assert_eq!(target["instant"], true);
    }
    if answers.len() == 1 {
        return;
    }
    let steps = table["transformations"].as_array().unwrap();
    assert_eq!(
        steps[0]["id"], "merge",
        "schedules of two namespaces may have one name"
    );
    let names = &steps[steps.len() - 1]["options"]["renameByName"];
    for answer in answers {
        let column = format!("Value #{answer}");
        assert!(names[&column].is_string(), "{column}");
    }
}

#[test]
fn the_dashboard_is_well_formed_and_shows_every_series() {
    let text = read("monitoring/dashboard.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert!(dashboard["schemaVersion"].as_i64().unwrap() >= 36);
    assert!(dashboard.get("id").is_none(), "Grafana gives the id");
    let all = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = all.iter().map(|p| p["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "an id is used twice");
    for (place, one) in all.iter().enumerate() {
        let [x, y, w, h] = area(one);
        assert!(x >= 0 && w > 0 && h > 0 && x + w <= 24, "{one}");
        for other in &all[place + 1..] {
            let [ox, oy, ow, oh] = area(other);
            let apart = x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y;
            assert!(apart, "{} covers {}", one["title"], other["title"]);
        }
    }
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        for field in ["title", "description"] {
            assert!(
                panel[field].as_str().is_some_and(|text| !text.is_empty()),
                "{title}: {field}"
            );
        }
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let names: BTreeSet<&str> = targets
            .iter()
            .map(|t| t["refId"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), targets.len(), "{title}");
        if panel["type"] == "table" {
            makes_one_row_a_schedule(panel, &names);
        }
    }
    are_documented(&text);
    let shown = series_in(&text);
    let missing: Vec<String> = series_in(&read("docs/reference/metrics.md"))
        .into_iter()
        .filter(|series| !shown.iter().any(|one| one.starts_with(series)))
        .collect();
    // Its age since the last proof is shown instead.
    assert_eq!(
        missing,
        ["etcdguardian_backup_last_success_timestamp_seconds"]
    );
}

/// No Grafana is built here; the types that its authors publish are made from its own schema.
#[test]
fn grafanas_own_model_understands_the_dashboard() {
    let python = tools_dir().join("grafana/bin/python");
    assert!(python.exists(), "run `make tools`");
    let output = Command::new(python)
        .arg(repository("tests/tools/grafana_model.py"))
        .arg(repository("monitoring/dashboard.json"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let unknown = String::from_utf8(output.stdout).unwrap();
    // Of variables and annotations that the Prometheus data source itself reads.
    let known = [
        ".templating.list[1].definition",
        ".templating.list[2].definition",
        ".annotations.list[0].titleFormat",
        ".annotations.list[0].textFormat",
    ];
    let unknown: Vec<&str> = unknown.lines().filter(|one| !known.contains(one)).collect();
    assert_eq!(unknown, [] as [&str; 0]);
}

/// What is chosen of each variable of the dashboard, under its name in queries.
struct Chosen(Vec<(String, String)>);

impl Chosen {
    /// What Grafana offers first: a value of `label_values(SELECTOR, LABEL)`, each variable seeing those before it.
    fn first_of_each(dashboard: &Value, prometheus: &Prometheus) -> Self {
        let mut chosen = Self(Vec::new());
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] != "query" {
                continue;
            }
            let query = &variable["query"]["query"];
            assert_eq!(query, &variable["definition"]);
            let call = chosen.put_into(query.as_str().unwrap());
            let of = call.strip_prefix("label_values(").unwrap();
            let (selector, label) = of.strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
            let first = until(&call, || {
                let values = prometheus.label_values(selector, label);
                values.into_iter().find(|value| !value.is_empty())
            });
            let name = variable["name"].as_str().unwrap();
            chosen.0.push((format!("${name}"), first));
        }
        chosen
    }

    /// `All` of each.
    fn all(dashboard: &Value) -> Self {
        let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
        let queried = variables.filter(|variable| variable["type"] == "query");
        let all = queried.map(|variable| {
            let name = variable["name"].as_str().unwrap();
            let stands_for = variable["allValue"].as_str().unwrap();
            (format!("${name}"), stands_for.to_owned())
        });
        Self(all.collect())
    }

    fn put_into(&self, query: &str) -> String {
        let mut query = query.replace("$__rate_interval", "1m");
        for (name, value) in &self.0 {
            query = query.replace(name, value);
        }
        assert!(!query.contains('$'), "{query}");
        query
    }
}

/// The labels that a legend names.
fn labels_of(legend: &Value) -> Vec<&str> {
    let parts = legend.as_str().unwrap_or_default().split("{{").skip(1);
    parts.map(|part| part.split("}}").next().unwrap()).collect()
}

/// Asks until there are numbers; all of them have these labels.
fn is_answered(prometheus: &Prometheus, query: &str, labels: &[&str], again: impl Fn()) {
    let samples = until(&format!("an answer to {query}"), || {
        again();
        let mut samples = prometheus.query(query).as_array().unwrap().clone();
        samples.retain(|sample| sample["value"][1] != "NaN");
        (!samples.is_empty()).then_some(samples)
    });
    for sample in &samples {
        let labelled = labels
            .iter()
            .all(|label| sample["metric"][label].is_string());
        assert!(labelled, "{labels:?} of {query}: {sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_answers_every_query_of_the_dashboard_from_our_series() {
    let listener = listener().await;
    // Rates want two scrapes of work that goes on; one of the panels of stages divides by it.
    let again = || everything(&listener.metrics);
    again();
    let rules = ["alerts", "recording"].map(|name| repository(&format!("monitoring/{name}.yaml")));
    let target = format!("127.0.0.1:{}", listener.port);
    let prometheus = Prometheus::with_rules("", &[target], &rules);
    let dashboard: Value = serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    let chosen = Chosen::first_of_each(&dashboard, &prometheus);
    let names: Vec<&str> = chosen.0.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(names, ["etcd", "every-6h"]);
    let mut asked = 0;
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            let labels = labels_of(&target["legendFormat"]);
            for chosen in [&chosen, &Chosen::all(&dashboard)] {
                let query = chosen.put_into(target["expr"].as_str().unwrap());
                is_answered(&prometheus, &query, &labels, again);
                asked += 1;
            }
        }
    }
    assert!(asked > 60, "{asked}");
    // Our rules are in force there: an alert has fired, and the series are recorded.
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        let query = annotation["expr"].as_str().unwrap();
        is_answered(
            &prometheus,
            query,
            &labels_of(&annotation["titleFormat"]),
            again,
        );
    }
    let recording: Value = serde_saphyr::from_str(&read("monitoring/recording.yaml")).unwrap();
    for rule in recording["groups"][0]["rules"].as_array().unwrap() {
        let (series, expr) = (&rule["record"], rule["expr"].as_str().unwrap());
        // Where steps of ten minutes are asked for, nobody waits that long here.
        let query = match expr.contains("[28d:10m]") {
            true => expr.replace("[28d:10m]", "[28s:1s]"),
            false => series.as_str().unwrap().to_owned(),
        };
        is_answered(&prometheus, &query, &[], again);
    }
    listener.server.stop().await;
}
