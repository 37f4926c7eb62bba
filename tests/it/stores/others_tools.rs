//! What lies in a store is fetched and opened by other people's tools alone: curl with S3's signature, age, zstd, etcdutl.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::settings::create_locked_bucket;
use super::sha256;
use crate::backup::{Desk, cluster};
use crate::support::{Etcd, Versitygw, block_on, curl, tool};

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

#[test]
fn a_locked_and_sealed_backup_is_opened_without_this_program() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 40, 500_000);
    let server = Versitygw::start(&[]);
    block_on(create_locked_bucket(&server, "locked"));
    let store = format!(
        "store: {{provider: S3, bucket: locked, region: us-east-1, endpoint: '{}', credentialsSecret: s3, addressing: Path, objectLock: {{mode: Compliance, retain: 1d}}}}\n",
        server.url
    );
    let desk = Desk::new(&cluster(&etcd.endpoints()), &store);
    let (identity, _) = desk.seal();
    let made = desk.create_sealed();
    assert_eq!(made["level"], "Consistent", "{made}");

    let bucket = format!("{}/locked", server.url);
    is_opened(&desk, &identity, "vgw:vgwsecret", &bucket);
}

/// Fetches the one backup of a bucket by curl, signed with these keys, and opens it down to etcd's own tool.
pub fn is_opened(desk: &Desk, identity: &str, keys: &str, bucket: &str) {
    // A bucket's listing names the objects; the manifest beside the data says what should come out.
    let signed = |path: &str, to: &Path| {
        let file = to.display().to_string();
        curl(keys, &["-o", &file], &format!("{bucket}{path}"));
    };
    let listing = desk.path("listing.xml");
    signed("?list-type=2", &listing);
    let listing = std::fs::read_to_string(listing).unwrap();
    let keys: Vec<&str> = listing
        .split("<Key>")
        .skip(1)
        .filter_map(|rest| rest.split("</Key>").next())
        .collect();
    let find = |end: &str| {
        let found = keys.iter().find(|key| key.ends_with(end));
        *found.unwrap_or_else(|| panic!("{end}: {keys:?}"))
    };
    let [manifest, sealed] = ["manifest.json", "snapshot.db.zst.age"].map(|name| {
        let file = desk.path(name);
        signed(&format!("/{}", find(&format!("/{name}"))), &file);
        file
    });
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();

    let (packed, plain) = (desk.path("snapshot.db.zst"), desk.path("snapshot.db"));
    let mut age = Command::new(tool("age"));
    run(age
        .arg("-d")
        .arg("-i")
        .arg(identity)
        .arg("-o")
        .arg(&packed)
        .arg(&sealed));
    run(Command::new("zstd")
        .args(["-d", "-q", "-o"])
        .arg(&plain)
        .arg(&packed));
    assert_eq!(
        manifest["plainSha256"],
        sha256(&std::fs::read(&plain).unwrap())
    );
    let mut status = Command::new(tool("etcdutl-3.6"));
    let status = run(status
        .args(["snapshot", "status", "-w", "json"])
        .arg(&plain));
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["revision"], manifest["revision"]);
}
