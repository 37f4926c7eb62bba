//! `backup delete|prune`: the plan is printed first, then carried out when it was confirmed.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::args::Global;
use super::backup::{RepositoryFlags, describe};
use super::context::Context;
use super::{CliError, output};
use crate::api::{ErrorClass, HumanDuration, RetentionPolicy};
use crate::retain;

/// Delete a backup.
#[derive(Debug, Args)]
pub struct Delete {
    /// Id, name or unique prefix.
    id: String,
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Delete without asking.
    #[arg(long)]
    yes: bool,
}

/// Apply a retention policy.
#[derive(Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Only backups of this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Only backups of this schedule; without it, those of no schedule.
    #[arg(long)]
    schedule: Option<String>,
    /// Keep the newest so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    max_backups: Option<i64>,
    /// Keep those younger than this, as 30d.
    #[arg(long, value_name = "DURATION")]
    max_age: Option<HumanDuration>,
    /// Keep the newest of each of the last so many hours.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    keep_hourly: Option<i64>,
    /// Keep the newest of each of the last so many days.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    keep_daily: Option<i64>,
    /// Keep the newest of each of the last so many weeks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    keep_weekly: Option<i64>,
    /// Keep the newest of each of the last so many months.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    keep_monthly: Option<i64>,
    /// Only print the plan.
    #[arg(long)]
    dry_run: bool,
    /// Delete without asking.
    #[arg(long)]
    yes: bool,
}

impl Delete {
    pub(super) async fn run(&self, context: &Context) -> Result<ExitCode, CliError> {
        let repository = self.repository.open(context).await?;
        let catalog = self.repository.catalog(&repository).await?;
        let manifest = repository.find_in(&catalog, &self.id)?;
        output::say(describe(&repository, &manifest));
        let read = retain::reader(&manifest, &catalog.pins, Timestamp::now());
        let read = read.map(|pin| format!("{} reads it; wait until that has ended", pin.who));
        if let Some(reason) = retain::must_keep(&catalog.backups, &manifest.id).or(read) {
            return Err(CliError::new(
                ErrorClass::Refused,
                format!("backup {} was not deleted: {reason}", manifest.id),
            ));
        }
        output::confirm(
            &format!("Delete backup {} for ever?", manifest.id),
            self.yes,
        )?;
        repository.delete(&manifest).await?;
        output::say(format!("deleted {}", manifest.id));
        Ok(ExitCode::SUCCESS)
    }
}

impl Prune {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let policy = RetentionPolicy {
            max_backups: self.max_backups,
            max_age: self.max_age,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
        };
        if policy == RetentionPolicy::default() {
            return Err(CliError::new(
                ErrorClass::Usage,
                "no rule is given, so everything would be kept: add --max-backups, --max-age or a --keep-… rule",
            ));
        }
        let repository = self.repository.open(context).await?;
        let catalog = self.repository.catalog(&repository).await?;
        let scope = retain::Scope {
            namespace: self.namespace.clone(),
            schedule: self.schedule.clone(),
        };
        let holds = retain::Holds::of(&repository, &catalog);
        let plan = retain::plan(&catalog.backups, &holds, &scope, &policy, Timestamp::now());
        output::print(global.output, &plan, retain::RetentionPlan::render)?;
        if self.dry_run || plan.dropped.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        output::confirm(
            &format!(
                "Delete {} for ever?",
                output::count(plan.dropped.len(), "backup")
            ),
            self.yes,
        )?;
        let outcome = retain::run(&repository, &catalog, &plan).await;
        for failure in &outcome.failures {
            output::say(format!("warning: {failure}"));
        }
        output::say(format!(
            "deleted {}",
            output::count(outcome.deleted.len(), "backup")
        ));
        Ok(if outcome.failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        })
    }
}
