//! No secret is in anything that the operator says: its log at trace level, its metrics, its Kubernetes events, the status of every
//! object, the Jobs that it makes, alerts, manifests; with every store and key service that it knows, and with keys that are wrong.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::Site;
use crate::stores::secrets::Secrets;
use crate::support::{
    Azurite, GcsFake, KmsFake, Kubernetes, Mailpit, OssGate, Pki, Process, SlackFake, http, until,
};

/// A Secret of namespace `guardian`.
fn secret(site: &Site, name: &str, pairs: &[(&str, &str)]) {
    let literals: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("--from-literal={key}={value}"))
        .collect();
    let mut words = vec!["create", "secret", "generic", name, "-n", "guardian"];
    words.extend(literals.iter().map(String::as_str));
    site.cluster.kubectl(&words);
}

#[test]
fn no_secret_is_in_any_event_status_log_metric_or_alert_of_the_operator() {
    let site = Site::new(Kubernetes::with_controllers());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (kms, slack) = (KmsFake::start(), SlackFake::start());
    let (azure, gcs) = (Azurite::start(&["backups"]), GcsFake::start("backups"));
    let oss = OssGate::start(&["backups"]);
    let pki = Pki::create(&folder.path().join("pki"));
    let mail = Mailpit::start_tls(&pki, "guardian", "the-password-of-smtp");
    // Everything that is secret, right and wrong.
    let wrong_azure = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=";
    let (account, stranger) = (gcs.account(), gcs.stranger());
    let signing = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0";
    let line = |account: &str| account.split("\\n").nth(1).unwrap().to_owned();
    let identity = etcdguardian::seal::generate().identity_file;
    let identity = identity.expose_secret();
    let key_line = identity
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY"));
    let secrets = Secrets(vec![
        ("the age identity", key_line.unwrap().to_owned()),
        ("the S3 key", "vgwsecret".to_owned()),
        ("a wrong S3 key", "not-the-key-of-s3".to_owned()),
        ("the OSS key", "testsecret".to_owned()),
        ("a wrong OSS key", "not-the-key-of-oss".to_owned()),
        ("the Azure key", azure.key.clone()),
        ("a wrong Azure key", wrong_azure.to_owned()),
        ("the Google key", line(&account)),
        ("a wrong Google key", line(&stranger)),
        ("the AWS key of KMS", "awssecret".to_owned()),
        (
            "the passphrase",
            "a passphrase that nobody guesses".to_owned(),
        ),
        ("the password of etcd", "the-password-of-etcd".to_owned()),
        ("the Slack webhook", "B0/secret".to_owned()),
        ("the Slack token", "xoxb-test".to_owned()),
        ("the SMTP password", "the-password-of-smtp".to_owned()),
        ("the webhook's header", "the-token-of-the-hook".to_owned()),
        ("the signing secret", signing.to_owned()),
    ]);
    secret(
        &site,
        "wrong-s3",
        &[
            ("access-key-id", "vgw"),
            ("secret-access-key", "not-the-key-of-s3"),
        ],
    );
    let proxied = ("proxy-url", oss.proxy.as_str());
    for (name, key) in [("oss", "testsecret"), ("wrong-oss", "not-the-key-of-oss")] {
        let keys = [("access-key-id", "LTAItest"), ("access-key-secret", key)];
        secret(&site, name, &[keys[0], keys[1], proxied]);
    }
    for (name, key) in [("azure", azure.key.as_str()), ("wrong-azure", wrong_azure)] {
        secret(
            &site,
            name,
            &[("account-name", "guardian"), ("account-key", key)],
        );
    }
    for (name, account) in [("gcs", &account), ("wrong-gcs", &stranger)] {
        secret(&site, name, &[("service-account.json", account)]);
    }
    secret(&site, "seal", &[("identities", identity)]);
    secret(
        &site,
        "phrase",
        &[("passphrase", "a passphrase that nobody guesses")],
    );
    secret(
        &site,
        "etcd",
        &[("username", "root"), ("password", "the-password-of-etcd")],
    );
    // Every channel, with a file for each secret.
    let channels = format!(
        "alerts:\n  channels:\n  - {{name: chat, slack: {{webhookURLFile: {}}}}}\n  - {{name: bot, slack: {{tokenFile: {}, channel: '#etcd-backup', apiURL: '{}'}}}}\n  - {{name: mail, email: {{smtp: {{host: localhost, port: {}, caFile: {}, usernameFile: {}, passwordFile: {}}}, from: g@example.com, to: [o@example.com]}}}}\n  - {{name: hook, webhook: {{url: 'http://127.0.0.1:{}/nothing-here', headersFile: {}, signingSecretFile: {}}}}}\n",
        file("hook", &slack.webhook).display(),
        file("token", "xoxb-test").display(),
        slack.api,
        mail.smtp_port,
        pki.ca.display(),
        file("user", "guardian").display(),
        file("password", "the-password-of-smtp").display(),
        site.store.port,
        file("headers", "Authorization: Bearer the-token-of-the-hook\n").display(),
        file("signing", signing).display(),
    );
    let config = site.config("one", &format!("{channels}{}", super::jobs::JOBS));
    let page = crate::support::free_port();
    let text = std::fs::read_to_string(&config).unwrap();
    let listens = format!("listen: '127.0.0.1:{page}'");
    std::fs::write(&config, text.replace("listen: ''", &listens)).unwrap();
    let mut command = site.cluster.operator_command(&config, "one");
    command
        .args(["--log", "trace"])
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "awssecret")
        .env("AWS_ENDPOINT_URL_KMS", &kms.url);
    let log = folder.path().join("operator.log");
    let mut operator = Process::start("operator", &mut command, &log);
    operator.wait_ready(|| site.leader().is_some());

    let s3 = site.storage(site.store.port);
    let in_cloud = |provider: &str, endpoint: &str, more: &str, secret: &str| {
        format!(
            "{{provider: {provider}, bucket: backups, endpoint: '{endpoint}', {more} credentialsSecret: {secret}}}"
        )
    };
    let places = [
        ("s3", s3.clone(), s3.replace(": s3}", ": wrong-s3}")),
        (
            "oss",
            in_cloud("OSS", oss.endpoint, "region: cn-test,", "oss"),
            in_cloud("OSS", oss.endpoint, "region: cn-test,", "wrong-oss"),
        ),
        (
            "azure",
            in_cloud("Azure", &azure.url, "", "azure"),
            in_cloud("Azure", &azure.url, "", "wrong-azure"),
        ),
        (
            "gcs",
            in_cloud("GCS", &gcs.url, "", "gcs"),
            in_cloud("GCS", &gcs.url, "", "wrong-gcs"),
        ),
    ];
    let seal = "encryption: {enabled: true, encryptionSecret: seal}";
    let key = "encryption: {enabled: true, kmsKeyID: 'arn:aws:kms:eu-central-1:1:key/k1'}";
    for (name, right, wrong) in &places {
        let spec = format!("executor: InProcess, {seal}, storageLocation: {right}");
        site.backup("guardian", name, &spec);
        let spec = format!("executor: InProcess, {seal}, storageLocation: {wrong}");
        site.backup("guardian", &format!("wrong-{name}"), &spec);
    }
    for (name, more) in [
        ("by-key", format!("executor: InProcess, {key}")),
        (
            "as-user",
            "executor: InProcess, etcdAuth: {secretName: etcd}".to_owned(),
        ),
        ("by-job", format!("executor: Job, {seal}")),
        // Not waited for: an unoptimised build takes a minute over scrypt.
        (
            "by-phrase",
            "executor: InProcess, encryption: {enabled: true, encryptionSecret: phrase}".to_owned(),
        ),
    ] {
        site.backup("guardian", name, &format!("{more}, storageLocation: {s3}"));
    }
    site.schedule_to(
        "guardian",
        "failing",
        "schedule: '@yearly'\n  immediate: true",
        "",
        &places[0].2,
    );
    for name in ["s3", "oss", "azure", "gcs", "by-key"] {
        let ended = site.ended("guardian", name);
        assert_eq!(ended["status"]["phase"], "Completed", "{ended}");
    }
    for name in ["wrong-s3", "wrong-oss", "wrong-azure", "wrong-gcs"] {
        site.wait_event("guardian", name, "CredentialsInvalid");
    }
    until("a Job is there", || {
        (!site.cluster.list("jobs", "guardian").is_empty()).then_some(())
    });
    until("etcd refused the user", || {
        (site.events("guardian", "as-user").len() > 1).then_some(())
    });
    until("alerts were sent by each channel", || {
        (slack.messages().len() >= 2 && !mail.messages().is_empty()).then_some(())
    });
    until("the webhook's refusal was said", || {
        let said = operator.log_text();
        let told = ["alert not delivered", "alert channel is down"];
        told.iter().any(|words| said.contains(words)).then_some(())
    });

    for kinds in [
        "events",
        "etcdbackups,etcdbackupschedules,etcdrestores",
        "jobs,pods,configmaps,leases",
    ] {
        let all = ["get", kinds, "-A", "-o", "json", "--show-managed-fields"];
        let text = site.cluster.kubectl(&all);
        assert!(text.contains("\"kind\""), "{kinds}");
        secrets.nowhere_in(kinds, text.as_bytes());
    }
    for path in ["/metrics", "/status.json", "/", "/readyz"] {
        let answer = http("GET", page, path, "").expect("the operator answers");
        secrets.nowhere_in(path, answer.body.as_bytes());
    }
    for message in slack.messages() {
        secrets.nowhere_in("a message to Slack", message.to_string().as_bytes());
    }
    for message in mail.messages() {
        let raw = mail.raw(message["ID"].as_str().unwrap());
        secrets.nowhere_in("a mail", raw.as_bytes());
    }
    secrets.nowhere_below(site.store.data());
    operator.signal("TERM");
    operator.wait();
    let said = operator.log_text();
    assert!(said.contains("TRACE"), "the log says everything");
    secrets.nowhere_in("the log", said.as_bytes());
}
