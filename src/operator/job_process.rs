//! Inside a Job: reads the object that wants the work, does it, and writes the report that the operator waits for.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::backup::plan::awaits;
use super::hooks::commands_of;
use super::job::REPORT_KEY;
use super::labels::MANAGER;
use super::report::{Outcome, Report};
use super::run::{OperatorError, namespace_of, trust_of};
use super::secrets::{ClusterSecrets, own_cluster};
use super::tenancy::plan::Account;
use super::work::{self, Handed, Tools};
use crate::api::{ErrorClass, EtcdBackup, EtcdGuardianConfig};
use crate::engine::ResourceName;
use crate::repository::StoreObserver;

/// What the Job was told.
pub struct Told {
    /// The EtcdBackup.
    pub backup: ResourceName,
    /// The run that this Job is for.
    pub run_id: String,
    /// The Job's own name.
    pub job: String,
    /// Endpoints of the etcd that the operator found.
    pub discovered: Vec<String>,
    /// Which part of the backup it makes, and by which rules.
    pub handed: Handed,
    /// The operator's config.
    pub config: EtcdGuardianConfig,
}

/// A Job serves no metrics.
struct Unheard;

impl StoreObserver for Unheard {
    fn request(&self, _operation: &'static str, _ok: bool) {}
}

/// Makes the backup and reports. The outcome's class is that of the process.
///
/// # Errors
/// When the API server does not answer, or this run was given up meanwhile.
pub async fn back_up(told: Told) -> Result<Result<(), ErrorClass>, OperatorError> {
    let client = Client::try_default().await.map_err(OperatorError::client)?;
    let namespace = namespace_of(&told.config, &client);
    let backups: Api<EtcdBackup> = Api::namespaced(client.clone(), &told.backup.namespace);
    let backup = backups
        .get(&told.backup.name)
        .await
        .map_err(OperatorError::client)?;
    // A pod that was started a second time, or after its run was given up, must not touch what came of it.
    if !awaits(&backup, &told.run_id) {
        return Err(OperatorError::Superseded {
            backup: told.backup.to_string(),
        });
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let job = jobs.get(&told.job).await.map_err(OperatorError::client)?;
    let reports: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let trust = trust_of(&told.config, &namespace);
    let trusted = trust.covers(&told.backup.namespace);
    let account = Account {
        namespace: told.backup.namespace.clone(),
        name: backup.spec.service_account_name.clone(),
    };
    let own = told.config.cluster.clone().map(own_cluster);
    let tools = Tools {
        commands: Arc::new(commands_of(
            &client,
            &told.config.operator,
            trusted,
            account,
        )),
        secrets: Arc::new(ClusterSecrets::new(client.clone(), namespace)),
        observer: Arc::new(Unheard),
        cluster_name: crate::engine::cluster_name(&told.config),
        cluster: trust.cluster(
            own.as_ref(),
            &told.discovered,
            &backup.spec,
            &told.backup.namespace,
        ),
        scratch: std::env::temp_dir().join("etcdguardian"),
        recording: told.handed.recording(),
        part: told.handed.part.clone(),
        client,
        trusted,
    };
    let (stage, mut stages) = watch::channel(String::new());
    let writer = Writer {
        reports,
        job,
        run_id: told.run_id.clone(),
    };
    let telling = async {
        while stages.changed().await.is_ok() {
            let stage = Some(stages.borrow_and_update().clone());
            // Only the last word matters: a stage that could not be told is a stage that nobody sees.
            let _ = writer.write(stage, None).await;
        }
    };
    let working = async {
        let told_stage = |name: &str| {
            let _ = stage.send(name.to_owned());
        };
        let outcome = work::back_up(tools, &backup, &told.run_id, told_stage).await;
        drop(stage);
        outcome.unwrap_or_else(|rest| Outcome::Failed {
            reason: ErrorClass::Usage.reason().to_owned(),
            message: format!("nobody makes what this Job leaves: {rest:?}"),
        })
    };
    let (outcome, ()) = tokio::join!(working, telling);
    let class = match &outcome {
        Outcome::Failed { reason, message } => {
            tracing::error!(backup = %told.backup, reason, "backup failed: {message}");
            Err(ErrorClass::from_reason(reason))
        }
        Outcome::Rejected { message } => {
            tracing::error!(backup = %told.backup, "backup is not allowed: {message}");
            Err(ErrorClass::Refused)
        }
        Outcome::Completed(_) => Ok(()),
    };
    writer
        .write(None, Some(outcome))
        .await
        .map_err(OperatorError::client)?;
    Ok(class)
}

struct Writer {
    reports: Api<ConfigMap>,
    job: Job,
    run_id: String,
}

impl Writer {
    async fn write(
        &self,
        stage: Option<String>,
        outcome: Option<Outcome>,
    ) -> Result<(), kube::Error> {
        let report = Report {
            run_id: self.run_id.clone(),
            stage,
            outcome,
        };
        let text = serde_json::to_string(&report).map_err(kube::Error::SerdeError)?;
        let name = self.job.name_any();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": self.job.labels(),
                "annotations": self.job.annotations(),
                "ownerReferences": [self.job.owner_ref(&())],
            },
            "data": BTreeMap::from([(REPORT_KEY, text)]),
        });
        let params = PatchParams::apply(MANAGER).force();
        self.reports
            .patch(&name, &params, &Patch::Apply(&map))
            .await?;
        Ok(())
    }
}
