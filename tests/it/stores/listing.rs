//! How long and with how much memory a real server's many backups become a catalogue. `LISTING` in the environment says how many,
//! as 100000; the numbers of docs/performance.md are printed.

use std::time::Instant;

use crate::backup::memory::private_bytes;
use crate::backup::{Desk, cluster, s3};
use crate::support::{Process, Versitygw, guardian_command, until_within};

const MIB: u64 = 1024 * 1024;

#[test]
fn many_backups_of_a_real_server_become_a_catalogue_in_bounded_memory() {
    let many: usize = std::env::var("LISTING")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3_000);
    let store = Versitygw::start(&["backups"]);
    // Behind the server's back: an object there is a file.
    for number in 0..many {
        let id = format!("20260101T{number:06}Z-{number}");
        let manifest = super::manifest(&id, i64::try_from(number).unwrap(), b"x");
        let file = store.file("backups", &manifest.data_key);
        let folder = file.parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&file, b"x").unwrap();
        let text = serde_json::to_vec_pretty(&manifest).unwrap();
        std::fs::write(folder.join("manifest.json"), text).unwrap();
    }
    let desk = Desk::new(
        &cluster(&["http://127.0.0.1:1".to_owned()]),
        &s3(store.port),
    );
    let config = desk.path("guardian.yaml").display().to_string();
    let cache = desk.path("cache");
    let list = |words: &str| {
        let start = Instant::now();
        let mut command = guardian_command();
        command
            .args(["backup", "list", "-o", "json", "--config", &config])
            .env("ETCDGUARDIAN_CACHE_DIR", &cache);
        let log = desk.path(&format!("{words}.log"));
        let mut process = Process::start("etcdguardian", &mut command, &log);
        let mut peak = 0;
        let hour = std::time::Duration::from_secs(3600);
        until_within(hour, "the catalogue", || {
            match private_bytes(process.pid()) {
                Some(bytes) => {
                    peak = peak.max(bytes);
                    None
                }
                None => Some(()),
            }
        });
        let took = start.elapsed();
        assert!(process.wait().success(), "{}", process.log_text());
        let said = process.log_text();
        let json = said.find('{').unwrap();
        let listed: serde_json::Value = serde_json::from_str(&said[json..]).unwrap();
        let found = listed["items"].as_array().unwrap().len();
        eprintln!(
            "{found} backups, {words}: {:.1} s, {} MiB of private memory",
            took.as_secs_f64(),
            peak / MIB
        );
        let allowed = 64 * MIB + 6 * 1024 * many as u64;
        assert!(peak < allowed, "{} of {} MiB", peak / MIB, allowed / MIB);
        listed
    };
    let first = list("none known");
    assert_eq!(first["items"].as_array().unwrap().len(), many);
    let kept = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
    assert_eq!(list("all known"), first);

    // What the store holds counts, whatever is known: one that was written anew, one that is gone, one that is damaged.
    let change = |number: usize, change: &dyn Fn(&std::path::Path)| {
        let id = format!("20260101T{number:06}Z-{number}");
        let key = super::manifest(&id, 1, b"x").data_key;
        let data = store.file("backups", &key);
        change(&data.parent().unwrap().join("manifest.json"));
    };
    let rewritten = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace("\"Verified\"", "\"Consistent\"");
        replace(path, text.as_bytes());
    };
    change(3, &rewritten);
    change(4, &|path| std::fs::remove_file(path).unwrap());
    change(5, &|path| replace(path, b"{}"));
    let second = list("all known but two");
    let items = second["items"].as_array().unwrap();
    assert_eq!(items.len(), many - 2);
    let levels = items.iter().filter(|one| one["level"] == "Consistent");
    let revisions: Vec<&serde_json::Value> = levels.map(|one| &one["revision"]).collect();
    assert_eq!(revisions, [3]);
    // A file of known ones that is damaged is only slower.
    let mut bytes = std::fs::read(kept.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(kept.path(), bytes).unwrap();
    assert_eq!(list("half of them known"), second);
}

/// Puts another object in the place of one, as the server does: under a new name, then renamed.
fn replace(path: &std::path::Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}
