//! `operator`: the controllers of the three resources; `job`: what a Job of the operator runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::sync::oneshot;

use super::context::Context;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::engine::ResourceName;
use crate::operator::{self, Handed, Start, Told};
use crate::restore::static_pod::StaticPod;

/// Longer than any grace period that a static pod should have.
const ETCD_ENDS_WITHIN: Duration = Duration::from_secs(300);

/// Run the controllers of EtcdBackup, EtcdBackupSchedule and EtcdRestore resources in a Kubernetes cluster.
#[derive(Debug, Args)]
pub struct Operator {}

impl Operator {
    /// Runs until a signal comes, whose exit code is then its own, or the lease is lost.
    pub(super) async fn run(
        &self,
        global: &Global,
        told: oneshot::Receiver<u8>,
    ) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "info")?;
        let start = Start {
            config: context.config,
            config_file: context.config_file,
        };
        let mut code = 0;
        let end = async {
            match told.await {
                Ok(signal) => code = signal,
                // Without a listener for signals nobody can tell us to end.
                Err(_) => std::future::pending().await,
            }
        };
        operator::run(start, end).await?;
        Ok(ExitCode::from(code))
    }
}

/// What a Job of the operator runs; not for people.
#[derive(Debug, Args)]
pub struct JobVerbs {
    #[command(subcommand)]
    verb: JobVerb,
}

#[derive(Debug, Subcommand)]
enum JobVerb {
    /// Make the backup of an EtcdBackup.
    Backup(JobBackup),
    /// Move the manifest of etcd's static pod aside, and wait until etcd is gone.
    StopStaticPod(JobStop),
    /// Move it back.
    StartStaticPod(JobStaticPod),
}

#[derive(Debug, Args)]
struct JobStop {
    #[command(flatten)]
    pod: JobStaticPod,
    /// The data directory that etcd must be gone from.
    #[arg(long)]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
struct JobStaticPod {
    /// Where the kubelet reads it.
    #[arg(long)]
    manifest: PathBuf,
    /// Where it lies while the pod is stopped.
    #[arg(long)]
    aside: PathBuf,
}

impl JobStaticPod {
    fn pod(&self) -> StaticPod {
        StaticPod {
            manifest: self.manifest.clone(),
            aside: self.aside.clone(),
        }
    }
}

#[derive(Debug, Args)]
struct JobBackup {
    /// NAMESPACE/NAME of the EtcdBackup.
    backup: String,
    /// The run that the object waits for.
    #[arg(long)]
    run_id: String,
    /// The Job's own name.
    #[arg(long)]
    job: String,
    /// Endpoints of the etcd that the operator found.
    #[arg(long)]
    discovered: Vec<String>,
    /// JSON: which part of the backup, and by which rules of its schedule.
    #[arg(long, value_parser = handed, default_value = "{}")]
    handed: Handed,
}

fn handed(text: &str) -> Result<Handed, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl JobVerbs {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let verb = match &self.verb {
            JobVerb::Backup(verb) => verb,
            JobVerb::StopStaticPod(verb) => {
                verb.pod.pod().stop(&verb.data_dir, ETCD_ENDS_WITHIN)?;
                return Ok(ExitCode::SUCCESS);
            }
            JobVerb::StartStaticPod(verb) => {
                verb.pod().start()?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let context = Context::load(global, "info")?;
        let Some((namespace, name)) = verb.backup.split_once('/') else {
            let message = format!("'{}' is not NAMESPACE/NAME", verb.backup);
            return Err(CliError::new(ErrorClass::Usage, message));
        };
        let told = Told {
            backup: ResourceName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            run_id: verb.run_id.clone(),
            job: verb.job.clone(),
            discovered: verb.discovered.clone(),
            handed: verb.handed.clone(),
            config: context.config,
        };
        Ok(match operator::back_up(told).await? {
            Ok(()) => ExitCode::SUCCESS,
            Err(class) => ExitCode::from(class.exit_code()),
        })
    }
}
