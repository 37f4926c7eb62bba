//! What people see: the screens of kubectl, golden; and that a change to one object is work for that object alone.

use std::fmt::Write;

use super::Site;
use crate::support::{Kubernetes, free_port, http, until};

/// A screen without what differs from run to run: moments, ages, ids, ports, and the widths that follow from them.
fn golden(screen: &str) -> String {
    let mut text = String::new();
    for line in screen.lines() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<String> = line.split_whitespace().map(golden_word).collect();
        writeln!(text, "{}{}", " ".repeat(indent), words.join(" ")).unwrap();
    }
    text
}

fn golden_word(word: &str) -> String {
    let bare = word.trim_matches(|c| matches!(c, '(' | ')' | ',' | ';' | ':' | '\'' | '"'));
    let is_age = bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.ends_with(['s', 'm', 'h'])
        && bare
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, 's' | 'm' | 'h'));
    let is_hex = bare.len() >= 16 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let stands_for = if bare.parse::<jiff::Timestamp>().is_ok() {
        "TIME"
    } else if is_age {
        "AGE"
    } else if is_hex {
        "ID"
    } else {
        return word.to_owned();
    };
    word.replace(bare, stands_for)
}

/// The part of `kubectl describe` that is ours, without the events, whose order and counts are the API server's.
fn described(site: &Site, kind: &str, name: &str) -> String {
    let screen = site
        .cluster
        .kubectl(&["describe", kind, "-n", "guardian", name]);
    let status = screen.find("\nStatus:").map_or("", |at| &screen[at + 1..]);
    golden(status.split("\nEvents:").next().unwrap())
}

/// A screen without places in the store, and a `#` for each number, hash or id.
fn without_numbers(screen: &str) -> String {
    let mut text = String::new();
    for word in screen.split_inclusive([' ', '\n']) {
        if word.contains("s3://") {
            let end = word.trim_start_matches(|c: char| !c.is_whitespace());
            text.push_str("LOCATION");
            text.push_str(end);
            continue;
        }
        // Hashes and ids too.
        let hex = word.find(|c: char| !c.is_ascii_hexdigit());
        let hex = hex.unwrap_or(word.len());
        let (mut last, word) = match hex {
            8.. => ('#', &word[hex..]),
            _ => (' ', word),
        };
        if last == '#' {
            text.push('#');
        }
        for (at, c) in word.char_indices() {
            let next = word[at + c.len_utf8()..].chars().next();
            let point = c == '.' && last == '#' && next.is_some_and(|c| c.is_ascii_digit());
            if !c.is_ascii_digit() && !point {
                text.push(c);
                last = c;
            } else if last != '#' {
                text.push('#');
                last = '#';
            }
        }
    }
    text
}

