//! The demo is the first thing that people see: it tells its whole story, and leaves nothing behind.

use crate::docs::{documented, typed};
use crate::support::tools_dir;

#[test]
fn the_demo_tells_its_story_to_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let ran = typed(&documented("README.md", "make demo"))
        .env("ETCDGUARDIAN_SHORT", "1")
        .env("ETCDGUARDIAN", env!("CARGO_BIN_EXE_etcdguardian"))
        .env("ETCDGUARDIAN_TOOLS", tools_dir())
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    let words = format!("{told}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{words}");
    for part in [
        "proved   backup",
        "[WARNING] Backup failed",
        "etcdguardian doctor",
        "[OK] Recovered",
        "equal: every key, value and revision is back",
        "retention keeps the newest three",
    ] {
        assert!(
            told.contains(part),
            "the demo does not say {part:?}:\n{words}"
        );
    }
    assert!(
        !told.contains("let 0 go"),
        "retention let nothing go:\n{words}"
    );
    assert!(!told.contains("demo-secret"), "{words}");
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
