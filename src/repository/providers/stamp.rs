//! Puts a lock on each object of a backup as it is created: headers that the object_store crate does not know, so that its
//! requests are signed anew with them.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Method;
use reqwest::header::HeaderValue;

use super::patient::PatientConnector;
use crate::api::ObjectLockMode;

/// What every connection of a locking store is made with.
#[derive(Debug, Clone)]
pub(super) struct StampConnector {
    pub mode: ObjectLockMode,
    pub retain: SignedDuration,
    pub region: String,
    pub credentials: AwsCredentialProvider,
}

impl HttpConnector for StampConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = PatientConnector.connect(options)?;
        let stamp = self.clone();
        Ok(HttpClient::new(Stamped { stamp, inner }))
    }
}

#[derive(Debug)]
struct Stamped {
    stamp: StampConnector,
    inner: HttpClient,
}

#[async_trait]
impl HttpService for Stamped {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if creates(&request) {
            self.stamp
                .apply(&mut request)
                .await
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        }
        self.inner.execute(request).await
    }
}

/// Whether the request makes an object of a backup: a put in one piece, or the beginning of one in parts. Leases and trials are
/// not locked, as they are to go again.
fn creates(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let path = request.uri().path();
    let ours = ["/v1/full/", "/v1/incr/", "/v1/export/"];
    let begins = match *request.method() {
        Method::PUT => !query.contains("partNumber"),
        Method::POST => query.split('&').any(|name| name.starts_with("uploads")),
        _ => false,
    };
    begins && ours.iter().any(|folder| path.contains(folder))
}

impl StampConnector {
    async fn apply(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let generic =
            |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
                store: "S3",
                source,
            };
        let until = Timestamp::now()
            .checked_add(self.retain)
            .map_err(|error| generic(error.into()))?;
        let until = HeaderValue::from_str(&until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            .map_err(|error| generic(error.into()))?;
        let mode = match self.mode {
            ObjectLockMode::Governance => "GOVERNANCE",
            ObjectLockMode::Compliance => "COMPLIANCE",
        };
        let headers = request.headers_mut();
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static(mode));
        headers.insert("x-amz-object-lock-retain-until-date", until);
        let digest = headers
            .get("x-amz-content-sha256")
            .and_then(|value| hex::decode(value.as_bytes()).ok());
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(request, digest.as_deref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use object_store::client::HttpRequestBody;

    use super::*;

    #[test]
    fn only_objects_of_backups_are_locked() {
        let c = "http://h/b/p/cdf818194e3a8c32/v1";
        for (method, uri, expected) in [
            (Method::PUT, format!("{c}/full/x/manifest.json"), true),
            (Method::PUT, format!("{c}/incr/x/1-2.seg"), true),
            (
                Method::POST,
                format!("{c}/full/x/snapshot.db?uploads="),
                true,
            ),
            (
                Method::PUT,
                format!("{c}/full/x/snapshot.db?partNumber=1&uploadId=u"),
                false,
            ),
            (
                Method::POST,
                format!("{c}/full/x/snapshot.db?uploadId=u"),
                false,
            ),
            (Method::GET, format!("{c}/full/x/snapshot.db"), false),
            (Method::PUT, format!("{c}/lock/x/1.json"), false),
            (Method::PUT, "http://h/b/p/doctor-1".to_owned(), false),
        ] {
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.parse().unwrap();
            assert_eq!(creates(&request), expected, "{method} {uri}");
        }
    }
}
