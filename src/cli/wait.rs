//! Runs a verb that waits for networks and files, and ends it when the user says so.

use std::future::Future;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::CliError;
use crate::api::ErrorClass;

/// Runs `verb` to its end on a runtime of its own. SIGINT and SIGTERM drop it, which runs its clean-up, and give 130 and 143.
pub fn block_on(
    verb: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = verb => outcome,
            _ = interrupt.recv() => Ok(ExitCode::from(130)),
            _ = terminate.recv() => Ok(ExitCode::from(143)),
        }
    });
    // A blocking read that still waits must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}
