//! What a backup's spec comes to, before anything is done: what is refused, what is promoted, what its name in the store is.

use jiff::{SignedDuration, Timestamp};

use super::Request;
use crate::api::{FullEvery, Source, VeleroIntegration};
use crate::etcd::known_problems;
use crate::repository::{Kind, Level, Manifest, exports_to, increments_of};

/// What `fullEvery` is when it is not set: a restore merges at most a day of increments.
const MOST_INCREMENTS: i64 = 288;
const LONGEST_CHAIN: SignedDuration = SignedDuration::from_hours(24);
/// So many small increments are merged: a day of one a minute is then 60 objects and not 1,440.
const MERGE_AT: usize = 24;
/// How often the live hash is asked for with increments.
const HASH_EVERY: SignedDuration = SignedDuration::from_mins(10);

/// How a backup is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// All of etcd.
    Etcd,
    /// The objects of some namespaces, out of etcd.
    EtcdObjects,
    /// Objects, through the Kubernetes API.
    Api,
}

/// How a backup is read, or why it must not be taken as it is asked for; never silently something less: an etcd that is named and does
/// not answer is a failure.
pub(super) fn how(request: &Request) -> Result<How, String> {
    let spec = &request.spec;
    let wants_pair = |velero: &VeleroIntegration| velero.enabled;
    if !request.makes_velero_pair && spec.velero_integration.as_ref().is_some_and(wants_pair) {
        return Err(
            "veleroIntegration needs the operator, which makes Velero's backup; set enabled: false"
                .to_owned(),
        );
    }
    let objects = spec.namespace_selector.is_some() || !request.export.namespaces.is_empty();
    match (spec.source, request.cluster.endpoints.is_empty()) {
        (Source::Direct, true) => {
            Err("source Direct reads etcd, and no endpoint is named; set etcdEndpoints".to_owned())
        }
        (Source::Proxy, _) | (Source::Auto, true) => Ok(How::Api),
        (Source::Direct | Source::Auto, false) if objects => Ok(How::EtcdObjects),
        (Source::Direct | Source::Auto, false) => Ok(How::Etcd),
    }
}

/// What is worth saying although the backup is good.
pub(super) fn warnings(promoted: Option<&str>, etcd_version: &str) -> Vec<String> {
    let mut warnings = known_problems(etcd_version);
    if let Some(why) = promoted {
        warnings.push(format!(
            "BackupPromotedToFull: {why}; so the whole database was backed up"
        ));
    }
    warnings
}

/// Where a chain can be continued.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tip<'a> {
    /// Its full backup.
    pub base: &'a Manifest,
    /// Its last backup; the full one when there is no increment yet.
    pub last: &'a Manifest,
}

/// The newest full backup of the request's schedule that a chain may stand on.
pub(super) fn newest_base<'a>(backups: &'a [Manifest], request: &Request) -> Option<&'a Manifest> {
    let proved =
        |backup: &&Manifest| backup.level >= Level::Verified || !request.spec.validation.enabled;
    backups
        .iter()
        .filter(|backup| backup.kind == Kind::Full)
        .filter(|backup| {
            backup.namespace == request.namespace && backup.schedule == request.schedule
        })
        .filter(proved)
        .max_by_key(|backup| (backup.created, backup.revision))
}

/// How many increments a writer made of what is one now.
fn merged_from(increment: &Manifest) -> u32 {
    let merged = increment
        .chain
        .as_ref()
        .and_then(|chain| chain.merged.as_ref());
    merged.map_or(1, |merged| merged.count)
}

/// The increments to merge into one: those before the chain's last that were not merged yet, once there are enough of them.
pub(super) fn to_merge<'a>(increments: &[&'a Manifest]) -> Option<Vec<&'a Manifest>> {
    let (_, before) = increments.split_last()?;
    let small = |one: &&&Manifest| merged_from(one) == 1 && one.level >= Level::Verified;
    let mut run: Vec<&Manifest> = before.iter().rev().take_while(small).copied().collect();
    run.reverse();
    (run.len() >= MERGE_AT).then_some(run)
}

/// Whether the live hash is to be asked for with the next increment: a member's writers wait while it is computed, so that it is
/// asked for at a chain's first increment, and then every so often.
pub(super) fn hash_due(increments: &[&Manifest], now: Timestamp) -> bool {
    let sampled = increments.iter().rev().find(|one| one.hash_kv.is_some());
    sampled.is_none_or(|last| now.duration_since(last.created) >= HASH_EVERY)
}

/// The tip of the newest chain of the request's schedule, or the reason why a full backup is due.
pub(super) fn tip<'a>(
    backups: &'a [Manifest],
    request: &Request,
    live_revision: i64,
    full_every: Option<&FullEvery>,
    now: Timestamp,
) -> Result<Tip<'a>, String> {
    let base =
        newest_base(backups, request).ok_or("there is no verified full backup to continue")?;
    let increments = increments_of(base, backups);
    let last = increments.last().copied().unwrap_or(base);
    if live_revision < last.revision {
        return Err(format!(
            "the cluster is at revision {live_revision}, before the recorded {}: it was restored",
            last.revision
        ));
    }
    let count = increments
        .iter()
        .map(|one| i64::from(merged_from(one)))
        .sum::<i64>();
    within(base, count, full_every, now)?;
    Ok(Tip { base, last })
}

/// Whether a chain may still grow.
fn within(
    base: &Manifest,
    count: i64,
    full_every: Option<&FullEvery>,
    now: Timestamp,
) -> Result<(), String> {
    let most = full_every
        .and_then(|every| every.increments)
        .unwrap_or(MOST_INCREMENTS);
    if count >= most {
        return Err(format!(
            "the chain has {count} increments, and fullEvery allows {most}"
        ));
    }
    let oldest = full_every.and_then(|every| every.max_age.as_ref());
    let oldest = oldest.map_or(LONGEST_CHAIN, |age| age.as_signed());
    if now.duration_since(base.created) >= oldest {
        return Err(format!(
            "the full backup {} is older than fullEvery allows",
            base.id
        ));
    }
    Ok(())
}

/// The newest export of the request's schedule, which the next one goes on from, or the reason why a whole one is due. `backups` are
/// those of its cluster.
pub(super) fn export_tip<'a>(
    backups: &'a [Manifest],
    request: &Request,
    selection: &str,
    full_every: Option<&FullEvery>,
    now: Timestamp,
) -> Result<&'a Manifest, String> {
    let exports = backups.iter().filter(|one| {
        one.kind == Kind::Export
            && one.namespace == request.namespace
            && one.schedule == request.schedule
            && (one.level >= Level::Verified || !request.spec.validation.enabled)
    });
    let last = exports
        .max_by_key(|one| (one.created, one.revision))
        .ok_or("there is no verified export to continue")?;
    let scope = last.export.as_ref();
    if scope.is_none_or(|scope| scope.selection != selection) {
        return Err(format!(
            "export {} was asked for other resources or namespaces",
            last.id
        ));
    }
    if last.revision <= 0 {
        return Err(format!("export {} is of no one resourceVersion", last.id));
    }
    let chain = exports_to(last, backups)?;
    let base = chain.first().copied().unwrap_or(last);
    let count = i64::try_from(chain.len()).unwrap_or(i64::MAX) - 1;
    within(base, count, full_every, now)?;
    Ok(last)
}

#[cfg(test)]
pub(super) mod tests {
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
}
