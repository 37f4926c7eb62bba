//! The contract servers of Alibaba Cloud, held to Alibaba's own SDKs: what these sign is believed, what is wrong is refused in words
//! that they know. And a backup whose key Alibaba's KMS wrapped is opened by its SDK, age and zstd alone.

use std::process::Command;

use serde_json::{Value, json};

use super::kms::{ALIBABA_KEY, CREATE, desk, manifest_file, run};
use super::sha256;
use crate::backup::data_file;
use crate::support::{Etcd, KmsFake, OssGate, repository, tool, tools_dir};

/// What the SDKs say.
fn sdks(words: &[&str]) -> String {
    let python = tools_dir().join("alibaba/bin/python");
    assert!(python.exists(), "run `make tools`");
    let output = Command::new(python)
        .arg(repository("tests/tools/alibaba_sdks.py"))
        .args(words)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn outcomes(words: &[&str]) -> Value {
    serde_json::from_str(&sdks(words)).unwrap()
}

#[test]
fn the_key_service_is_what_alibabas_sdks_take_it_for() {
    let kms = KmsFake::start();
    let expected = json!({
        "a key opens what it wrapped": true,
        "another context": "400 InvalidCiphertext",
        "a changed blob": "400 InvalidCiphertext",
        "another secret": "400 SignatureDoesNotMatch",
        "an unknown id": "404 InvalidAccessKeyId.NotFound",
        "a token that was never given": "400 InvalidSecurityToken.Malformed",
        "an unknown key": "404 Forbidden.KeyNotFound",
        "a disabled key wraps": "409 Rejected.Disabled",
        "a disabled key opens": "409 Rejected.Disabled",
        "a rotated key opens what it wrapped before": true,
        "an ill service": "503 ServiceUnavailableTemporary",
        "the same a moment later": true,
        "a pod's token gets keys that the key service takes": true,
        "those keys without their token": "400 InvalidSecurityToken.Malformed",
        "a pod's token that ended": "400 AuthenticationFail.OIDCToken.Expired",
        "a pod's token for somebody else": "400 AuthenticationFail.OIDCToken.AudienceNotMatch",
    });
    assert_eq!(outcomes(&["kms", &kms.url]), expected);
}

#[test]
fn the_store_takes_alibabas_sdks_native_writes_and_overwrites_nothing() {
    let gate = OssGate::start(&["backups"]);
    let expected = json!({
        "oss2 creates": true,
        "oss2 overwrites": "409 FileAlreadyExists",
        "oss2 with another secret": "403 SignatureDoesNotMatch",
        "oss2 with an unknown id": "403 InvalidAccessKeyId",
        "oss2 with another region": "400 InvalidArgument",
        "oss2 with a token": true,
        "oss2 with another token": "403 InvalidSecurityToken",
        "oss2 with a bucket that is not there": "404 NoSuchBucket",
        "oss-v2 creates": true,
        "oss-v2 overwrites": "409 FileAlreadyExists",
        "oss-v2 signs the host too": true,
        "oss-v2 with another secret": "403 SignatureDoesNotMatch",
        "oss-v2 with a token": true,
    });
    assert_eq!(outcomes(&["oss", &gate.proxy, gate.endpoint]), expected);
    let first = gate.file("backups", "a b/c+ü~*%.json");
    assert_eq!(std::fs::read(first).unwrap(), b"first");
}

#[test]
fn alibabas_sdk_age_and_zstd_open_what_its_key_service_sealed() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 20, 100);
    let kms = KmsFake::start();
    let desk = desk(&etcd, ALIBABA_KEY);
    let made = run(&desk, &kms.url, &CREATE).json();
    let manifest = manifest_file(&made);
    let identity = desk.path("identity");
    let key = sdks(&["identity", &kms.url, &manifest.display().to_string()]);
    assert!(key.starts_with("AGE-SECRET-KEY-1"), "a key");
    std::fs::write(&identity, key).unwrap();
    let packed = desk.path("snapshot.db.zst");
    let mut age = Command::new(tool("age"));
    age.arg("-d").arg("-i").arg(&identity).arg("-o");
    let opened = age.arg(&packed).arg(data_file(&made)).output().unwrap();
    let said = String::from_utf8_lossy(&opened.stderr);
    assert!(opened.status.success(), "{said}");
    let mut zstd = Command::new("zstd");
    let plain = zstd.args(["-d", "-q", "-c"]).arg(&packed).output().unwrap();
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["plainSha256"], sha256(&plain.stdout));
}
