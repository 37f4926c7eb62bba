//! Reads a Prometheus server by range queries. The questions are in `queries`, the answers' meaning in `answer`; here is
//! the talking: credentials, time limits, and a named error for whatever else comes back.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_http_query::Client;
use prometheus_http_query::response::{Data, PromqlResult};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::answer::{Column, largest};
use super::queries::{self, Queries, Query};
use super::report::{Signal, SignalReport, SignalSource};
use super::series::{Point, Series};
use super::window::Window;
use super::{HISTORY_CELLS, SignalError};
use crate::api::PrometheusSource;
use crate::secrets::Secret;

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_LIMIT: usize = 64 << 20;
/// Longer queries are posted, since proxies limit the length of URLs.
const GET_LIMIT: usize = 1_500;
/// Looks back over the whole history to see which counters were there.
const PROBES: u32 = 256;

/// Reads a Prometheus server by range queries.
pub struct PrometheusReader {
    client: Client,
    source: PrometheusSource,
    /// The URL without credentials.
    server: String,
}

impl PrometheusReader {
    /// A reader for a source; the Secret holds `token`, or `username` and `password`, and may hold the server's CA as
    /// `ca.crt`. Credentials in the URL work too, and are kept out of every message.
    ///
    /// # Errors
    /// When the URL or the Secret is wrong.
    pub fn new(source: &PrometheusSource, secret: Option<&Secret>) -> Result<Self, SignalError> {
        let text = source
            .url
            .as_deref()
            .map(str::trim)
            .filter(|url| !url.is_empty());
        let mut url: Url =
            text.ok_or(SignalError::NoUrl)?
                .parse()
                .map_err(|error: url::ParseError| SignalError::BadUrl {
                    reason: error.to_string(),
                })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SignalError::BadUrl {
                reason: format!("scheme '{}'", url.scheme()),
            });
        }
        let mut authorization = match url.password() {
            Some(password) => Some(basic(url.username(), password)?),
            None => None,
        };
        // Both fail only for URLs that cannot have a user, and an http URL can.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("etcdguardian/", env!("CARGO_PKG_VERSION")));
        if let Some(secret) = secret {
            authorization = authorization_of(secret)?.or(authorization);
            let ca = secret.bytes("ca.crt");
            if authorization.is_none() && ca.is_none() {
                return Err(SignalError::NoCredentials);
            }
            if let Some(pem) = ca {
                let bad = || SignalError::BadCredential {
                    key: "ca.crt",
                    wanted: "PEM",
                };
                let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| bad())?;
                if certificates.is_empty() {
                    return Err(bad());
                }
                for certificate in certificates {
                    builder = builder.add_root_certificate(certificate);
                }
            }
        }
        if let Some(value) = authorization {
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
        crate::init_tls();
        let server = url.as_str().trim_end_matches('/').to_owned();
        let http = builder.build().map_err(SignalError::Client)?;
        let client = Client::from(http, &server).map_err(|error| SignalError::BadUrl {
            reason: error.to_string(),
        })?;
        Ok(Self {
            client,
            source: source.clone(),
            server,
        })
    }

    /// Reads change rate, size and load of a window.
    ///
    /// # Errors
    /// When the server does not answer or refuses a query. A query that has no answer is a gap, not an error.
    pub async fn read(&self, window: &Window) -> Result<(Series, SignalReport), SignalError> {
        let step = window.step_seconds.max(1);
        let queries = self.queries(window).await?;
        let writes = self.column(&queries.writes, window).await?;
        let (significant, choice) = self.significant(&queries, window).await?;
        let db_size = self.column(&queries.db_size, window).await?;
        let mut warnings = Vec::new();
        // Load only puts backups off while etcd is busy: without it there is still a schedule.
        let load = match self.column(&queries.load, window).await {
            Ok(load) => load,
            Err(error @ SignalError::Rejected { .. }) => {
                warnings.push(error.to_string());
                Column::default()
            }
            Err(error) => return Err(error),
        };
        if writes.series > 1 && choice.signal != Signal::ApiServerRequests {
            warnings.push(format!(
                "the {} has {} series, the largest of each moment counts: narrow changeRateQuery to one cluster",
                queries.writes.name, writes.series
            ));
        }
        let series = series(window, &writes, significant.as_ref(), &db_size, &load)?;
        let mut report = SignalReport::of(SignalSource::Prometheus, &series);
        if report.samples == 0 {
            warnings.push(format!(
                "Prometheus at {} answers, but knows no change rate from {} to {}: check that it scrapes etcd or the API \
                 server, or set changeRateQuery",
                self.server, window.from, window.to
            ));
        } else {
            report.signal = choice.signal;
            report.why = choice.why;
        }
        report.warnings = warnings;
        tracing::debug!(server = %self.server, samples = report.samples, gaps = report.gaps, step, "read Prometheus");
        Ok((series, report))
    }

    /// The queries with a range that fits how often this server scrapes.
    async fn queries(&self, window: &Window) -> Result<Queries, SignalError> {
        let step = window.step_seconds.max(1);
        let span = step.clamp(60, 600);
        let query = queries::scrapes(span);
        let now = window.to.as_second();
        let builder = self.client.query(&query.text).at(now);
        let data = self.answer(&query, builder.get_raw().await).await?;
        let scrape = largest(&data)
            .filter(|count| *count >= 2.0)
            .map(|count| f64::from(span) / count);
        Ok(Queries::of(
            &self.source,
            step,
            queries::rate_seconds(step, scrape),
        ))
    }

    /// The significant changes, where the API server's counters reach back far enough to replace etcd's.
    async fn significant(
        &self,
        queries: &Queries,
        window: &Window,
    ) -> Result<(Option<Column>, Chosen), SignalError> {
        let Some(query) = &queries.significant else {
            let why = "changeRateQuery is set for this schedule";
            return Ok((None, Chosen::new(Signal::CustomQuery, why)));
        };
        // Asked of the whole history whatever the window, so that a short look chooses as a long one did.
        let probe = probe_of(window);
        let by_api_server = self.column(query, &probe).await?.known();
        if by_api_server == 0 {
            let why = "Prometheus has no apiserver_request_total: all of etcd's puts and deletes count, lease renewals \
                       and events included";
            return Ok((None, Chosen::new(Signal::EtcdWrites, why)));
        }
        let by_etcd = self.column(&queries.writes, &probe).await?.known();
        if by_api_server * 2 < by_etcd {
            let why = format!(
                "the API server's counters cover {by_api_server} of {by_etcd} moments that etcd's cover, too few to learn from yet"
            );
            return Ok((
                None,
                Chosen {
                    signal: Signal::EtcdWrites,
                    why,
                },
            ));
        }
        let why = "the API server tells writes from lease renewals and events";
        let column = self.column(query, window).await?;
        Ok((Some(column), Chosen::new(Signal::ApiServerRequests, why)))
    }

    async fn column(&self, query: &Query, window: &Window) -> Result<Column, SignalError> {
        let mut column = Column::default();
        for (first, last) in window.pages() {
            let builder = self.client.query_range(
                &query.text,
                first,
                last,
                f64::from(window.step_seconds.max(1)),
            );
            let response = if query.text.len() > GET_LIMIT {
                builder.post_raw().await
            } else {
                builder.get_raw().await
            };
            column.add(self.answer(query, response).await?);
        }
        Ok(column)
    }

    async fn answer(
        &self,
        query: &Query,
        response: Result<reqwest::Response, prometheus_http_query::Error>,
    ) -> Result<Data, SignalError> {
        let mut response = response.map_err(|error| self.failed(query, error))?;
        let status = response.status();
        if matches!(status.as_u16(), 401 | 403) {
            return Err(SignalError::Unauthorized {
                server: self.server.clone(),
                status: status.as_u16(),
            });
        }
        let kind = response
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("no content type")
            .to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.broken(query, error))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT {
                return Err(SignalError::TooLarge {
                    server: self.server.clone(),
                    query: query.name,
                    limit_mib: ANSWER_LIMIT >> 20,
                });
            }
        }
        match serde_json::from_slice::<Envelope>(&body) {
            Ok(Envelope::Success { data }) if status.is_success() => Ok(data.into_inner().0),
            Ok(Envelope::Error { kind, error }) if kind == "timeout" || kind == "canceled" => {
                tracing::debug!(%error, "Prometheus gave a query up");
                Err(self.timed_out(query))
            }
            Ok(Envelope::Error { error, .. }) if !status.is_server_error() => {
                Err(SignalError::Rejected {
                    server: self.server.clone(),
                    query: query.name,
                    message: error,
                    text: query.text.clone(),
                })
            }
            Ok(Envelope::Error { error, .. }) => Err(self.server_error(query, status, &error)),
            _ if status.is_server_error() => Err(self.server_error(query, status, "")),
            _ => Err(SignalError::NotPrometheus {
                server: self.server.clone(),
                what: format!("HTTP {}, {kind}", status.as_u16()),
            }),
        }
    }

    fn server_error(&self, query: &Query, status: reqwest::StatusCode, text: &str) -> SignalError {
        let message = if text.is_empty() {
            String::new()
        } else {
            format!(": {text}")
        };
        SignalError::Server {
            server: self.server.clone(),
            query: query.name,
            status: status.as_u16(),
            message,
        }
    }

    fn timed_out(&self, query: &Query) -> SignalError {
        SignalError::Timeout {
            server: self.server.clone(),
            query: query.name,
            seconds: TIMEOUT.as_secs(),
        }
    }

    fn failed(&self, query: &Query, error: prometheus_http_query::Error) -> SignalError {
        if let prometheus_http_query::Error::Client(client) = &error
            && client.inner().is_some_and(reqwest::Error::is_timeout)
        {
            return self.timed_out(query);
        }
        SignalError::Unreachable {
            server: self.server.clone(),
            source: Box::new(error),
        }
    }

    fn broken(&self, query: &Query, error: reqwest::Error) -> SignalError {
        if error.is_timeout() {
            return self.timed_out(query);
        }
        SignalError::Unreachable {
            server: self.server.clone(),
            source: Box::new(error.without_url()),
        }
    }
}

