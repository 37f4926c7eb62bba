//! AWS KMS: GenerateDataKey and Decrypt, signed by the store crate's own signer, so that one chain of credentials serves both.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};

use super::wire::{Answer, Refusal, Unsigned, ask, refused};
use super::{KeyName, KmsError};
use crate::seal::{DataKey, WrappedKey};
use crate::secrets::Secret;

/// The words of a service that was asked with another key, or another context, than the one that wrapped.
const WRONG: &[&str] = &[
    "InvalidCiphertext",
    "IncorrectKey",
    "InvalidKeyUsage",
    "NotFoundException",
];

/// AWS's key management service.
#[derive(Default)]
pub(super) struct AwsKms {
    keys: Option<Arc<AwsCredential>>,
}

impl AwsKms {
    /// With the keys of an S3 store's Secret, else with whatever identity the environment gives.
    pub fn new(secret: Option<&Secret>) -> Result<Self, KmsError> {
        let secret = secret.filter(|secret| secret.bytes("access-key-id").is_some());
        let Some(secret) = secret else {
            return Ok(Self::default());
        };
        let token = secret.text("session-token")?;
        let token = token.filter(|token| !token.is_empty());
        Ok(Self {
            keys: Some(Arc::new(AwsCredential {
                key_id: secret.require_text("access-key-id")?.to_owned(),
                secret_key: secret.require_text("secret-access-key")?.to_owned(),
                token: token.map(str::to_owned),
            })),
        })
    }

    pub async fn generate(
        &self,
        key: &KeyName,
        context: &BTreeMap<String, String>,
    ) -> Result<(DataKey, WrappedKey), KmsError> {
        let body = serde_json::json!({
            "KeyId": key.text, "KeySpec": "AES_256", "EncryptionContext": context,
        });
        let answer = self
            .ask(key, "GenerateDataKey", &body)
            .await?
            .map_err(|refusal| refused(key, None, refusal, WRONG))?;
        answer.pair(key, context)
    }

    pub async fn unwrap(&self, key: &KeyName, wrapped: &WrappedKey) -> Result<DataKey, KmsError> {
        let body = serde_json::json!({
            "KeyId": key.text, "CiphertextBlob": wrapped.wrapped,
            "EncryptionContext": wrapped.context,
        });
        let answer = self
            .ask(key, "Decrypt", &body)
            .await?
            .map_err(|refusal| refused(key, Some(&wrapped.key_id), refusal, WRONG))?;
        answer.data_key(key)
    }

    async fn ask(
        &self,
        key: &KeyName,
        action: &'static str,
        body: &serde_json::Value,
    ) -> Result<Result<Answer, Refusal>, KmsError> {
        let china = if key.text.starts_with("arn:aws-cn:") {
            ".cn"
        } else {
            ""
        };
        // The variable is the one of AWS's own SDKs.
        let endpoint = std::env::var("AWS_ENDPOINT_URL_KMS")
            .ok()
            .filter(|url| !url.is_empty());
        let url =
            endpoint.unwrap_or_else(|| format!("https://kms.{}.amazonaws.com{china}", key.region));
        let url = format!("{}/", url.trim_end_matches('/'));
        let request = Unsigned {
            key,
            url: &url,
            body: body.to_string(),
        };
        let credential = self.credential(key).await?;
        ask(
            &request,
            |body| std::future::ready(signed(key, &url, action, body, &credential)),
            |answer| {
                // `com.amazonaws.kms#NotFoundException` in some answers, the bare name in others.
                answer.get("__type")?.as_str()?.rsplit('#').next()
            },
        )
        .await
    }

    async fn credential(&self, key: &KeyName) -> Result<Arc<AwsCredential>, KmsError> {
        if let Some(keys) = &self.keys {
            return Ok(Arc::clone(keys));
        }
        let none = |source| KmsError::NoCredentials {
            key: key.text.clone(),
            source,
        };
        // The bucket is never asked for; the store crate knows every identity that AWS gives a workload.
        let store = AmazonS3Builder::from_env()
            .with_bucket_name("none")
            .with_region(&key.region)
            .build()
            .map_err(none)?;
        store.credentials().get_credential().await.map_err(none)
    }
}

fn signed(
    key: &KeyName,
    url: &str,
    action: &str,
    body: String,
    credential: &AwsCredential,
) -> Result<HeaderMap, KmsError> {
    let wrong = |problem| KmsError::Answer {
        key: key.text.clone(),
        problem,
    };
    let mut request = HttpRequest::new(HttpRequestBody::from(body.into_bytes()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url
        .parse()
        .map_err(|_| wrong("AWS_ENDPOINT_URL_KMS is not a URL"))?;
    let headers = request.headers_mut();
    let target = HeaderValue::from_str(&format!("TrentService.{action}"))
        .map_err(|_| wrong("the action is no header"))?;
    headers.insert("x-amz-target", target);
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    AwsAuthorizer::new(credential, "kms", &key.region)
        .try_authorize(&mut request, None)
        .map_err(|_| wrong("the request cannot be signed"))?;
    Ok(std::mem::take(request.headers_mut()))
}
