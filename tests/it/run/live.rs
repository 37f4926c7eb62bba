//! `etcdguardian run`: the loop as people start it, against a real etcd, killed and misconfigured in every way that happens.

use std::path::Path;

use etcdguardian::schedule::decide::Source;
use serde_json::Value;

use super::{Site, scratch_is_empty};
use crate::support::{Etcd, Mailpit, SlackFake, Toxiproxy, Versitygw, until};

#[test]
fn backups_are_made_proved_and_reported_without_a_human_touch() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 200, 200);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    let mut run = site.start();
    let backups = site.wait_for_backups(&site.url(), 3);
    assert!(
        backups.iter().all(|b| b["level"] == "Consistent"),
        "{backups:?}"
    );
    assert!(backups.iter().all(|b| b["schedule"] == "main"));

    let status = site.guardian(&["status", "-o", "json"]).json();
    assert_eq!(status["protected"], true, "{status}");
    assert_eq!(status["running"], true);
    let schedule = &status["schedules"][0];
    assert!(schedule["status"]["recoverableTo"].is_string());
    until("three in the history", || {
        let status = site.guardian(&["status", "-o", "json"]).json();
        let history = status["schedules"][0]["status"]["backupHistory"].as_array();
        history
            .is_some_and(|history| history.len() >= 3)
            .then_some(())
    });

    let explained = site
        .guardian(&["schedule", "explain", "main", "-o", "json"])
        .json();
    for field in [
        "source",
        "intervalSeconds",
        "reasons",
        "exposure",
        "forecast",
        "features",
    ] {
        assert!(!explained[field].is_null(), "{field}: {explained}");
    }
    assert!(!explained["reasons"].as_array().unwrap().is_empty());
    // In people's words, and in the same ones everywhere.
    let told = site.guardian(&["schedule", "explain", "main"]).ok();
    let (_, told) = told.split_once(", decided by ").unwrap();
    let names = Source::ALL.map(Source::name);
    let decider = |words: &str| {
        names
            .iter()
            .any(|name| words.starts_with(&format!("{name}: ")))
    };
    assert!(decider(told), "{told}");
    let why = until("a wait with a reason", || {
        let status = site.guardian(&["status", "-o", "json"]).json();
        let why = status["schedules"][0]["why"].as_str().unwrap().to_owned();
        let shown = site.guardian(&["status"]).ok();
        shown.contains(&why).then_some(why)
    });
    assert!(decider(&why), "{why}");
    assert!(
        site.guardian(&["schedule", "list"])
            .ok()
            .contains("default/main")
    );
    site.guardian(&["schedule", "next", "main"]).ok();
    site.guardian(&["schedule", "next", "nobody"]).code(4);

    run.signal("TERM");
    assert_eq!(run.wait().code(), Some(143));
    assert!(scratch_is_empty(&site), "nothing is left in scratch");
    site.assert_whole(&site.url());
}

#[test]
fn killed_in_mid_upload_it_goes_on_and_doubles_nothing() {
    let etcd = Etcd::start("3.6");
    etcd.fill("big/", 64, 60_000);
    let store = Versitygw::start(&["backups"]);
    let toxics = Toxiproxy::start();
    let port = toxics.proxy("s3", store.port);
    let site = Site::new(&etcd, "");
    let through = |port: u16| {
        format!(
            "{{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', addressing: Path, credentialsSecret: s3}}"
        )
    };
    let url = format!(
        "s3://backups?region=us-east-1&endpoint=http://127.0.0.1:{}&addressing=path&credentialsSecret=s3",
        store.port
    );
    site.schedule("main", &through(port), "");
    let mut run = site.start();
    site.wait_for_backups(&url, 1);
    let under_way = || {
        let text = std::fs::read_to_string(site.path("state/schedules/default_main.json")).ok()?;
        let record: Value = serde_json::from_str(&text).ok()?;
        record["inFlight"]["runId"].as_str().map(str::to_owned)
    };
    for round in 1..=4 {
        let earlier = under_way();
        // Some seconds an upload: a run that begins from here on is killed inside one.
        toxics.toxic("s3", "bandwidth", "{\"rate\": 300}");
        until("a run that began on the slow line", || {
            under_way().filter(|run| earlier.as_ref() != Some(run))
        });
        let heard = run.log_text().len();
        run.signal("KILL");
        run.wait();
        let before = site.backups(&url).len();
        toxics.heal();
        run = site.start();
        site.wait_for_backups(&url, before + 1);
        let log = run.log_text().split_off(heard);
        assert!(
            log.contains("interrupted"),
            "round {round}: the interrupted run was noticed:\n{log}"
        );
    }
    run.signal("TERM");
    run.wait();
    assert!(scratch_is_empty(&site));
    assert!(site.assert_whole(&url) >= 5);
}

