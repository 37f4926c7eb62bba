//! `doctor`: tries out everything that a backup needs, and says of each failure how to mend it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::context::{Context, EtcdFlags};
use super::{CliError, args::Global};
use super::{doctor_etcd, doctor_rights, doctor_site, doctor_store, output};
use crate::api::{ClusterConfig, Encryption, ErrorClass, EtcdBackupSpec, Source, StorageLocation};
use crate::standalone::Desired;

/// Try out etcd, certificates, stores, Prometheus, alert channels, disk, clock and, where there is a Kubernetes, the operator's
/// rights; each failure comes with its fix.
///
/// Exits with the code of the first failure: 13 etcd, 10 store, 12 credentials, 1 anything else. A warning fails nothing.
#[derive(Debug, Default, Args)]
pub struct Doctor {
    #[command(flatten)]
    etcd: EtcdFlags,
    /// A store to try; those of the config and of the manifests folder unless given.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Send a test message to this alert channel, or to all.
    #[arg(long, value_name = "CHANNEL", num_args = 0..=1, default_missing_value = "")]
    send_test_alert: Option<String>,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Warning,
    Failed,
}

/// One thing that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Examined {
    /// What, as `etcd http://10.0.0.1:2379`.
    pub name: String,
    /// False when it failed; a warning is ok.
    pub ok: bool,
    pub state: State,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    #[serde(skip)]
    class: Option<ErrorClass>,
}

impl Examined {
    pub fn good(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ok: true,
            state: State::Ok,
            message: message.into(),
            fix: None,
            class: None,
        }
    }

    pub fn warning(
        name: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Warning,
            fix: Some(fix.into()),
            ..Self::good(name, message)
        }
    }

    pub fn failed(
        name: impl Into<String>,
        class: ErrorClass,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            ok: false,
            state: State::Failed,
            fix: Some(fix.into()),
            class: Some(class),
            ..Self::good(name, message)
        }
    }

    /// A failure whose words already say what to do.
    pub fn of_error(name: impl Into<String>, error: CliError) -> Self {
        Self {
            fix: None,
            ..Self::failed(name, error.class, error.message, "")
        }
    }
}

/// The JSON of `doctor`.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    checks: Vec<Examined>,
}

