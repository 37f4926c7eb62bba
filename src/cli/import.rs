//! `import`: the objects of an export into an API server: proved, tried out, shown, then applied in their order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::CliError;
use super::args::Global;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::object_restore::{LOG, ServerFlags};
use super::output::{self, Format};
use super::seal_flags::UnsealFlags;
use crate::api::ErrorClass;
use crate::export::findings::{Finding, findings};
use crate::export::import::{self, Existing, Step};
use crate::export::index::index;
use crate::export::left::LeftOut;
use crate::export::plan::Change;
use crate::repository::{Kind, Manifest, Repository};
use crate::restore::bundle::fetch_export;

/// Steps that are shown one by one.
const SHOWN: usize = 50;

/// Import an export into a cluster: what it would change is shown first.
///
/// Definitions come first, then namespaces, rights, storage, configuration, workloads, custom resources, and webhooks last.
/// Objects that controllers make again (pods of a deployment) are left to them. A second run goes on where one ended.
#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Which export, by id, name or unique prefix; the newest unless given.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    #[command(flatten)]
    unseal: UnsealFlags,
    /// What becomes of objects that are there and differ.
    #[arg(long, value_enum, default_value_t = Policy::Skip)]
    existing: Policy,
    /// Let services keep their addresses and node ports; the server refuses those that are taken or not of its ranges.
    #[arg(long)]
    keep_addresses: bool,
    /// Print what would be done, and do nothing.
    #[arg(long, alias = "dry-run")]
    plan: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Folder for the bundle. TMPDIR unless given.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    server: ServerFlags,
}

/// What becomes of objects that are there and differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// They stay.
    Skip,
    /// They get the fields of the export.
    Update,
    /// Nothing is imported.
    Fail,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    server: String,
    source: String,
    /// What to know before.
    findings: Vec<Finding>,
    items: Vec<Step>,
    /// Objects of these that their owners make again.
    made_again: usize,
    /// Objects that are not imported, and why.
    left_out: Vec<LeftOut>,
}

