//! Alibaba Cloud OSS: data goes through its S3-compatible endpoint, bucket in the host, without conditional headers, which it does
//! not know; a write that may not overwrite goes to the native endpoint, where `x-oss-forbid-overwrite` says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::aws::{AmazonS3Builder, AwsCredential, S3ConditionalPut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, CredentialProvider};
use reqwest::StatusCode;
use reqwest::header::{HeaderName, HeaderValue, IF_NONE_MATCH};
use secrecy::ExposeSecret;

use super::oss_sign::{Native, authorization};
use super::patient::PatientConnector;
use super::s3::encrypted;
use super::{Compatible, built, client_options, refuse_lock, retries, with_bucket_in_host};
use crate::api::{Addressing, StorageLocation};
use crate::repository::error::RepositoryError;
use crate::secrets::{AlibabaIdentity, Secret};

/// Opens an OSS bucket.
pub(super) async fn open(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<Compatible, RepositoryError> {
    refuse_lock(location)?;
    let problem = |problem: &str| RepositoryError::Location {
        location: location.to_string(),
        problem: problem.to_owned(),
    };
    if location.addressing == Some(Addressing::Path) {
        return Err(problem(
            "OSS has no path addressing; remove addressing or set VirtualHosted",
        ));
    }
    let identity = match secret.filter(|secret| secret.bytes("access-key-id").is_some()) {
        Some(secret) => AlibabaIdentity::from_secret(secret)?,
        None => AlibabaIdentity::from_environment(&|name| std::env::var(name).ok()),
    };
    let named = location.region.clone().or_else(|| {
        let endpoint = location.endpoint.as_ref()?;
        region_in(endpoint)
    });
    let region =
        named.ok_or_else(|| problem("OSS needs its region: set region, as cn-hangzhou"))?;
    let region = region.strip_prefix("oss-").unwrap_or(&region).to_owned();
    if !region
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Err(problem("its region is not one; write it as cn-hangzhou"));
    }
    let endpoint = match &location.endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => endpoint_of(&region, identity.inside_region().await.as_deref()),
    };
    let hosts = Hosts::of(location, &endpoint)?;
    let identity = Arc::new(identity);
    let builder = AmazonS3Builder::new()
        .with_bucket_name(&location.bucket)
        .with_region(&region)
        .with_endpoint(&hosts.compatible)
        .with_virtual_hosted_style_request(true)
        .with_client_options(client_options(location, secret)?)
        .with_retry(retries())
        // What the crate then sends as `If-None-Match: *` is made a native request below.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_disable_tagging(true)
        .with_credentials(Arc::new(SharedIdentity(Arc::clone(&identity))))
        .with_http_connector(OssConnector {
            bucket: location.bucket.clone(),
            region: region.clone(),
            native: hosts.native,
            identity,
        });
    Ok(Compatible {
        store: built(location, encrypted(builder, location)?.build())?,
        url: hosts.compatible,
        region,
        server: endpoint,
    })
}

/// The endpoint of a region: the internal one from a machine or pod that is inside it.
fn endpoint_of(region: &str, inside: Option<&str>) -> String {
    let side = match inside == Some(region) {
        true => "-internal",
        false => "",
    };
    format!("https://oss-{region}{side}.aliyuncs.com")
}

/// The two hosts of a bucket, as `https://bucket.s3.oss-cn-hangzhou.aliyuncs.com` and the same without `s3.`.
struct Hosts {
    compatible: String,
    native: String,
}

impl Hosts {
    /// From an endpoint in either form; one that is not Alibaba's serves both.
    fn of(location: &StorageLocation, endpoint: &str) -> Result<Self, RepositoryError> {
        let native = endpoint.replacen("://s3.oss-", "://oss-", 1);
        let compatible = native.replacen("://oss-", "://s3.oss-", 1);
        Ok(Self {
            compatible: with_bucket_in_host(location, &compatible)?,
            native: with_bucket_in_host(location, &native)?,
        })
    }
}

/// `https://s3.oss-cn-hangzhou-internal.aliyuncs.com` → `cn-hangzhou`.
fn region_in(endpoint: &str) -> Option<String> {
    let host = endpoint.split("://").nth(1)?;
    let label = host.split('.').find_map(|part| part.strip_prefix("oss-"))?;
    Some(label.strip_suffix("-internal").unwrap_or(label).to_owned())
}

/// The identity in the form that the S3 client asks for.
#[derive(Debug)]
struct SharedIdentity(Arc<AlibabaIdentity>);

#[async_trait]
impl CredentialProvider for SharedIdentity {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let keys = self.0.keys().await.map_err(no_keys)?;
        Ok(Arc::new(AwsCredential {
            key_id: keys.id,
            secret_key: keys.secret.expose_secret().to_owned(),
            token: keys.token.map(|token| token.expose_secret().to_owned()),
        }))
    }
}

