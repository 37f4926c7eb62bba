//! No secret is anywhere that anybody reads: a whole run at trace level, its failures and its page, searched for each of them.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::backup::files;
use crate::run::Site;
use crate::support::{
    Etcd, KmsFake, SlackFake, Toxiproxy, Versitygw, guardian_command, http, until,
};

/// What may be found nowhere, with its name.
pub struct Secrets(pub Vec<(&'static str, String)>);

impl Secrets {
    /// Neither as it is nor as Kubernetes writes it.
    pub fn nowhere_in(&self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for (name, secret) in &self.0 {
            let encoded = STANDARD.encode(secret);
            let found = text.contains(secret) || text.contains(&encoded);
            assert!(!found, "{name} is in {place}");
        }
    }

    pub fn nowhere_below(&self, folder: &Path) {
        for file in files(folder) {
            let bytes = std::fs::read(&file).unwrap();
            self.nowhere_in(&file.display().to_string(), &bytes);
        }
    }
}

#[test]
fn no_secret_is_in_any_log_manifest_metric_page_or_error() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 20, 100);
    let store = Versitygw::start_as(&["backups"], "vgw", "store-secret-access-key", &[]);
    let slack = SlackFake::start();
    let kms = KmsFake::start();
    let toxiproxy = Toxiproxy::start();
    let port = toxiproxy.proxy("s3", store.port);
    let site = Site::new(
        &etcd,
        "alerts: {channels: [{name: chat, slack: {webhookURLFile: SECRETS/chat/hook}}]}\n",
    );
    let write = |name: &str, value: &str| {
        let file = site.path("secrets").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, value).unwrap();
    };
    let config = std::fs::read_to_string(site.config()).unwrap();
    let folder = site.path("secrets").display().to_string();
    std::fs::write(site.config(), config.replace("SECRETS", &folder)).unwrap();
    write("s3/secret-access-key", "store-secret-access-key");
    write("chat/hook", &slack.webhook);
    write("seal/passphrase", "a passphrase of the seal");
    let identity = site.path("offline.key").display().to_string();
    let public = site.guardian(&["keygen", &identity]).ok();
    write("pair/recipients", &public);
    write(
        "pair/identities",
        &std::fs::read_to_string(&identity).unwrap(),
    );
    let secret_key = std::fs::read_to_string(&identity).unwrap();
    let secret_key = secret_key
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY"))
        .unwrap();
    let hook = slack.webhook.rsplit('/').next().unwrap();
    let secrets = Secrets(vec![
        ("the store's key", "store-secret-access-key".to_owned()),
        ("the passphrase", "a passphrase of the seal".to_owned()),
        ("the age identity", secret_key.to_owned()),
        ("the webhook", format!("B0/{hook}")),
        ("the key of the key service", "awssecret".to_owned()),
    ]);
    let location = format!(
        "{{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', credentialsSecret: s3, addressing: Path}}"
    );
    for (name, encryption) in [
        ("pair", "encryptionSecret: pair"),
        ("kms", "kmsKeyID: 'arn:aws:kms:eu-central-1:1:key/k1'"),
    ] {
        site.schedule(name, &location, "");
        let file = site.path(&format!("manifests/{name}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap();
        let sealed = format!("{text}      encryption: {{enabled: true, {encryption}}}\n");
        std::fs::write(file, sealed).unwrap();
    }
    // The loop, with everything that it can say.
    let run_log = site.path("run.log");
    let mut command = guardian_command();
    command
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "awssecret")
        .env("AWS_ENDPOINT_URL_KMS", &kms.url)
        .args(["run", "--log", "trace", "--config"])
        .arg(site.config());
    let mut running = crate::support::Process::start("etcdguardian", &mut command, &run_log);
    let serve = std::fs::read_to_string(site.config()).unwrap();
    let serve = serve.split("127.0.0.1:").last().unwrap();
    let serve: u16 = serve.split('\'').next().unwrap().parse().unwrap();
    let text = |path: &str| http("GET", serve, path, "").map(|answer| answer.body);
    until("both schedules have a backup", || {
        let log = running.log_text();
        let failed = log.lines().find(|line| line.contains("backup failed"));
        assert_eq!(failed, None);
        let status = text("/status.json")?;
        let status: Value = serde_json::from_str(&status).ok()?;
        let schedules = status["schedules"].as_array()?;
        let good = |one: &&Value| !one["status"]["lastSuccessfulTime"].is_null();
        (schedules.iter().filter(good).count() == 2).then_some(())
    });
    // Then the store goes away, and an alert says so.
    toxiproxy.enabled("s3", false);
    until("an alert is sent", || {
        (!slack.messages().is_empty()).then_some(())
    });
    for path in ["/metrics", "/status.json", "/", "/readyz"] {
        secrets.nowhere_in(path, text(path).unwrap_or_default().as_bytes());
    }
    running.signal("TERM");
    running.wait();
    let log = running.log_text();
    assert!(log.contains("TRACE"), "the log says everything");
    secrets.nowhere_in("the log", log.as_bytes());
    secrets.nowhere_below(&site.path("state"));
    secrets.nowhere_below(store.data());
    for message in slack.messages() {
        secrets.nowhere_in("an alert", message.to_string().as_bytes());
    }
    // And by hand, with what goes wrong.
    toxiproxy.heal();
    let url = format!(
        "s3://backups?region=us-east-1&endpoint=http://127.0.0.1:{port}&credentialsSecret=s3&addressing=path"
    );
    write("s3/secret-access-key", "store-secret-access-key-but-wrong");
    for words in [
        &["backup", "list", "--from", url.as_str(), "--log", "trace"][..],
        &[
            "backup",
            "create",
            "--to",
            &url,
            "--encryption-secret",
            "pair",
            "--log",
            "trace",
            "-o",
            "json",
        ],
        &["doctor", "--log", "trace"],
    ] {
        let ran = site.guardian(words);
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        secrets.nowhere_in("stdout", ran.stdout.as_bytes());
        secrets.nowhere_in("stderr", ran.stderr.as_bytes());
    }
}
