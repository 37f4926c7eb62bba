//! Memory does not grow with the database: half a gigabyte goes through in a fraction of it.

use super::{Desk, cluster, s3};
use crate::support::{Etcd, Versitygw, guardian_process, until};

/// Private bytes; pages of mapped files are the kernel's to drop and do not count.
pub fn private_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn half_a_gigabyte_goes_through_in_a_fraction_of_it() {
    const MIB: u64 = 1024 * 1024;
    let etcd = Etcd::of("3.6")
        .arg("--quota-backend-bytes=4294967296")
        .start();
    etcd.fill("k/", 50_000, 10_000);
    let store = Versitygw::start(&["backups"]);
    let desk = Desk::new(&cluster(&etcd.endpoints()), &s3(store.port));
    let config = desk.path("guardian.yaml").display().to_string();
    let log = desk.path("log");
    let mut process = guardian_process(&["backup", "create", "--config", &config], &log);
    let peak = std::cell::Cell::new(0);
    until("the backup", || match private_bytes(process.pid()) {
        Some(bytes) => {
            peak.set(peak.get().max(bytes));
            None
        }
        // A process that ended has no memory.
        None => Some(()),
    });
    assert!(process.wait().success(), "{}", process.log_text());
    let made = &desk.items()[0];
    let size = made["size"].as_u64().unwrap();
    assert!(size > 500_000_000, "{size}");
    assert_eq!(made["level"], "Consistent");
    let peak = peak.get();
    eprintln!("{} MiB for a database of {}", peak / MIB, size / MIB);
    assert!(peak > MIB, "it was measured");
    assert!(
        peak < 128 * MIB,
        "{} MiB for a database of {}",
        peak / MIB,
        size / MIB
    );
}
