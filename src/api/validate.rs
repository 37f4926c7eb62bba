//! Rules that a resource or config must keep, beyond its types: each breach names the field's path.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{
    Encryption, EtcdBackup, EtcdBackupSchedule, EtcdBackupSpec, EtcdGuardianConfig,
    ExportResources, Provider, RetentionPolicy, StorageLocation, validate_alerts,
};

/// One wrong field: where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field, as `spec.aiOptimization.minInterval`.
    pub path: String,
    /// What is wrong and what to write.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

pub(super) struct Findings(Vec<FieldError>);

impl Findings {
    pub(super) fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError {
            path: path.into(),
            message: message.into(),
        });
    }
}

/// The rules of an EtcdBackup.
pub fn validate_backup(backup: &EtcdBackup) -> Vec<FieldError> {
    let mut found = Findings(Vec::new());
    backup_spec(&mut found, "spec", &backup.spec);
    found.0
}

/// The rules of an EtcdBackupSchedule. The cron expression and zone are checked by the schedule room.
pub fn validate_schedule(schedule: &EtcdBackupSchedule) -> Vec<FieldError> {
    let mut found = Findings(Vec::new());
    let ai = &schedule.spec.ai_optimization;
    if ai.min_interval > ai.max_interval {
        found.push(
            "spec.aiOptimization.minInterval",
            format!(
                "{} is longer than maxInterval {}: lower minInterval or raise maxInterval",
                ai.min_interval, ai.max_interval
            ),
        );
    }
    if ai.min_interval.as_std().is_zero() {
        found.push(
            "spec.aiOptimization.minInterval",
            "must be longer than zero, for example 15m",
        );
    }
    if !(10..=1000).contains(&ai.exposure_target_percent) {
        found.push(
            "spec.aiOptimization.exposureTargetPercent",
            "must be between 10 and 1000",
        );
    }
    if ai.max_unprotected_writes.is_some_and(|writes| writes < 1) {
        found.push(
            "spec.aiOptimization.maxUnprotectedWrites",
            "must be at least 1",
        );
    }
    for (prefix, weight) in &ai.significance {
        if !(0..=1_000_000).contains(weight) {
            found.push(
                format!("spec.aiOptimization.significance[{prefix}]"),
                "must be a percentage between 0 and 1000000",
            );
        }
    }
    backup_spec(
        &mut found,
        "spec.backupTemplate.spec",
        &schedule.spec.backup_template.spec,
    );
    found.0
}

/// What is wrong with the encryption of a spec.
pub fn encryption_problem(spec: &str, encryption: Option<&Encryption>) -> Option<FieldError> {
    let encryption = encryption.filter(|encryption| encryption.enabled)?;
    let wrong = encryption.kms_key_id.is_some() == encryption.encryption_secret.is_some();
    wrong.then(|| FieldError {
        path: format!("{spec}.encryption"),
        message: "enabled needs exactly one of kmsKeyID and encryptionSecret".to_owned(),
    })
}

fn backup_spec(found: &mut Findings, path: &str, spec: &EtcdBackupSpec) {
    for (index, endpoint) in spec.etcd_endpoints.iter().enumerate() {
        etcd_endpoint(found, format!("{path}.etcdEndpoints[{index}]"), endpoint);
    }
    storage(
        found,
        &format!("{path}.storageLocation"),
        &spec.storage_location,
    );
    found
        .0
        .extend(encryption_problem(path, spec.encryption.as_ref()));
    let resources = spec.export_resources.as_ref();
    let both = |one: &ExportResources| {
        !one.include.is_empty() && (!one.exclude.is_empty() || !one.add.is_empty())
    };
    if resources.is_some_and(both) {
        found.push(
            format!("{path}.exportResources"),
            "takes include alone, or exclude and add",
        );
    }
    if let Some(policy) = &spec.retention_policy {
        retention(found, path, policy);
    }
    for (index, replica) in spec.replicate_to.iter().enumerate() {
        let path = format!("{path}.replicateTo[{index}]");
        let location = &replica.storage_location;
        storage(found, &format!("{path}.storageLocation"), location);
        if *location == spec.storage_location {
            found.push(
                format!("{path}.storageLocation"),
                "must be another place than storageLocation",
            );
        }
        if let Some(policy) = &replica.retention_policy {
            retention(found, &path, policy);
        }
    }
    if spec.active_deadline_seconds < 1 {
        found.push(
            format!("{path}.activeDeadlineSeconds"),
            "must be at least 1",
        );
    }
    let hooks = spec.hooks.iter().flat_map(|hooks| {
        [
            ("preBackup", &hooks.pre_backup),
            ("postBackup", &hooks.post_backup),
        ]
    });
    for (stage, list) in hooks {
        for (index, hook) in list.iter().enumerate() {
            let at = format!("{path}.hooks.{stage}[{index}]");
            match hook.kind {
                super::HookKind::Exec if hook.exec.is_none() => {
                    found.push(at, "type Exec needs the field exec");
                }
                super::HookKind::HTTP if hook.http.is_none() => {
                    found.push(at, "type HTTP needs the field http");
                }
                _ => {}
            }
        }
    }
}

