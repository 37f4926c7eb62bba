//! Lets a server of S3's API copy an object from one of its buckets into another: no byte of it comes by here. Whoever asks reads
//! back what arrived, and sends the bytes where the server would not.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{ClientOptions, Error, Result};
use reqwest::Method;

use super::Compatible;
use super::patient::PatientConnector;
use crate::api::{ServerSideEncryptionKind, StorageLocation};

/// S3 copies no more than this in one request.
pub(in crate::repository) const MOST_AT_ONCE: u64 = 5 << 30;

/// A bucket, as its server's other buckets see it.
pub(in crate::repository) struct Within {
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    /// The bucket's URL.
    url: String,
    bucket: String,
    /// The server that the bucket is on.
    server: String,
    /// What is asked for objects that are made here.
    wishes: HeaderMap,
    /// Whether objects that are made here are locked, which nobody asks for in a copy.
    locks: bool,
}

/// Why a server did not copy.
#[derive(Debug, thiserror::Error)]
#[error("the store answers {0} to a copy between its buckets")]
struct Refused(http::StatusCode);

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "copy",
        source: source.into(),
    }
}

impl Within {
    pub(super) fn new(
        location: &StorageLocation,
        compatible: &Compatible,
        options: &ClientOptions,
    ) -> Result<Self> {
        Ok(Self {
            client: PatientConnector.connect(options)?,
            credentials: compatible.store.credentials().clone(),
            region: compatible.region.clone(),
            url: compatible.url.clone(),
            bucket: location.bucket.clone(),
            server: compatible.server.clone(),
            wishes: wishes(location)?,
            locks: location.object_lock.is_some(),
        })
    }

    /// Whether its server may copy out of that bucket.
    pub fn can_take_from(&self, other: &Self) -> bool {
        self.server == other.server && !self.locks
    }

    /// Has the server copy `source` of another bucket to `to`.
    ///
    /// # Errors
    /// When the server does not, or does not say so.
    pub async fn take(&self, from: &Self, source: &Path, to: &Path) -> Result<()> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::PUT;
        let url = below(&self.url, to)?;
        *request.uri_mut() = url.as_str().parse().map_err(failed)?;
        // Of this URL only the path is taken, for its spelling.
        let source = below(&format!("http://server/{}", from.bucket), source)?;
        let source = HeaderValue::from_str(source.path()).map_err(failed)?;
        request.headers_mut().extend(self.wishes.clone());
        request.headers_mut().insert("x-amz-copy-source", source);
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        let answer = self.client.execute(request).await.map_err(failed)?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.map_err(failed)?;
        // A copy that fails on its way is told in the body of an answer that began well.
        let well = String::from_utf8_lossy(&body).contains("<CopyObjectResult");
        match status.is_success() && well {
            true => Ok(()),
            false => Err(failed(Refused(status))),
        }
    }
}

fn below(bucket: &str, path: &Path) -> Result<url::Url> {
    let mut url = url::Url::parse(bucket).map_err(failed)?;
    url.path_segments_mut()
        .map_err(|()| failed("the bucket's URL has no path"))?
        .pop_if_empty()
        .extend(path.parts().map(|part| part.as_ref().to_owned()));
    Ok(url)
}

/// Encryption and class, as an upload asks for them.
fn wishes(location: &StorageLocation) -> Result<HeaderMap> {
    let mut wishes = HeaderMap::new();
    let mut wish = |name: &'static str, text: &str| -> Result<()> {
        let value = HeaderValue::from_str(text).map_err(failed)?;
        wishes.insert(HeaderName::from_static(name), value);
        Ok(())
    };
    if let Some(encryption) = &location.server_side_encryption {
        let kind = match encryption.kind {
            ServerSideEncryptionKind::AES256 => "AES256",
            ServerSideEncryptionKind::KMS => "aws:kms",
        };
        wish("x-amz-server-side-encryption", kind)?;
        if let Some(key) = &encryption.kms_key_id {
            wish("x-amz-server-side-encryption-aws-kms-key-id", key)?;
        }
    }
    if let Some(class) = &location.storage_class {
        wish("x-amz-storage-class", class)?;
    }
    Ok(wishes)
}