#[test]
fn a_store_that_goes_away_is_told_on_slack_and_by_mail_and_so_is_its_return() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 20, 50);
    let store = Versitygw::start(&["backups"]);
    let toxics = Toxiproxy::start();
    let port = toxics.proxy("s3", store.port);
    let mail = Mailpit::start();
    let slack = SlackFake::start();
    let site = {
        let alerts = format!(
            "alerts:\n  repeatInterval: 1h\n  channels:\n  - name: chat\n    slack: {{webhookURLFile: HOOK}}\n  - name: mail\n    email: {{smtp: {{host: 127.0.0.1, port: {}, tls: None}}, from: guardian@example.com, to: [oncall@example.com]}}\n",
            mail.smtp_port
        );
        let site = Site::new(&etcd, &alerts);
        let hook = site.path("hook");
        std::fs::write(&hook, &slack.webhook).unwrap();
        let text = std::fs::read_to_string(site.config()).unwrap();
        std::fs::write(site.config(), text.replace("HOOK", hook.to_str().unwrap())).unwrap();
        site
    };
    let location = format!(
        "{{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', addressing: Path, credentialsSecret: s3}}"
    );
    site.schedule("main", &location, "");
    let mut run = site.start();
    until("protected", || {
        (site.guardian(&["status"]).code == 0).then_some(())
    });
    assert!(
        slack.messages().is_empty() && mail.messages().is_empty(),
        "all is well: nobody is told"
    );

    toxics.enabled("s3", false);
    let told = until("a Slack message", || {
        slack
            .messages()
            .into_iter()
            .map(|m| m.to_string())
            .find(|m| m.contains("main"))
    });
    assert!(
        told.contains("etcdguardian doctor"),
        "it says what to type: {told}"
    );
    assert!(!told.contains("vgwsecret"));
    until("a mail", || (!mail.messages().is_empty()).then_some(()));
    until("not protected", || {
        (site.guardian(&["status"]).code == 3).then_some(())
    });

    toxics.enabled("s3", true);
    until("protected again", || {
        (site.guardian(&["status"]).code == 0).then_some(())
    });
    until("the recovery is told", || {
        let said = slack
            .messages()
            .into_iter()
            .map(|m| m.to_string().to_lowercase());
        said.into_iter()
            .find(|m| m.contains("recovered") || m.contains("resolved"))
    });
    run.signal("TERM");
    run.wait();
}

