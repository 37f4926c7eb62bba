//! `export`: the objects of a cluster whose etcd is out of reach, through its API server, as a backup in a store.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use tracing::Instrument;

use super::CliError;
use super::args::Global;
use super::backup::view;
use super::backup_create::Mode;
use super::context::Context;
use super::object_restore::{LOG, ServerFlags};
use super::output::{self, Format};
use super::progress::Bar;
use crate::api::{ClusterConfig, ErrorClass};
use crate::export::ApiServer;
use crate::export::bundle::About;
use crate::export::resources::Selection;
use crate::pipeline::hooks::OnThisHost;
use crate::pipeline::{self, Part, Request, Services};
use crate::repository::{Repository, SilentObserver};

/// Export a cluster's objects through its API server: for clusters whose etcd is out of reach.
///
/// Events, leases, endpoint slices and other derived kinds are left out; the summary says what else was, and why.
#[derive(Debug, Args)]
pub struct Export {
    /// Its name; export- and the time unless given.
    name: Option<String>,
    /// The store, as s3://bucket/prefix?endpoint=URL&region=R or file:///dir; the config's when absent.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Only this namespace's objects; may be given more than once.
    #[arg(long, short, value_name = "N")]
    namespace: Vec<String>,
    /// Only this resource, as configmaps or widgets.example.com, also when it is derived; may be given more than once.
    #[arg(long, value_name = "RESOURCE", conflicts_with_all = ["exclude", "add"])]
    include: Vec<String>,
    /// Leave this resource out; may be given more than once.
    #[arg(long, value_name = "RESOURCE")]
    exclude: Vec<String>,
    /// Take this derived resource too, besides all others; may be given more than once.
    #[arg(long, value_name = "RESOURCE")]
    add: Vec<String>,
    /// Encrypt for the Secret of secretsDir with the key recipients or passphrase.
    #[arg(long, value_name = "SECRET")]
    encryption_secret: Option<String>,
    /// Everything, or what changed since the newest export of the same cluster in the store, which it is then read back with.
    #[arg(long, value_enum, default_value_t = Mode::Full)]
    mode: Mode,
    /// Folder for the bundle on its way. TMPDIR unless given.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    server: ServerFlags,
}

impl Export {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, LOG)?;
        let now = Timestamp::now();
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| format!("export-{}", now.strftime("%Y%m%d-%H%M%S")));
        super::backup_create::check_name(&name)?;
        let location = context.store(self.to.as_deref(), "--to")?;
        let encryption = self
            .encryption_secret
            .as_ref()
            .map(|secret| json!({"enabled": true, "encryptionSecret": secret}));
        let mode = match self.mode {
            Mode::Full => "Full",
            Mode::Incremental => "Incremental",
        };
        let spec = json!({
            "backupMode": mode, "source": "Proxy", "storageLocation": location, "encryption": encryption,
            // As long as it takes: whoever waits can end it.
            "activeDeadlineSeconds": 604_800,
        });
        let server = self.server.connect().await?;
        let cluster = context.config.cluster.as_ref();
        let request = Request {
            spec: serde_json::from_value(spec)
                .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?,
            namespace: "default".to_owned(),
            name,
            schedule: None,
            run_id: uuid::Uuid::new_v4().to_string(),
            // The export's platform names a cluster that nothing else names.
            cluster_name: cluster.and_then(|one| one.name.clone()).unwrap_or_default(),
            cluster: ClusterConfig::default(),
            export: Selection {
                exclude: self.exclude.clone(),
                include: self.include.clone(),
                add: self.add.clone(),
                namespaces: self.namespace.clone(),
            },
            makes_velero_pair: false,
            part: Part::Whole,
            scratch: self.scratch.clone().unwrap_or_else(std::env::temp_dir),
            started: now,
        };
        let services = Services {
            secrets: Arc::clone(&context.secrets),
            observer: Arc::new(SilentObserver),
            commands: Arc::new(OnThisHost),
            api: ApiServer::Client(server.client()),
        };
        let bar = Bar::new(global, "listing");
        let work = pipeline::run(&request, &services, &bar);
        let outcome = work.instrument(pipeline::span(&request)).await;
        drop(bar);
        let completed = outcome?;
        for warning in &completed.warnings {
            output::say(format!("warning: {warning}"));
        }
        let (manifest, about) = (&completed.manifest, completed.export.unwrap_or_default());
        let location = &request.spec.storage_location;
        let secrets = context.secrets.as_ref();
        let repository = Repository::open(location, "default", secrets, services.observer).await?;
        if global.output == Format::Table {
            output::write_out(super::backup::describe(&repository, manifest).as_bytes())?;
            output::write_out(words(&about).as_bytes())?;
        } else {
            let shown = json!({"backup": view(&repository, manifest), "export": about});
            output::print(global.output, &shown, |_| String::new())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Kinds and what was left out.
pub fn words(about: &About) -> String {
    let rows: Vec<Vec<String>> = about
        .kinds
        .iter()
        .filter(|(_, kind)| kind.objects > 0)
        .map(|(resource, kind)| {
            let at = if kind.pinned {
                ""
            } else {
                "at a version of its own"
            };
            vec![resource.clone(), kind.objects.to_string(), at.to_owned()]
        })
        .collect();
    let mut text = output::table(&["RESOURCE", "OBJECTS", ""], &rows);
    for skipped in &about.skipped {
        let quiet = ["derived", "not listable", "excluded", "not asked for"];
        if !quiet.iter().any(|start| skipped.reason.starts_with(start)) {
            text.push_str(&format!(
                "left out   {}: {}\n",
                skipped.resource, skipped.reason
            ));
        }
    }
    text
}
