//! What stays of a schedule's work: objects of its newest backups, a count of the slots that passed unseen, and a line of the audit log
//! for all that is made, restored and deleted.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Site;
use crate::support::{Kubernetes, Process, until};

/// The lines of the audit log.
fn audits(operator: &Process) -> Vec<Value> {
    let log = operator.log_text();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["fields"]["audit"] == true)
        .collect()
}

#[test]
fn objects_show_the_newest_and_every_change_is_in_the_audit_log() {
    let site = Site::new(Kubernetes::start());
    let more =
        "log: {format: Json}\noperator: {historyLimit: 2, jobs: {image: 'etcdguardian:test'}}";
    let operator = site.operator("one", more);
    let single = format!(
        "executor: InProcess, deletionPolicy: Delete, storageLocation: {}",
        site.storage(site.store.port)
    );
    for name in ["by-hand", "unwanted"] {
        site.backup("guardian", name, &single);
        site.ended("guardian", name);
    }
    site.cluster.kubectl(&[
        "delete",
        "egb",
        "-n",
        "guardian",
        "unwanted",
        "--timeout=60s",
    ]);
    // As of a schedule: the first failure is the last.
    site.cluster.apply("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {name: no-secret, namespace: guardian, labels: {etcdguardian.io/schedule: gone}}\nspec: {backupMode: Full, executor: InProcess, storageLocation: {provider: S3, bucket: backups, region: r, credentialsSecret: none}}\n");
    site.ended("guardian", "no-secret");
    for (name, source) in [("planned", "by-hand"), ("of-nothing", "nothing")] {
        site.cluster.apply(&format!("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: {name}, namespace: guardian}}\nspec: {{restoreMode: Full, plan: true, backupName: {source}, etcdCluster: {{dataDir: /var/lib/etcd}}}}\n"));
        let phases = ["Planned", "Failed"];
        site.cluster.wait_phase("egr", "guardian", name, &phases);
    }

    let template = "retentionPolicy: {maxBackups: 3},";
    site.schedule("guardian", "main", "schedule: '@yearly'", template);
    let mut made = Vec::new();
    for value in ["a", "b", "c", "d"] {
        site.trigger("guardian", "main", value);
        let name = format!("main-asked-{:08x}", crc32c::crc32c(value.as_bytes()));
        until(&name, || {
            let history = site.cluster.get("egs", "guardian", "main")?;
            let history = history["status"]["backupHistory"].as_array()?.clone();
            let done = |one: &Value| one["name"] == name.as_str() && one["status"] == "Completed";
            history.iter().any(done).then_some(())
        });
        let object = site.cluster.get("egb", "guardian", &name).unwrap();
        until("the history names the object by its UID", || {
            let history = site.cluster.get("egs", "guardian", "main")?;
            let history = history["status"]["backupHistory"].as_array()?.clone();
            let entry = history.iter().find(|one| one["name"] == name.as_str())?;
            (entry["uid"] == object["metadata"]["uid"]).then_some(())
        });
        made.push(name);
    }
    let mut newest = made[2..].to_vec();
    newest.sort();
    until("objects of the newest two alone", || {
        let mut shown = site.children("guardian", "main", "Completed");
        shown.sort();
        (shown == newest).then_some(())
    });
    let stored = site.stored();
    let names: Vec<&str> = stored
        .iter()
        .filter_map(|one| one["backupName"].as_str())
        .filter(|name| made.iter().any(|one| one == name))
        .collect();
    assert_eq!(names.len(), 3, "the bucket holds what retention keeps");

    let kubectl = "kubectl-client-side-apply";
    for (action, name, who, scope, outcome) in [
        (
            "backup",
            "by-hand",
            kubectl,
            "full backup to s3://",
            "begun",
        ),
        (
            "backup",
            "by-hand",
            kubectl,
            "full backup to s3://",
            "completed",
        ),
        (
            "backup",
            "no-secret",
            kubectl,
            "full backup to s3://",
            "failed",
        ),
        ("delete", "unwanted", kubectl, "s3://", "deleted"),
        (
            "restore",
            "planned",
            kubectl,
            "Full restore of by-hand",
            "planned",
        ),
        (
            "restore",
            "of-nothing",
            kubectl,
            "Full restore of nothing",
            "failed",
        ),
        ("create", "main", kubectl, made[0].as_str(), "created"),
        (
            "backup",
            made[0].as_str(),
            "etcdguardian",
            "full backup",
            "completed",
        ),
        (
            "delete",
            made[3].as_str(),
            "etcdguardian",
            "",
            "retired by retentionPolicy",
        ),
        (
            "delete",
            made[0].as_str(),
            "etcdguardian",
            "the object alone",
            "beyond the history limit, or no longer in the catalogue",
        ),
    ] {
        let all = audits(&operator);
        let line = all.iter().find(|line| {
            let fields = &line["fields"];
            fields["action"] == action && fields["name"] == name && fields["outcome"] == outcome
        });
        let line = line.unwrap_or_else(|| panic!("{action} {name} {outcome}: {all:#?}"));
        let (time, fields) = (line["timestamp"].as_str().unwrap(), &line["fields"]);
        assert!(time.parse::<Timestamp>().is_ok(), "when: {line}");
        assert!(fields["who"].as_str().unwrap().contains(who), "who: {line}");
        let said = fields["scope"].as_str().unwrap();
        assert!(!said.is_empty() && said.contains(scope), "scope: {line}");
        assert_eq!(fields["namespace"], "guardian", "{line}");
        assert!(
            fields["kind"].as_str().unwrap().starts_with("Etcd"),
            "{line}"
        );
    }
}

#[test]
fn slots_that_passed_unseen_are_counted_and_one_is_made_up_for() {
    let site = Site::new(Kubernetes::start());
    let operator = site.operator("one", "");
    // Once an hour, half an hour from now.
    let slot = Timestamp::now() + SignedDuration::from_mins(30);
    let cron = slot.strftime("schedule: '%M * * * *'").to_string();
    site.schedule("guardian", "main", &cron, "");
    let record = until("the schedule is remembered", || {
        let name = "etcdguardian-schedule-guardian.main";
        let map = site.cluster.get("configmap", "guardian", name)?;
        let text = map["data"]["record.json"].as_str()?;
        let record: Value = serde_json::from_str(text).ok()?;
        record["firstSeen"].is_string().then_some(record)
    });
    drop(operator);
    // As if it had been away since before three slots.
    let mut record = record;
    let away = Timestamp::now() - SignedDuration::from_hours(3);
    record["firstSeen"] = away.to_string().into();
    record["core"] = Value::Null;
    let patch = serde_json::json!({"data": {"record.json": record.to_string()}});
    site.cluster.merge(
        "configmap",
        "guardian",
        "etcdguardian-schedule-guardian.main",
        &patch.to_string(),
    );
    let _operator = site.operator("two", "");
    let status = until("the count", || {
        let schedule = site.cluster.get("egs", "guardian", "main")?;
        let status = schedule["status"].clone();
        (status["missedSlots"].as_i64()? > 0).then_some(status)
    });
    assert_eq!(status["missedSlots"], 2, "{status}");
    let made = site.children("guardian", "main", "Completed");
    let latest = slot - SignedDuration::from_hours(1);
    let latest = latest.strftime("main-%Y%m%d%H%M00").to_string();
    assert_eq!(made, [latest], "one, of the latest slot");
    assert_eq!(site.stored().len(), 1);
}
