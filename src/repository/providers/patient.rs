//! A store that names the pause until the next attempt gets it: the store crate's own retries look at no header, and would come
//! back too soon.

use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use reqwest::StatusCode;

/// No store is waited for longer at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Makes connections that keep the pauses they are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PatientConnector;

impl HttpConnector for PatientConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Patient(inner)))
    }
}

#[derive(Debug)]
struct Patient(HttpClient);

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.0.execute(request).await?;
        if let Some(pause) = pause(answer.status(), answer.headers()) {
            tracing::debug!(status = %answer.status(), ?pause, "the store asks for a pause");
            tokio::time::sleep(pause).await;
        }
        Ok(answer)
    }
}

/// How long the caller of a busy store waits before it hears of it, so that its next attempt is not too early.
fn pause(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let named = busy.contains(&status).then(|| retry_after(headers));
    Some(named??.min(LONGEST_PAUSE))
}

/// The pause that an answer names, in whole seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_busy_is_waited_for_and_not_for_ever() {
        let said = |text: &'static str| {
            HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(text))])
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (status, headers, wanted) in [
            (StatusCode::SERVICE_UNAVAILABLE, said("2"), seconds(2)),
            (StatusCode::TOO_MANY_REQUESTS, said(" 3 "), seconds(3)),
            (StatusCode::SERVICE_UNAVAILABLE, said("86400"), seconds(30)),
            (StatusCode::SERVICE_UNAVAILABLE, said("soon"), None),
            (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), None),
            (StatusCode::OK, said("2"), None),
        ] {
            assert_eq!(pause(status, &headers), wanted, "{status} {headers:?}");
        }
    }
}
