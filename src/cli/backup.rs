//! `backup list|show` and the flags of all `backup` verbs: what a repository holds.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::context::Context;
use super::output::{self, Format};
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::repository::{Catalog, Kind, Manifest, Repository, SilentObserver};

/// Backups by hand, and what a repository holds.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take a backup now.
    Create(Box<super::backup_create::Create>),
    /// List what a repository holds.
    List(List),
    /// Show everything that is known of a backup.
    Show(Show),
    /// Read a stored backup again and prove it.
    Verify(super::backup_verify::Verify),
    /// Delete a backup.
    Delete(super::backup_delete::Delete),
    /// Apply a retention policy.
    Prune(super::backup_delete::Prune),
    /// Copy backups to another store.
    Copy(super::backup_copy::Copy),
}

/// Which repository, and which cluster in it.
#[derive(Debug, Clone, Args)]
pub struct RepositoryFlags {
    /// The store, as s3://bucket/prefix?endpoint=URL&region=R or file:///dir; the config's when absent.
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Only this etcd cluster, by its hexadecimal id.
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,
}

impl RepositoryFlags {
    /// Opens the repository that the flags or the config name.
    pub async fn open(&self, context: &Context) -> Result<Repository, CliError> {
        let location = context.store(self.from.as_deref(), "--from")?;
        let observer = Arc::new(SilentObserver);
        Ok(Repository::open(&location, "default", context.secrets.as_ref(), observer).await?)
    }

    /// Everything that the repository holds of the chosen cluster.
    pub async fn catalog(&self, repository: &Repository) -> Result<Catalog, CliError> {
        let catalog = repository.catalog(self.cluster_id.as_deref()).await?;
        for damaged in &catalog.damaged {
            output::say(format!("warning: {damaged}"));
        }
        Ok(catalog)
    }

    /// One backup by id, name, run id, unique prefix, or `latest` for the newest.
    pub async fn find(&self, repository: &Repository, id: &str) -> Result<Manifest, CliError> {
        let catalog = self.catalog(repository).await?;
        if id != "latest" {
            return Ok(repository.find_in(&catalog, id)?);
        }
        // The catalogue is ordered by cluster first, so the newest is known only within one.
        let clusters: BTreeSet<&str> = catalog
            .backups
            .iter()
            .map(|backup| backup.cluster_id.as_str())
            .collect();
        if clusters.len() > 1 {
            let ids: Vec<&str> = clusters.into_iter().collect();
            return Err(CliError::new(
                ErrorClass::Usage,
                format!(
                    "{} holds backups of several clusters, each with a latest one: add --cluster-id with one of {}",
                    repository.location(),
                    ids.join(", ")
                ),
            ));
        }
        // At one revision a full backup is less to read than the increments that lead there.
        let rank = |backup: &Manifest| (backup.revision, backup.kind == Kind::Full, backup.created);
        let latest = catalog.backups.into_iter().max_by_key(rank);
        latest.ok_or_else(|| {
            CliError::new(
                ErrorClass::NotFound,
                format!(
                    "{} holds no backup: take one with 'etcdguardian backup create'",
                    repository.location()
                ),
            )
        })
    }
}

/// List what a repository holds.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Only backups of this schedule.
    #[arg(long)]
    schedule: Option<String>,
}

/// Show everything that is known of a backup.
#[derive(Debug, Args)]
pub struct Show {
    /// Id, name, unique prefix, or `latest`.
    id: String,
    #[command(flatten)]
    repository: RepositoryFlags,
}

/// A backup as the CLI's JSON shows it: docs/reference/cli.md.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupView {
    id: String,
    kind: String,
    base: Option<String>,
    start_revision: Option<i64>,
    revision: i64,
    time: Timestamp,
    size: u64,
    stored_size: u64,
    level: String,
    location: String,
    schedule: Option<String>,
    sealed: bool,
    cluster_id: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct BackupList {
    items: Vec<BackupView>,
}

impl Backup {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        match &self.verb {
            Verb::Create(verb) => verb.run(global, &context).await,
            Verb::Verify(verb) => verb.run(global, &context).await,
            Verb::List(verb) => verb.run(global, &context).await,
            Verb::Show(verb) => verb.run(global, &context).await,
            Verb::Delete(verb) => verb.run(&context).await,
            Verb::Prune(verb) => verb.run(global, &context).await,
            Verb::Copy(verb) => verb.run(global, &context).await,
        }
    }
}

