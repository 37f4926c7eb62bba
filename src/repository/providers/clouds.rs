//! Google Cloud Storage and Azure Blob Storage.

use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::patient::PatientConnector;
use super::{client_options, refuse_settings, retries};
use crate::api::StorageLocation;
use crate::repository::error::RepositoryError;
use crate::secrets::Secret;

/// A bucket of Google Cloud Storage, and its URL. Without a Secret, the environment's service account or the metadata server is asked.
pub(super) fn gcs(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<(GoogleCloudStorageBuilder, String), RepositoryError> {
    refuse_settings(location)?;
    let account = secret.filter(|secret| secret.bytes("service-account.json").is_some());
    let mut builder = match account {
        None => GoogleCloudStorageBuilder::from_env(),
        Some(secret) => GoogleCloudStorageBuilder::new()
            .with_service_account_key(secret.require_text("service-account.json")?),
    };
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    let base = location.endpoint.as_deref();
    let base = base.unwrap_or("https://storage.googleapis.com");
    let url = format!("{}/{}", base.trim_end_matches('/'), location.bucket);
    let builder = builder
        .with_bucket_name(&location.bucket)
        .with_client_options(client_options(location, secret)?)
        .with_retry(retries())
        .with_http_connector(PatientConnector);
    Ok((builder, url))
}

/// A container of Azure Blob Storage. Without a Secret, the environment's federated token or managed identity is used.
pub(super) fn azure(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<MicrosoftAzureBuilder, RepositoryError> {
    refuse_settings(location)?;
    let mut builder = match secret.filter(|secret| secret.bytes("account-name").is_some()) {
        None => MicrosoftAzureBuilder::from_env(),
        Some(secret) => {
            let builder =
                MicrosoftAzureBuilder::new().with_account(secret.require_text("account-name")?);
            match secret.text("sas-token")? {
                Some(token) if !token.is_empty() => {
                    let pairs =
                        url::form_urlencoded::parse(token.trim_start_matches('?').as_bytes());
                    let pairs: Vec<(String, String)> = pairs.into_owned().collect();
                    builder.with_sas_authorization(pairs)
                }
                _ => builder.with_access_key(secret.require_text("account-key")?),
            }
        }
    };
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    Ok(builder
        .with_container_name(&location.bucket)
        .with_client_options(client_options(location, secret)?)
        .with_retry(retries())
        .with_http_connector(PatientConnector))
}
