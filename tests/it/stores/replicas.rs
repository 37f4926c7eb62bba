//! Copies in other stores: every backup is brought there with its seal, what was missed is made up for, each store keeps what its
//! own policy says, and a replica that is behind is named.

use serde_json::Value;

use crate::backup::{Desk, cluster};
use crate::support::{Etcd, Toxiproxy, Versitygw};

fn ids(desk: &Desk, url: &str) -> Vec<String> {
    let listed = desk
        .run(&["backup", "list", "--from", url, "-o", "json"])
        .json();
    let items = listed["items"].as_array().unwrap();
    items
        .iter()
        .map(|item: &Value| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn replicas_follow_and_keep_what_their_own_policy_says() {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 20, 100);
    let store = Versitygw::start(&["backups"]);
    let toxiproxy = Toxiproxy::start();
    let port = toxiproxy.proxy("s3", store.port);
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    std::fs::create_dir_all(desk.path("manifests")).unwrap();
    desk.add(&format!(
        "manifests: {}\n",
        desk.path("manifests").display()
    ));
    let (near, far) = (desk.path("store"), desk.path("far"));
    let manifest = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: s}}\nspec:\n  schedule: '@hourly'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {{provider: Local, bucket: {}}}\n      retentionPolicy: {{maxBackups: 2}}\n      replicateTo:\n      - storageLocation: {{provider: Local, bucket: {}}}\n        retentionPolicy: {{maxBackups: 1}}\n      - storageLocation: {{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', credentialsSecret: s3, addressing: Path}}\n",
        near.display(),
        far.display()
    );
    std::fs::write(desk.path("manifests/s.yaml"), manifest).unwrap();
    let create = || {
        etcd.ctl(&["put", "one", "more"]);
        let words = ["backup", "create", "--from-schedule", "s", "-o", "json"];
        let ran = desk.run(&words).code(0);
        (
            serde_json::from_str::<Value>(&ran.stdout).unwrap(),
            ran.stderr,
        )
    };
    let url = |folder: &std::path::Path| format!("file://{}", folder.display());
    let (near, far) = (url(&near), url(&far));
    let cloud = format!(
        "s3://backups?region=us-east-1&endpoint=http://127.0.0.1:{port}&credentialsSecret=s3&addressing=path"
    );
    let (first, said) = create();
    assert!(!said.contains("ReplicaBehind"), "{said}");
    let first = first["id"].as_str().unwrap().to_owned();
    for place in [&near, &far, &cloud] {
        assert_eq!(ids(&desk, place), [&*first], "{place}");
    }
    // A replica that does not answer fails no backup, and is named.
    toxiproxy.enabled("s3", false);
    let (second, said) = create();
    assert!(said.contains("ReplicaBehind: s3://backups"), "{said}");
    let second = second["id"].as_str().unwrap().to_owned();
    assert_eq!(ids(&desk, &far), [&*second], "it keeps one");
    // What it missed is made up for with the next backup.
    toxiproxy.enabled("s3", true);
    let (third, said) = create();
    assert!(!said.contains("ReplicaBehind"), "{said}");
    let third = third["id"].as_str().unwrap().to_owned();
    assert_eq!(ids(&desk, &near), [&*third, &*second]);
    assert_eq!(ids(&desk, &far), [&*third]);
    let there = ids(&desk, &cloud);
    assert_eq!(there, [&*third, &*second, &*first], "it keeps all");
    desk.run(&["backup", "verify", &third, "--deep", "--from", &cloud])
        .ok();
}
