//! Runs a verb that waits for networks and files, and ends it when the user says so.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::CliError;
use crate::api::ErrorClass;

/// A verb that computes does not hear a signal at once; after this long the process ends without it.
const DEAF: Duration = Duration::from_secs(3);

/// Runs `verb` to its end on a runtime of its own. SIGINT and SIGTERM drop it, which runs its clean-up, and give 130 and 143.
pub fn block_on(
    verb: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    block_on_told(|heard| async {
        tokio::select! {
            outcome = verb => outcome,
            Ok(code) = heard => Ok(ExitCode::from(code)),
        }
    })
}

/// As [`block_on`], for a verb that has something to do before it ends: it is told the signal's exit code, and must end soon.
pub fn block_on_told<Verb>(
    verb: impl FnOnce(oneshot::Receiver<u8>) -> Verb,
) -> Result<ExitCode, CliError>
where
    Verb: Future<Output = Result<ExitCode, CliError>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (told, heard) = oneshot::channel();
        tokio::spawn(async move {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            let _ = told.send(code);
            tokio::time::sleep(DEAF).await;
            std::process::exit(i32::from(code));
        });
        verb(heard).await
    });
    // A blocking read that still waits must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}
