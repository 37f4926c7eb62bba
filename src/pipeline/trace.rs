//! The trace of a backup: a span for the whole of it, one for each stage, and what is known of it at its end.

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use super::{Completed, PipelineError, Request, Stage};
use crate::cause::with_causes;
use crate::telemetry;

/// The span of a whole backup: whoever runs a pipeline does so in it. Whatever is logged on the way carries the attempt's id, which
/// is in the manifest too, and the trace's, when it is sent to a collector.
pub fn span(request: &Request) -> Span {
    let name = request.schedule.as_deref().unwrap_or(&request.name);
    let span = info_span!(
        "backup",
        owner = %format_args!("{}/{name}", request.namespace),
        run = %request.run_id,
        trace_id = Empty
    );
    if let Some(id) = telemetry::trace_id(&span) {
        span.record("trace_id", display(id));
    }
    telemetry::note(&span, "backup.name", request.name.clone());
    telemetry::note(&span, "cluster", request.cluster_name.clone());
    telemetry::note(
        &span,
        "backup.mode",
        format!("{:?}", request.spec.backup_mode),
    );
    span
}

/// The span of a stage, in that of its backup.
pub(super) fn stage(stage: Stage) -> Span {
    info_span!("stage", otel.name = stage.name())
}

/// What came of a backup, on its span; and of the stage that it ended in, when that failed.
pub(super) fn ended(stage: &Span, outcome: &Result<Completed, PipelineError>) {
    let span = Span::current();
    match outcome {
        Ok(completed) => {
            let manifest = &completed.manifest;
            telemetry::note(&span, "backup.id", manifest.id.clone());
            telemetry::note(&span, "backup.kind", manifest.kind.to_string());
            telemetry::note(&span, "backup.level", manifest.level.to_string());
            telemetry::note(&span, "backup.revision", manifest.revision);
            for (name, bytes) in [
                ("backup.raw_bytes", manifest.raw_size),
                ("backup.stored_bytes", manifest.stored_size),
            ] {
                telemetry::note(&span, name, i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            telemetry::outcome(&span, None);
        }
        Err(error) => {
            telemetry::note(&span, "error.type", error.class().reason());
            telemetry::outcome(stage, Some(with_causes(error)));
            telemetry::outcome(&span, Some(with_causes(error)));
        }
    }
}
