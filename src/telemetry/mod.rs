//! Where logs and traces go: logs to stderr, traces of backups to a collector by OTLP, when one is named.

mod collector;

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

/// A process that ends waits so long for the collector, and no longer.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// The provider of this process, when traces are sent.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// How logs are written.
pub struct Logs {
    /// What is logged.
    pub filter: EnvFilter,
    /// A JSON object a line; else text for people.
    pub json: bool,
    /// Colours in the text.
    pub colours: bool,
}

/// Starts logging, and tracing when the environment or `endpoint` names a collector. Whatever is wrong with that is logged, and
/// nothing is traced. A second start in one process keeps the first.
pub fn start(logs: Logs, endpoint: Option<&str>) {
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = if logs.json {
        layer.json().boxed()
    } else {
        layer.with_ansi(logs.colours).boxed()
    };
    let (provider, problem) = match collector::provider(endpoint) {
        Ok(provider) => (provider, None),
        Err(problem) => (None, Some(problem)),
    };
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::INFO))
    });
    let started = registry()
        .with(layer.with_filter(logs.filter))
        .with(traces)
        .try_init();
    if let (Ok(()), Some(provider)) = (started, provider) {
        // Nobody else sets it.
        let _ = PROVIDER.set(provider);
    }
    if let Some(problem) = problem {
        tracing::warn!("no traces are sent: {problem}");
    }
}

/// Sends what waits to be sent. Call it last.
pub fn finish() {
    if let Some(provider) = PROVIDER.get() {
        // What went wrong was logged where it did.
        let _ = provider.shutdown_with_timeout(FLUSH_LIMIT);
    }
}

/// The id of the trace that a span belongs to, as collectors show it; none when it is not sent anywhere.
pub fn trace_id(span: &Span) -> Option<String> {
    PROVIDER.get()?;
    let context = span.context();
    let span = context.span();
    let known = span.span_context();
    (known.is_valid() && known.is_sampled()).then(|| known.trace_id().to_string())
}

/// Notes a fact on a span of a trace; logs do not show it.
pub fn note(span: &Span, name: &'static str, value: impl Into<opentelemetry::Value>) {
    if PROVIDER.get().is_some() {
        span.set_attribute(name, value);
    }
}

/// A span's work went well, or did not, and why.
pub fn outcome(span: &Span, problem: Option<String>) {
    if PROVIDER.get().is_some() {
        span.set_status(problem.map_or(Status::Ok, Status::error));
    }
}
