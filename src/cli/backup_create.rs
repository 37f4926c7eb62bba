//! `backup create`: one backup now, proved like those of a schedule.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tracing::Instrument;

use super::backup::{describe, view};
use super::context::{Context, EtcdFlags};
use super::output::{self, Format};
use super::progress::Bar;
use super::{CliError, args::Global};
use crate::api::{
    BackupMode, Encryption, ErrorClass, EtcdBackup, EtcdBackupSpec, Source, validate_backup,
};
use crate::export::ApiServer;
use crate::export::apply::Server;
use crate::export::resources::Selection;
use crate::pipeline::hooks::OnThisHost;
use crate::pipeline::{self, Part, Request, Services};
use crate::repository::{Repository, SilentObserver};
use crate::standalone::Desired;

/// Take a backup now: read etcd, prove it, store it, prove what is stored.
///
/// Exits with 3 when what was read or stored could not be proved; nothing is kept then.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name; manual- and the time unless given.
    name: Option<String>,
    /// Full or incremental; the schedule's, or full, unless given.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Read etcd itself (direct) or the Kubernetes API (proxy): an export of the objects, for clusters whose etcd is out of reach. Unless
    /// given, etcd where an endpoint is known, else the API.
    #[arg(long, value_enum)]
    source: Option<From>,
    /// Kubeconfig of the API server that an export comes from; else that of KUBECONFIG or of the pod.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdFlags,
    /// The store, as s3://bucket/prefix?endpoint=URL&region=R or file:///dir; the schedule's or the config's when absent.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Take what this schedule of the manifests folder takes, as NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "SCHEDULE")]
    from_schedule: Option<String>,
    /// Encrypt for the Secret of secretsDir with the key recipients or passphrase.
    #[arg(long, value_name = "SECRET")]
    encryption_secret: Option<String>,
    /// Folder for the snapshot on its way; needs as much room as the database. Below stateDir, or TMPDIR, unless given.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Wait for its end, which is always done without Kubernetes.
    #[arg(long)]
    wait: bool,
}

/// Which kind of backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    Full,
    Incremental,
}

/// Where it is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Auto,
    Direct,
    Proxy,
}

/// What is wanted, before flags.
struct Wanted {
    spec: EtcdBackupSpec,
    namespace: String,
    schedule: Option<String>,
}