/// What counts, and why.
struct Chosen {
    signal: Signal,
    why: String,
}

impl Chosen {
    fn new(signal: Signal, why: &str) -> Self {
        Self {
            signal,
            why: why.to_owned(),
        }
    }
}

/// The envelope of every answer of Prometheus.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Envelope {
    Success {
        data: PromqlResult,
    },
    Error {
        #[serde(rename = "errorType", default)]
        kind: String,
        #[serde(default)]
        error: String,
    },
}

/// The history up to the window's end at a few moments.
fn probe_of(window: &Window) -> Window {
    let cells = u32::try_from(HISTORY_CELLS).unwrap_or(u32::MAX);
    let step = window.step_seconds.max(1).saturating_mul(cells / PROBES);
    let to = window.to.as_second();
    let from = to - i64::from(step) * i64::from(PROBES);
    Window {
        from: Timestamp::from_second(from).unwrap_or(Timestamp::MIN),
        to: window.to,
        step_seconds: step,
    }
}

/// The value of cell `[t, t + step)` is what was asked for at `t + step`.
fn series(
    window: &Window,
    writes: &Column,
    significant: Option<&Column>,
    db_size: &Column,
    load: &Column,
) -> Result<Series, SignalError> {
    let step = i64::from(window.step_seconds.max(1));
    let mut series = Series::empty(window.from, window.step_seconds.max(1))?;
    let (from, to) = (window.from.as_second(), window.to.as_second());
    for index in 0..(to - from) / step {
        let end = from + (index + 1) * step;
        series.push(&Point {
            writes: writes.at(end),
            // Present in every cell once it is chosen, so that its holes stay holes and etcd's counters do not fill them.
            significant: significant.map(|column| column.at(end).unwrap_or(f64::NAN)),
            db_size: db_size.at(end),
            load: load.at(end),
            ..Point::at(window.from)
        });
    }
    Ok(series)
}

fn authorization_of(secret: &Secret) -> Result<Option<HeaderValue>, SignalError> {
    if let Some(token) = secret.text("token")? {
        let header = SecretString::from(format!("Bearer {token}"));
        return sensitive(&header, "token").map(Some);
    }
    match (secret.text("username")?, secret.text("password")?) {
        (Some(username), Some(password)) => basic(username, password).map(Some),
        _ => Ok(None),
    }
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, SignalError> {
    // reqwest builds the header; taking it off a request that is never sent spares an own base64.
    let request = reqwest::Client::new()
        .get("http://localhost/")
        .basic_auth(username, Some(password))
        .build()
        .map_err(SignalError::Client)?;
    request
        .headers()
        .get(AUTHORIZATION)
        .cloned()
        .ok_or(SignalError::NoCredentials)
}

fn sensitive(text: &SecretString, key: &'static str) -> Result<HeaderValue, SignalError> {
    let mut value =
        HeaderValue::from_str(text.expose_secret()).map_err(|_| SignalError::BadCredential {
            key,
            wanted: "one line of plain text",
        })?;
    value.set_sensitive(true);
    Ok(value)
}
