//! Increments under the operator with Jobs: the watch stands in the operator, which publishes what it records; Jobs make what is heavy.

use std::path::PathBuf;

use serde_json::Value;

use super::jobs::JOBS;
use super::{Site, condition};
use crate::support::{Kubernetes, Process, until};

/// [`JOBS`], and a lease that another replica takes soon.
fn quick() -> String {
    let lease =
        "leaderElection: {leaseDuration: 4s, renewDeadline: 3s, retryPeriod: 500ms}, jobs: {";
    JOBS.replacen("jobs: {", lease, 1)
}

/// A site with a schedule `main` of increments, whose first full backup a Job has made.
struct Chain {
    site: Site,
    config: PathBuf,
    pods: Vec<String>,
}

impl Chain {
    fn begin(site: Site, more: &str) -> Self {
        let storage = site.storage(site.store.port);
        site.cluster.apply(&format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: main, namespace: guardian}}\nspec:\n  schedule: '@yearly'\n  immediate: true\n{more}\n  backupTemplate: {{spec: {{backupMode: Incremental, storageLocation: {storage}}}}}\n"
        ));
        let mut chain = Self {
            config: site.config("job", JOBS),
            site,
            pods: Vec::new(),
        };
        chain.job();
        until("the first full backup", || {
            let done = chain.site.children("guardian", "main", "Completed");
            (done.len() == 1).then_some(())
        });
        chain
    }

    /// Waits until the changes are being recorded.
    fn recorded(self) -> Self {
        until("the watch stands", || {
            let schedule = self.site.cluster.get("egs", "guardian", "main")?;
            let stands = condition(&schedule, "Recording").starts_with("True/");
            stands.then_some(())
        });
        self
    }

    /// Waits for the next pod of a backup's Job.
    fn pod(&mut self) -> Value {
        let pod = self.site.pod_of("guardian", "EtcdBackup", &self.pods);
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.pods.push(name.to_owned());
        pod
    }

    /// Runs the next one.
    fn job(&mut self) {
        let pod = self.pod();
        let (ok, said) = self.site.run_pod(&pod, &self.config);
        assert!(ok, "{said}");
    }

    /// Some writes, and a compaction behind them: nobody who comes later can read them.
    fn write(&self, round: &str) {
        let etcd = &self.site.cluster.etcd;
        etcd.fill(&format!("/data/{round}/"), 40, 300);
        let revision = etcd.revision();
        etcd.ctl(&["put", "/data/last", round]);
        etcd.ctl(&["compaction", &revision.to_string(), "--physical"]);
    }

    /// Asks for a backup.
    fn ask(&self, value: &str) -> String {
        self.site.trigger("guardian", "main", value);
        format!("main-asked-{:08x}", crc32c::crc32c(value.as_bytes()))
    }

    /// Waits for the end of one that was asked for: it completed, and this is its status.
    fn ended(&self, name: &str) -> Value {
        let done = self.site.ended("guardian", name);
        assert_eq!(done["status"]["phase"], "Completed", "{done}");
        done["status"].clone()
    }

    /// Asks for a backup that the operator makes by itself: an increment after this revision.
    fn increment(&self, value: &str, base: &Value, after: i64) -> i64 {
        let status = self.ended(&self.ask(value));
        assert_eq!(status["kind"], "Increment", "{status}");
        assert_eq!(&status["base"], base, "{status}");
        assert!(status["job"].is_null(), "{status}");
        let revision = status["etcdRevision"].as_i64().unwrap();
        assert!(revision > after, "{status}");
        assert!(self.reach(base) >= revision);
        revision
    }

    /// How far the increments on a full backup lead, which follow each other without a hole.
    fn reach(&self, base: &Value) -> i64 {
        let increments = self.increments_on(base);
        let number = |one: &Value, field: &str| one[field].as_i64().unwrap();
        let mut spans: Vec<(i64, i64)> = increments
            .iter()
            .map(|one| (number(one, "startRevision"), number(one, "revision")))
            .collect();
        spans.sort_unstable();
        let base = base.as_str().unwrap();
        let mut last: i64 = base.rsplit('-').next().unwrap().parse().unwrap();
        for (first, end) in spans {
            assert_eq!(first, last + 1, "{increments:?}");
            last = end;
        }
        last
    }

    /// The one completed backup.
    fn first(&self) -> Value {
        let names = self.site.children("guardian", "main", "Completed");
        let first = self.site.cluster.get("egb", "guardian", &names[0]).unwrap();
        assert_eq!(first["status"]["kind"], "Full", "{first}");
        first["status"].clone()
    }

    /// The manifests of increments on a full backup.
    fn increments_on(&self, base: &Value) -> Vec<Value> {
        let mut found = Vec::new();
        let mut folders = vec![self.site.store.file("backups", "")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap() {
                let path = path.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "json") {
                    let text = std::fs::read_to_string(path).unwrap();
                    found.extend(serde_json::from_str::<Value>(&text));
                }
            }
        }
        found.retain(|one| &one["chain"]["base"] == base);
        found
    }
}

/// Waits until the watch has gone over to another full backup: what is compacted between the two would be lost, and told.
fn stands_on(operator: &Process, base: &Value) {
    let base = base.as_str().unwrap();
    let begun = |line: &str| line.contains("changes are being recorded") && line.contains(base);
    until("the watch stands on the new full backup", || {
        operator.log_text().lines().any(begun).then_some(())
    });
}