impl Create {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let now = Timestamp::now();
        let Wanted {
            spec,
            namespace,
            schedule,
        } = self.wanted(context)?;
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| format!("manual-{}", now.strftime("%Y%m%d-%H%M%S")));
        check_name(&name)?;
        let problems = validate_backup(&EtcdBackup::new(&name, spec.clone()));
        if !problems.is_empty() {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(CliError::new(ErrorClass::Usage, words.join("; ")));
        }
        let named = context.config.cluster.clone().unwrap_or_default();
        let cluster = self.etcd.flags_onto(named.for_backup(&spec))?;
        let by_api = spec.source == Source::Proxy
            || (spec.source == Source::Auto && cluster.endpoints.is_empty());
        let api = match by_api {
            true => ApiServer::Client(self.api_server().await?),
            false => ApiServer::Inferred,
        };
        let request = Request {
            namespace: namespace.clone(),
            name,
            schedule,
            run_id: uuid::Uuid::new_v4().to_string(),
            cluster_name: cluster.name.clone().unwrap_or_else(|| "etcd".to_owned()),
            cluster,
            export: Selection::default(),
            makes_velero_pair: false,
            part: Part::Whole,
            scratch: self.scratch(context)?,
            started: now,
            spec,
        };
        let services = Services {
            secrets: Arc::clone(&context.secrets),
            observer: Arc::new(SilentObserver),
            commands: Arc::new(OnThisHost),
            api,
        };
        let bar = Bar::new(global, "connecting");
        let work = pipeline::run(&request, &services, &bar);
        let outcome = work.instrument(pipeline::span(&request)).await;
        drop(bar);
        let completed = outcome?;
        for warning in &completed.warnings {
            output::say(format!("warning: {warning}"));
        }
        if let Some(why) = &completed.idle {
            output::say(format!("note: nothing was stored: {why}"));
        }
        for retired in &completed.retired {
            output::say(format!("retention deleted {retired}"));
        }
        let manifest = &completed.manifest;
        let location = &request.spec.storage_location;
        let observer = services.observer;
        let repository =
            Repository::open(location, &namespace, context.secrets.as_ref(), observer).await?;
        if global.output == Format::Table {
            output::write_out(describe(&repository, manifest).as_bytes())?;
        } else {
            output::print(global.output, &view(&repository, manifest), |_| {
                String::new()
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The spec: a schedule's template, or defaults, with the flags on top.
    fn wanted(&self, context: &Context) -> Result<Wanted, CliError> {
        let mut wanted = match &self.from_schedule {
            Some(name) => of_schedule(context, name)?,
            None => Wanted {
                spec: of_store(context, self.to.as_deref())?,
                namespace: "default".to_owned(),
                schedule: None,
            },
        };
        if let Some(url) = &self.to {
            wanted.spec.storage_location = context.store(Some(url), "--to")?;
        }
        match self.source {
            Some(From::Auto) => wanted.spec.source = Source::Auto,
            Some(From::Direct) => wanted.spec.source = Source::Direct,
            Some(From::Proxy) => wanted.spec.source = Source::Proxy,
            None => {}
        }
        match self.mode {
            Some(Mode::Full) => wanted.spec.backup_mode = BackupMode::Full,
            Some(Mode::Incremental) => wanted.spec.backup_mode = BackupMode::Incremental,
            None => {}
        }
        if let Some(secret) = &self.encryption_secret {
            wanted.spec.encryption = Some(Encryption {
                enabled: true,
                kms_key_id: None,
                encryption_secret: Some(secret.clone()),
            });
        }
        Ok(wanted)
    }

    /// The server of an export; without one there is nothing at all to read.
    async fn api_server(&self) -> Result<kube::Client, CliError> {
        let server = Server::connect(self.kubeconfig.as_deref(), None).await;
        let server = server.map_err(|error| {
            let problem = crate::cause::with_causes(&error);
            CliError::new(
                ErrorClass::Usage,
                format!(
                    "no etcd is named: add --endpoints https://HOST:2379, or --config with a cluster; nor is there an API server to export from: {problem}"
                ),
            )
        })?;
        Ok(server.client())
    }

    fn scratch(&self, context: &Context) -> Result<PathBuf, CliError> {
        let folder = match (&self.scratch, &context.config.state_dir) {
            (Some(folder), _) => folder.clone(),
            // Not the loop's own folder, which it empties when it starts.
            (None, Some(root)) => root.join("by-hand"),
            (None, None) => std::env::temp_dir(),
        };
        Ok(std::path::absolute(folder)?)
    }
}

/// A spec with its defaults, for a store.
fn of_store(context: &Context, to: Option<&str>) -> Result<EtcdBackupSpec, CliError> {
    let location = context.store(to, "--to")?;
    let spec = serde_json::json!({ "backupMode": "Full", "storageLocation": location });
    serde_json::from_value(spec).map_err(|error| CliError::from_error(ErrorClass::Failed, &error))
}

/// What a schedule of the manifests folder takes.
fn of_schedule(context: &Context, wanted: &str) -> Result<Wanted, CliError> {
    let folder = context.config.manifests.as_ref().ok_or_else(|| {
        CliError::new(
            ErrorClass::Usage,
            "--from-schedule needs --config with a manifests folder, as 'etcdguardian run' uses it",
        )
    })?;
    let desired = Desired::load(folder, context.config.store.as_ref());
    let found: Vec<_> = desired
        .schedules
        .iter()
        .filter(|(name, _)| name.name == wanted || name.to_string() == wanted)
        .collect();
    let [(name, schedule)] = found[..] else {
        let names: Vec<String> = desired.schedules.keys().map(ToString::to_string).collect();
        let (class, problem) = if found.is_empty() {
            (ErrorClass::NotFound, "there is no such schedule")
        } else {
            (ErrorClass::Usage, "several namespaces have one")
        };
        for problem in &desired.problems {
            output::say(format!("warning: {problem}"));
        }
        return Err(CliError::new(
            class,
            format!(
                "schedule '{wanted}' cannot be taken from {}: {problem}; name one of: {}",
                folder.display(),
                names.join(", ")
            ),
        ));
    };
    Ok(Wanted {
        spec: schedule.spec.backup_template.spec.clone(),
        namespace: name.namespace.clone(),
        schedule: Some(name.name.clone()),
    })
}

/// Names are those of Kubernetes objects, so that a backup can become one.
pub(super) fn check_name(name: &str) -> Result<(), CliError> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| inner(*byte));
    let bytes = name.as_bytes();
    let fits = bytes.len() <= 253
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|&byte| inner(byte) || b"-.".contains(&byte));
    if fits {
        return Ok(());
    }
    Err(CliError::new(
        ErrorClass::Usage,
        format!(
            "'{name}' cannot name a backup: use lower-case letters, digits, '-' and '.', as before-upgrade"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_are_those_of_kubernetes() {
        for good in ["a", "before-upgrade", "v1.2", &"x".repeat(253)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "ä", &"x".repeat(254)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
