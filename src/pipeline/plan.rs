//! What a backup's spec comes to, before anything is done: what is refused, what is promoted, what its name in the store is.

use jiff::{SignedDuration, Timestamp};

use super::Request;
use crate::api::{FullEvery, Source};
use crate::etcd::known_problems;
use crate::repository::{Kind, Level, Manifest, increments_of};

/// What `fullEvery` is when it is not set: a restore merges at most a day of increments.
const MOST_INCREMENTS: i64 = 288;
const LONGEST_CHAIN: SignedDuration = SignedDuration::from_hours(24);

/// Why a backup must not be taken as it is asked for; never silently something less.
pub(super) fn refusal(request: &Request) -> Option<String> {
    let spec = &request.spec;
    let why = match () {
        () if spec.source == Source::Proxy => {
            "source Proxy (an export through the Kubernetes API) is not there yet; use source Direct with etcdEndpoints"
        }
        () if request.cluster.endpoints.is_empty() => {
            "no etcd endpoint is named, and an export through the Kubernetes API is not there yet; set etcdEndpoints"
        }
        () if spec.namespace_selector.is_some() => {
            "namespaceSelector (a tenant's export) is not there yet; take it out to back up the whole cluster"
        }
        () if spec
            .velero_integration
            .as_ref()
            .is_some_and(|velero| velero.enabled) =>
        {
            "veleroIntegration is not there yet; set enabled: false"
        }
        () => return None,
    };
    Some(why.to_owned())
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

/// The tip of the newest chain of the request's schedule, or the reason why a full backup is due.
pub(super) fn tip<'a>(
    backups: &'a [Manifest],
    request: &Request,
    live_revision: i64,
    full_every: Option<&FullEvery>,
    now: Timestamp,
) -> Result<Tip<'a>, String> {
    let proved =
        |backup: &&Manifest| backup.level >= Level::Verified || !request.spec.validation.enabled;
    let base = backups
        .iter()
        .filter(|backup| backup.kind == Kind::Full)
        .filter(|backup| {
            backup.namespace == request.namespace && backup.schedule == request.schedule
        })
        .filter(proved)
        .max_by_key(|backup| (backup.created, backup.revision))
        .ok_or("there is no verified full backup to continue")?;
    let increments = increments_of(base, backups);
    let last = increments.last().copied().unwrap_or(base);
    if live_revision < last.revision {
        return Err(format!(
            "the cluster is at revision {live_revision}, before the recorded {}: it was restored",
            last.revision
        ));
    }
    let count = i64::try_from(increments.len()).unwrap_or(i64::MAX);
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
    Ok(Tip { base, last })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::{ClusterConfig, Encryption, NamespaceSelector, VeleroIntegration};

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
            scratch: "/tmp".into(),
            started: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        assert_eq!(refusal(&request()), None);
        type Change = fn(&mut Request);
        let cases: [(&str, Change); 4] = [
            ("Proxy", |r| r.spec.source = Source::Proxy),
            ("endpoint", |r| r.cluster.endpoints.clear()),
            ("namespaceSelector", |r| {
                r.spec.namespace_selector = Some(NamespaceSelector::default());
            }),
            ("veleroIntegration", |r| {
                r.spec.velero_integration = Some(VeleroIntegration {
                    enabled: true,
                    ..VeleroIntegration::default()
                });
            }),
        ];
        for (word, change) in cases {
            let mut request = request();
            change(&mut request);
            let why = refusal(&request).unwrap();
            assert!(why.contains(word), "{why}");
        }
        let mut off = request();
        off.spec.velero_integration = Some(VeleroIntegration::default());
        off.spec.encryption = Some(Encryption::default());
        assert_eq!(refusal(&off), None);
    }

    #[test]
    fn a_promotion_and_a_bad_release_are_said() {
        assert!(warnings(None, "3.6.16").is_empty());
        let said = warnings(Some("etcd compacted"), "3.5.1");
        assert!(said.iter().any(|w| w.starts_with("BackupPromotedToFull")));
        assert!(said.iter().any(|w| w.contains("3.5.3")));
    }
}
