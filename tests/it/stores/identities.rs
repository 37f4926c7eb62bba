//! Keys that nobody wrote into a Secret: pods, machines and their roles, against contract servers that check what they are given.

use std::collections::HashMap;

use etcdguardian::secrets::AlibabaIdentity;
use secrecy::ExposeSecret;

use super::kms::{ALIBABA_KEY, AWS_KEY};
use super::secrets::Secrets;
use crate::backup::{Desk, cluster};
use crate::support::{Etcd, KmsFake, OssGate, Pki, Ran, block_on};

fn identity(pairs: &[(&str, &str)]) -> AlibabaIdentity {
    let variables: HashMap<String, String> = pairs
        .iter()
        .map(|(name, value)| (format!("ALIBABA_CLOUD_{name}"), (*value).to_owned()))
        .collect();
    AlibabaIdentity::from_environment(&|name| variables.get(name).cloned())
}

/// A token as a cluster's issuer makes it; nobody here checks its signature.
fn token(audience: &str, expires: i64) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = serde_json::json!({"aud": audience, "exp": expires, "sub": "etcdguardian"});
    let part = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{part}.c2lnbmF0dXJl")
}

#[test]
fn a_pod_of_alibaba_changes_its_token_for_keys_and_reads_it_anew() {
    let fake = KmsFake::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let now = jiff::Timestamp::now().as_second();
    let file_text = file.display().to_string();
    let pairs = [
        ("ROLE_ARN", "acs:ram::1:role/etcdguardian"),
        ("OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
        ("OIDC_TOKEN_FILE", file_text.as_str()),
        ("STS_ENDPOINT", fake.url.as_str()),
    ];
    block_on(async {
        let pod = identity(&pairs);
        let missing = pod.keys().await.unwrap_err().to_string();
        assert!(missing.contains(&file_text), "{missing}");
        let old = token("sts.aliyuncs.com", now - 10);
        std::fs::write(&file, &old).unwrap();
        let expired = pod.keys().await.unwrap_err().to_string();
        assert!(expired.contains("Expired"), "{expired}");
        assert!(!expired.contains(&old), "{expired}");
        std::fs::write(&file, token("other", now + 600)).unwrap();
        let foreign = pod.keys().await.unwrap_err().to_string();
        assert!(foreign.contains("Audience"), "{foreign}");
        // The kubelet writes a new one: no restart is needed.
        std::fs::write(&file, token("sts.aliyuncs.com", now + 600)).unwrap();
        let keys = pod.keys().await.unwrap();
        assert_eq!(keys.id, "STS.rrsa");
        assert_eq!(keys.token.unwrap().expose_secret(), "rrsatoken");
        let asked = fake.actions().len();
        pod.keys().await.unwrap();
        assert_eq!(fake.actions().len(), asked, "living keys are kept");
    });
}

#[test]
fn a_machine_of_alibaba_has_the_keys_of_its_role() {
    let fake = KmsFake::start();
    block_on(async {
        let machine = identity(&[("METADATA_ENDPOINT", &fake.url)]);
        let keys = machine.keys().await.unwrap();
        assert_eq!(keys.id, "STS.machine");
        assert_eq!(machine.inside_region().await.unwrap(), "cn-test");
        let named = identity(&[("METADATA_ENDPOINT", &fake.url), ("ECS_METADATA", "other")]);
        let none = named.keys().await.unwrap_err().to_string();
        assert!(none.contains("RAM role"), "{none}");
        assert!(!format!("{keys:?}").contains("machinesecret"));
    });
}

/// What pods have, and what they get for it.
const GIVEN: [&str; 9] = [
    "pod-service-account-token",
    "podsecret",
    "podtoken",
    "pod-web-token",
    "websecret",
    "webtoken",
    "c2lnbmF0dXJl",
    "rrsasecret",
    "rrsatoken",
];

/// Takes a backup sealed by this key with an identity of the environment; the contract server checks its keys and token. Nothing of
/// either is said or stored, however much is said.
fn seals_as(variables: &[(&str, &str)], etcd: &Etcd, key: &str, url: &str) -> Ran {
    let desk = super::kms::desk(etcd, key);
    let services = [
        ("AWS_ENDPOINT_URL_KMS", url),
        ("ALIBABA_CLOUD_KMS_ENDPOINT", url),
    ];
    let all = [variables, &services].concat();
    let words = ["backup", "create", "--from-schedule", "s", "--log", "trace"];
    let ran = desk.run_as(&all, &words);
    assert!(ran.stderr.contains("TRACE"), "{}", ran.stderr);
    let secrets = Secrets(GIVEN.map(|given| (given, given.to_owned())).to_vec());
    secrets.nowhere_in("stdout", ran.stdout.as_bytes());
    secrets.nowhere_in("the log", ran.stderr.as_bytes());
    secrets.nowhere_below(desk.folder.path());
    ran
}

#[test]
fn a_pod_of_alibaba_seals_with_what_its_token_gets() {
    let etcd = Etcd::start("3.6");
    let fake = KmsFake::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let file_text = file.display().to_string();
    let variables = [
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/etcdguardian"),
        (
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "acs:ram::1:oidc-provider/ack",
        ),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file_text.as_str()),
        ("ALIBABA_CLOUD_STS_ENDPOINT", fake.url.as_str()),
    ];
    let now = jiff::Timestamp::now().as_second();
    std::fs::write(&file, token("sts.aliyuncs.com", now - 10)).unwrap();
    seals_as(&variables, &etcd, ALIBABA_KEY, &fake.url).code(12);
    std::fs::write(&file, token("sts.aliyuncs.com", now + 600)).unwrap();
    seals_as(&variables, &etcd, ALIBABA_KEY, &fake.url).code(0);
}

