//! `backup create`: every release, TLS, users, schedules, and what it refuses.

use super::{Desk, cluster, data_file, files, s3};
use crate::support::{Etcd, Toxiproxy, Versitygw, guardian};

#[test]
fn every_release_is_backed_up_and_proved_to_be_consistent() {
    for release in ["3.4", "3.5", "3.6", "3.7"] {
        let etcd = Etcd::start(release);
        etcd.fill("k/", 300, 100);
        let revision = etcd.revision();
        let desk = Desk::local(&etcd);
        let made = desk
            .run(&["backup", "create", "before-upgrade", "-o", "json"])
            .json();
        assert_eq!(made["revision"], revision, "{release}");
        assert_eq!(made["level"], "Consistent", "{release}");
        assert_eq!(made["kind"], "Full");
        assert_eq!(made["sealed"], false);
        assert_eq!(made["name"], "before-upgrade");
        let stored = std::fs::metadata(data_file(&made)).unwrap().len();
        assert_eq!(made["storedSize"], stored);
        assert_eq!(desk.items().len(), 1);
        assert_eq!(etcd.revision(), revision, "nothing is written to etcd");
        assert!(
            files(&desk.path("state")).is_empty(),
            "scratch is empty again"
        );

        let id = made["id"].as_str().unwrap();
        let shallow = desk.run(&["backup", "verify", id, "-o", "json"]).json();
        assert_eq!(shallow["ok"], true);
        assert_eq!(
            shallow["level"], "Stored",
            "no more than that was proved now"
        );
        let deep = desk
            .run(&["backup", "verify", "latest", "--deep", "-o", "json"])
            .json();
        assert_eq!(deep["level"], "Consistent", "{deep}");
        let url = made["location"].as_str().unwrap();
        assert_eq!(
            desk.run(&["backup", "verify", url, "-o", "json"]).json()["id"],
            id
        );
    }
}

#[test]
fn a_cluster_with_tls_is_read_from_a_follower() {
    let etcd = Etcd::of("3.6").members(3).tls().start();
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    let store = format!("file://{}", desk.path("store").display());
    let pki = etcd.pki.as_ref().unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    let (ca, cert, key) = (text(&pki.ca), text(&pki.client_cert), text(&pki.client_key));
    let tls = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let mut words = vec!["backup", "create", "--to", &store, "-o", "json"];
    words.extend(tls);
    let made = desk.run(&words).json();
    assert_eq!(made["level"], "Consistent");
    let shown = desk
        .run(&["backup", "show", "latest", "--from", &store, "-o", "json"])
        .json();
    let status: serde_json::Value =
        serde_json::from_str(&etcd.ctl(&["endpoint", "status", "-w", "json"])).unwrap();
    let leader = format!("{:016x}", status[0]["Status"]["leader"].as_u64().unwrap());
    assert_ne!(
        shown["manifest"]["memberId"],
        leader.as_str(),
        "a follower was read"
    );
    let without = desk.run(&["backup", "create", "--to", &store]).code(12);
    assert!(without.stderr.contains("doctor"), "{}", without.stderr);
    assert_eq!(desk.run(&["doctor"]).code, 12);
    let mut words = vec!["doctor", "--to", &store, "-o", "json"];
    words.extend(tls);
    let report = desk.run(&words).json().to_string();
    assert!(report.contains("certificate of client"), "{report}");
}