impl Import {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, LOG)?;
        let repository = self.repository.open(&context).await?;
        let exports = self.repository.catalog(&repository).await?.backups;
        let manifest = self.manifest(&repository, &exports).await?;
        let unsealer = self.unseal.unsealer(&context).await?;
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = tempfile::Builder::new()
            .prefix("etcdguardian-")
            .tempdir_in(parent)?;
        let file = scratch.path().join("bundle.tar");
        let chain = fetch_export(&repository, &exports, &manifest, &unsealer, &file).await?;
        let indexing = file.clone();
        let mut index = tokio::task::spawn_blocking(move || index(&indexing))
            .await
            .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))??;
        if self.keep_addresses {
            index.keep_addresses();
        }
        let server = self.server.connect().await?;
        let items = import::plan(&server, &file, &index).await?;
        let target = server.target().await?;
        let mut report = Report {
            findings: findings(&index, &items, &target),
            server: server.url().to_owned(),
            source: match chain.len() {
                1 => format!("export {}", manifest.id),
                count => format!("export {} with {} before it", manifest.id, count - 1),
            },
            items,
            made_again: index.left.iter().filter(|one| one.is_made_again()).count(),
            left_out: index.left.clone(),
        };
        if self.plan {
            output::print(global.output, &report, plan_words)?;
            return Ok(ExitCode::SUCCESS);
        }
        if global.output == Format::Table {
            output::say(plan_words(&report));
        }
        let existing = match self.existing {
            Policy::Skip => Existing::Skip,
            Policy::Update => Existing::Update,
            Policy::Fail => Existing::Fail,
        };
        let differs = report
            .items
            .iter()
            .any(|step| matches!(step.change, Change::Update { .. }));
        if existing == Existing::Fail && differs {
            return Err(CliError::new(
                ErrorClass::Refused,
                "objects are there already and differ, and --existing fail says that nothing is imported then",
            ));
        }
        if report.items.iter().any(|step| import::acts(step, existing)) {
            output::confirm("import them?", self.yes)?;
        }
        import::apply(&server, &file, &index, &mut report.items, existing, &|_| {}).await?;
        output::print(global.output, &report, report_words)?;
        let failed = report.items.iter().any(|step| {
            step.error.is_some()
                || matches!(
                    step.change,
                    Change::Refused { .. } | Change::NotServed { .. }
                )
        });
        if failed {
            return Err(CliError::new(
                ErrorClass::Failed,
                "not every object was imported: see above; mend it and run the same command again",
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The export that is named, else the newest.
    async fn manifest(
        &self,
        repository: &Repository,
        all: &[Manifest],
    ) -> Result<Manifest, CliError> {
        let refused = |words: String, class| Err(CliError::new(class, words));
        if let Some(id) = &self.backup {
            let found = self.repository.find(repository, id).await?;
            if found.kind == Kind::Export {
                return Ok(found);
            }
            let words = format!(
                "backup '{}' is of kind {}: restore it with 'etcdguardian restore', or single objects with 'etcdguardian object restore'",
                found.id, found.kind
            );
            return refused(words, ErrorClass::Usage);
        }
        let exports = all.iter().filter(|one| one.kind == Kind::Export);
        let exports: Vec<&Manifest> = exports.collect();
        let clusters: std::collections::BTreeSet<&str> =
            exports.iter().map(|one| one.cluster_id.as_str()).collect();
        if clusters.len() > 1 {
            let words = format!(
                "{} holds exports of several clusters: name one with --backup ID",
                repository.location()
            );
            return refused(words, ErrorClass::Usage);
        }
        let newest = exports.into_iter().max_by_key(|one| one.created);
        newest.cloned().ok_or_else(|| {
            CliError::new(
                ErrorClass::NotFound,
                format!(
                    "{} holds no export: take one with 'etcdguardian export'",
                    repository.location()
                ),
            )
        })
    }
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Create | Change::Untried => "create",
        Change::Update { .. } => "differ",
        Change::Unchanged => "unchanged",
        Change::Refused { .. } | Change::NotServed { .. } => "refused",
    }
}

fn plan_words(report: &Report) -> String {
    let mut text = format!("{} → {}\n", report.source, report.server);
    for finding in &report.findings {
        let word = if finding.blocks { "missing" } else { "note" };
        text.push_str(&format!("{word}   {}: {}\n", finding.code, finding.message));
    }
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for step in &report.items {
        *counts
            .entry((step.identity.kind.as_str(), word(&step.change)))
            .or_default() += 1;
    }
    let rows: Vec<Vec<String>> = counts
        .iter()
        .map(|((kind, word), count)| {
            vec![(*kind).to_owned(), (*word).to_owned(), count.to_string()]
        })
        .collect();
    text.push_str(&output::table(&["KIND", "WOULD", "OBJECTS"], &rows));
    let special = |step: &&Step| {
        matches!(
            step.change,
            Change::Update { .. } | Change::Refused { .. } | Change::NotServed { .. }
        )
    };
    for step in report.items.iter().filter(special).take(SHOWN) {
        let words = match &step.change {
            Change::Update { fields } => format!("differs: {}", fields.join(", ")),
            Change::Refused { reason } | Change::NotServed { reason } => {
                format!("refused: {reason}")
            }
            _ => String::new(),
        };
        text.push_str(&format!("{}   {words}\n", step.identity));
    }
    let mut left: BTreeMap<&str, u64> = BTreeMap::new();
    for one in &report.left_out {
        *left.entry(one.reason).or_default() += 1;
    }
    for (reason, count) in left {
        text.push_str(&format!("{count} objects are left out: {reason}\n"));
    }
    text
}

/// What was done, then what was not and what a person may miss, object by object.
fn report_words(report: &Report) -> String {
    let applied = report
        .items
        .iter()
        .filter(|step| step.applied == Some(true));
    let mut text = format!(
        "{} of {} objects imported\n",
        applied.count(),
        report.items.len()
    );
    for step in report
        .items
        .iter()
        .filter(|step| step.error.is_some())
        .take(SHOWN)
    {
        let error = step.error.as_deref().unwrap_or_default();
        text.push_str(&format!("{}   failed: {error}\n", step.identity));
    }
    let noted = report
        .items
        .iter()
        .filter(|step| step.applied == Some(true) && !step.notes.is_empty());
    for step in noted.take(SHOWN) {
        text.push_str(&format!("{}   {}\n", step.identity, step.notes.join("; ")));
    }
    text
}