fn etcd_endpoint(found: &mut Findings, path: String, endpoint: &str) {
    let valid = url::Url::parse(endpoint)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    if !valid {
        found.push(
            path,
            format!("'{endpoint}' is not a URL such as https://10.0.0.1:2379"),
        );
    }
}

fn retention(found: &mut Findings, path: &str, policy: &RetentionPolicy) {
    let counts = [
        ("maxBackups", policy.max_backups),
        ("keepHourly", policy.keep_hourly),
        ("keepDaily", policy.keep_daily),
        ("keepWeekly", policy.keep_weekly),
        ("keepMonthly", policy.keep_monthly),
    ];
    for (name, count) in counts {
        if count.is_some_and(|count| count < 1) {
            found.push(
                format!("{path}.retentionPolicy.{name}"),
                "must be at least 1",
            );
        }
    }
}

fn storage(found: &mut Findings, path: &str, location: &StorageLocation) {
    if location.bucket.is_empty() {
        found.push(format!("{path}.bucket"), "must not be empty");
    }
    if location.provider == Provider::Local && !location.bucket.starts_with('/') {
        found.push(
            format!("{path}.bucket"),
            "must be an absolute directory for provider Local",
        );
    }
    if location.object_lock.is_some() && location.provider != Provider::S3 {
        found.push(
            format!("{path}.objectLock"),
            "is for provider S3: set a retention policy on the bucket and remove objectLock",
        );
    }
    let dotted = location
        .prefix
        .split('/')
        .any(|part| part == ".." || part == ".");
    if dotted || location.prefix.contains('\\') {
        found.push(
            format!("{path}.prefix"),
            "must not contain '.', '..' or backslashes",
        );
    }
    if let Some(endpoint) = &location.endpoint {
        let valid = url::Url::parse(endpoint)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
        if !valid {
            found.push(
                format!("{path}.endpoint"),
                format!("'{endpoint}' is not a URL such as https://minio.example.com"),
            );
        }
    }
}

/// The rules of a config file.
pub fn validate_config(config: &EtcdGuardianConfig) -> Vec<FieldError> {
    let mut found = Findings(Vec::new());
    if config
        .kind
        .as_deref()
        .is_some_and(|kind| kind != "EtcdGuardianConfig")
    {
        found.push("kind", "must be EtcdGuardianConfig");
    }
    if config
        .api_version
        .as_deref()
        .is_some_and(|version| version != "etcdguardian.io/v1alpha1")
    {
        found.push("apiVersion", "must be etcdguardian.io/v1alpha1");
    }
    for (index, endpoint) in config
        .cluster
        .iter()
        .flat_map(|cluster| cluster.endpoints.iter())
        .enumerate()
    {
        etcd_endpoint(&mut found, format!("cluster.endpoints[{index}]"), endpoint);
    }
    if let Some(store) = &config.store {
        storage(&mut found, "store", store);
    }
    validate_alerts::alerts(&mut found, &config.alerts);
    if config.serve.token_file.is_some() && config.serve.listen.is_empty() {
        found.push("serve.tokenFile", "has no use without serve.listen");
    }
    found.0
}

/// Fields of `document` that `schema` does not know, each with the nearest known name.
pub(super) fn unknown_fields(document: &Value, schema: &Value) -> Vec<FieldError> {
    let mut found = Findings(Vec::new());
    walk(&mut found, "", document, schema);
    found.0
}

fn walk(found: &mut Findings, path: &str, value: &Value, schema: &Value) {
    // Optional nested types are written as anyOf [schema, null].
    let schema = schema
        .get("anyOf")
        .and_then(Value::as_array)
        .and_then(|options| {
            options
                .iter()
                .find(|option| option.get("properties").is_some())
        })
        .unwrap_or(schema);
    match value {
        Value::Object(fields) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else {
                return;
            };
            for (name, child) in fields {
                let at = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match known.get(name) {
                    Some(child_schema) => walk(found, &at, child, child_schema),
                    None if path.is_empty()
                        && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") => {}
                    None => found.push(at, unknown_message(name, known.keys())),
                }
            }
        }
        Value::Array(items) => {
            if let Some(item_schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    walk(found, &format!("{path}[{index}]"), item, item_schema);
                }
            }
        }
        _ => {}
    }
}

fn unknown_message<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let nearest = known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, candidate)) if likeness > 0.7 => {
            format!("unknown field, did you mean '{candidate}'?")
        }
        _ => "unknown field: remove it".to_owned(),
    }
}
