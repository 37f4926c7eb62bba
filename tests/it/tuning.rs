//! Offline tuning: the simulation's report against its JSON, every tick against the rule's own bounds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::guardian;

/// Seconds a cell, and cells a day.
const STEP: i64 = 900;
const DAY: usize = 96;

/// A trace file: busy on working hours, with a burst now and then and a morning without samples.
pub fn trace(folder: &Path, name: &str, days: usize, rate: impl Fn(usize) -> f64) -> PathBuf {
    let mut text = String::from("timestamp,writes_per_s,db_size_bytes,significant_writes_per_s\n");
    let start: jiff::Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
    for cell in 0..days * DAY {
        let at = start + jiff::SignedDuration::from_secs(STEP * cell as i64);
        let hole = (3 * DAY + 33..3 * DAY + 37).contains(&cell);
        let shown = |value: f64| {
            if hole {
                String::new()
            } else {
                format!("{value:.3}")
            }
        };
        let rate = rate(cell);
        let _ = writeln!(text, "{at},{},60000000,{}", shown(rate + 5.0), shown(rate));
    }
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Changes a second in a cell of a cluster that people use by day.
pub fn office(cell: usize) -> f64 {
    let busy = (32..72).contains(&(cell % DAY));
    let ripple = 1.0 + 0.4 * (cell as f64 * 1.7).sin();
    let burst = if cell % 141 < 2 { 8.0 } else { 0.0 };
    ripple * if busy { 6.0 } else { 0.3 } + burst
}

/// What stands in a document: the elements with their attributes and text, in order; fails when a tag is not closed.
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    /// The elements it lies in, outermost first.
    within: Vec<String>,
}

