//! Store URLs as the CLI takes and prints them: `s3://bucket/prefix`, `oss://`, `gs://`, `az://`, `file:///dir`.

use std::fmt;
use std::str::FromStr;

use super::{Addressing, ErrorClass, Provider, StorageLocation};

/// Why a store URL could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{url}' is not a store URL: {reason}; write s3://BUCKET/PREFIX, oss://, gs://, az:// or file:///DIR"
)]
pub struct LocationUrlError {
    url: String,
    reason: String,
}

impl LocationUrlError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl FromStr for StorageLocation {
    type Err = LocationUrlError;

    /// Query parameters `region`, `endpoint`, `credentialsSecret` and `addressing` (`path`, `virtual`) are understood.
    fn from_str(text: &str) -> Result<Self, LocationUrlError> {
        let error = |reason: &str| LocationUrlError {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| error("it has no scheme"))?;
        let provider = [
            Provider::S3,
            Provider::OSS,
            Provider::GCS,
            Provider::Azure,
            Provider::Local,
        ]
        .into_iter()
        .find(|provider| provider.scheme() == scheme)
        .ok_or_else(|| error("its scheme is not known"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = if provider == Provider::Local {
            (path.trim_end_matches('/'), "")
        } else {
            path.split_once('/').unwrap_or((path, ""))
        };
        if bucket.is_empty() {
            return Err(error("it names no bucket"));
        }
        if provider == Provider::Local && !bucket.starts_with('/') {
            return Err(error("a file URL has three slashes and an absolute path"));
        }
        let mut location = StorageLocation {
            provider,
            bucket: bucket.to_owned(),
            region: None,
            endpoint: None,
            prefix: prefix.trim_matches('/').to_owned(),
            credentials_secret: None,
            server_side_encryption: None,
            object_lock: None,
            storage_class: None,
            addressing: None,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "region" => location.region = Some(value.into_owned()),
                "endpoint" => location.endpoint = Some(value.into_owned()),
                "credentialsSecret" => location.credentials_secret = Some(value.into_owned()),
                "addressing" if value.eq_ignore_ascii_case("path") => {
                    location.addressing = Some(Addressing::Path)
                }
                "addressing"
                    if value == "virtual" || value.eq_ignore_ascii_case("virtualHosted") =>
                {
                    location.addressing = Some(Addressing::VirtualHosted);
                }
                other => return Err(error(&format!("parameter '{other}' is not known"))),
            }
        }
        Ok(location)
    }
}

impl fmt::Display for StorageLocation {
    /// The URL without parameters: what people recognise, never a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.provider.scheme(), self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}