#[test]
fn a_pod_of_eks_has_the_keys_of_its_pod_identity() {
    let etcd = Etcd::start("3.6");
    let fake = KmsFake::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let (full, file_text) = (format!("{}/eks", fake.url), file.display().to_string());
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file_text.as_str()),
    ];
    std::fs::write(&file, "another token").unwrap();
    seals_as(&variables, &etcd, AWS_KEY, &fake.url).code(12);
    std::fs::write(&file, "pod-service-account-token").unwrap();
    seals_as(&variables, &etcd, AWS_KEY, &fake.url).code(0);
}

#[test]
fn a_pod_of_eks_changes_its_web_identity_for_keys() {
    let etcd = Etcd::start("3.6");
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::create(&folder.path().join("pki"));
    let (sts, kms) = (KmsFake::start_tls(&pki), KmsFake::start());
    let file = folder.path().join("token");
    std::fs::write(&file, "pod-web-token").unwrap();
    let (file_text, authority) = (file.display().to_string(), pki.ca.display().to_string());
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file_text.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/etcdguardian"),
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
        ("SSL_CERT_FILE", authority.as_str()),
    ];
    seals_as(&variables, &etcd, AWS_KEY, &kms.url).code(0);
    std::fs::write(&file, "forged").unwrap();
    let refused = seals_as(&variables, &etcd, AWS_KEY, &kms.url).code(12);
    assert!(!refused.stderr.contains("forged"), "{}", refused.stderr);
}

#[test]
fn oss_is_reached_with_keys_and_a_proxy_of_the_environment() {
    let etcd = Etcd::start("3.6");
    let gate = OssGate::start(&["backups"]);
    let desk = Desk::new(
        &cluster(&etcd.endpoints()),
        &format!(
            "store: {{provider: OSS, bucket: backups, region: cn-test, endpoint: '{}'}}\n",
            gate.endpoint
        ),
    );
    let variables = [
        ("http_proxy", gate.proxy.as_str()),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAItest"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "testsecret"),
        ("no_proxy", "127.0.0.1"),
    ];
    let create = ["backup", "create", "-o", "json"];
    desk.run_as(&variables, &create).ok();
    let native = gate
        .requests()
        .into_iter()
        .filter(|request| request["headers"]["x-oss-forbid-overwrite"] == "true")
        .count();
    assert!(native >= 1, "the manifest was created natively");
}
