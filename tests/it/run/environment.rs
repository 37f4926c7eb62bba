//! Bad input to `etcdguardian run`: each has a named error or a stated fallback, the right exit code, and harms nothing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use super::Site;
use crate::support::{Etcd, Mailpit, Prometheus, Versitygw, guardian_command, until};

#[test]
fn one_round_says_what_failed_by_its_exit_code() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    site.guardian(&["run", "--once"]).ok();
    assert_eq!(site.backups(&site.url()).len(), 1);
    let status = site.guardian(&["status", "-o", "json"]).json();
    assert!(
        status["schedules"][0]["running"].is_null(),
        "the round is over: {status}"
    );

    let refused = |site: &Site, code: i32, words: &str| {
        let ran = site.guardian(&["run", "--once"]).code(code);
        assert!(
            ran.stderr.contains(words),
            "wanted '{words}': {}",
            ran.stderr
        );
    };
    let write = |site: &Site, from: &str, to: &str| {
        site.schedule("main", &site.local(), "");
        let file = site.path("manifests/main.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        std::fs::write(&file, text.replace(from, to)).unwrap();
    };
    write(&site, "'* * * * *'", "'61 * * * *'");
    refused(&site, 2, "spec.schedule");
    write(&site, "minInterval: 1s", "minInterval: 9s");
    refused(&site, 2, "minInterval");
    write(&site, "retentionPolicy", "retentionPolcy");
    refused(&site, 2, "retentionPolicy");
    write(&site, "provider: Local", "provider: Tape");
    refused(&site, 2, "Tape");
    assert_eq!(
        site.backups(&site.url()).len(),
        1,
        "nothing that was stored is harmed"
    );

    let missing = Site::new(&etcd, "");
    missing.schedule("main", "{provider: S3, bucket: b, region: us-east-1, endpoint: 'http://127.0.0.1:9', credentialsSecret: nothere}", "");
    missing.guardian(&["run", "--once"]).code(12);
    let unreachable = Site::new(&etcd, "");
    unreachable.schedule("main", "{provider: S3, bucket: b, region: us-east-1, endpoint: 'http://127.0.0.1:9', credentialsSecret: s3}", "");
    unreachable.guardian(&["run", "--once"]).code(10);
    let gone = Site::new(&etcd, "");
    gone.schedule("main", &gone.local(), "");
    let text = std::fs::read_to_string(gone.config()).unwrap();
    std::fs::write(
        gone.config(),
        text.replace(&etcd.endpoint(), "http://127.0.0.1:9"),
    )
    .unwrap();
    gone.guardian(&["run", "--once"]).code(13);
    // A single backup is tried once a round too, and not again before its pause is over.
    std::fs::remove_file(gone.path("manifests/main.yaml")).unwrap();
    let single = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: one}}\nspec: {{backupMode: Full, storageLocation: {}}}\n",
        gone.local()
    );
    std::fs::write(gone.path("manifests/one.yaml"), single).unwrap();
    for _ in 0..2 {
        gone.guardian(&["run", "--once"]).code(13);
    }
}

#[test]
fn what_is_logged_of_a_backup_carries_the_id_that_its_manifest_has() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let site = Site::new(&etcd, "log: {format: Json, level: debug}\n");
    site.schedule("main", &site.local(), "");
    let mut run = site.start();
    let backup = site.wait_for_backups(&site.url(), 1).remove(0);
    run.signal("TERM");
    run.wait();
    let data = backup["location"].as_str().unwrap();
    let data = std::path::Path::new(data.strip_prefix("file://").unwrap());
    let manifest = std::fs::read_to_string(data.with_file_name("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let wanted = manifest["runId"].as_str().unwrap();
    let log = std::fs::read_to_string(site.path("run.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of_it = lines.iter().filter(|line| {
        let spans = line["spans"].as_array().into_iter().flatten();
        spans
            .clone()
            .any(|span| span["name"] == "backup" && span["run"] == wanted)
    });
    assert!(of_it.count() > 0, "{log}");
}

/// A server that answers every request alike: Prometheus in trouble.
fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    format!("http://{address}")
}

fn optimized(site: &Site) -> Value {
    let status = site.guardian(&["status", "-o", "json"]).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    let conditions = status["schedules"][0]["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "AIOptimized")
        .cloned()
        .unwrap_or_default()
}

#[test]
fn a_prometheus_in_trouble_leaves_the_cron_and_etcds_own_counts() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let nan = "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{},\"values\":[[1700000000,\"NaN\"]]}]}}";
    let empty = Prometheus::start("", &[]);
    for (url, words) in [
        (answering("500 Internal Server Error", "oh no"), "500"),
        (answering("200 OK", "this is no JSON"), "Prometheus"),
        (answering("200 OK", nan), "change rate"),
        (empty.url.clone(), "knows no change rate"),
        ("http://127.0.0.1:9".to_owned(), "Prometheus"),
    ] {
        let site = Site::new(&etcd, &format!("prometheus: {{url: '{url}'}}\n"));
        site.schedule("main", &site.local(), "");
        let ran = site.guardian(&["run", "--once"]);
        assert_eq!(ran.code, 0, "{url}: {}", ran.stderr);
        assert_eq!(site.backups(&site.url()).len(), 1, "the backup is made");
        let condition = optimized(&site);
        assert_eq!(condition["status"], "False", "{url}: {condition}");
        let status = site.guardian(&["status", "-o", "json"]).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        let warnings = status["schedules"][0]["signalWarnings"].to_string();
        assert!(warnings.contains(words), "wanted '{words}': {warnings}");
    }
}

