//! Size and duration of the next backup, expected from the ones before, on the backups of a real etcd that grows, is written over,
//! loses half of what it holds, and is compacted and defragmented.

use etcdguardian::schedule::size::{self, Past};
use serde_json::Value;

use crate::run::Site;
use crate::support::{Etcd, until};

/// Backups that are made.
const BACKUPS: usize = 24;

/// What the schedule remembers of its backups.
fn remembered(site: &Site) -> Vec<Past> {
    std::fs::read_dir(site.path("state/schedules"))
        .into_iter()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| serde_json::from_str::<Value>(&text).ok())
        .find_map(|record| serde_json::from_value(record["sizes"].clone()).ok())
        .unwrap_or_default()
}

/// One step in the life of a cluster: mostly it grows; now and then all is written again, or half of it goes.
fn live(etcd: &Etcd, round: usize) {
    let prefix = |round: usize| format!("/registry/round{round:02}/");
    etcd.fill(&prefix(round), 200 + 60 * (round % 5), 4_000);
    match round % 8 {
        3 => etcd.fill(&prefix(round - 1), 300, 4_000),
        6 => {
            for old in (round - 6..round).step_by(2) {
                etcd.ctl(&["del", "--prefix", &prefix(old)]);
            }
            etcd.ctl(&["compact", &etcd.revision().to_string()]);
            etcd.ctl(&["defrag"]);
        }
        _ => {}
    }
}

#[test]
fn the_size_of_a_real_etcds_backups_is_expected_to_a_tenth() {
    let etcd = Etcd::start("3.6");
    let site = Site::new(&etcd, "");
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: main}}\nspec:\n  schedule: '0 0 1 1 *'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {}\n",
        site.local()
    );
    std::fs::write(site.path("manifests/main.yaml"), text).unwrap();
    let running = site.start();
    until("the schedule at work", || {
        let status = site.guardian(&["status", "-o", "json"]).stdout;
        let status: Value = serde_json::from_str(&status).ok()?;
        status["schedules"].get(0).map(|_| ())
    });
    for round in 0..BACKUPS {
        live(&etcd, round);
        site.guardian(&["schedule", "trigger", "main"]).ok();
        until("one backup more in the record", || {
            (remembered(&site).len() > round).then_some(())
        });
    }
    let past = remembered(&site);
    drop(running);

    let (least, most) = past
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(least, most), one| {
            (least.min(one.raw_size), most.max(one.raw_size))
        });
    assert!(most > 4.0 * least, "{past:?}");
    let shrank = past
        .windows(2)
        .any(|pair| pair[1].raw_size < 0.9 * pair[0].raw_size);
    assert!(shrank, "{past:?}");
    let scores = size::score(&past).unwrap();
    eprintln!("{least} to {most} bytes: {scores:#?}");
    assert_eq!(scores.count, BACKUPS - size::LEAST);
    assert!(scores.raw_size.mean_error_percent <= 10.0, "{scores:?}");
    assert!(scores.stored_size.mean_error_percent <= 15.0, "{scores:?}");
    // How long a backup takes depends on what else the machine does.
    assert!(scores.seconds.mean_error_percent.is_finite());
}
