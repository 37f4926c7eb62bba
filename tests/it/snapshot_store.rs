//! The snapshot verbs straight from a store: folders and S3, sealed or not, and what they say when it cannot be.

use serde_json::Value;

use crate::backup::{Desk, cluster, data_file, files, flip, s3};
use crate::support::{Etcd, Versitygw, free_port};

/// Every verb on a source, with the words that open it, says of the second backup what etcd says.
fn every_verb_agrees(desk: &Desk, url: &str, ids: [&str; 2], etcd: &Etcd, more: &[&str]) {
    let run = |words: &[&str]| {
        let words = [words, more].concat();
        desk.run(&words)
    };
    let json = |words: &[&str]| run(&[words, &["-o", "json"]].concat()).json();
    let revision = etcd.revision();
    let status = json(&["snapshot", "status", url]);
    assert_eq!(status["revision"], revision);
    assert_eq!(status["digest"], "ok");
    assert_eq!(status["totalKeys"], 41);
    assert!(status["etcdVersion"].as_str().unwrap().starts_with("3."));
    let checked = json(&["snapshot", "check", url]);
    assert_eq!(
        (&checked["ok"], &checked["level"]),
        (&true.into(), &"Verified".into())
    );
    let hash = json(&["snapshot", "hashkv", url, "--backup", ids[1]]);
    assert_eq!(
        (&hash["hash"], &hash["revision"]),
        (&etcd.hash_kv(0).0.into(), &revision.into())
    );
    let listing = json(&["snapshot", "ls", url, "k/0000000"]);
    assert_eq!(listing["items"].as_array().unwrap().len(), 10);
    assert_eq!(run(&["snapshot", "get", url, "added"]).ok(), "later");
    // Two backups of one store, each by URL#ID.
    let (first, second) = (format!("{url}#{}", ids[0]), format!("{url}#{}", ids[1]));
    let difference = json(&["snapshot", "diff", &first, &second]);
    assert_eq!(difference["created"], serde_json::json!(["added"]));
    assert_eq!(difference["changed"], serde_json::json!([]));
    assert!(
        run(&["snapshot", "get", &first, "added"])
            .code(4)
            .stderr
            .contains("'added'")
    );
}

fn id(backup: &Value) -> &str {
    backup["id"].as_str().unwrap()
}

#[test]
fn every_verb_reads_backups_in_a_folder_and_in_a_bucket() {
    let etcd = Etcd::start("3.6");
    let store = Versitygw::start(&["backups"]);
    etcd.fill("k/", 40, 100);
    let desk = Desk::new(&cluster(&etcd.endpoints()), &s3(store.port));
    let folder = format!("file://{}", desk.path("store").display());
    let bucket = format!(
        "s3://backups?region=us-east-1&endpoint=http://127.0.0.1:{}&addressing=path&credentialsSecret=s3",
        store.port
    );
    let create = |url: &str| {
        desk.run(&["backup", "create", "--to", url, "-o", "json"])
            .json()
    };
    let first = [create(&folder), create(&bucket)];
    etcd.ctl(&["put", "added", "later"]);
    let second = [create(&folder), create(&bucket)];
    for (index, url) in [&folder, &bucket].into_iter().enumerate() {
        every_verb_agrees(
            &desk,
            url,
            [id(&first[index]), id(&second[index])],
            &etcd,
            &[],
        );
    }
    assert!(
        files(&desk.path("state")).is_empty(),
        "scratch is empty again"
    );
    // What cannot be, each with its code.
    let absent = desk
        .run(&["snapshot", "status", &folder, "--backup", "2020"])
        .code(4);
    assert!(absent.stderr.contains("2020"), "{}", absent.stderr);
    let nothing = format!("file://{}", desk.path("secrets").display());
    desk.run(&["snapshot", "check", &nothing]).code(4);
    desk.run(&["snapshot", "status", "ftp://x/y"]).code(2);
    let nowhere = format!(
        "s3://backups?region=us-east-1&endpoint=http://127.0.0.1:{}&addressing=path&credentialsSecret=s3",
        free_port()
    );
    desk.run(&["snapshot", "check", &nowhere]).code(10);
    let unknown = bucket.replace("credentialsSecret=s3", "credentialsSecret=none");
    desk.run(&["snapshot", "hashkv", &unknown]).code(12);
    flip(&data_file(&second[0]));
    for verb in ["status", "check", "hashkv", "ls"] {
        let damaged = desk.run(&["snapshot", verb, &folder]).code(3);
        assert!(
            damaged.stderr.contains("damaged"),
            "{verb}: {}",
            damaged.stderr
        );
    }
    // The one before it is as good as it was.
    desk.run(&["snapshot", "check", &format!("{folder}#{}", id(&first[0]))])
        .ok();
}

#[test]
fn sealed_backups_are_read_with_their_key_only() {
    let etcd = Etcd::start("3.5");
    let store = Versitygw::start(&["backups"]);
    etcd.fill("k/", 40, 100);
    let desk = Desk::new(&cluster(&etcd.endpoints()), &s3(store.port));
    let (identity, _) = desk.seal();
    std::fs::copy(&identity, desk.path("secrets/seal/identities")).unwrap();
    let bucket = format!(
        "s3://backups/sealed?region=us-east-1&endpoint=http://127.0.0.1:{}&addressing=path&credentialsSecret=s3",
        store.port
    );
    let words = [
        "backup",
        "create",
        "--to",
        &bucket,
        "--encryption-secret",
        "seal",
        "-o",
        "json",
    ];
    let first = desk.run(&words).json();
    etcd.ctl(&["put", "added", "later"]);
    let second = desk.run(&words).json();
    assert_eq!(second["sealed"], true);
    let ids = [id(&first), id(&second)];
    every_verb_agrees(&desk, &bucket, ids, &etcd, &["--identity", &identity]);
    every_verb_agrees(&desk, &bucket, ids, &etcd, &["--encryption-secret", "seal"]);
    for verb in ["status", "check", "hashkv", "ls"] {
        let closed = desk.run(&["snapshot", verb, &bucket]).code(12);
        assert!(
            closed.stderr.contains("sealed for"),
            "{verb}: {}",
            closed.stderr
        );
    }
    let other = desk.path("other").display().to_string();
    desk.run(&["keygen", &other]).ok();
    desk.run(&["snapshot", "check", &bucket, "--identity", &other])
        .code(12);
}

#[test]
fn a_release_that_is_known_to_be_bad_is_named_by_status_and_doctor() {
    // Debian's 3.4 can go back to an older revision after a crash.
    let etcd = Etcd::start("3.4");
    etcd.fill("k/", 5, 10);
    let desk = Desk::local(&etcd);
    desk.create();
    let url = format!("file://{}", desk.path("store").display());
    let status = desk.run(&["snapshot", "status", &url, "-o", "json"]).json();
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(warning.contains("upgrade to 3.4.32"), "{warning}");
    let words = desk.run(&["snapshot", "status", &url]).ok();
    assert!(words.contains(warning), "{words}");
    let report = desk.run(&["doctor"]).ok();
    assert!(report.contains("WARNING  etcd release"), "{report}");
    assert!(report.contains(warning), "{report}");
    let good = Etcd::start("3.6");
    let desk = Desk::local(&good);
    desk.create();
    let url = format!("file://{}", desk.path("store").display());
    let status = desk.run(&["snapshot", "status", &url, "-o", "json"]).json();
    assert_eq!(status.get("warnings"), None);
    assert!(!desk.run(&["doctor"]).ok().contains("etcd release"));
}
