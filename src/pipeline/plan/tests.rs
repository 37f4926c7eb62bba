//! What is refused, promoted, merged or due, case by case.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::api::{ClusterConfig, Encryption, NamespaceSelector};
use crate::export::resources::Selection;

pub fn request() -> Request {
    let spec = serde_json::json!({
        "backupMode": "Full",
        "storageLocation": { "provider": "Local", "bucket": "/tmp/x" },
    });
    Request {
        spec: serde_json::from_value(spec).unwrap(),
        namespace: "default".to_owned(),
        name: "b".to_owned(),
        schedule: None,
        run_id: "r".to_owned(),
        cluster_name: "c".to_owned(),
        cluster: ClusterConfig {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            ..ClusterConfig::default()
        },
        export: Selection::default(),
        makes_velero_pair: false,
        part: Part::Whole,
        scratch: "/tmp".into(),
        started: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn objects_are_exported_only_where_that_is_asked_for_or_no_etcd_is_named() {
    type Change = fn(&mut Request);
    let cases: [(Result<How, &str>, Change); 8] = [
        (Ok(How::Etcd), |_| {}),
        (Ok(How::Api), |r| r.spec.source = Source::Proxy),
        (Ok(How::Api), |r| r.cluster.endpoints.clear()),
        (Ok(How::EtcdObjects), |r| {
            r.spec.namespace_selector = Some(NamespaceSelector::default());
        }),
        (Ok(How::EtcdObjects), |r| {
            r.export.namespaces.push("shop".to_owned())
        }),
        (Err("etcdEndpoints"), |r| {
            r.spec.source = Source::Direct;
            r.cluster.endpoints.clear();
        }),
        (Err("veleroIntegration"), |r| {
            r.spec.velero_integration = Some(VeleroIntegration {
                enabled: true,
                ..VeleroIntegration::default()
            });
        }),
        (Ok(How::Etcd), |r| {
            r.spec.velero_integration = Some(VeleroIntegration::default());
            r.spec.encryption = Some(Encryption::default());
        }),
    ];
    for (expected, change) in cases {
        let mut request = request();
        change(&mut request);
        match (how(&request), expected) {
            (Ok(is), Ok(expected)) => assert_eq!(is, expected),
            (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
            (is, expected) => unreachable!("{is:?} {expected:?}"),
        }
    }
}

#[test]
fn a_promotion_and_a_bad_release_are_said() {
    assert!(warnings(None, "3.6.16").is_empty());
    let said = warnings(Some("etcd compacted"), "3.5.1");
    assert!(said.iter().any(|w| w.starts_with("BackupPromotedToFull")));
    assert!(said.iter().any(|w| w.contains("3.5.3")));
}

fn backup(id: &str, first: Option<i64>, last: i64, minute: i64) -> Manifest {
    let time = Timestamp::from_second(minute * 60).unwrap();
    let mut value = serde_json::json!({
        "formatVersion": 1, "id": id, "kind": "Full", "clusterId": "c", "clusterName": "c",
        "memberId": "1", "etcdVersion": "3.6.1", "backupName": id, "namespace": "default",
        "runId": id, "created": time, "settled": time, "completed": time + SignedDuration::from_secs(10),
        "revision": last, "compactRevision": -1, "keyCount": 1, "dataKey": id, "rawSize": 100_000_000,
        "storedSize": 1_000_000, "plainSha256": "", "storedSha256": id, "compression": "Zstd",
        "level": "Verified", "toolVersion": "0", "authRevision": 3,
    });
    if let Some(first) = first {
        let parent = if first == 11 {
            "b".to_owned()
        } else {
            format!("i{}", first - 1)
        };
        value["kind"] = "Increment".into();
        value["startRevision"] = first.into();
        value["rawSize"] = 50_000_000.into();
        value["chain"] = serde_json::json!({"base": "b", "parentSha256": parent, "epoch": 1});
    }
    serde_json::from_value(value).unwrap()
}

/// A full backup of revision 10 and so many increments, a minute and a revision each.
fn chain(length: i64) -> Vec<Manifest> {
    let mut all = vec![backup("b", None, 10, 0)];
    for step in 1..=length {
        let last = 10 + step;
        all.push(backup(&format!("i{last}"), Some(last), last, step));
    }
    all
}

fn cluster() -> Cluster {
    Cluster {
        revision: 100,
        auth_revision: Some(3),
        version: "3.6.4".to_owned(),
    }
}

fn every(json: serde_json::Value) -> FullEvery {
    serde_json::from_value(json).unwrap()
}

/// `Increment`, `Merge` or `Full`, and why.
fn next_of(
    all: &[Manifest],
    cluster: &Cluster,
    rules: &FullEvery,
    minute: i64,
) -> (&'static str, String) {
    let now = Timestamp::from_second(minute * 60).unwrap();
    match next(all, &request(), cluster, (Some(rules), None), now) {
        Next::Increment(_) => ("Increment", String::new()),
        Next::Merge(_, why) => ("Merge", why),
        Next::Full(why) => ("Full", why),
    }
}

#[test]
fn a_chain_goes_on_until_it_is_long_or_old_or_its_users_are_others() {
    type Change = fn(&mut Cluster, &mut Vec<Manifest>);
    let rules = every(serde_json::json!({"increments": 3}));
    let merged = every(serde_json::json!({"increments": 3, "synthetic": true}));
    let nothing: Change = |_, _| {};
    let cases: [(i64, &FullEvery, Change, &str, &str); 12] = [
        (2, &rules, nothing, "Increment", ""),
        (
            3,
            &rules,
            nothing,
            "Full",
            "3 increments, and fullEvery allows 3",
        ),
        (3, &merged, nothing, "Merge", "fullEvery allows 3"),
        // What cannot be merged for as long again is read from etcd.
        (5, &merged, nothing, "Merge", "5 increments"),
        (6, &merged, nothing, "Full", "has failed"),
        (
            1,
            &rules,
            |cluster, _| cluster.auth_revision = Some(4),
            "Full",
            "users or roles were changed",
        ),
        (
            3,
            &merged,
            |cluster, _| cluster.auth_revision = Some(4),
            "Full",
            "users or roles",
        ),
        // Before 3.5 nobody tells, and an older full backup does not say.
        (
            1,
            &rules,
            |cluster, _| cluster.auth_revision = None,
            "Increment",
            "",
        ),
        (
            1,
            &rules,
            |_, all| all[0].auth_revision = None,
            "Increment",
            "",
        ),
        (
            3,
            &merged,
            |cluster, _| cluster.version = "3.7.0".to_owned(),
            "Full",
            "etcd was 3.6.1",
        ),
        (
            3,
            &merged,
            |_, all| all[2].level = Level::Stored,
            "Full",
            "i12 was never proved",
        ),
        (
            1,
            &merged,
            |cluster, _| cluster.revision = 10,
            "Full",
            "it was restored",
        ),
    ];
    for (length, rules, change, expected, words) in cases {
        let (mut cluster, mut all) = (cluster(), chain(length));
        change(&mut cluster, &mut all);
        let (is, why) = next_of(&all, &cluster, rules, length + 1);
        assert_eq!(is, expected, "{length} {why}");
        assert!(why.contains(words), "{why}");
    }
    // A day after it was read from etcd all of it is read again, whatever it was merged to meanwhile.
    let mut all = chain(1);
    let (is, why) = next_of(&all, &cluster(), &merged, 24 * 60);
    assert_eq!(is, "Full", "{why}");
    all[0].created = Timestamp::from_second(20 * 3600).unwrap();
    assert_eq!(next_of(&all, &cluster(), &merged, 24 * 60).0, "Increment");
    all[0].synthetic = Some(crate::repository::Synthetic {
        base: "a".to_owned(),
        increments: 9,
        read: Timestamp::UNIX_EPOCH,
    });
    let (is, why) = next_of(&all, &cluster(), &merged, 24 * 60);
    assert!(
        is == "Full" && why.contains("older than fullEvery"),
        "{is} {why}"
    );
    let mut switched_off = request();
    switched_off.spec.validation.consistency_check = false;
    let policy = (Some(&merged), None);
    let three = chain(3);
    let is = next(
        &three,
        &switched_off,
        &cluster(),
        policy,
        Timestamp::UNIX_EPOCH,
    );
    assert!(matches!(is, Next::Full(why) if why.contains("validation is off")));
    // Who was told to merge does not count what was published before it was told.
    let told = Request {
        part: Part::Merge,
        ..request()
    };
    let of = |request: &Request| {
        let six = chain(6);
        let now = Timestamp::from_second(420).unwrap();
        matches!(
            next(&six, request, &cluster(), policy, now),
            Next::Merge(..)
        )
    };
    assert_eq!((of(&request()), of(&told)), (false, true));
}

#[test]
fn a_chain_that_takes_too_long_to_restore_is_followed_by_a_new_base() {
    // The full backup was made at 10 MB/s: 10 s for it alone, and 5 s for each increment.
    let rules = |seconds: i64| every(serde_json::json!({"restoreTime": format!("{seconds}s")}));
    let (is, why) = next_of(&chain(3), &cluster(), &rules(26), 4);
    assert_eq!(is, "Increment", "{why}");
    let (is, why) = next_of(&chain(3), &cluster(), &rules(25), 4);
    assert_eq!(is, "Full");
    for words in [
        "25 s for 250000000 bytes in 4 objects",
        "10.0 MB/s",
        "when the full backup was made",
        "allows 25 s",
    ] {
        assert!(why.contains(words), "{why}");
    }
    let mut merged = rules(25);
    merged.synthetic = true;
    assert_eq!(next_of(&chain(3), &cluster(), &merged, 4).0, "Merge");
    // The last drill knows better than the backup.
    let now = Timestamp::from_second(240).unwrap();
    let (all, rules) = (chain(3), rules(25));
    let drilled = |pace: f64| {
        next(
            &all,
            &request(),
            &cluster(),
            (Some(&rules), Some(pace)),
            now,
        )
    };
    assert!(matches!(drilled(20e6), Next::Increment(_)));
    assert!(matches!(drilled(9e6), Next::Full(why) if why.contains("as in the last drill")));
    // Where the full backup alone takes as long, another one helps nobody, and that is said.
    assert!(matches!(drilled(4e6), Next::Increment(_)));
    let said = |pace| out_of_reach(&all[0], Some(&rules), Some(pace));
    assert!(said(4e6).unwrap().contains("restoreTime wants 25 s"));
    assert_eq!(said(9e6), None);
    assert_eq!(out_of_reach(&all[0], None, Some(1.0)), None);
}

#[test]
fn the_more_a_chain_weighs_the_seldomer_it_is_compared_with_the_live_cluster() {
    let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
    let mut all = chain(2);
    let hash = crate::snapshot::HashKv {
        hash: 1,
        revision: 11,
        compact_revision: -1,
    };
    let due = |all: &[Manifest], minute| {
        let increments: Vec<&Manifest> = all[1..].iter().collect();
        not_compared(&all[0], &increments, at(minute))
    };
    assert_eq!(due(&all, 3), None, "a chain's first increment is compared");
    all[1].hash_kv = Some(hash);
    let why = due(&all, 10).unwrap();
    assert!(why.contains("i11") && why.contains("10 minutes"), "{why}");
    assert_eq!(due(&all, 11), None);
    all[0].stored_size = 300 << 20;
    let why = due(&all, 50).unwrap();
    assert!(why.contains("50 minutes"), "{why}");
    assert_eq!(due(&all, 51), None);
}
