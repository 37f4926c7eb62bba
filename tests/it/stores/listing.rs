//! How long and with how much memory a real server's many backups become a catalogue. `LISTING` in the environment says how many,
//! as 100000; the numbers of docs/performance.md are printed.

use std::time::Instant;

use crate::backup::memory::private_bytes;
use crate::backup::{Desk, cluster, s3};
use crate::support::{Versitygw, guardian_process, until_within};

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
    let log = desk.path("log");
    let start = Instant::now();
    let words = ["backup", "list", "-o", "json", "--config", &config];
    let mut process = guardian_process(&words, &log);
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
    assert_eq!(listed["items"].as_array().unwrap().len(), many);
    eprintln!(
        "{many} backups: {:.1} s, {} MiB of private memory",
        took.as_secs_f64(),
        peak / MIB
    );
    let allowed = 64 * MIB + 6 * 1024 * many as u64;
    assert!(peak < allowed, "{} of {} MiB", peak / MIB, allowed / MIB);
}
