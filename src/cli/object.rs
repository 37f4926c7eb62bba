//! `object ls|get`: Kubernetes objects out of any backup, and the flags that choose them and their moment.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::object_restore::LOG;
use super::object_source::{ObjectSource, Opened};
use super::output::{self, Format};
use crate::api::ErrorClass;
use crate::export::clean::clean;
use crate::export::find::{Found, Search, Wanted};
use crate::export::kinds::WantedKind;
use crate::export::stored::Stored;

/// Kubernetes objects out of a backup.
#[derive(Debug, Args)]
pub struct Object {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List objects.
    Ls(Ls),
    /// Print objects as YAML that can be applied again.
    Get(Get),
    /// Put objects back into a cluster, by server-side apply.
    Restore(super::object_restore::Restore),
    /// Compare two backups, object by object.
    Diff(super::object_diff::Diff),
}

/// Which objects, of which moment.
#[derive(Debug, Args)]
pub struct Selection {
    /// Name of the object; all unless given.
    pub name: Option<String>,
    /// Only objects of this namespace.
    #[arg(long, short, value_name = "N")]
    pub namespace: Option<String>,
    /// Only objects of this kind, as ConfigMap, cm, deployments.apps or a custom resource's names.
    #[arg(long, short, value_name = "K")]
    pub kind: Option<String>,
    /// Objects that were deleted, as they last were before that, as far as the backup's history goes back.
    #[arg(long)]
    pub deleted: bool,
    /// Where the API server keeps its objects in etcd.
    #[arg(long, default_value = "/registry", value_name = "PREFIX")]
    pub prefix: String,
    #[command(flatten)]
    pub source: ObjectSource,
}

/// List objects.
#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    selection: Selection,
}

/// Print objects.
#[derive(Debug, Args)]
struct Get {
    #[command(flatten)]
    selection: Selection,
    /// Keep status, uid, owners and all else that the server gave.
    #[arg(long)]
    raw: bool,
}

/// An object in the JSON of `object ls`. Its size is that of key and value, in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(flatten)]
    identity: crate::export::stored::Identity,
    key: String,
    mod_revision: i64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listing {
    items: Vec<Item>,
    /// Keys that hold no object, and why.
    others: Vec<String>,
}

impl Object {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, LOG)?;
        match &self.verb {
            Verb::Ls(verb) => verb.run(global, &context).await,
            Verb::Get(verb) => verb.run(global, &context).await,
            Verb::Restore(verb) => verb.run(global, &context).await,
            Verb::Diff(verb) => verb.run(global, &context).await,
        }
    }
}

impl Selection {
    /// What is looked for in an opened backup.
    fn wanted(&self, opened: &Opened) -> Wanted {
        Wanted {
            prefix: self.prefix.clone(),
            namespace: self.namespace.clone(),
            kind: self.kind.as_deref().map(WantedKind::new),
            name: self.name.clone(),
            revision: opened.revision,
            deleted: self.deleted,
        }
    }

    /// The objects of the backup; an error in words when there is none.
    pub fn find<'a>(&self, opened: &'a Opened) -> Result<Search<'a>, CliError> {
        let wanted = self.wanted(opened);
        let search = opened.find(&wanted)?;
        if !search.objects.is_empty() {
            return Ok(search);
        }
        let other = Wanted {
            deleted: !self.deleted,
            ..wanted
        };
        let elsewhere = opened.find(&other)?.objects;
        let hint = match (elsewhere.first(), self.deleted) {
            (Some(found), false) => format!(
                "it was deleted at revision {}: add --deleted for what it was before",
                found.deleted_at.unwrap_or_default()
            ),
            (Some(_), true) => "it is there: leave --deleted out".to_owned(),
            (None, _) => "choose another moment with --at TIME or another backup with --backup ID, or see 'etcdguardian object ls'".to_owned(),
        };
        Err(CliError::new(
            ErrorClass::NotFound,
            format!("{} is not in {}: {hint}", self.words(), opened.name),
        ))
    }

    fn words(&self) -> String {
        let mut words = self.kind.clone().unwrap_or_else(|| "object".to_owned());
        match &self.name {
            Some(name) => words = format!("{words} '{name}'"),
            None => words = format!("any {words}"),
        }
        if let Some(namespace) = &self.namespace {
            words = format!("{words} of namespace '{namespace}'");
        }
        words
    }
}

impl Ls {
    async fn run(&self, global: &Global, context: &Context) -> Result<ExitCode, CliError> {
        let opened = self.selection.source.open(context).await?;
        let search = opened.find(&self.selection.wanted(&opened))?;
        let listing = Listing {
            items: search.objects.iter().map(item).collect(),
            others: search.others,
        };
        output::print(global.output, &listing, table)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Get {
    async fn run(&self, global: &Global, context: &Context) -> Result<ExitCode, CliError> {
        let opened = self.selection.source.open(context).await?;
        let mut objects = Vec::new();
        for found in &self.selection.find(&opened)?.objects {
            let decoded = found.decode()?;
            say_unknown(found, &decoded.unknown);
            let mut object = decoded.object;
            if !self.raw {
                for note in clean(&mut object) {
                    output::say(format!("note: {}: {note}", found.identity));
                }
            }
            objects.push(Value::Object(object));
        }
        if global.output == Format::Json {
            let shown = match objects.as_slice() {
                [one] => one.clone(),
                many => json!({"apiVersion": "v1", "kind": "List", "items": many}),
            };
            output::print(Format::Json, &shown, |_| String::new())?;
            return Ok(ExitCode::SUCCESS);
        }
        output::documents(&objects)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Warns of what is not shown.
pub fn say_unknown(found: &Found<'_>, unknown: &[String]) {
    if !unknown.is_empty() {
        output::say(format!(
            "warning: {}: fields of a newer Kubernetes than this version knows are missing: {}",
            found.identity,
            unknown.join(", ")
        ));
    }
}

fn item(found: &Found<'_>) -> Item {
    Item {
        identity: found.identity.clone(),
        key: found.key.clone(),
        mod_revision: found.mod_revision,
        size: found.size,
        deleted_at: found.deleted_at,
        encrypted: match &found.stored {
            Stored::Encrypted { provider, key } => Some(format!("{provider}, key {key}")),
            _ => None,
        },
    }
}

fn table(listing: &Listing) -> String {
    let rows: Vec<Vec<String>> = listing
        .items
        .iter()
        .map(|item| {
            let dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
            let note = match (&item.encrypted, item.deleted_at) {
                (Some(encrypted), _) => format!("encrypted: {encrypted}"),
                (None, Some(at)) => format!("deleted at {at}"),
                (None, None) => String::new(),
            };
            vec![
                dash(&item.identity.namespace),
                item.identity.kind.clone(),
                item.identity.name.clone(),
                item.mod_revision.to_string(),
                output::bytes(item.size),
                note,
            ]
        })
        .collect();
    for other in &listing.others {
        output::say(format!("no object: {other}"));
    }
    if rows.is_empty() {
        return String::new();
    }
    output::table(
        &["NAMESPACE", "KIND", "NAME", "REVISION", "SIZE", "NOTE"],
        &rows,
    )
}