fn elements(page: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(page);
    let mut open: Vec<String> = Vec::new();
    let mut found = Vec::new();
    loop {
        let event = reader.read_event().unwrap_or_else(|error| {
            panic!("at {}: {error}", reader.buffer_position());
        });
        let (start, empty) = match &event {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::End(_) => {
                open.pop();
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
        let attributes = start
            .attributes()
            .map(|attribute| {
                let attribute = attribute.unwrap();
                (
                    String::from_utf8(attribute.key.as_ref().to_vec()).unwrap(),
                    String::from_utf8(attribute.value.to_vec()).unwrap(),
                )
            })
            .collect();
        found.push(Element {
            name: name.clone(),
            attributes,
            within: open.clone(),
        });
        if !empty {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    found
}

/// The numbers of a result in the order of the report's columns.
fn numbers(result: &Value) -> Vec<f64> {
    let mut numbers: Vec<f64> = [
        "backups",
        "savedPercent",
        "meanExposureRatio",
        "p99ExposureRatio",
        "maxExposureRatio",
        "worstWeekRatio",
        "maxGapSeconds",
        "modelShare",
    ]
    .iter()
    .map(|name| result[name].as_f64().unwrap())
    .collect();
    numbers.extend(result["steady"]["savedPercent"].as_f64());
    numbers
}

#[test]
fn the_report_is_self_contained_and_says_what_the_json_says() {
    let folder = TempDir::new().unwrap();
    let office = trace(folder.path(), "a <b> & \"c\".csv", 22, office);
    let flat = trace(folder.path(), "flat.csv", 9, |_| 1.5);
    let words = |form| {
        vec![
            "schedule".to_owned(),
            "simulate".to_owned(),
            "--traces".to_owned(),
            office.display().to_string(),
            flat.display().to_string(),
            "--policy=fixed,auto,oracle".to_owned(),
            "-o".to_owned(),
            String::from(form),
        ]
    };
    let run = |form| {
        let words = words(form);
        guardian(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let json = run("json").json();
    let page = run("html").ok();

    for foreign in [
        "src=", "href=", "url(", "@import", "<script", "<link", "https://",
    ] {
        assert!(!page.contains(foreign), "{foreign} would reach outside");
    }
    let outside = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(!outside.contains("http://"));
    assert!(!page.contains("<b>") && page.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    assert!(
        !page.contains("NaN") && !page.contains("inf"),
        "a number broke"
    );

    // Each row of the tables of the traces has the JSON's numbers, to the last digit.
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for element in elements(&page) {
        if element.name == "tr" {
            rows.push(Vec::new());
        } else if element.name == "data" {
            assert!(element.within.contains(&"td".to_owned()));
            let (_, value) = &element.attributes[0];
            rows.last_mut().unwrap().push(value.parse().unwrap());
        }
    }
    rows.retain(|row| !row.is_empty());
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 6, "three policies on two traces");
    let means = rows.len() - results.len();
    assert_eq!(means, json["means"].as_object().unwrap().len());
    for (row, result) in rows[means..].iter().zip(results) {
        let wanted = numbers(result);
        assert_eq!(row.len(), wanted.len());
        // The JSON reader of this test may be off in the last bit.
        let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-14 * b.abs();
        assert!(row.iter().zip(&wanted).all(same), "{row:?} {result}");
    }
    for mean in json["means"].as_object().unwrap().values() {
        let saved = mean["savedPercent"].as_f64().unwrap();
        let same = |row: &Vec<f64>| (row[0] - saved).abs() < 1e-9;
        assert!(rows[..means].iter().any(same), "{saved}");
    }

    // In words: the outcome of the deployed policy, and what speaks against it.
    let auto = results.iter().find(|r| r["policy"] == "auto").unwrap();
    assert!(
        page.contains(&format!("would have taken {}:", auto["backups"])),
        "{auto}"
    );
    assert!(page.contains("Before you believe it") && page.contains("fitted in hindsight"));
    assert!(
        page.contains("is short: the first fourteen days"),
        "of the nine days"
    );
    assert!(json["traces"][0]["potential"].as_f64().unwrap() > 0.2);
    assert!(json["traces"][1]["potential"].as_f64().unwrap() < 0.01);
    let known = json["traces"][0]["knownPercent"].as_f64().unwrap();
    assert!(
        (known - 100.0 * (1.0 - 4.0 / (22.0 * DAY as f64))).abs() < 1e-6,
        "{known}"
    );

    let refused = guardian(&["version", "-o", "html"]).code(2);
    assert!(
        refused.stderr.contains("schedule simulate"),
        "{}",
        refused.stderr
    );
}

#[test]
fn every_tick_is_written_and_no_forecast_moves_a_bound() {
    let folder = TempDir::new().unwrap();
    let file = trace(folder.path(), "office.csv", 9, office);
    let ticks = folder.path().join("ticks.csv");
    let decisions = folder.path().join("decisions.csv");
    for spoiled in ["none", "hostile", "tenth"] {
        let mut words = vec![
            "schedule",
            "simulate",
            "--policy",
            "model,fixed",
            "--traces",
        ];
        words.extend([
            file.to_str().unwrap(),
            "-o",
            "json",
            "--ticks",
            ticks.to_str().unwrap(),
        ]);
        words.extend(["--decisions", decisions.to_str().unwrap()]);
        if spoiled != "none" {
            words.extend(["--spoil-forecast", spoiled]);
        }
        let json = guardian(&words).json();
        let text = std::fs::read_to_string(&ticks).unwrap();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|line| line.split(',').collect())
            .collect();
        assert_eq!(rows.len(), 2 * 9 * DAY, "a row a tick and policy");
        let model: Vec<&Vec<&str>> = rows.iter().filter(|row| row[1] == "model").collect();
        let taken: Vec<usize> = (0..model.len())
            .filter(|cell| model[*cell][5] == "1")
            .collect();
        let listed = std::fs::read_to_string(&decisions).unwrap();
        assert_eq!(listed.matches(",model,").count(), taken.len());
        for pair in taken.windows(2) {
            let distance = pair[1] - pair[0];
            assert!((4..=24).contains(&distance), "{spoiled}: {distance} cells");
        }
        for cell in model
            .iter()
            .filter(|row| row[10] == "PlanOptimal" && row[5] == "1")
        {
            let number = |place: usize| cell[place].parse::<f64>().unwrap();
            let (area, budget) = (number(6), number(7));
            assert!(
                area >= budget / 2.0 && area <= 2.0 * budget,
                "{spoiled}: {cell:?}"
            );
        }
        let result = &json["results"][1];
        assert_eq!(result["policy"], "model");
        assert!(
            result["modelShare"].as_f64().unwrap() > 0.0,
            "a forecast was in force"
        );
        assert!(result["maxGapSeconds"].as_i64().unwrap() <= 6 * 3600);
    }
}

/// Ten days of an etcd's counters in OpenMetrics, a sample a minute, up to yesterday.
pub fn history() -> String {
    let end = (jiff::Timestamp::now().as_second() / 86_400 - 1) * 86_400;
    let minutes = 10 * 1440;
    let mut puts = String::from("# TYPE etcd_mvcc_put counter\n");
    let mut deletes = String::from("# TYPE etcd_mvcc_delete counter\n");
    let mut count = 0.0;
    for minute in 0..minutes {
        let at = end - 60 * (minutes - minute) as i64;
        let labels = "{job=\"etcd\",instance=\"a\"}";
        let _ = writeln!(puts, "etcd_mvcc_put_total{labels} {count} {at}");
        let _ = writeln!(deletes, "etcd_mvcc_delete_total{labels} 0 {at}");
        count += 60.0 * office(minute / 15);
    }
    puts + &deletes + "# EOF\n"
}
