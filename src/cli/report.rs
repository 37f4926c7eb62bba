//! `report`: one file with all that helps to find a fault, without what must not leave the house.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::doctor::Doctor;
use super::output;
use super::redact::Redactor;
use crate::cause::with_causes;
use crate::engine::StateDir;
use crate::repository::{Repository, SilentObserver};

/// Largest state file that is taken in, bytes.
const LARGEST: u64 = 4 << 20;

/// Write a support bundle: config, manifests, status, decisions, what the store lists and what doctor finds, as JSON that one can read.
///
/// Contents of Secrets and of files that the config names for secrets are cut out wherever they occur, so are users and
/// queries of URLs, paths of webhooks and the names before the @ of addresses. Nothing of etcd's keys or values is read.
#[derive(Debug, Args)]
pub struct Report {
    /// File to write; etcdguardian-report-TIME.json unless given, - for stdout.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Leave doctor out: nothing is tried.
    #[arg(long)]
    no_doctor: bool,
}

impl Report {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "error")?;
        let now = Timestamp::now();
        let mut report = Map::new();
        report.insert("generated".into(), json!(now));
        report.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        report.insert("host".into(), host());
        report.insert("config".into(), value_of(&context.config));
        if let Some(root) = &context.config.state_dir {
            report.insert("status".into(), read_json(&StateDir::status_file(root)));
            for folder in ["schedules", "backups", "decisions"] {
                report.insert(folder.into(), folder_json(&root.join(folder)));
            }
            report.insert("stateFiles".into(), listing(root));
        }
        if let Some(folder) = &context.config.manifests {
            report.insert("manifests".into(), manifests(folder));
        }
        report.insert("store".into(), store(&context).await);
        if !self.no_doctor {
            let doctor = match Doctor::default().examine(&context).await {
                Ok(found) => value_of(&found),
                Err(error) => value_of(&error),
            };
            report.insert("doctor".into(), doctor);
        }
        let report = Value::Object(report);
        let redacted = Redactor::of(&context.config, &report).redact(report);
        let mut text = serde_json::to_string_pretty(&redacted)
            .map_err(|error| CliError::from(std::io::Error::other(error)))?;
        text.push('\n');
        let file = match &self.to {
            Some(file) if file.as_os_str() == "-" => {
                output::write_out(text.as_bytes())?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(file) => file.clone(),
            None => PathBuf::from(
                now.strftime("etcdguardian-report-%Y%m%dT%H%M%SZ.json")
                    .to_string(),
            ),
        };
        std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut out| out.write_all(text.as_bytes()))
            .map_err(|error| CliError::from(error).about(&file))?;
        output::say(format!(
            "{} is written ({}): read it before you pass it on",
            file.display(),
            output::bytes(text.len() as u64)
        ));
        Ok(ExitCode::SUCCESS)
    }
}

fn value_of(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn host() -> Value {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().to_owned()
    };
    json!({
        "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
        "kernel": read("/proc/sys/kernel/osrelease"), "load": read("/proc/loadavg"),
        "cpus": std::thread::available_parallelism().map(std::num::NonZero::get).unwrap_or(0),
    })
}

fn read_json(file: &Path) -> Value {
    let small = std::fs::metadata(file).is_ok_and(|about| about.len() <= LARGEST);
    let text = std::fs::read(file).ok().filter(|_| small);
    text.and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// The resources that the loop was given, as they are written; of a file that is no YAML, why.
fn manifests(folder: &Path) -> Value {
    let mut found = Map::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let small =
            std::fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() <= LARGEST);
        let text = std::fs::read_to_string(&path).ok().filter(|_| small);
        let Some(text) = text else { continue };
        let documents = serde_saphyr::from_multiple::<Value>(&text)
            .map_or_else(|error| json!({"error": error.to_string()}), Value::Array);
        found.insert(name.to_string_lossy().into_owned(), documents);
    }
    Value::Object(found)
}

fn folder_json(folder: &Path) -> Value {
    let mut found = Map::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(name, read_json(&entry.path()));
    }
    Value::Object(found)
}

/// Names and sizes of what lies in the state folder.
fn listing(root: &Path) -> Value {
    let mut found = Map::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let (Ok(about), Ok(name)) = (entry.metadata(), path.strip_prefix(root)) {
                found.insert(name.display().to_string(), json!(about.len()));
            }
        }
    }
    Value::Object(found)
}

/// What the config's store lists: manifests without wrapped keys.
async fn store(context: &Context) -> Value {
    let Some(location) = &context.config.store else {
        return Value::Null;
    };
    let opened = Repository::open(
        location,
        "default",
        context.secrets.as_ref(),
        std::sync::Arc::new(SilentObserver),
    );
    let listed = async { opened.await?.catalog(None).await };
    match listed.await {
        Ok(catalog) => {
            let mut backups: Vec<Value> = catalog.backups.iter().map(value_of).collect();
            for backup in &mut backups {
                if let Some(fields) = backup.as_object_mut() {
                    fields.remove("seal");
                }
            }
            json!({"backups": backups, "damaged": catalog.damaged.iter().map(ToString::to_string).collect::<Vec<_>>()})
        }
        Err(error) => json!({"error": with_causes(&error)}),
    }
}
