//! `backup copy`: backups from one store to another, verified there; what is there already is passed over.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::args::Global;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::{CliError, output};
use crate::repository::{Copied, Repository, SilentObserver};

/// Copy backups to another store.
#[derive(Debug, Args)]
pub struct Copy {
    #[command(flatten)]
    repository: RepositoryFlags,
    /// The store to copy to.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Only this backup: id, name, unique prefix, or `latest`.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    copied: Vec<String>,
    already_there: Vec<String>,
    failed: Vec<String>,
}

impl Copy {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let source = self.repository.open(context).await?;
        let location = context.store(Some(&self.to), "--to")?;
        let observer = Arc::new(SilentObserver);
        let target =
            Repository::open(&location, "default", context.secrets.as_ref(), observer).await?;
        let backups = match &self.backup {
            Some(id) => vec![self.repository.find(&source, id).await?],
            None => self.repository.catalog(&source).await?.backups,
        };
        let mut report = Report::default();
        let mut first_error = None;
        for backup in &backups {
            match source.copy_to(&target, backup, &|_| {}).await {
                Ok(Copied::AlreadyThere) => report.already_there.push(backup.id.clone()),
                Ok(Copied::Finished | Copied::Whole) => {
                    output::say(format!("copied {} to {}", backup.id, target.url_of(backup)));
                    report.copied.push(backup.id.clone());
                }
                Err(error) => {
                    let error = CliError::from(error);
                    output::say(format!(
                        "warning: backup {} was not copied: {error}",
                        backup.id
                    ));
                    report.failed.push(backup.id.clone());
                    first_error.get_or_insert(error);
                }
            }
        }
        output::print(global.output, &report, |report| {
            format!(
                "copied {}, already there {}, failed {}",
                report.copied.len(),
                report.already_there.len(),
                report.failed.len()
            )
        })?;
        match first_error {
            Some(error) => Err(error),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}