impl List {
    /// Whether a flag names the store.
    pub(super) fn names_store(&self) -> bool {
        self.repository.from.is_some()
    }

    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let repository = self.repository.open(context).await?;
        let catalog = self.repository.catalog(&repository).await?;
        let wanted = |manifest: &&Manifest| {
            self.schedule
                .as_ref()
                .is_none_or(|name| manifest.schedule.as_ref() == Some(name))
        };
        let items = catalog
            .backups
            .iter()
            .rev()
            .filter(wanted)
            .map(|m| view(&repository, m))
            .collect();
        let list = BackupList { items };
        let now = Timestamp::now();
        output::print(global.output, &list, |list| {
            if list.items.is_empty() {
                output::say(format!("{} holds no backup yet", repository.location()));
            }
            backup_table(&list.items, now)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    async fn run(&self, global: &Global, context: &Context) -> Result<ExitCode, CliError> {
        let repository = self.repository.open(context).await?;
        let manifest = self.repository.find(&repository, &self.id).await?;
        if global.output == Format::Table {
            output::write_out(describe(&repository, &manifest).as_bytes())?;
        } else {
            // The contract's fields first, then everything that the manifest says.
            let mut shown = serde_json::to_value(view(&repository, &manifest)).unwrap_or_default();
            if let Some(fields) = shown.as_object_mut() {
                let manifest = serde_json::to_value(&manifest).unwrap_or_default();
                fields.insert("manifest".to_owned(), manifest);
            }
            output::print(global.output, &shown, |_| String::new())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn view(repository: &Repository, manifest: &Manifest) -> BackupView {
    BackupView {
        id: manifest.id.clone(),
        kind: manifest.kind.to_string(),
        base: manifest.chain.as_ref().map(|chain| chain.base.clone()),
        start_revision: manifest.start_revision,
        revision: manifest.revision,
        time: manifest.created,
        size: manifest.raw_size,
        stored_size: manifest.stored_size,
        level: manifest.level.to_string(),
        location: repository.url_of(manifest),
        schedule: manifest.schedule.clone(),
        sealed: manifest.is_sealed(),
        cluster_id: manifest.cluster_id.clone(),
        name: manifest.backup_name.clone(),
    }
}

fn backup_table(items: &[BackupView], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                item.id.clone(),
                item.kind.clone(),
                item.revision.to_string(),
                output::relative(item.time, now),
                output::bytes(item.size),
                output::bytes(item.stored_size),
                output::level(&item.level),
                item.schedule.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let header = [
        "ID", "KIND", "REVISION", "TAKEN", "SIZE", "STORED", "LEVEL", "SCHEDULE",
    ];
    if rows.is_empty() {
        String::new()
    } else {
        output::table(&header, &rows)
    }
}

pub(super) fn describe(repository: &Repository, manifest: &Manifest) -> String {
    let mut pairs = vec![
        ("id", manifest.id.clone()),
        ("location", repository.url_of(manifest)),
        (
            "cluster",
            format!("{} ({})", manifest.cluster_name, manifest.cluster_id),
        ),
        ("taken", output::moment(manifest.created)),
        ("revision", manifest.revision.to_string()),
    ];
    match manifest.kind {
        Kind::Increment | Kind::Export => {
            if let Some(first) = manifest.start_revision {
                pairs.push(("from", first.to_string()));
            }
            if let Some(chain) = &manifest.chain {
                pairs.push(("base", chain.base.clone()));
            }
        }
        Kind::Full => pairs.extend([
            ("compacted", output::compacted(manifest.compact_revision)),
            ("keys", manifest.key_count.to_string()),
        ]),
    }
    pairs.extend([
        ("size", output::bytes(manifest.raw_size)),
        ("stored", output::bytes(manifest.stored_size)),
        ("level", manifest.level.to_string()),
        ("sha256", manifest.plain_sha256.clone()),
        ("etcd", manifest.etcd_version.clone()),
    ]);
    if let Some(synthetic) = &manifest.synthetic {
        let (base, count) = (&synthetic.base, synthetic.increments);
        pairs.push(("merged", format!("from {base} and {count} increments")));
    }
    if let Some(hash) = &manifest.hash_kv {
        let at = format!(
            "{} (compacted: {})",
            hash.revision,
            output::compacted(hash.compact_revision)
        );
        pairs.push(("hashkv", format!("{} at revision {at}", hash.hash)));
    }
    if let Some(schedule) = &manifest.schedule {
        pairs.push(("schedule", schedule.clone()));
    }
    if let Some(trace) = &manifest.trace_id {
        pairs.push(("trace", trace.clone()));
    }
    let checks = manifest.checks.iter().map(|check| {
        let mark = if check.ok { "ok" } else { "FAILED" };
        (
            "check",
            format!("{mark}: {}: {}", check.name, check.message),
        )
    });
    pairs.extend(checks);
    output::fields(&pairs)
}
