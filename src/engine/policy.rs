//! A schedule's resource → what the scheduling core takes, and how finely its signals are sampled. Pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::api::{
    BackupMode, EtcdBackupScheduleSpec, EtcdGuardianConfig, FieldError, PrometheusSource, Source,
};
use crate::recorder::significance::{self, Weights};
use crate::schedule::{Cron, Policy};

/// Reads the cron expression, zone and bounds of a checked resource.
pub fn policy_of(spec: &EtcdBackupScheduleSpec) -> Result<Policy, FieldError> {
    let wrong = |path: &str, message: String| FieldError {
        path: path.to_owned(),
        message,
    };
    let zone = spec.time_zone.as_deref().unwrap_or("UTC");
    let cron = Cron::parse(&spec.schedule, zone)
        .map_err(|error| wrong("spec.schedule", error.to_string()))?;
    if let Some(drill) = &spec.drill {
        Cron::parse(&drill.schedule, zone)
            .map_err(|error| wrong("spec.drill.schedule", error.to_string()))?;
    }
    let ai = &spec.ai_optimization;
    let policy = Policy {
        ai_enabled: ai.enabled,
        min_interval: ai.min_interval.as_signed(),
        max_interval: ai.max_interval.as_signed(),
        exposure_target_percent: u32::try_from(ai.exposure_target_percent).unwrap_or(100),
        max_unprotected_writes: ai
            .max_unprotected_writes
            .and_then(|n| u64::try_from(n).ok()),
        replan: ai.replan,
        avoid_load: ai.avoid_load,
        suspend: spec.suspend,
        immediate: spec.immediate,
        starting_deadline: spec
            .starting_deadline_seconds
            .map(SignedDuration::from_secs),
        expected_duration: None,
        ..Policy::with_defaults(cron)
    };
    policy
        .validate()
        .map_err(|error| wrong("spec.aiOptimization", error.to_string()))?;
    Ok(policy)
}

/// Length of a cell of the series, seconds: 24 a cron period, never finer than a second nor coarser than five minutes.
///
/// The two-hour cron gets the five minutes that the core was measured with.
pub fn step_seconds(policy: &Policy) -> u32 {
    let period = policy.cron.typical_period().as_secs();
    u32::try_from((period / 24).clamp(1, 300)).unwrap_or(300)
}

/// The Prometheus that a schedule reads: its own, each absent field taken from the config's where that is for the schedule's namespace
/// (`trusted`); none when the cron alone decides, since nothing would look at it.
pub fn prometheus_in_force(
    spec: &EtcdBackupScheduleSpec,
    config: &EtcdGuardianConfig,
    trusted: bool,
) -> Option<PrometheusSource> {
    if !spec.ai_optimization.enabled {
        return None;
    }
    let base = config.prometheus.clone().filter(|_| trusted);
    let base = base.unwrap_or_default();
    let own = spec.ai_optimization.prometheus.clone().unwrap_or_default();
    // The config's credentials are for the config's server alone.
    let credentials = base.credentials_secret.filter(|_| own.url.is_none());
    let merged = PrometheusSource {
        url: own.url.or(base.url),
        credentials_secret: own.credentials_secret.or(credentials),
        change_rate_query: own.change_rate_query.or(base.change_rate_query),
        db_size_query: own.db_size_query.or(base.db_size_query),
        load_query: own.load_query.or(base.load_query),
        weights: {
            let mut weights = if own.weights.is_empty() {
                base.weights
            } else {
                own.weights
            };
            weights.extend(resource_weights(&spec.ai_optimization.significance));
            weights
        },
    };
    merged.url.is_some().then_some(merged)
}

/// The weights by resource that `significance` speaks of: resources as they are, and key prefixes of all of a resource. A prefix of
/// some of its keys says nothing to the API server's counters, which know no keys.
fn resource_weights(significance: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    significance
        .iter()
        .filter_map(|(name, weight)| Some((resource_of(name)?, *weight)))
        .collect()
}

/// `configmaps` of `configmaps`, `/registry/configmaps` and `/registry/example.com/widgets/`.
fn resource_of(name: &str) -> Option<String> {
    if !name.starts_with('/') {
        return Some(name.to_owned());
    }
    let (resource, rest) = significance::resource_of(name)?;
    rest.is_empty().then(|| resource.to_owned())
}

/// What the recorder's changes weigh: the resources of `prometheus.weights`, and all that `significance` speaks of. `None` when
/// no watch stands or nothing would look at it.
pub fn recorder_weights(
    spec: &EtcdBackupScheduleSpec,
    config: &EtcdGuardianConfig,
) -> Option<Weights> {
    let stands = records(spec) && spec.ai_optimization.enabled;
    let own = spec.ai_optimization.prometheus.as_ref();
    let own = own
        .map(|source| &source.weights)
        .filter(|own| !own.is_empty());
    let shared = config.prometheus.as_ref().map(|source| &source.weights);
    // Subresources are requests, of which keys know nothing.
    let resources = own
        .or(shared)
        .into_iter()
        .flatten()
        .filter(|(name, _)| !name.contains('/'));
    stands.then(|| Weights::new(resources.chain(&spec.ai_optimization.significance)))
}

