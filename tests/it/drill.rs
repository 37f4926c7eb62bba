//! `drill` against real backups: it proves a good one down to a booted etcd, finds out a bad one, and leaves nothing behind.

use std::time::Duration;

use serde_json::Value;

use crate::backup::{Desk, data_file, files, flip};
use crate::run::Site;
use crate::support::{Etcd, Ran, tool, until, until_within};

/// For what needs the next minute of the clock.
const MINUTES: Duration = Duration::from_secs(180);

struct Yard {
    desk: Desk,
    etcd: Etcd,
}

impl Yard {
    fn new() -> Self {
        let etcd = Etcd::start("3.6");
        let desk = Desk::local(&etcd);
        etcd.fill("/registry/pods/", 200, 300);
        std::fs::create_dir_all(desk.path("scratch")).unwrap();
        Self { desk, etcd }
    }

    fn drill(&self, binary: &str, more: &[&str]) -> Ran {
        let (binary, scratch) = (
            binary.to_owned(),
            self.desk.path("scratch").display().to_string(),
        );
        let words = [
            "drill",
            "--etcd-binary",
            &binary,
            "--scratch",
            &scratch,
            "-o",
            "json",
        ];
        let ran = self.desk.run(&[&words[..], more].concat());
        assert_eq!(
            files(&self.desk.path("scratch")),
            Vec::<std::path::PathBuf>::new()
        );
        ran
    }
}

fn names(report: &Value) -> Vec<(&str, bool)> {
    let checks = report["checks"].as_array().unwrap();
    let name = |check: &'_ Value| check["ok"].as_bool().unwrap();
    checks
        .iter()
        .map(|check| (check["name"].as_str().unwrap(), name(check)))
        .collect()
}

#[test]
fn a_good_backup_is_restored_booted_and_compared() {
    let yard = Yard::new();
    let backup = yard.desk.create();
    for version in ["3.4", "3.6"] {
        let etcd = tool(&format!("etcd-{version}")).display().to_string();
        let report = yard.drill(&etcd, &[]).json();
        assert_eq!(report["ok"], true, "{report}");
        assert_eq!(report["level"], "Drilled");
        assert_eq!(report["backup"], backup["id"]);
        assert_eq!(report["revision"], backup["revision"]);
        assert_eq!(report["hash"], yard.etcd.hash_kv(0).0);
        assert_eq!(report["etcd"]["hash"], report["hash"]);
        assert!(
            report["etcd"]["version"]
                .as_str()
                .unwrap()
                .starts_with(version)
        );
        let passed = [
            ("fetched", true),
            ("restored", true),
            ("live-hash", true),
            ("booted", true),
        ];
        assert_eq!(names(&report), passed);
    }
}

#[test]
fn a_damaged_backup_fails_the_drill_with_its_report() {
    let yard = Yard::new();
    let backup = yard.desk.create();
    flip(&data_file(&backup));
    let failed = yard
        .drill(&tool("etcd-3.6").display().to_string(), &[])
        .code(3);
    let report: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_ne!(report["level"], "Drilled");
    assert_eq!(names(&report), [("fetched", false)]);
    assert!(failed.stderr.contains("damaged"), "{}", failed.stderr);
}

#[test]
fn an_etcd_that_does_not_start_fails_the_drill() {
    let yard = Yard::new();
    yard.desk.create();
    let failed = yard.drill("/bin/false", &[]).code(3);
    let report: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(names(&report).last(), Some(&("booted", false)), "{report}");
    yard.drill("/no/such/etcd", &[]).code(2);
    let words = ["drill", "--no-boot", "-o", "json"];
    let report = yard.desk.run(&words).json();
    assert_eq!(report["level"], "Drilled");
    assert_eq!(report.get("etcd"), None);
}

#[test]
fn a_schedule_drills_its_newest_backup_and_says_when_it_fails() {
    let etcd = Etcd::start("3.6");
    etcd.fill("/registry/pods/", 50, 100);
    let binary = tool("etcd-3.6").display().to_string();
    let site = Site::new(&etcd, &format!("drill: {{etcdBinary: {binary}}}"));
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: drilled}}\nspec:\n  schedule: '* * * * *'\n  immediate: true\n  drill: {{schedule: '* * * * *'}}\n  aiOptimization: {{enabled: true, minInterval: 1s, maxInterval: 3s}}\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {}\n      retentionPolicy: {{maxBackups: 50}}\n",
        site.local()
    );
    std::fs::write(site.path("manifests/drilled.yaml"), text).unwrap();
    let mut running = site.start();
    let status = || {
        let text = std::fs::read_to_string(site.path("state/status.json")).ok()?;
        let status: Value = serde_json::from_str(&text).ok()?;
        let drill = status["schedules"][0]["status"]["drill"].clone();
        drill.is_object().then_some(drill)
    };
    // A slot comes within a minute, and a drill takes seconds.
    let drilled = until_within(MINUTES, "the drill succeeded", || {
        status().filter(|drill| drill["lastSuccessfulTime"].is_string())
    });
    assert_eq!(drilled["level"], "Drilled", "{drilled}");
    assert_eq!(drilled.get("message"), None, "{drilled}");
    running.kill();
    let config = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), config.replace(&binary, "/bin/false")).unwrap();
    let _again = site.start();
    let failed = until_within(MINUTES, "the drill failed", || {
        status().filter(|drill| drill["message"].is_string())
    });
    assert!(
        failed["message"].as_str().unwrap().contains("booted"),
        "{failed}"
    );
    assert!(failed["lastSuccessfulTime"].is_string(), "{failed}");
    until("the alert stands", || {
        let text = std::fs::read_to_string(site.path("state/status.json")).ok()?;
        text.contains("DrillFailed").then_some(())
    });
}
