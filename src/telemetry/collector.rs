//! The way to the collector: OpenTelemetry's batches and messages, sent by our own HTTP client on the one TLS stack. It is as its
//! environment variables say (`OTEL_EXPORTER_OTLP_ENDPOINT` and those beside it). Sending happens on a thread of its own, which
//! nothing waits for but the end of the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Certificate;

use crate::cause::with_causes;

/// A collector that does not answer for so long loses the batch. `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise, in milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What is not set, or empty, is not said.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable of traces alone, else that of everything.
fn setting(name: &str) -> Option<String> {
    variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
        .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// The provider of spans that are sent to a collector; none when none is named, or the environment switches traces off. The
/// environment goes before `endpoint`, the base URL of the config.
///
/// # Errors
/// One sentence when what is named cannot be used.
pub fn provider(endpoint: Option<&str>) -> Result<Option<SdkTracerProvider>, String> {
    let off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let named = setting("ENDPOINT");
    if off || (named.is_none() && endpoint.is_none()) {
        return Ok(None);
    }
    if let Some(other) = setting("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {other}; only http/protobuf is spoken, on most collectors at port 4318"
        ));
    }
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Sender::new()?);
    if let (None, Some(base)) = (named, endpoint) {
        // What is given in the program is the whole URL, other than in the environment.
        exporter = exporter.with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')));
    }
    let exporter = exporter.build().map_err(|error| with_causes(&error))?;
    let mut resource = Resource::builder();
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    if variable("OTEL_SERVICE_NAME").is_none() && !attributes.contains("service.name=") {
        resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
    }
    let resource = resource
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Sends batches. It is called on the one thread of the batches, where it may block.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    /// The last batch was lost: it is said once, not every few seconds.
    failing: AtomicBool,
}

impl Sender {
    fn new() -> Result<Self, String> {
        let limit = setting("TIMEOUT").and_then(|value| value.parse().ok());
        let mut client = reqwest::Client::builder()
            .timeout(limit.map_or(ANSWER_LIMIT, Duration::from_millis))
            .redirect(reqwest::redirect::Policy::none())
            // Between batches nobody looks after a connection.
            .pool_max_idle_per_host(0);
        if let Some(file) = setting("CERTIFICATE") {
            let pem = std::fs::read(&file)
                .map_err(|error| format!("OTEL_EXPORTER_OTLP_CERTIFICATE, {file}: {error}"))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| with_causes(&error))?;
            client = client.tls_certs_merge(roots);
        }
        Ok(Self {
            client: client.build().map_err(|error| with_causes(&error))?,
            failing: AtomicBool::new(false),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, reqwest::Error> {
        let answer = self.client.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(answer.bytes().await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn told(&self, problem: Option<String>) {
        let failing = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !failing => {
                tracing::warn!("traces do not reach their collector, backups go on: {problem}");
            }
            None if failing => tracing::info!("traces reach their collector again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The rest of a URL may hold a token.
        let host = request.uri().host().unwrap_or_default().to_owned();
        // Not the runtime of backups: this thread is none of its own, and must send when that one has ended.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let sent = runtime.block_on(self.send(request));
        let sent = sent.map_err(reqwest::Error::without_url);
        self.told(match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("{host} answered {}", answer.status())),
            Err(error) => Some(format!("{host}: {}", with_causes(error))),
        });
        Ok(sent?)
    }
}
