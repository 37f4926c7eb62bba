//! Schedules for which nothing is due: looking at them costs etcd and the API server next to nothing, however many they are.

use super::Site;
use crate::support::{Etcd, Kubernetes, Process, http, until};

/// So many schedules of one cluster.
const MANY: usize = 30;

/// Writes that the operator's looks could make: statuses, records, events.
fn writes(site: &Site) -> Vec<(String, u64)> {
    let text = site.cluster.kubectl(&["get", "--raw", "/metrics"]);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"));
    let lines = lines.filter(|line| {
        let read = ["GET", "LIST", "WATCH"];
        let status = line.contains(r#"resource="etcdbackupschedules""#)
            && line.contains(r#"subresource="status""#);
        let others = [r#"resource="configmaps""#, r#"resource="events""#];
        (status || others.iter().any(|one| line.contains(one)))
            && !read
                .iter()
                .any(|verb| line.contains(&format!(r#"verb="{verb}""#)))
    });
    lines
        .map(|line| {
            let (labels, count) = line.rsplit_once(' ').unwrap();
            (labels.to_owned(), count.parse::<f64>().unwrap() as u64)
        })
        .collect()
}

/// How often an etcd was asked for its status.
fn asked(etcd: &Etcd) -> u64 {
    let answer = http("GET", etcd.metrics_port(0), "/metrics", "").unwrap();
    let wanted = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Status","#;
    let lines = answer.body.lines().filter(|line| line.starts_with(wanted));
    let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    counts.sum::<f64>() as u64
}

/// How often schedules were looked at.
fn looks(operator: &Process) -> usize {
    let log = operator.log_text();
    log.lines().filter(|line| line.contains("decided")).count()
}

#[test]
fn a_look_at_an_idle_schedule_writes_nothing_and_one_question_answers_them_all() {
    let site = Site::new(Kubernetes::start());
    let etcd = Etcd::start("3.6");
    let config = site.config("one", "");
    let mut command = site.cluster.operator_command(&config, "one");
    command.env("ETCDGUARDIAN_LOG", "info,etcdguardian::engine=debug");
    let operator = Process::start("operator", &mut command, &site.folder.path().join("log"));
    let storage = site.storage(site.store.port);
    let all: Vec<String> = (0..MANY)
        .map(|number| {
            format!(
                "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: idle-{number}, namespace: guardian}}\nspec:\n  schedule: '@yearly'\n  backupTemplate: {{spec: {{backupMode: Full, etcdEndpoints: ['{}'], storageLocation: {storage}}}}}\n",
                etcd.endpoint()
            )
        })
        .collect();
    site.cluster.apply(&all.join("---\n"));
    until("every schedule has its status and its record", || {
        let statuses = site.cluster.list("egs", "guardian");
        let told = statuses
            .iter()
            .filter(|one| one["status"]["phase"] == "Active");
        let records = site.cluster.list("configmaps", "guardian");
        let records = records.iter().filter(|map| {
            let name = map["metadata"]["name"].as_str().unwrap();
            name.starts_with("etcdguardian-schedule-guardian.idle-")
        });
        (told.count() == MANY && records.count() == MANY).then_some(())
    });

    // Each is made to look twice more; when the third look has decided, the second is wholly over.
    let look_again = |note: &str| {
        let note = format!("note={note}");
        site.cluster.kubectl(&[
            "annotate",
            "egs",
            "-n",
            "guardian",
            "--all",
            "--overwrite",
            &note,
        ]);
    };
    let (before, questions) = (writes(&site), asked(&etcd));
    for round in 2..=3 {
        look_again(&format!("round-{round}"));
        until("every schedule has looked again", || {
            (looks(&operator) >= round * MANY).then_some(())
        });
    }
    let more = asked(&etcd) - questions;
    assert_eq!(writes(&site), before);
    assert!(
        more < MANY as u64,
        "{more} questions for {} looks",
        2 * MANY
    );
    // An answer may have been young enough for both looks; once it is not, etcd is asked again.
    let mut round = 3;
    until("etcd is asked again", || {
        round += 1;
        look_again(&format!("round-{round}"));
        (asked(&etcd) > questions).then_some(())
    });
}
