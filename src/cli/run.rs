//! `run`: the whole loop without Kubernetes.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::{CliError, args::Global};
use crate::standalone::{self, Start};

/// Run schedules without Kubernetes: observe, decide, back up, prove, retain, tell.
#[derive(Debug, Args)]
pub struct Run {
    /// One round: whatever is due now, then exit.
    #[arg(long)]
    once: bool,
}

impl Run {
    pub(super) async fn run(&self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "info")?;
        let start = Start {
            config: context.config,
            config_file: context.config_file,
            secrets: context.secrets,
            once: self.once,
        };
        Ok(match standalone::run(start).await? {
            Ok(()) => ExitCode::SUCCESS,
            Err(class) => ExitCode::from(class.exit_code()),
        })
    }
}