#[test]
fn wrong_passwords_and_authorities_are_credential_errors_and_told_once() {
    let etcd = Etcd::of("3.6").tls().auth("right").start();
    let pki = etcd.pki.as_ref().unwrap();
    let mail = Mailpit::start();
    let alerts = format!(
        "alerts:\n  channels:\n  - name: mail\n    email: {{smtp: {{host: 127.0.0.1, port: {}, tls: None}}, from: guardian@example.com, to: [oncall@example.com]}}\n",
        mail.smtp_port
    );
    let site = Site::new(&etcd, &alerts);
    site.schedule("main", &site.local(), "");
    site.signs_in(pki, "not-the-password");

    let ran = site.guardian(&["run", "--once"]).code(12);
    assert!(ran.stderr.contains("password"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("not-the-password"));
    let told = until("a mail", || mail.messages().into_iter().next());
    let told = mail.raw(told["ID"].as_str().unwrap());
    assert!(told.contains("etcdguardian doctor") && !told.contains("not-the-password"));

    site.secret("user", "password", b"right");
    let stranger = tempfile::tempdir().unwrap();
    let other = crate::support::Pki::create(stranger.path());
    site.secret("tls", "ca.crt", &std::fs::read(&other.ca).unwrap());
    let ran = site.guardian(&["run", "--once"]);
    assert!([12, 13].contains(&ran.code), "{}: {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("certificate"), "{}", ran.stderr);

    site.secret("tls", "ca.crt", &std::fs::read(&pki.ca).unwrap());
    // The failures before back off; a fresh state asks at once.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    site.guardian(&["run", "--once"]).ok();
    assert_eq!(site.assert_whole(&site.url()), 1);
}

#[test]
fn a_store_that_takes_nothing_is_named_and_what_it_holds_stays() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let store = Versitygw::start(&["backups"]);
    let site = Site::new(&etcd, "");
    let s3 = |bucket: &str| {
        format!(
            "{{provider: S3, bucket: {bucket}, region: us-east-1, endpoint: 'http://127.0.0.1:{}', addressing: Path, credentialsSecret: s3}}",
            store.port
        )
    };
    site.schedule("main", &s3("nosuchbucket"), "");
    let ran = site.guardian(&["run", "--once"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("nosuchbucket"), "{}", ran.stderr);

    // A file where the directory should be: nobody, not even root, can write into it.
    let file = site.path("no-directory");
    std::fs::write(&file, "here").unwrap();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let local = format!("{{provider: Local, bucket: {}}}", file.display());
    site.schedule("main", &local, "");
    let ran = site.guardian(&["run", "--once"]).code(10);
    assert!(ran.stderr.contains("no-directory"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), b"here");
}

#[test]
fn a_full_disk_fails_the_backup_and_leaves_nothing_half_done() {
    let etcd = Etcd::start("3.6");
    etcd.fill("big/", 64, 60_000);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    let binary = guardian_command();
    // No file may grow beyond 1 MiB, which is how a full disk looks to whoever writes.
    let output = Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 1024; exec \"$0\" run --once --config \"$1\"",
        ])
        .arg(binary.get_program())
        .arg(site.config())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("free space"), "{words}");
    assert!(site.backups(&site.url()).is_empty());
    assert!(super::scratch_is_empty(&site));
    std::fs::remove_dir_all(site.path("state")).unwrap();
    site.guardian(&["run", "--once"]).ok();
    assert_eq!(site.assert_whole(&site.url()), 1);
}

#[test]
fn a_clock_that_jumped_back_does_not_stop_the_backups() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 10, 10);
    let site = Site::new(&etcd, "");
    site.schedule("main", &site.local(), "");
    site.guardian(&["run", "--once"]).ok();
    // The state of a process whose clock ran a day ahead.
    let folder = site.path("state/schedules");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let today = jiff::Timestamp::now();
        let tomorrow = today + jiff::SignedDuration::from_hours(24);
        let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%dT").to_string();
        std::fs::write(&file, text.replace(&day(today), &day(tomorrow))).unwrap();
    }
    let mut run = site.start();
    site.wait_for_backups(&site.url(), 2);
    until("protected", || {
        (site.guardian(&["status"]).code == 0).then_some(())
    });
    run.signal("TERM");
    run.wait();
}
