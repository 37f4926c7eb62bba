//! `schedule simulate` and `model fit|evaluate|show` as scripts use them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{development_csv, write_csv};
use crate::support::guardian;

/// The first days of a development trace.
pub(super) fn short(name: &str, days: usize) -> String {
    let text = development_csv(name);
    let lines: Vec<&str> = text.lines().take(1 + days * 288).collect();
    lines.join("\n") + "\n"
}

#[test]
fn simulate_prints_the_contracts_json() {
    let folder = tempfile::tempdir().unwrap();
    let office = write_csv(folder.path(), "office", &short("office", 22));
    let flat = write_csv(folder.path(), "flat", &short("flat", 9));
    let decisions = folder.path().join("decisions.csv").display().to_string();
    let report = guardian(&[
        "schedule",
        "simulate",
        "--traces",
        &office,
        &flat,
        "--cron",
        "0 */2 * * *",
        "--min",
        "1h",
        "--max",
        "6h",
        "--policy",
        "fixed,threshold,area,reactive,model,auto,oracle",
        "--decisions",
        &decisions,
        "-o",
        "json",
    ])
    .json();
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 14);
    let policies: BTreeSet<&str> = results
        .iter()
        .map(|one| one["policy"].as_str().unwrap())
        .collect();
    let all = [
        "fixed",
        "threshold",
        "area",
        "reactive",
        "model",
        "auto",
        "oracle",
    ];
    assert_eq!(policies, all.into_iter().collect());
    for one in results {
        for field in [
            "days",
            "backups",
            "savedPercent",
            "meanExposureRatio",
            "p99ExposureRatio",
            "maxExposureRatio",
            "maxGapSeconds",
            "worstWeekRatio",
            "modelShare",
        ] {
            assert!(one[field].is_number(), "{field}: {one}");
        }
        if one["trace"] == "office" {
            for field in ["savedPercent", "meanExposureRatio", "p99ExposureRatio"] {
                assert!(one["steady"][field].is_number(), "{field}: {one}");
            }
            assert!((one["days"].as_f64().unwrap() - 21.0).abs() < 0.01, "{one}");
        } else {
            assert!(
                one["steady"].is_null() && one.get("steady").is_some(),
                "{one}"
            );
        }
        assert!(one["maxGapSeconds"].as_i64().unwrap() <= 21_600, "{one}");
    }
    for policy in all {
        for field in ["savedPercent", "meanExposureRatio", "p99ExposureRatio"] {
            assert!(
                report["means"][policy][field].is_number(),
                "{policy} {field}"
            );
        }
    }
    let fixed = results.iter().find(|one| one["policy"] == "fixed").unwrap();
    assert!(
        fixed["savedPercent"].as_f64().unwrap().abs() < 1.0,
        "{fixed}"
    );
    let oracle = report["means"]["oracle"]["savedPercent"].as_f64().unwrap();
    let auto = report["means"]["auto"]["savedPercent"].as_f64().unwrap();
    assert!(oracle > auto && auto > 0.0, "{oracle} {auto}");

    // Each decision of the deployed policies, with who decided and why.
    let decisions = std::fs::read_to_string(decisions).unwrap();
    let autos = decisions
        .lines()
        .filter(|line| line.starts_with("office,auto,"))
        .count();
    let counted = results
        .iter()
        .find(|one| one["policy"] == "auto" && one["trace"] == "office")
        .and_then(|one| one["backups"].as_u64())
        .unwrap();
    assert!(
        autos as u64 >= counted && autos as u64 <= counted + 13,
        "{autos} {counted}"
    );
}

#[test]
fn cutting_a_trace_changes_no_decision_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole = write_csv(folder.path(), "t", &short("bursty", 8));
    let before = |file: &str, out: &str| -> Vec<String> {
        let out = folder.path().join(out).display().to_string();
        guardian(&[
            "schedule",
            "simulate",
            "--traces",
            file,
            "--policy",
            "auto",
            "--decisions",
            &out,
            "-o",
            "json",
        ])
        .ok();
        let text = std::fs::read_to_string(out).unwrap();
        text.lines()
            .skip(1)
            .filter(|line| line < &"t,auto,2026-01-11T12")
            .map(str::to_owned)
            .collect()
    };
    let all = before(&whole, "whole.csv");
    let text = short("bursty", 8);
    let cut: Vec<&str> = text
        .lines()
        .filter(|line| *line < "2026-01-11T12" || line.starts_with('t'))
        .collect();
    let cut = write_csv(folder.path(), "t", &(cut.join("\n") + "\n"));
    assert!(all.len() > 40);
    assert_eq!(all, before(&cut, "cut.csv"));
}

#[test]
fn bad_traces_and_bounds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write_csv(
        folder.path(),
        "bad",
        "timestamp,writes_per_s,db_size_bytes\nyesterday,1,2\n",
    );
    let ran = guardian(&["schedule", "simulate", "--traces", &bad]).code(2);
    assert!(
        ran.stderr.contains("line 2") && ran.stderr.contains("yesterday"),
        "{}",
        ran.stderr
    );
    guardian(&["schedule", "simulate", "--traces", "/no/such/file.csv"]).code(4);
    let good = write_csv(folder.path(), "good", &short("flat", 2));
    let ran = guardian(&["schedule", "simulate", "--traces", &good, "--min", "7h"]).code(2);
    assert!(ran.stderr.contains("minInterval"), "{}", ran.stderr);
    guardian(&["schedule", "simulate", "--traces", &good, "--cron", "never"]).code(2);
}

#[test]
fn a_model_is_fitted_shown_judged_and_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let history = write_csv(folder.path(), "history", &short("office", 14));
    let longer = write_csv(folder.path(), "longer", &short("office", 21));
    let file = folder.path().join("m.json").display().to_string();
    let fitted = guardian(&[
        "model", "fit", "--traces", &history, "--out", &file, "-o", "json",
    ])
    .json();
    let shown = guardian(&["model", "show", &file, "-o", "json"]).json();
    assert_eq!(fitted, shown, "to the last bit");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(written, shown);
    assert_eq!(shown["schemaVersion"], 1);
    assert_eq!(shown["features"].as_array().unwrap().len(), 30);
    assert!(guardian(&["model", "show", &file]).ok().contains("ridge-"));

    let judged = guardian(&[
        "model", "evaluate", "--model", &file, "--traces", &longer, "-o", "json",
    ])
    .json();
    let horizons = judged["results"][0]["horizons"].as_array().unwrap();
    assert_eq!(horizons.len(), 24);
    assert_eq!(
        judged["results"][0]["from"], "2026-01-19T00:00:00Z",
        "after what it was fitted on"
    );
    let nearest = &horizons[0];
    let error = |of: &str| nearest[of].as_f64().unwrap();
    assert!(
        error("model") < error("profile") && error("model") < 0.3,
        "{nearest}"
    );

    std::fs::write(&file, "{\"schemaVersion\": 9}").unwrap();
    let ran = guardian(&["model", "show", &file]).code(1);
    assert!(ran.stderr.contains("schemaVersion 9"), "{}", ran.stderr);
    let day = write_csv(folder.path(), "day", &short("office", 1));
    let ran = guardian(&["model", "fit", "--traces", &day, "--out", &file]).code(5);
    assert!(ran.stderr.contains("days of samples"), "{}", ran.stderr);
}
