//! `snapshot save`: a plain file that etcd's own tools take.

use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::{Desk, files};
use crate::support::{Etcd, guardian, tool};

#[test]
fn a_saved_snapshot_is_proved_and_etcd_s_own_tool_restores_it() {
    for release in ["3.5", "3.7"] {
        let etcd = Etcd::start(release);
        etcd.fill("k/", 200, 100);
        let desk = Desk::local(&etcd);
        let file = desk.path("my.db").display().to_string();
        let saved = desk.run(&["snapshot", "save", &file, "-o", "json"]).json();
        assert_eq!(saved["ok"], true);
        assert_eq!(saved["level"], "Consistent");
        assert_eq!(saved["revision"], etcd.revision());
        let restored = Command::new(tool(&format!("etcdutl-{release}")))
            .args(["snapshot", "restore", &file])
            .arg(format!("--data-dir={}", desk.path("restored").display()))
            .output()
            .unwrap();
        assert!(restored.status.success(), "{restored:?}");
        // Nothing is overwritten, and nothing half-made lies about.
        let before = std::fs::read(&file).unwrap();
        let refused = desk.run(&["snapshot", "save", &file]).code(5);
        assert!(refused.stderr.contains("my.db"), "{}", refused.stderr);
        assert_eq!(std::fs::read(&file).unwrap(), before);
        let left = files(desk.folder.path());
        assert!(
            !left
                .iter()
                .any(|path| path.display().to_string().contains("partial"))
        );
    }
}

#[test]
fn without_a_quorum_one_member_s_data_is_still_saved() {
    let mut etcd = Etcd::of("3.6").members(3).start();
    etcd.fill("k/", 50, 100);
    let desk = Desk::local(&etcd);
    etcd.process(0).kill();
    etcd.process(1).kill();
    crate::support::until("the last member has lost its leader", || {
        (desk.run(&["backup", "create"]).code == 13).then_some(())
    });
    let file = desk.path("rescue.db").display().to_string();
    let ran = desk.run(&["snapshot", "save", &file, "-o", "json"]);
    assert!(ran.stderr.contains("knows no leader"), "{}", ran.stderr);
    let saved = ran.json();
    assert_eq!(saved["ok"], true, "{saved}");
    assert_eq!(saved["level"], "Verified", "nobody confirms it: {saved}");
}

#[test]
fn a_key_that_is_no_text_is_read_by_its_bytes() {
    let etcd = Etcd::start("3.6");
    let odd = std::ffi::OsStr::from_bytes(b"r\xff");
    let put = etcd.ctl_command().arg("put").arg(odd).arg("value").output();
    assert!(put.unwrap().status.success());
    let desk = Desk::local(&etcd);
    let file = desk.path("odd.db").display().to_string();
    desk.run(&["snapshot", "save", &file]).ok();
    let listed = guardian(&["snapshot", "ls", &file, "-o", "json"]).json();
    let hex = listed["items"][0]["keyHex"].as_str().unwrap();
    assert_eq!(hex, "72ff", "{listed}");
    let value = guardian(&["snapshot", "get", &file, hex, "--hex"]).ok();
    assert_eq!(value, "value");
    guardian(&["snapshot", "get", &file, "7", "--hex"]).code(2);
}
