//! The recorder's counts by key as the signal of a schedule, on a real etcd.

use serde_json::Value;

use crate::run::Site;
use crate::support::{Etcd, until};

/// The schedule as the running process describes it.
fn described(site: &Site) -> Value {
    let status = site.guardian(&["status", "-o", "json"]).stdout;
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    status["schedules"][0].clone()
}

/// Changes in all cells of the series, two seconds each.
fn changes(described: &Value) -> f64 {
    let rates = described["rates"].as_array().cloned().unwrap_or_default();
    rates
        .iter()
        .filter_map(|one| one["rate"].as_f64())
        .sum::<f64>()
        * 2.0
}

#[test]
fn where_a_watch_stands_changes_are_weighed_by_their_keys() {
    let etcd = Etcd::start("3.6");
    etcd.fill("/registry/pods/default/", 5, 10);
    let site = Site::new(&etcd, "");
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: watched}}\nspec:\n  schedule: '* * * * *'\n  immediate: true\n  recording: {{enabled: true}}\n  aiOptimization: {{enabled: true, minInterval: 30s, maxInterval: 10m, significance: {{/registry/pods/kube-system/: 0, secrets: 300}}}}\n  backupTemplate:\n    spec:\n      backupMode: Incremental\n      storageLocation: {}\n",
        site.local()
    );
    std::fs::write(site.path("manifests/watched.yaml"), text).unwrap();
    let running = site.start();
    site.wait_for_backups(&site.url(), 1);
    let chosen = until("the recorder's counts in force", || {
        etcd.fill("/registry/leases/kube-node-lease/", 5, 10);
        let described = described(&site);
        let signal = described["signal"].as_str().unwrap_or_default();
        signal
            .contains("the recorder's counts by key")
            .then(|| described.clone())
    });
    assert!(changes(&chosen) < 1.0, "leases count nothing: {chosen}");
    etcd.fill("/registry/leases/kube-node-lease/", 60, 10);
    etcd.fill("/registry/pods/kube-system/", 30, 10);
    etcd.fill("/registry/secrets/default/", 4, 10);
    etcd.fill("/registry/pods/default/", 5, 10);
    // Four secrets at three each and five pods; a cell at either end of the history may be known in part only.
    let seen = until("seventeen changes", || {
        let seen = changes(&described(&site));
        (seen > 15.0).then_some(seen)
    });
    assert!(seen < 21.0, "{seen}");
    drop(running);
}
