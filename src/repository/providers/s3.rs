//! Amazon S3 and what speaks its API.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};

use super::patient::PatientConnector;
use super::stamp::StampConnector;
use super::{Compatible, built, client_options, retries, with_bucket_in_host};
use crate::api::{Addressing, ServerSideEncryptionKind, StorageLocation};
use crate::repository::error::RepositoryError;
use crate::secrets::Secret;

/// Opens an S3 bucket.
pub(super) fn open(
    location: &StorageLocation,
    secret: Option<&Secret>,
) -> Result<Compatible, RepositoryError> {
    let keys = secret.filter(|secret| secret.bytes("access-key-id").is_some());
    let mut location = location.clone();
    if keys.is_none() && location.endpoint.is_none() {
        location.endpoint = endpoint_of_environment();
    }
    let location = &location;
    let mut builder = match keys {
        // The environment says how this machine or pod gets its identity: IRSA, EKS pod identity, ECS, IMDS, or keys.
        None => AmazonS3Builder::from_env(),
        Some(secret) => {
            let builder = AmazonS3Builder::new()
                .with_access_key_id(secret.require_text("access-key-id")?)
                .with_secret_access_key(secret.require_text("secret-access-key")?);
            match secret.text("session-token")? {
                Some(token) if !token.is_empty() => builder.with_token(token),
                _ => builder,
            }
        }
    };
    builder = builder
        .with_bucket_name(&location.bucket)
        .with_client_options(client_options(location, secret)?)
        .with_retry(retries())
        .with_http_connector(PatientConnector)
        // Checksums stay off: many stores refuse the newer ones, and the signature already covers the content.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_disable_tagging(true);
    if let Some(region) = &location.region {
        builder = builder.with_region(region);
    }
    // Path addressing works everywhere but with AWS's own newest buckets, which have no endpoint of their own.
    let virtual_hosted = match location.addressing {
        Some(addressing) => addressing == Addressing::VirtualHosted,
        None => location.endpoint.is_none() && secret.is_some() && !location.bucket.contains('.'),
    };
    builder = builder.with_virtual_hosted_style_request(virtual_hosted);
    if let Some(endpoint) = &location.endpoint {
        let endpoint = if virtual_hosted {
            with_bucket_in_host(location, endpoint)?
        } else {
            endpoint.trim_end_matches('/').to_owned()
        };
        builder = builder.with_endpoint(endpoint);
    }
    builder = encrypted(builder, location)?;
    let (url, region) = (url_of(&builder, &location.bucket), region_of(&builder));
    let server = location.endpoint.clone();
    let server = server.unwrap_or_else(|| "Amazon S3".to_owned());
    let of_this = region.clone();
    let compatible = |store| Compatible {
        store,
        url,
        region: of_this,
        server,
    };
    let Some(lock) = &location.object_lock else {
        return Ok(compatible(built(location, builder.build())?));
    };
    // The lock is a header that the crate does not know; S3 takes it only with a checksum of the content.
    let builder = builder.with_checksum_algorithm(Checksum::SHA256);
    let identity = built(location, builder.clone().build())?;
    let connector = StampConnector {
        mode: lock.mode,
        retain: lock.retain.as_signed(),
        region: region.clone(),
        credentials: identity.credentials().clone(),
    };
    let builder = builder
        .with_credentials(identity.credentials().clone())
        .with_http_connector(connector);
    Ok(compatible(built(location, builder.build())?))
}

/// Where AWS's own tools go when no endpoint is named. Keys of a Secret are never sent there.
fn endpoint_of_environment() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|endpoint| !endpoint.is_empty())
}

/// The bucket's URL, as the builder's settings make it.
fn url_of(builder: &AmazonS3Builder, bucket: &str) -> String {
    let in_host = builder.get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest);
    let in_host = in_host.is_some_and(|text| text == "true");
    let named = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    let named = named.iter().find_map(|key| builder.get_config_value(key));
    let region = region_of(builder);
    match (named, in_host) {
        (Some(endpoint), true) => endpoint,
        (Some(endpoint), false) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
        (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
    }
}

fn region_of(builder: &AmazonS3Builder) -> String {
    builder
        .get_config_value(&AmazonS3ConfigKey::Region)
        .unwrap_or_else(|| "us-east-1".to_owned())
}

/// With the headers that ask the provider to encrypt.
pub(super) fn encrypted(
    builder: AmazonS3Builder,
    location: &StorageLocation,
) -> Result<AmazonS3Builder, RepositoryError> {
    let Some(encryption) = &location.server_side_encryption else {
        return Ok(builder);
    };
    Ok(match (encryption.kind, &encryption.kms_key_id) {
        (ServerSideEncryptionKind::KMS, Some(key)) => builder.with_sse_kms_encryption(key),
        (kind, _) => {
            let name = match kind {
                ServerSideEncryptionKind::AES256 => "AES256",
                ServerSideEncryptionKind::KMS => "aws:kms",
            };
            let setting: AmazonS3ConfigKey = built(location, "aws_server_side_encryption".parse())?;
            builder.with_config(setting, name)
        }
    })
}