#[test]
fn the_operator_publishes_across_compactions_and_a_job_makes_each_full_backup() {
    let site = Site::new(Kubernetes::with_controllers());
    let operator = site.operator("one", JOBS);
    let more = "  recording: {enabled: true}\n  fullEvery: {increments: 2}";
    let mut chain = Chain::begin(site, more).recorded();
    let first = chain.first();
    let base = first["backupID"].clone();
    let mut tip = first["etcdRevision"].as_i64().unwrap();
    for round in ["one", "two"] {
        chain.write(round);
        tip = chain.increment(round, &base, tip);
    }

    // The chain is long enough. The first Job is killed, and the attempt after it is handed over once more.
    chain.write("three");
    let asked = chain.ask("three");
    let doomed = chain.pod();
    let told = doomed["spec"]["containers"][0]["args"].to_string();
    assert!(told.contains("fullEvery allows 2"), "{told}");
    chain.site.wait_event("guardian", &asked, "LeftToJob");
    let killed = serde_json::json!({ "exitCode": 137, "reason": "OOMKilled" });
    chain.site.end_pod(&doomed, &killed, "Failed");
    chain.job();
    let full = chain.ended(&asked);
    assert_eq!(full["kind"], "Full", "{full}");
    assert_eq!(full["attempts"], 2, "{full}");
    let stored = chain.site.stored();
    let manifest = stored.iter().find(|one| one["id"] == full["backupID"]);
    let manifest = manifest.unwrap();
    let checks = manifest["checks"].as_array().unwrap();
    let recorded = checks.iter().find(|check| check["name"] == "recorded");
    assert_eq!(recorded.unwrap()["ok"], true, "{manifest}");

    // No moment between the chains is lost, nor one behind the new full backup.
    let revision = full["etcdRevision"].as_i64().unwrap();
    assert!(chain.reach(&base) >= revision);
    stands_on(&operator, &full["backupID"]);
    chain.write("four");
    chain.increment("four", &full["backupID"], revision);
    assert_eq!(chain.site.cluster.list("pods", "guardian").len(), 3);
}

#[test]
fn a_chain_becomes_a_full_backup_in_a_job_and_goes_on_in_the_operator() {
    let site = Site::new(Kubernetes::with_controllers());
    let operator = site.operator("one", JOBS);
    let more = "  recording: {enabled: true}\n  fullEvery: {increments: 1, synthetic: true}";
    let mut chain = Chain::begin(site, more).recorded();
    let first = chain.first();
    let base = first["backupID"].clone();
    chain.write("one");
    chain.increment("one", &base, first["etcdRevision"].as_i64().unwrap());

    chain.site.cluster.etcd.fill("/data/two/", 20, 300);
    let asked = chain.ask("two");
    chain.job();
    let merged = chain.ended(&asked);
    assert_eq!(merged["kind"], "Increment", "{merged}");
    let message = merged["message"].as_str().unwrap();
    assert!(message.contains("merged into full backup"), "{message}");
    let stored = chain.site.stored();
    let full = stored.iter().find(|one| one["synthetic"].is_object());
    let full = full.unwrap();
    assert_eq!(full["revision"], merged["etcdRevision"], "{full}");
    assert_eq!(full["level"], "Consistent", "{full}");
    stands_on(&operator, &full["id"]);
    chain.write("three");
    chain.increment("three", &full["id"], full["revision"].as_i64().unwrap());
    assert_eq!(chain.site.cluster.list("pods", "guardian").len(), 2);
}

#[test]
fn another_leader_goes_on_with_the_chain() {
    let site = Site::new(Kubernetes::with_controllers());
    let mut one = site.operator("one", &quick());
    let more = "  recording: {enabled: true}";
    let chain = Chain::begin(site, more).recorded();
    let two = chain.site.operator("two", &quick());
    let first = chain.first();
    let base = first["backupID"].clone();
    let tip = first["etcdRevision"].as_i64().unwrap();
    chain.write("one");
    let tip = chain.increment("one", &base, tip);
    let folder = |name: &str| chain.site.folder.path().join(name).join("recording");
    assert!(folder("state-one").exists());
    assert!(!folder("state-two").exists(), "the leader alone records");

    // Nothing of its own: it reads what etcd still has after what is in the store.
    chain.site.cluster.etcd.fill("/data/two/", 40, 300);
    one.kill();
    let leader = |name: &str| {
        until(name, || {
            chain.site.leader().filter(|now| now.starts_with(name))
        })
    };
    leader("two");
    let tip = chain.increment("two", &base, tip);

    // The first one comes back, with an old recording on its disk.
    let _one = chain.site.operator("one", &quick());
    drop(two);
    leader("one");
    chain.site.cluster.etcd.fill("/data/three/", 40, 300);
    chain.increment("three", &base, tip);
}

#[test]
fn jobs_obey_full_every_where_no_watch_stands() {
    let site = Site::new(Kubernetes::with_controllers());
    let _operator = site.operator("one", JOBS);
    let mut chain = Chain::begin(site, "  fullEvery: {increments: 1}");
    let mut kinds = Vec::new();
    for round in ["one", "two"] {
        chain.site.cluster.etcd.fill("/data/", 20, 300);
        let asked = chain.ask(round);
        chain.job();
        kinds.push(chain.ended(&asked)["kind"].clone());
    }
    assert_eq!(kinds, ["Increment", "Full"]);
}

#[test]
fn the_watch_of_a_schedule_ends_with_it() {
    let site = Site::new(Kubernetes::with_controllers());
    let operator = site.operator("one", JOBS);
    let chain = Chain::begin(site, "  recording: {enabled: true}").recorded();
    let watchers = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", operator.pid())).unwrap();
        let open = open.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
        open.filter(|file| file.to_string_lossy().contains("/recording/"))
            .count()
    };
    assert!(watchers() > 0);
    chain
        .site
        .cluster
        .kubectl(&["delete", "egs", "-n", "guardian", "main"]);
    until("nothing is recorded", || (watchers() == 0).then_some(()));
}