#[test]
fn a_failed_backup_and_restore_tell_what_to_do_next_and_lists_tell_the_truth() {
    let site = Site::new(Kubernetes::start());
    let _operator = site.operator("one", "");
    let good = format!(
        "executor: InProcess, storageLocation: {}",
        site.storage(site.store.port)
    );
    site.backup("guardian", "good", &good);
    site.backup(
        "guardian",
        "nowhere",
        &format!(
            "hooks: {{preBackup: [{{name: flush, type: Exec, exec: {{command: [sync]}}}}]}}, {good}"
        ),
    );
    // As of a schedule, which makes another backup itself: the first failure is the last.
    site.cluster.apply("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {name: dead-store, namespace: guardian, labels: {etcdguardian.io/schedule: gone}}\nspec: {backupMode: Full, executor: InProcess, storageLocation: {provider: S3, bucket: backups, region: r, credentialsSecret: no-such-secret}}\n");
    site.cluster.apply("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {name: of-nothing, namespace: guardian}\nspec: {restoreMode: Full, backupName: nothing, etcdCluster: {dataDir: /var/lib/etcd}}\n");
    site.cluster.apply(&format!("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: yearly, namespace: guardian}}\nspec: {{schedule: '@yearly', suspend: true, backupTemplate: {{spec: {{backupMode: Full, {good}}}}}}}\n"));
    for (name, phase) in [("good", "Completed"), ("dead-store", "Failed")] {
        assert_eq!(site.ended("guardian", name)["status"]["phase"], phase);
    }
    site.ended("guardian", "nowhere");
    site.cluster
        .wait_phase("egr", "guardian", "of-nothing", &["Failed"]);
    until("the schedule has a status", || {
        let object = site.cluster.get("egs", "guardian", "yearly")?;
        object["status"]["phase"].is_string().then_some(())
    });
    let list = |kind: &str| {
        let screen = site.cluster.kubectl(&["get", kind, "-n", "guardian"]);
        let mut lines: Vec<String> = golden(&screen).lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines.join("\n")
    };
    // The size and the revision are those of the API server's own etcd.
    let backups: Vec<String> = list("egb")
        .lines()
        .map(|line| {
            let mut words: Vec<&str> = line.split(' ').collect();
            if words[0] == "good" {
                (words[3], words[4]) = ("REVISION", "SIZE");
            }
            words.join(" ")
        })
        .collect();
    insta::assert_snapshot!(
        "lists",
        format!(
            "{}\n\n{}\n\n{}",
            backups.join("\n"),
            list("egr"),
            list("egs")
        )
    );
    insta::assert_snapshot!("failed_backup", described(&site, "egb", "dead-store"));
    insta::assert_snapshot!("rejected_backup", described(&site, "egb", "nowhere"));
    insta::assert_snapshot!("failed_restore", described(&site, "egr", "of-nothing"));
    let good = without_numbers(&described(&site, "egb", "good"));
    insta::assert_snapshot!("completed_backup", good);
    let schedule = without_numbers(&described(&site, "egs", "yearly"));
    insta::assert_snapshot!("suspended_schedule", schedule);
}

#[test]
fn a_change_to_one_object_is_work_for_that_object_alone() {
    let site = Site::new(Kubernetes::start());
    let port = free_port();
    let config = site.config("one", "");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("listen: ''", &format!("listen: '127.0.0.1:{port}'")),
    )
    .unwrap();
    let mut operator = site
        .cluster
        .start_operator(&config, site.folder.path(), "one");
    operator.wait_ready(|| site.leader().is_some());
    let spec = format!(
        "executor: InProcess, storageLocation: {}",
        site.storage(site.store.port)
    );
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        site.backup("guardian", name, &spec);
    }
    for name in names {
        assert_eq!(site.ended("guardian", name)["status"]["phase"], "Completed");
    }
    let template = format!(
        "backupMode: Full, storageLocation: {}",
        site.storage(site.store.port)
    );
    for name in ["p", "q"] {
        let body = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: {name}, namespace: guardian}}\nspec: {{schedule: '@daily', suspend: true, backupTemplate: {{spec: {{{template}}}}}}}\n---\napiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: {name}, namespace: guardian}}\nspec: {{backupName: a, restoreMode: Full, plan: true, etcdCluster: {{dataDir: /var/lib/etcd}}}}\n"
        );
        site.cluster.apply(&body);
    }
    let looks = |kind: &str| -> f64 {
        let metrics = http("GET", port, "/metrics", "").unwrap().body;
        let of_kind = format!("kind=\"{kind}\"");
        let lines = metrics.lines().filter(|line| {
            line.starts_with("etcdguardian_reconciles_total{") && line.contains(&of_kind)
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let kinds = [
        ("EtcdBackup", "c", names.len()),
        ("EtcdBackupSchedule", "q", 2),
        ("EtcdRestore", "q", 2),
    ];
    for (kind, name, objects) in kinds {
        // What followed from the objects' beginnings is over when nothing is looked at any more.
        let quiet = || {
            let (mut last, mut same) = (looks(kind), 0);
            until("no object is looked at", || {
                let now = looks(kind);
                same = if now > last { 0 } else { same + 1 };
                last = now;
                (same >= 50 && now >= objects as f64).then_some(now)
            })
        };
        let before = quiet();
        site.cluster
            .kubectl(&["annotate", kind, "-n", "guardian", name, "note=seen"]);
        until("the change is seen", || {
            (looks(kind) > before).then_some(())
        });
        assert_eq!(quiet() - before, 1.0, "{kind}: one look at one object");
    }
}
