//! `list backups|restores|schedules`: of a repository or of the running loop where the config names them, else of the API server.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::object_restore::{LOG, ServerFlags};
use super::output;
use crate::api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore};
use crate::export::ExportError;

/// What is shown of an EtcdBackup, as `kubectl get` shows it.
const BACKUPS: [(&str, &str); 4] = [
    ("PHASE", "/status/phase"),
    ("MODE", "/status/mode"),
    ("REVISION", "/status/etcdRevision"),
    ("LEVEL", "/status/validationResult/level"),
];

/// List backups, restores or schedules.
#[derive(Debug, Args)]
pub struct List {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Backups of a store (--from or the config's), else the EtcdBackups of the API server.
    Backups(Backups),
    /// The EtcdRestores of the API server.
    Restores(InCluster),
    /// Schedules of the running loop when the config names its state folder, else the EtcdBackupSchedules of the API server.
    Schedules(InCluster),
}

#[derive(Debug, Args)]
struct Backups {
    #[command(flatten)]
    stored: super::backup::List,
    #[command(flatten)]
    server: InCluster,
}

/// Which resources of an API server.
#[derive(Debug, Args)]
struct InCluster {
    /// Only this namespace of the API server.
    #[arg(long, short, value_name = "N")]
    namespace: Option<String>,
    #[command(flatten)]
    server: ServerFlags,
}

impl List {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, LOG)?;
        match &self.what {
            What::Backups(what) if what.stored.names_store() || context.config.store.is_some() => {
                return what.stored.run(global, &context).await;
            }
            What::Backups(what) => what.server.list::<EtcdBackup>(global, &BACKUPS).await,
            What::Restores(what) => {
                let columns = [
                    ("PHASE", "/status/phase"),
                    ("BACKUP", "/spec/backupName"),
                    ("REVISION", "/status/restoredRevision"),
                ];
                what.list::<EtcdRestore>(global, &columns).await
            }
            What::Schedules(what) if context.config.state_dir.is_none() => {
                let columns = [
                    ("SCHEDULE", "/spec/schedule"),
                    ("SOURCE", "/status/decision/source"),
                    ("LAST", "/status/lastBackupTime"),
                    ("NEXT", "/status/nextBackupTime"),
                ];
                what.list::<EtcdBackupSchedule>(global, &columns).await
            }
            What::Schedules(_) => super::schedule::list(global, &context),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl InCluster {
    async fn list<K>(&self, global: &Global, columns: &[(&str, &str)]) -> Result<(), CliError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let client = self.server.connect().await?.client();
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let kind = K::kind(&());
        let listed = api.list(&ListParams::default()).await.map_err(|error| {
            CliError::from(ExportError::server(format!("list resources of {kind}"))(
                error,
            ))
        })?;
        let items: Vec<Value> = listed
            .items
            .iter()
            .map(|item| serde_json::to_value(item).unwrap_or_default())
            .collect();
        let shown = json!({"apiVersion": "v1", "kind": "List", "items": items});
        output::print(global.output, &shown, |_| {
            if items.is_empty() {
                output::say(format!("there is no {kind}"));
                return String::new();
            }
            table(&items, columns, Timestamp::now())
        })
    }
}

fn table(items: &[Value], columns: &[(&str, &str)], now: Timestamp) -> String {
    let cell = |item: &Value, pointer: &str| match item.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text
            .parse::<Timestamp>()
            .map_or_else(|_| text.clone(), |time| output::relative(time, now)),
        Some(other) => other.to_string(),
    };
    let all: Vec<(&str, &str)> = [
        ("NAMESPACE", "/metadata/namespace"),
        ("NAME", "/metadata/name"),
    ]
    .into_iter()
    .chain(columns.iter().copied())
    .chain([("CREATED", "/metadata/creationTimestamp")])
    .collect();
    let header: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| all.iter().map(|(_, pointer)| cell(item, pointer)).collect())
        .collect();
    output::table(&header, &rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kube::CustomResourceExt;

    use super::*;

    #[test]
    fn the_columns_of_a_backup_are_those_of_kubectl() {
        let crd = EtcdBackup::crd();
        let columns = crd.spec.versions[0].additional_printer_columns.as_ref();
        let paths: Vec<String> = columns
            .unwrap()
            .iter()
            .map(|column| column.json_path.replace('.', "/"))
            .collect();
        for (name, path) in BACKUPS {
            assert!(paths.iter().any(|one| one == path), "{name}: {paths:?}");
        }
    }
}
