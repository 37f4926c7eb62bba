//! `restore --from`: the chain that leads to the target is fetched, proved and merged into one snapshot, which is then restored.

use jiff::Timestamp;
use serde::Serialize;

use super::backup::RepositoryFlags;
use super::context::Context;
use super::output;
use super::restore_fit::Fit;
use super::{CliError, args::Global};
use crate::api::ErrorClass;
use crate::recorder::merge::Until;
use crate::repository::{Kind, Manifest, Repository, increments_of};
use crate::restore::chain::{self, Chain};
use crate::restore::fetch::{Fetched, fetch};
use crate::restore::workspace::Workspace;
use crate::seal::Unsealer;

/// What would be fetched, for `--plan`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChainView {
    base: String,
    base_revision: i64,
    increments: Vec<String>,
    newest_revision: i64,
    stored_bytes: u64,
    notes: Vec<String>,
    #[serde(flatten)]
    fit: Fit,
}

/// The repository and the backups of one restore.
pub struct StoredBackups {
    repository: Repository,
    backups: Vec<Manifest>,
    named: Option<Manifest>,
}

impl StoredBackups {
    /// Lists the repository and finds the named backup.
    pub async fn open(
        flags: &RepositoryFlags,
        backup: Option<&str>,
        context: &Context,
    ) -> Result<Self, CliError> {
        let repository = flags.open(context).await?;
        let catalog = flags.catalog(&repository).await?;
        let named = match backup {
            None => None,
            Some(id) => Some(flags.find(&repository, id).await?),
        };
        let mut backups = catalog.backups;
        if let Some(named) = &named {
            backups.retain(|backup| backup.cluster_id == named.cluster_id);
        }
        Ok(Self {
            repository,
            backups,
            named,
        })
    }

    /// Those alone that objects of a namespace made: an increment of somebody else continues none of them.
    pub fn of_namespace(mut self, namespace: &str) -> Result<Self, CliError> {
        if let Some(named) = self.named.as_ref().filter(|one| one.namespace != namespace) {
            return Err(CliError::new(
                ErrorClass::NotFound,
                format!(
                    "{}: backup {} is of namespace {}, not of {namespace}; see 'etcdguardian backup list'",
                    self.repository.location(),
                    named.id,
                    named.namespace
                ),
            ));
        }
        self.backups.retain(|one| one.namespace == namespace);
        Ok(self)
    }

    /// The chain that leads to the target.
    pub fn chain(&self, until: Until) -> Result<Chain<'_>, CliError> {
        chain::resolve(&self.backups, self.named.as_ref(), until).map_err(|problem| {
            let place = self.repository.location();
            CliError::new(
                ErrorClass::NotFound,
                format!("{place}: {problem}; see 'etcdguardian backup list'"),
            )
        })
    }

    /// The newest state before a moment that no chain covers.
    pub fn before(&self, time: Timestamp) -> Option<Chain<'_>> {
        let cluster = &self.backups.first()?.cluster_id;
        let one_cluster = self.backups.iter().all(|one| one.cluster_id == *cluster);
        if self.named.is_some() || !one_cluster {
            return None;
        }
        let fulls = self
            .backups
            .iter()
            .filter(|backup| backup.kind == Kind::Full && backup.created <= time);
        let base = fulls.max_by_key(|full| (full.created, full.revision))?;
        let mut increments = increments_of(base, &self.backups);
        increments.retain(|increment| increment.created <= time);
        Some(Chain {
            base,
            increments,
            until: Until::End,
        })
    }

    /// The export that is named; or the newest by a moment, where there are only exports, of one cluster.
    pub fn export(&self, by: Option<Timestamp>) -> Option<&Manifest> {
        if let Some(named) = &self.named {
            return (named.kind == Kind::Export).then_some(named);
        }
        let cluster = &self.backups.first()?.cluster_id;
        let of_one = |one: &Manifest| one.kind == Kind::Export && one.cluster_id == *cluster;
        if !self.backups.iter().all(of_one) {
            return None;
        }
        let due = self.backups.iter();
        let due = due.filter(|one| by.is_none_or(|by| one.created <= by));
        due.max_by_key(|one| one.created)
    }

    /// Prints what would be fetched, and what to know of it.
    pub fn show(
        &self,
        global: &Global,
        chain: &Chain<'_>,
        notes: Vec<String>,
        fit: Fit,
    ) -> Result<(), CliError> {
        let all = std::iter::once(&chain.base).chain(&chain.increments);
        let newest = chain.increments.last().unwrap_or(&chain.base);
        let view = ChainView {
            base: chain.base.id.clone(),
            base_revision: chain.base.revision,
            increments: chain.increments.iter().map(|one| one.id.clone()).collect(),
            newest_revision: newest.revision,
            stored_bytes: all.map(|backup| backup.stored_size).sum(),
            notes,
            fit,
        };
        output::print(global.output, &view, |view| {
            let mut pairs = vec![
                (
                    "base",
                    format!("{} (revision {})", view.base, view.base_revision),
                ),
                (
                    "increments",
                    match view.increments[..] {
                        [] => "none".to_owned(),
                        _ => view.increments.join(", "),
                    },
                ),
                ("newest", view.newest_revision.to_string()),
                ("fetches", output::bytes(view.stored_bytes)),
            ];
            pairs.extend(view.fit.holds());
            let mut text = output::fields(&pairs);
            for note in &view.notes {
                text.push_str(&format!("note: {note}\n"));
            }
            text.push_str(&view.fit.words());
            text
        })
    }

    /// Fetches a chain into the workspace, each backup against its digests, and merges it.
    pub async fn fetch(
        &self,
        chain: &Chain<'_>,
        unsealer: &Unsealer,
        workspace: &Workspace,
    ) -> Result<Fetched, CliError> {
        let fetched = fetch(&self.repository, chain, unsealer, workspace).await?;
        if let Some(merged) = &fetched.merged {
            let came = merged
                .at
                .map(|at| format!(", which came at {}", output::moment(at)))
                .unwrap_or_default();
            output::say(format!(
                "merged {} on backup {}: revision {}{came}",
                output::count(chain.increments.len(), "increment"),
                chain.base.id,
                merged.revision
            ));
        }
        Ok(fetched)
    }

    /// The backups that are looked at.
    pub fn backups(&self) -> &[Manifest] {
        &self.backups
    }

    /// The store itself.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}
