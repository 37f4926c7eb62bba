//! `object diff`: what two backups differ in, object by object and field by field.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::CliError;
use super::args::Global;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::object_source::ObjectSource;
use super::output;
use super::seal_flags::UnsealFlags;
use crate::export::find::{Found, Wanted};
use crate::export::kinds::WantedKind;
use crate::export::plan::{Change, compare};
use crate::export::stored::Identity;

/// Compare two backups, object by object: what only one has, and which fields differ.
#[derive(Debug, Args)]
pub struct Diff {
    /// The older one: id or name of a backup of any kind, or a snapshot file.
    a: String,
    /// The newer one.
    b: String,
    /// Only objects of this namespace.
    #[arg(long, short, value_name = "N")]
    namespace: Option<String>,
    /// Only objects of this kind, as ConfigMap, cm, deployments.apps or a custom resource's names.
    #[arg(long, short, value_name = "K")]
    kind: Option<String>,
    /// Where the API server keeps its objects in etcd.
    #[arg(long, default_value = "/registry", value_name = "PREFIX")]
    prefix: String,
    #[command(flatten)]
    repository: RepositoryFlags,
    #[command(flatten)]
    unseal: UnsealFlags,
}

/// An object that differs; nothing of its values is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(flatten)]
    identity: Identity,
    #[serde(flatten)]
    change: Difference,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "change")]
enum Difference {
    Created,
    Deleted,
    #[serde(rename_all = "camelCase")]
    Changed {
        /// As `spec.replicas`; empty when the value is encrypted and differs.
        fields: Vec<String>,
    },
}

#[derive(Debug, Serialize)]
struct Differences {
    items: Vec<Item>,
}

impl Diff {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let source = |word: &str| ObjectSource::named(word, &self.repository, &self.unseal);
        let first = source(&self.a).open(context).await?;
        let second = source(&self.b).open(context).await?;
        let wanted = |revision| Wanted {
            prefix: self.prefix.clone(),
            namespace: self.namespace.clone(),
            kind: self.kind.as_deref().map(WantedKind::new),
            name: None,
            revision,
            deleted: false,
        };
        let before = by_identity(first.find(&wanted(first.revision))?.objects);
        let after = by_identity(second.find(&wanted(second.revision))?.objects);
        let mut items = Vec::new();
        for (identity, found) in &before {
            let change = match after.get(identity) {
                None => Some(Difference::Deleted),
                Some(other) if other.stored == found.stored => None,
                Some(other) => changed(found, other),
            };
            items.extend(change.map(|change| Item {
                identity: identity.clone(),
                change,
            }));
        }
        let created = after.into_keys().filter(|one| !before.contains_key(one));
        items.extend(created.map(|identity| Item {
            identity,
            change: Difference::Created,
        }));
        items.sort_by(|one, other| one.identity.cmp(&other.identity));
        output::print(global.output, &Differences { items }, words)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn by_identity(objects: Vec<Found<'_>>) -> BTreeMap<Identity, Found<'_>> {
    let named = objects.into_iter();
    named.map(|found| (found.identity.clone(), found)).collect()
}

/// The fields that differ; nothing when only what the server writes does.
fn changed(before: &Found<'_>, after: &Found<'_>) -> Option<Difference> {
    let (Ok(before), Ok(after)) = (before.decode(), after.decode()) else {
        return Some(Difference::Changed { fields: Vec::new() });
    };
    let (before, after) = (Value::Object(before.object), Value::Object(after.object));
    match compare(Some(&before), &after) {
        Change::Update { fields } => Some(Difference::Changed { fields }),
        _ => None,
    }
}

fn words(differences: &Differences) -> String {
    let mut text = String::new();
    for item in &differences.items {
        let identity = &item.identity;
        text.push_str(&match &item.change {
            Difference::Created => format!("+ {identity}\n"),
            Difference::Deleted => format!("- {identity}\n"),
            Difference::Changed { fields } => format!("~ {identity}   {}\n", fields.join(", ")),
        });
    }
    text
}
