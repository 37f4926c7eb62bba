//! The listener: GET only, bounded in connections and time, closed gently.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::auth::{self, TokenFile};
use super::brief::Brief;
use super::exposition;
use super::{CONTENT_TYPE, Metrics, StatusSnapshot, Verdict, verdict};
use crate::api::{ErrorClass, ServeConfig};

/// Enough for scrapers, probes and people; a flood waits at the door.
const CONNECTIONS: usize = 256;
/// A client that takes longer to say what it wants is cut off.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// How long requests may go on after the end was called.
const CLOSING_LIMIT: Duration = Duration::from_secs(2);

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    include_str!("page/page.js"),
    include_str!("page/chart.js"),
    include_str!("page/parts.js")
);

/// A running listener.
pub struct Server {
    /// The address it listens on.
    pub address: std::net::SocketAddr,
    /// Its task.
    pub task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Takes no more connections, lets requests end, then closes.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the listener ended badly");
        }
    }
}

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    status: watch::Receiver<StatusSnapshot>,
    ready: watch::Receiver<bool>,
    /// Whether a token is asked for; then health says no more than whether.
    guarded: bool,
}

/// The address that was to be served on cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {listen}: free that address, or set serve.listen to another, or to \"\" for none"
)]
pub struct ListenError {
    listen: String,
    #[source]
    source: std::io::Error,
}

impl ListenError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self.source.kind() {
            std::io::ErrorKind::InvalidInput => ErrorClass::Usage,
            _ => ErrorClass::Failed,
        }
    }
}

/// Starts the listener of `config`. `ready` says whether the loop works.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(
    config: &ServeConfig,
    metrics: Arc<Metrics>,
    status: watch::Receiver<StatusSnapshot>,
    ready: watch::Receiver<bool>,
) -> Result<Server, ListenError> {
    let listen = &config.listen;
    let token: TokenFile = config.token_file.clone().map(Arc::new);
    let refused = |source| ListenError {
        listen: listen.to_owned(),
        source,
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let shown = Shown {
        metrics,
        status,
        ready,
        guarded: token.is_some(),
    };
    let router = router(shown, token);
    let stop = watch::Sender::new(false);
    let task = tokio::spawn(accept(listener, router, stop.subscribe()));
    Ok(Server {
        address,
        task,
        stop,
    })
}

fn router(shown: Shown, token: TokenFile) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route("/schedule.json", get(schedule))
        .route_layer(middleware::from_fn_with_state(token, auth::guard))
        // A kubelet brings no token.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .layer(middleware::from_fn(secured))
        .with_state(shown)
}

async fn accept(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let open = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(16 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(HEADER_LIMIT);
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        let (stream, place) = match accepted {
            (Ok((stream, _)), Ok(place)) => (stream, place),
            (Err(error), _) => {
                // Out of file descriptors: accepting at once again would only spin.
                tracing::warn!(%error, "the listener cannot take a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            (_, Err(_)) => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection to the listener broke");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(CLOSING_LIMIT, open.shutdown())
        .await
        .is_err()
    {
        tracing::debug!("requests were cut off at the end");
    }
}

async fn metrics(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let text = shown.metrics.render();
    let accepted = headers.get_all(header::ACCEPT).iter();
    let open = accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(exposition::OPEN));
    match open {
        true => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        false => {
            let text = exposition::plain(&text);
            ([(header::CONTENT_TYPE, exposition::PLAIN)], text).into_response()
        }
    }
}

async fn readiness(State(shown): State<Shown>) -> Response {
    if *shown.ready.borrow() {
        return "ok\n".into_response();
    }
    let mut reasons = String::from("not ready: the first round of the loop has not ended\n");
    for problem in shown
        .status
        .borrow()
        .problems
        .iter()
        .filter(|_| !shown.guarded)
    {
        reasons.push_str(problem);
        reasons.push('\n');
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response()
}

/// What of the schedules is wanted.
#[derive(serde::Deserialize)]
struct Wanted {
    schedules: Option<String>,
}

async fn status(State(shown): State<Shown>, Query(wanted): Query<Wanted>) -> Response {
    #[derive(serde::Serialize)]
    struct Answer<'a, T> {
        verdict: Verdict,
        #[serde(flatten)]
        snapshot: &'a T,
    }
    let body = {
        let snapshot = &*shown.status.borrow();
        let verdict = verdict(&snapshot.schedules);
        if wanted.schedules.as_deref() == Some("brief") {
            let snapshot = &Brief::of(snapshot);
            serde_json::to_vec(&Answer { verdict, snapshot })
        } else {
            serde_json::to_vec(&Answer { verdict, snapshot })
        }
    };
    json(body)
}

/// Which schedule is wanted.
#[derive(serde::Deserialize)]
struct Named {
    namespace: String,
    name: String,
}

/// One schedule, whole; 404 when there is none of that name.
async fn schedule(State(shown): State<Shown>, Query(named): Query<Named>) -> Response {
    let body = {
        let snapshot = &*shown.status.borrow();
        let mut all = snapshot.schedules.iter();
        let found = all.find(|one| one.namespace == named.namespace && one.name == named.name);
        found.map(|one| serde_json::to_vec(&**one))
    };
    match body {
        Some(body) => json(body),
        None => (StatusCode::NOT_FOUND, "there is no such schedule\n").into_response(),
    }
}

fn json(body: serde_json::Result<Vec<u8>>) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the status cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// One document with everything in it; the nonce lets its own style and script run, and nothing else.
async fn page() -> Response {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let body = PAGE
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{nonce}}", &nonce);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = Html(body).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn secured(request: Request, next: Next) -> Result<Response, Infallible> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'"));
    Ok(response)
}