#[test]
fn the_folder_is_watched_and_a_bad_file_stops_nothing() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let site = Site::new(&etcd, "");
    site.schedule("first", &site.local(), "");
    let run = site.start();
    site.wait_for_backups(&site.url(), 1);

    std::fs::write(
        site.path("manifests/bad.yaml"),
        "kind: EtcdBackupSchedule\n  spec: [",
    )
    .unwrap();
    let problems = |site: &Site| {
        let status = site.guardian(&["status", "-o", "json"]).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        status["problems"].as_array().cloned().unwrap_or_default()
    };
    until("the problem is reported", || {
        (!problems(&site).is_empty()).then_some(())
    });
    let before = site.backups(&site.url()).len();
    site.wait_for_backups(&site.url(), before + 1);
    std::fs::remove_file(site.path("manifests/bad.yaml")).unwrap();
    until("the problem is gone", || {
        problems(&site).is_empty().then_some(())
    });

    std::fs::write(
        site.path("manifests/one.yaml"),
        format!("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: before-upgrade}}\nspec: {{backupMode: Full, storageLocation: {}}}\n", site.local()),
    )
    .unwrap();
    until("the single backup", || {
        site.backups(&site.url())
            .into_iter()
            .find(|b| b["name"] == "before-upgrade")
    });

    site.guardian(&["schedule", "suspend", "first"]).ok();
    until("suspended", || {
        let next = site.guardian(&["schedule", "explain", "first"]).ok();
        next.contains("suspended").then_some(())
    });
    let suspended = site.backups(&site.url()).len();
    // The only schedule is suspended, so nothing is: the terminal, its exit code and the page say so in the same words.
    let said = until("the status says so", || {
        let status = site.guardian(&["status"]);
        status
            .stdout
            .contains("Suspended: no backups")
            .then_some(status)
    });
    assert_eq!(said.code, 3, "{}", said.stdout);
    assert!(
        said.stdout
            .contains("suspended: no backups are taken; the newest proved one is of "),
        "{}",
        said.stdout
    );
    let page = || site.page()["verdict"]["words"].as_str().unwrap().to_owned();
    assert_eq!(page(), "Suspended: no backups are taken");
    // Beside one that works it counts for nothing.
    site.schedule("second", &site.local(), "");
    let said = until("the other protects", || {
        let status = site.guardian(&["status"]);
        status
            .stdout
            .contains("Protected, 1 suspended")
            .then_some(status)
    });
    assert_eq!(said.code, 0, "{}", said.stdout);
    until("the page says the same", || {
        (page() == "Protected, 1 suspended").then_some(())
    });
    std::fs::remove_file(site.path("manifests/second.yaml")).unwrap();
    site.guardian(&["schedule", "trigger", "first"]).ok();
    site.wait_for_backups(&site.url(), suspended + 1);
    site.guardian(&["schedule", "resume", "first"]).ok();
    site.wait_for_backups(&site.url(), suspended + 2);
    drop(run);
    let single = site.backups(&site.url());
    assert_eq!(
        single
            .iter()
            .filter(|b| b["name"] == "before-upgrade")
            .count(),
        1
    );
}

#[test]
fn a_backup_that_was_asked_for_and_failed_is_tried_again_long_before_the_next_would_be_due() {
    let etcd = Etcd::start("3.6");
    let site = Site::new(&etcd, "");
    let location = site.local();
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: main}}\nspec:\n  schedule: '@daily'\n  immediate: true\n  aiOptimization: {{enabled: true, minInterval: 20s, maxInterval: 24h}}\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {location}\n"
    );
    std::fs::write(site.path("manifests/main.yaml"), text).unwrap();
    let _run = site.start();
    site.wait_for_backups(&site.url(), 1);
    // The folder's place is taken by a file, until somebody notices.
    let (store, aside) = (site.path("store"), site.path("aside"));
    std::fs::rename(&store, &aside).unwrap();
    std::fs::write(&store, "in the way").unwrap();
    site.guardian(&["schedule", "trigger", "main"]).ok();
    until("the failure is told", || {
        let status = site.guardian(&["status"]);
        status.stdout.contains("did not complete").then_some(())
    });
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&aside, &store).unwrap();
    site.wait_for_backups(&site.url(), 2);
}

#[test]
fn two_processes_cannot_share_a_state_folder() {
    let etcd = Etcd::start("3.6");
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    let mut run = site.start();
    run.wait_ready(|| site.path("state/status.json").exists());
    let second = site.guardian(&["run", "--once"]).code(11);
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
}

#[test]
fn a_lost_state_folder_is_rebuilt_from_the_store() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    site.guardian(&["run", "--once"]).ok();
    remove(&site.path("state"));
    // The newest backup is seen in the store, so that nothing is due at once.
    let text = std::fs::read_to_string(site.path("manifests/main.yaml")).unwrap();
    let calm = text.replace(
        "minInterval: 1s, maxInterval: 3s",
        "minInterval: 1h, maxInterval: 6h",
    );
    std::fs::write(site.path("manifests/main.yaml"), calm).unwrap();
    site.guardian(&["run", "--once"]).ok();
    assert_eq!(site.backups(&site.url()).len(), 1);
    site.guardian(&["status"]).code(0);
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
}