fn no_keys(error: crate::secrets::SecretError) -> object_store::Error {
    object_store::Error::Unauthenticated {
        path: "keys".to_owned(),
        source: error.into(),
    }
}

#[derive(Debug, Clone)]
struct OssConnector {
    bucket: String,
    region: String,
    native: String,
    identity: Arc<AlibabaIdentity>,
}

impl HttpConnector for OssConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = PatientConnector.connect(options)?;
        let oss = self.clone();
        Ok(HttpClient::new(Oss { oss, inner }))
    }
}

#[derive(Debug)]
struct Oss {
    oss: OssConnector,
    inner: HttpClient,
}

#[async_trait]
impl HttpService for Oss {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !request.headers().contains_key(IF_NONE_MATCH) {
            return self.inner.execute(request).await;
        }
        self.oss
            .make_native(&mut request, Timestamp::now())
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut response = self.inner.execute(request).await?;
        // 409 FileAlreadyExists is what S3 says with 412.
        if response.status() == StatusCode::CONFLICT {
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        }
        Ok(response)
    }
}

impl OssConnector {
    /// Makes a signed S3 put a signed native one that may not overwrite.
    async fn make_native(
        &self,
        request: &mut HttpRequest,
        now: Timestamp,
    ) -> object_store::Result<()> {
        let generic =
            |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
                store: "OSS",
                source,
            };
        let keys = self.identity.keys().await.map_err(no_keys)?;
        let path = request.uri().path().to_owned();
        let uri = format!("{}{path}", self.native);
        *request.uri_mut() = uri.parse().map_err(|error| generic(Box::new(error)))?;
        let moment = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut signed = BTreeMap::from([
            (
                "x-oss-content-sha256".to_owned(),
                "UNSIGNED-PAYLOAD".to_owned(),
            ),
            ("x-oss-date".to_owned(), moment.clone()),
            ("x-oss-forbid-overwrite".to_owned(), "true".to_owned()),
        ]);
        if let Some(token) = &keys.token {
            let token = token.expose_secret().to_owned();
            signed.insert("x-oss-security-token".to_owned(), token);
        }
        let headers = request.headers_mut();
        for (theirs, ours) in [
            (
                "x-amz-server-side-encryption",
                "x-oss-server-side-encryption",
            ),
            (
                "x-amz-server-side-encryption-aws-kms-key-id",
                "x-oss-server-side-encryption-key-id",
            ),
            ("x-amz-storage-class", "x-oss-storage-class"),
        ] {
            if let Some(value) = headers.get(theirs).and_then(|value| value.to_str().ok()) {
                let value = if value == "aws:kms" { "KMS" } else { value };
                signed.insert(ours.to_owned(), value.to_owned());
            }
        }
        let foreign: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-amz-") || **name == IF_NONE_MATCH)
            .cloned()
            .collect();
        for name in foreign {
            headers.remove(name);
        }
        if let Some(kind) = headers
            .get("content-type")
            .and_then(|kind| kind.to_str().ok())
        {
            signed.insert("content-type".to_owned(), kind.to_owned());
        }
        let signature = authorization(
            &Native {
                method: "PUT",
                resource: &format!("/{}{path}", self.bucket),
                query: Vec::new(),
                headers: signed.clone(),
                region: &self.region,
                moment: &moment,
            },
            &keys.id,
            keys.secret.expose_secret(),
        );
        signed.insert("authorization".to_owned(), signature);
        for (name, value) in signed {
            let name = HeaderName::try_from(name).map_err(|error| generic(Box::new(error)))?;
            let mut value =
                HeaderValue::try_from(value).map_err(|error| generic(Box::new(error)))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn both_hosts_follow_from_either_endpoint() {
        let location: StorageLocation = "oss://b/p".parse().unwrap();
        for endpoint in [
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "https://s3.oss-cn-hangzhou-internal.aliyuncs.com",
        ] {
            let hosts = Hosts::of(&location, endpoint).unwrap();
            assert_eq!(
                hosts.native,
                "https://b.oss-cn-hangzhou-internal.aliyuncs.com"
            );
            assert_eq!(
                hosts.compatible,
                "https://b.s3.oss-cn-hangzhou-internal.aliyuncs.com"
            );
            assert_eq!(region_in(endpoint).unwrap(), "cn-hangzhou");
        }
        assert_eq!(region_in("https://oss.example.com"), None);
    }

    #[test]
    fn only_from_inside_its_region_is_a_bucket_reached_by_the_internal_endpoint() {
        for (inside, endpoint) in [
            (
                Some("cn-hangzhou"),
                "https://oss-cn-hangzhou-internal.aliyuncs.com",
            ),
            (Some("cn-shanghai"), "https://oss-cn-hangzhou.aliyuncs.com"),
            (None, "https://oss-cn-hangzhou.aliyuncs.com"),
        ] {
            assert_eq!(endpoint_of("cn-hangzhou", inside), endpoint);
        }
    }
}