/// Whether a standing watch is wanted.
pub fn records(spec: &EtcdBackupScheduleSpec) -> bool {
    spec.recording.as_ref().is_some_and(|one| one.enabled)
        && spec.backup_template.spec.backup_mode == BackupMode::Incremental
        // An export asks the API server what changed.
        && spec.backup_template.spec.source != Source::Proxy
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::{Resource, parse_resources};

    fn spec(schedule: &str, ai: &str) -> EtcdBackupScheduleSpec {
        let text = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: s}}\nspec:\n  schedule: '{schedule}'\n  aiOptimization: {ai}\n  backupTemplate: {{spec: {{backupMode: Full, storageLocation: {{provider: Local, bucket: /b}}}}}}\n"
        );
        match parse_resources(&text, "s.yaml", None).unwrap().remove(0) {
            Resource::Schedule(schedule) => schedule.spec,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn resources_become_policies() {
        let policy = policy_of(&spec(
            "0 */2 * * *",
            "{enabled: true, minInterval: 30m, maxInterval: 8h}",
        ))
        .unwrap();
        assert_eq!(policy.min_interval, SignedDuration::from_mins(30));
        assert_eq!(step_seconds(&policy), 300);
        let fast = policy_of(&spec("* * * * *", "{enabled: false}")).unwrap();
        assert_eq!(step_seconds(&fast), 2);
    }

    #[test]
    fn significance_reaches_the_queries() {
        let text = "{enabled: true, prometheus: {url: 'http://p', weights: {pods: 70, secrets: 5}}, significance: \
                    {configmaps: 40, /registry/secrets/: 300, /registry/example.com/widgets: 0, /registry/pods/kube-system/: 9, \
                    /registry/minions: 10}}";
        let spec = spec("0 */2 * * *", text);
        let config = EtcdGuardianConfig::default();
        let source = prometheus_in_force(&spec, &config, true).unwrap();
        let wanted = [
            ("configmaps", 40),
            ("nodes", 10),
            ("pods", 70),
            ("secrets", 300),
            ("widgets", 0),
        ];
        let found: Vec<(&str, i64)> = source
            .weights
            .iter()
            .map(|(n, w)| (n.as_str(), *w))
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_configs_prometheus_is_for_trusted_namespaces_and_its_credentials_for_itself() {
        let config = EtcdGuardianConfig {
            prometheus: Some(PrometheusSource {
                url: Some("http://ours".to_owned()),
                credentials_secret: Some("operator:p".to_owned()),
                load_query: Some("load".to_owned()),
                ..PrometheusSource::default()
            }),
            ..EtcdGuardianConfig::default()
        };
        let in_force = |ai: &str, trusted| {
            let source = prometheus_in_force(&spec("@hourly", ai), &config, trusted)?;
            let load = source.load_query.is_some();
            Some((source.url?, source.credentials_secret, load))
        };
        let ours = Some("operator:p".to_owned());
        let (none, own) = (
            "{enabled: true}",
            "{enabled: true, prometheus: {url: 'http://own'}}",
        );
        let url = |word: &str| format!("http://{word}");
        assert_eq!(in_force(none, true), Some((url("ours"), ours, true)));
        assert_eq!(in_force(own, true), Some((url("own"), None, true)));
        assert_eq!(in_force(none, false), None);
        assert_eq!(in_force(own, false), Some((url("own"), None, false)));
    }

    #[test]
    fn the_recorder_weighs_prefixes_too_where_a_watch_stands() {
        let text = "{enabled: true, prometheus: {url: 'http://p', weights: {pods: 70, '*/status': 5}}, significance: \
                    {configmaps: 40, /registry/pods/kube-system/: 9}}";
        let mut spec = spec("0 */2 * * *", text);
        let config = EtcdGuardianConfig::default();
        assert_eq!(recorder_weights(&spec, &config), None);
        spec.backup_template.spec.backup_mode = BackupMode::Incremental;
        spec.recording = Some(serde_json::from_str(r#"{"enabled": true}"#).unwrap());
        let weights = recorder_weights(&spec, &config).unwrap();
        for (key, wanted) in [
            ("/registry/pods/kube-system/a", 9),
            ("/registry/pods/default/a", 70),
            ("/registry/configmaps/default/a", 40),
            ("/registry/secrets/default/a", 100),
        ] {
            assert_eq!(weights.of(key.as_bytes()), wanted, "{key}");
        }
    }

    #[test]
    fn impossible_crons_name_the_field() {
        for wrong in ["0 0 31 2 *", "0 0 0 1 1 *", "every day", "61 * * * *"] {
            let error = policy_of(&spec(wrong, "{enabled: false}")).unwrap_err();
            assert_eq!(error.path, "spec.schedule", "{wrong}");
        }
    }
}
