//! EtcdBackupSchedules: children, triggers, suspension, refusals, and a catalogue that outlives the API server's objects.

use super::{Site, condition};
use crate::support::{Kubernetes, until};

impl Site {
    /// A schedule of backups in the operator's process.
    pub fn schedule(&self, namespace: &str, name: &str, more: &str, template: &str) {
        let storage = self.storage(self.store.port);
        self.schedule_to(namespace, name, more, template, &storage);
    }

    /// The same with a storageLocation.
    pub fn schedule_to(
        &self,
        namespace: &str,
        name: &str,
        more: &str,
        template: &str,
        storage: &str,
    ) {
        self.cluster.apply(&format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {more}\n  backupTemplate: {{metadata: {{labels: {{team: a}}}}, spec: {{backupMode: Full, executor: InProcess, {template} storageLocation: {storage}}}}}\n"
        ));
    }

    /// Asks a schedule for a backup now.
    pub fn trigger(&self, namespace: &str, name: &str, value: &str) {
        let annotation = format!("etcdguardian.io/trigger={value}");
        self.cluster.kubectl(&[
            "annotate",
            "egs",
            "-n",
            namespace,
            name,
            "--overwrite",
            &annotation,
        ]);
    }

    /// The names of a schedule's EtcdBackups in these phases.
    pub fn children(&self, namespace: &str, schedule: &str, phase: &str) -> Vec<String> {
        let all = self.cluster.list("etcdbackups", namespace);
        all.iter()
            .filter(|backup| backup["metadata"]["labels"]["etcdguardian.io/schedule"] == schedule)
            .filter(|backup| backup["status"]["phase"] == phase)
            .map(|backup| backup["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn a_schedule_makes_children_and_the_catalogue_gives_them_back() {
    let site = Site::new(Kubernetes::start());
    let operator = site.operator("one", "");
    site.schedule(
        "guardian",
        "main",
        "schedule: '@yearly'\n  immediate: true",
        "",
    );
    until("the first child is complete", || {
        (site.children("guardian", "main", "Completed").len() == 1).then_some(())
    });
    // One that no schedule made, in the same store.
    let single = format!(
        "executor: InProcess, deletionPolicy: Retain, storageLocation: {}",
        site.storage(site.store.port)
    );
    site.backup("guardian", "by-hand", &single);
    site.ended("guardian", "by-hand");
    site.trigger("guardian", "main", "please");
    let both = until("the asked child is complete", || {
        let done = site.children("guardian", "main", "Completed");
        (done.len() == 2).then_some(done)
    });
    assert_eq!(
        both.iter().filter(|name| name.contains("-asked-")).count(),
        1,
        "{both:?}"
    );
    until("the schedule says that it protects", || {
        let schedule = site.cluster.get("egs", "guardian", "main")?;
        let good = condition(&schedule, "Protected") == "True/VerifiedBackupFresh"
            && condition(&schedule, "Ready") == "True/Working"
            && condition(&schedule, "StoreReachable") == "True/Reachable"
            && condition(&schedule, "AIOptimized") == "False/Disabled"
            && schedule["status"]["backupHistory"]
                .as_array()
                .is_some_and(|history| history.len() == 2)
            && schedule["status"]["decision"]["source"] == "Cron"
            && schedule["status"]["nextBackupTime"].is_string();
        good.then_some(())
    });
    site.wait_event("guardian", "main", "BackupCreated");

    // A second look at the same annotation makes nothing, and a rebuilt API server gets its objects back from the bucket.
    drop(operator);
    site.cluster
        .kubectl(&["delete", "egb", "-n", "guardian", "--all", "--timeout=60s"]);
    site.cluster.kubectl(&[
        "delete",
        "configmap",
        "-n",
        "guardian",
        "etcdguardian-schedule-guardian.main",
    ]);
    let runs: Vec<String> = site
        .stored()
        .iter()
        .map(|m| m["runId"].as_str().unwrap().to_owned())
        .collect();
    let _operator = site.operator("two", "");
    let again = until("the children are there again", || {
        let done = site.children("guardian", "main", "Completed");
        (done.len() >= 2).then_some(done)
    });
    for name in &both {
        assert!(again.contains(name), "{name} of {again:?}");
        let object = site.cluster.get("etcdbackup", "guardian", name).unwrap();
        let run = object["status"]["runID"].as_str().unwrap().to_owned();
        assert!(
            runs.contains(&run),
            "it speaks of the backup that was there: {object}"
        );
    }
    until("the single backup is there again", || {
        let object = site.cluster.get("etcdbackup", "guardian", "by-hand")?;
        let known = object["metadata"]["annotations"]["etcdguardian.io/catalogue-id"].is_string();
        (known && object["status"]["phase"] == "Completed").then_some(())
    });
}

#[test]
fn a_schedule_is_suspended_and_resumed_and_a_wrong_one_says_why() {
    let site = Site::new(Kubernetes::start());
    let _operator = site.operator("one", "");
    site.schedule(
        "guardian",
        "held",
        "schedule: '@yearly'\n  suspend: true\n  immediate: true",
        "",
    );
    site.schedule("guardian", "wrong", "schedule: '0 0 0 1 1 *'", "");
    site.schedule(
        "guardian",
        "nowhere",
        "schedule: '@hourly'\n  timeZone: Mars/Olympus",
        "",
    );
    site.schedule(
        "guardian",
        "inverted",
        "schedule: '@hourly'\n  aiOptimization: {enabled: true, minInterval: 6h, maxInterval: 1h}",
        "",
    );
    for (name, named) in [
        ("wrong", "spec.schedule"),
        ("nowhere", "spec.schedule"),
        ("inverted", "minInterval"),
    ] {
        let refused = site
            .cluster
            .wait_phase("egs", "guardian", name, &["Rejected"]);
        assert_eq!(condition(&refused, "Ready"), "False/SpecInvalid");
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
    site.cluster
        .wait_phase("egs", "guardian", "held", &["Suspended"]);
    assert!(site.children("guardian", "held", "Completed").is_empty());
    site.cluster
        .merge("egs", "guardian", "held", "{\"spec\":{\"suspend\":false}}");
    until("the resumed schedule makes its first backup", || {
        (site.children("guardian", "held", "Completed").len() == 1).then_some(())
    });
    let held = site
        .cluster
        .wait_phase("egs", "guardian", "held", &["Active"]);
    assert!(held["status"]["missedSlots"].is_i64());

    // A change for the worse is said, and no longer once it is taken back.
    for (schedule, phase) in [("0 0 0 1 1 *", "Rejected"), ("@yearly", "Active")] {
        let patch = format!(r#"{{"spec":{{"schedule":"{schedule}"}}}}"#);
        site.cluster.merge("egs", "guardian", "held", &patch);
        site.cluster.wait_phase("egs", "guardian", "held", &[phase]);
    }
}

#[test]
fn an_object_of_somebody_else_is_not_adopted() {
    let site = Site::new(Kubernetes::start());
    let _operator = site.operator("one", "");
    // The name that the trigger's value leads to.
    let storage = site.storage(site.store.port);
    let hash = crc32c::crc32c(b"please");
    site.backup(
        "guardian",
        &format!("main-asked-{hash:08x}"),
        &format!("executor: InProcess, storageLocation: {storage}"),
    );
    site.schedule("guardian", "main", "schedule: '@yearly'", "");
    site.trigger("guardian", "main", "please");
    site.wait_event("guardian", "main", "BackupAdoptionRefused");
    until("the schedule says so", || {
        let schedule = site.cluster.get("egs", "guardian", "main")?;
        (condition(&schedule, "Ready") == "False/Refused").then_some(())
    });
}

#[test]
fn schedules_of_the_configs_folder_are_applied_and_taken_away() {
    let site = Site::new(Kubernetes::start());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schedules.yaml");
    let storage = site.storage(site.store.port);
    let schedule = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: main, namespace: guardian}}\nspec: {{schedule: '@yearly', backupTemplate: {{spec: {{backupMode: Full, storageLocation: {storage}}}}}}}\n"
    );
    std::fs::write(&file, schedule).unwrap();
    let more = format!("manifests: {}", folder.path().display());
    let operator = site.operator("one", &more);
    site.cluster
        .wait_phase("egs", "guardian", "main", &["Active"]);
    drop(operator);
    std::fs::remove_file(&file).unwrap();
    let _operator = site.operator("two", &more);
    until("the schedule is taken away", || {
        site.cluster
            .get("egs", "guardian", "main")
            .is_none()
            .then_some(())
    });
}

#[test]
fn a_schedule_of_exports_makes_chains_of_children() {
    let site = Site::with_roles(Kubernetes::start(), &["rbac.exports=true"]);
    let _operator = site.operator("one", "");
    let more = "schedule: '@yearly'\n  immediate: true\n  fullEvery: {increments: 1}";
    site.schedule("guardian", "managed", more, "source: Proxy,");
    // The template of the helper says Full.
    let patch = r#"{"spec":{"backupTemplate":{"spec":{"backupMode":"Incremental"}}}}"#;
    site.cluster.merge("egs", "guardian", "managed", patch);
    for (count, asked) in ["one", "two", "three"].into_iter().enumerate() {
        until(asked, || {
            let done = site.children("guardian", "managed", "Completed");
            (done.len() > count).then_some(())
        });
        site.trigger("guardian", "managed", asked);
    }
    let children = until("the last child", || {
        let all = site.children("guardian", "managed", "Completed");
        (all.len() == 4).then_some(all)
    });
    let mut made: Vec<(i64, String, i64)> = children
        .iter()
        .map(|name| {
            let child = site.cluster.get("etcdbackup", "guardian", name).unwrap();
            let status = &child["status"];
            assert_eq!(status["kind"], "Export", "{child}");
            assert_eq!(status["validationResult"]["level"], "Verified", "{child}");
            let number = |field: &str| status[field].as_i64().unwrap();
            let mode = status["mode"].as_str().unwrap().to_owned();
            (number("etcdRevision"), mode, number("rawSize"))
        })
        .collect();
    made.sort();
    let of = |wanted: &str| {
        let some = made.iter().filter(|(_, mode, _)| mode == wanted);
        some.map(|(_, _, size)| *size).collect::<Vec<i64>>()
    };
    let (whole, parts) = (of("Full"), of("Incremental"));
    assert_eq!(made[0].1, "Full", "{made:?}");
    assert!(whole.len() >= 2, "fullEvery: {made:?}");
    assert!(
        parts.iter().any(|part| *part < whole[0] / 4),
        "the chart lets it watch: {made:?}"
    );
}