#[test]
fn a_user_without_the_root_role_is_told_so() {
    let etcd = Etcd::of("3.6").auth("correct horse").start();
    etcd.ctl(&["user", "add", "reader:hunter2"]);
    etcd.ctl(&["role", "add", "reads"]);
    etcd.ctl(&["role", "grant-permission", "reads", "read", "", "--prefix"]);
    etcd.ctl(&["user", "grant-role", "reader", "reads"]);
    let desk = Desk::local(&etcd);
    let refused = desk
        .run(&["backup", "create", "--auth-secret", "reader"])
        .code(12);
    assert!(
        refused.stderr.contains("permission denied"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("hunter2"));
    let report = desk.run(&["doctor", "--auth-secret", "reader"]).code(12);
    assert!(
        report.stdout.contains("grant-role USER root"),
        "{}",
        report.stdout
    );
    let made = desk
        .run(&["backup", "create", "--auth-secret", "root", "-o", "json"])
        .json();
    assert_eq!(made["level"], "Consistent");
    assert!(
        files(&desk.path("store")).len() == 2,
        "one backup: data and manifest"
    );
}

#[test]
fn a_schedule_s_template_is_taken_with_its_store_its_seal_and_its_retention() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 50, 100);
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    std::fs::create_dir_all(desk.path("manifests")).unwrap();
    desk.add(&format!(
        "manifests: {}\n",
        desk.path("manifests").display()
    ));
    let store = format!("file://{}", desk.path("store").display());
    let manifest = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: hourly, namespace: ops}}\nspec:\n  schedule: '@hourly'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {{provider: Local, bucket: {}}}\n      encryption: {{enabled: true, encryptionSecret: seal}}\n      retentionPolicy: {{maxBackups: 2}}\n",
        desk.path("store").display()
    );
    std::fs::write(desk.path("manifests/hourly.yaml"), manifest).unwrap();
    // A key pair: a passphrase is made slow on purpose, and much slower without optimization.
    let (identity, _) = desk.seal();
    std::fs::copy(&identity, desk.path("secrets/seal/identities")).unwrap();
    for _ in 0..3 {
        etcd.ctl(&["put", "one", "more"]);
        let made = desk
            .run(&[
                "backup",
                "create",
                "--from-schedule",
                "ops/hourly",
                "-o",
                "json",
            ])
            .json();
        assert_eq!(made["schedule"], "hourly");
        assert_eq!(made["sealed"], true);
        assert_eq!(made["level"], "Consistent");
    }
    let listed = desk
        .run(&["backup", "list", "--from", &store, "-o", "json"])
        .json();
    assert_eq!(
        listed["items"].as_array().unwrap().len(),
        2,
        "retention was applied"
    );
    let missing = desk
        .run(&["backup", "create", "--from-schedule", "daily"])
        .code(4);
    assert!(missing.stderr.contains("ops/hourly"), "{}", missing.stderr);
    // Without the key the stored bytes can be checked, and nothing more.
    desk.run(&["backup", "verify", "latest", "--from", &store])
        .ok();
    let closed = desk
        .run(&["backup", "verify", "latest", "--deep", "--from", &store])
        .code(12);
    assert!(
        !closed.stderr.contains("AGE-SECRET-KEY"),
        "{}",
        closed.stderr
    );
    let words = ["backup", "verify", "latest", "--deep", "--from", &store];
    let opened = [&words[..], &["--encryption-secret", "seal", "-o", "json"]].concat();
    assert_eq!(desk.run(&opened).json()["level"], "Consistent");
    // The secret key lies nowhere.
    for file in files(&desk.path("store")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(14).any(|window| window == b"AGE-SECRET-KEY");
        assert!(!found, "{}", file.display());
    }
}

#[test]
fn what_cannot_be_is_said_before_etcd_is_touched() {
    let etcd = Etcd::start("3.6");
    let desk = Desk::local(&etcd);
    let nowhere = format!("http://127.0.0.1:{}", crate::support::free_port());
    let cases: [(&[&str], i32, &str); 6] = [
        (&["backup", "create", "Upper"], 2, "lower-case"),
        (&["backup", "create", "--endpoints", &nowhere], 13, &nowhere),
        (&["backup", "create", "--to", "ftp://x"], 2, "ftp"),
        (
            &["backup", "create", "--encryption-secret", "none"],
            12,
            "none",
        ),
        (
            &["backup", "create", "--to", "file:///proc/nothing"],
            10,
            "/proc/nothing",
        ),
        (&["backup", "verify", "2026"], 4, "2026"),
    ];
    for (words, code, word) in cases {
        let ran = desk.run(words).code(code);
        assert!(ran.stderr.contains(word), "{words:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{words:?}: {}", ran.stdout);
    }
    assert!(files(&desk.path("store")).is_empty());
}

#[test]
fn a_store_that_dies_in_the_middle_leaves_no_backup_and_a_slow_one_is_waited_for() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 2_500, 10_000);
    let store = Versitygw::start(&["backups"]);
    let proxy = Toxiproxy::start();
    let port = proxy.proxy("store", store.port);
    let desk = Desk::new(&cluster(&etcd.endpoints()), &s3(port));
    // Every connection ends after three megabytes: no part of eight ever arrives.
    proxy.upstream_toxic("store", "limit_data", r#"{"bytes": 3000000}"#);
    let failed = desk.run(&["backup", "create"]).code(10);
    assert!(failed.stderr.contains("backups"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("vgwsecret"));
    proxy.heal();
    assert!(desk.items().is_empty(), "no listing shows half a backup");
    assert!(
        files(&desk.path("state")).is_empty(),
        "scratch is empty again"
    );
    proxy.toxic("store", "latency", r#"{"latency": 200}"#);
    assert_eq!(desk.create()["level"], "Consistent");
    assert_eq!(desk.items().len(), 1);
}

#[test]
fn backups_of_the_same_revision_in_the_same_second_all_stand() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let desk = Desk::local(&etcd);
    let config = desk.path("guardian.yaml").display().to_string();
    let made: Vec<String> = std::thread::scope(|scope| {
        let config = &config;
        let runs: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let words = ["backup", "create", "--config", config, "-o", "json"];
                    guardian(&words).json()["id"].to_string()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let distinct: std::collections::BTreeSet<&String> = made.iter().collect();
    assert_eq!(distinct.len(), 4, "{made:?}");
    assert_eq!(desk.items().len(), 4);
}
