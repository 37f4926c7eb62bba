//! A real server that takes the condition of a write and ignores it: the first backup and the doctor say so, and backups there are whole.

use serde_json::Value;

use crate::backup::{Desk, cluster};
use crate::support::{Etcd, S3rver};

#[test]
fn a_server_that_ignores_conditions_is_told_and_holds_whole_backups() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 40, 500_000);
    let server = S3rver::start();
    let store = format!(
        "store: {{provider: S3, bucket: backups, prefix: a, region: us-east-1, endpoint: '{}', credentialsSecret: careless, addressing: Path}}\n",
        server.url
    );
    let desk = Desk::new(&cluster(&etcd.endpoints()), &store);
    let secret = desk.path("secrets/careless");
    std::fs::create_dir_all(&secret).unwrap();
    for key in ["access-key-id", "secret-access-key"] {
        std::fs::write(secret.join(key), "S3RVER").unwrap();
    }
    let create = || desk.run(&["backup", "create", "-o", "json"]).code(0);
    let first = create();
    assert!(first.stderr.contains("StoreOverwrites"), "{}", first.stderr);
    let doctor = desk.run(&["doctor"]);
    let said = "it overwrites although it was told to create only";
    assert!(doctor.stdout.contains(said), "{}", doctor.stdout);
    etcd.ctl(&["put", "one", "more"]);
    let second = create();
    for ran in [first, second] {
        let made: Value = serde_json::from_str(&ran.stdout).unwrap();
        let [id, cluster] = ["id", "clusterId"].map(|name| made[name].as_str().unwrap());
        // It does not list folders that hold folders alone, as the cluster's, so this is named.
        let words = ["backup", "verify", id, "--deep", "--cluster-id", cluster];
        desk.run(&words).ok();
    }
}