impl Doctor {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "error")?;
        let report = self.examine(&context).await?;
        output::print(global.output, &report, render)?;
        let class = report.checks.iter().find_map(|check| check.class);
        Ok(class.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
    }

    /// Tries everything out.
    pub(super) async fn examine(&self, context: &Context) -> Result<Report, CliError> {
        let now = Timestamp::now();
        let mut checks = Vec::new();
        if let Some(file) = &context.config_file {
            checks.push(Examined::good(
                "config",
                format!("{} is understood", file.display()),
            ));
        }
        let desired = self.manifests(context, &mut checks);
        let mut largest = None;
        match self.clusters(context, desired.as_ref()) {
            Ok(clusters) => {
                for (cluster, namespace) in clusters {
                    let seen = doctor_etcd::examine(context, &cluster, namespace, now).await;
                    largest = largest.max(seen.db_size);
                    checks.extend(seen.checks);
                }
            }
            Err(error) => checks.push(Examined::of_error("etcd", error)),
        }
        for (location, namespace) in self.stores(context, desired.as_ref())? {
            checks.extend(doctor_store::store(context, &location, &namespace).await);
        }
        for (encryption, location, namespace) in seals(desired.as_ref()) {
            let seal = doctor_store::key(context, encryption, location, namespace).await;
            checks.push(seal);
        }
        checks.extend(doctor_site::prometheus(context, now).await);
        let test = self.send_test_alert.as_deref();
        checks.extend(doctor_site::channels(context, test, now).await);
        checks.extend(doctor_site::scratch(context, largest));
        checks.extend(doctor_rights::examine(&context.config).await);
        Ok(Report {
            ok: checks.iter().all(|check| check.ok),
            checks,
        })
    }

    fn manifests(&self, context: &Context, checks: &mut Vec<Examined>) -> Option<Desired> {
        let folder = context.config.manifests.as_ref()?;
        let desired = Desired::load(folder, context.config.store.as_ref());
        for problem in &desired.problems {
            let fix = "mend the manifest; the others work meanwhile";
            checks.push(Examined::failed(
                "manifests",
                ErrorClass::Usage,
                problem,
                fix,
            ));
        }
        let seen = format!(
            "{}: {}, {}",
            folder.display(),
            output::count(desired.schedules.len(), "schedule"),
            output::count(desired.backups.len(), "single backup")
        );
        checks.push(if desired.schedules.is_empty() {
            let fix = "put an EtcdBackupSchedule there, else nothing is backed up";
            Examined::warning("manifests", seen, fix)
        } else {
            Examined::good("manifests", seen)
        });
        Some(desired)
    }

    /// The config's etcd, and those that manifests name, each once, with a namespace whose Secrets open it.
    fn clusters<'a>(
        &self,
        context: &Context,
        desired: Option<&'a Desired>,
    ) -> Result<Vec<(ClusterConfig, &'a str)>, CliError> {
        let mut found: Vec<(ClusterConfig, &str)> = Vec::new();
        let config = context.config.cluster.clone().unwrap_or_default();
        for (spec, namespace) in specs(desired) {
            let own = config.clone().for_backup(spec);
            let named = !spec.etcd_endpoints.is_empty() && spec.source != Source::Proxy;
            let known = found.iter().any(|(one, _)| one.endpoints == own.endpoints);
            if named && !known && own.endpoints != config.endpoints {
                found.push((own, namespace));
            }
        }
        match self.etcd.cluster(context) {
            Ok(cluster) => found.insert(0, (cluster, "default")),
            // Manifests may name all that there is.
            Err(error) if found.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(found)
    }

    /// Each store once, with a namespace whose Secrets open it.
    fn stores(
        &self,
        context: &Context,
        desired: Option<&Desired>,
    ) -> Result<Vec<(StorageLocation, String)>, CliError> {
        if let Some(url) = &self.to {
            let location = context.store(Some(url), "--to")?;
            return Ok(vec![(location, "default".to_owned())]);
        }
        let mut stores: BTreeMap<String, (StorageLocation, String)> = BTreeMap::new();
        let mut add = |location: &StorageLocation, namespace: &str| {
            stores
                .entry(location.to_string())
                .or_insert_with(|| (location.clone(), namespace.to_owned()));
        };
        if let Some(location) = &context.config.store {
            add(location, "default");
        }
        for (spec, namespace) in specs(desired) {
            add(&spec.storage_location, namespace);
            for replica in &spec.replicate_to {
                add(&replica.storage_location, namespace);
            }
        }
        Ok(stores.into_values().collect())
    }
}

/// The backups that manifests ask for, with their namespaces.
fn specs(desired: Option<&Desired>) -> impl Iterator<Item = (&EtcdBackupSpec, &str)> {
    desired.into_iter().flat_map(|desired| {
        let templates = desired.schedules.iter().map(|(name, schedule)| {
            let spec = &schedule.spec.backup_template.spec;
            (spec, name.namespace.as_str())
        });
        let single = desired.backups.iter();
        templates.chain(single.map(|(name, backup)| (&backup.spec, name.namespace.as_str())))
    })
}

/// What seals the backups of the manifests, each key once, with the store and namespace that it is asked for with.
fn seals(desired: Option<&Desired>) -> Vec<(&Encryption, &StorageLocation, &str)> {
    let mut found: Vec<(&Encryption, &StorageLocation, &str)> = Vec::new();
    for (spec, namespace) in specs(desired) {
        let sealed = spec.encryption.as_ref().filter(|seal| seal.enabled);
        if let Some(seal) = sealed
            && !found
                .iter()
                .any(|(seen, _, at)| *seen == seal && *at == namespace)
        {
            found.push((seal, &spec.storage_location, namespace));
        }
    }
    found
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let mark = match check.state {
            State::Ok => "ok",
            State::Warning => "WARNING",
            State::Failed => "FAILED",
        };
        text.push_str(&format!("{mark:8} {}: {}\n", check.name, check.message));
        if let Some(fix) = &check.fix {
            text.push_str(&format!("         -> {fix}\n"));
        }
    }
    let count = |state| {
        report
            .checks
            .iter()
            .filter(|check| check.state == state)
            .count()
    };
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    text.push_str(&match (failed, warnings) {
        (0, 0) => "all is well\n".to_owned(),
        (0, warnings) => format!("nothing failed, {}\n", output::count(warnings, "warning")),
        (failed, 0) => format!("{failed} failed\n"),
        (failed, warnings) => format!("{failed} failed, {}\n", output::count(warnings, "warning")),
    });
    text
}
