//! Alibaba Cloud KMS: GenerateDataKey and Decrypt, by their documented form of 2016-01-20, signed with ACS3.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::acs3::{Request, authorization, sha256};
use super::wire::{Answer, Refusal, Unsigned, ask, refused};
use super::{KeyName, KmsError};
use crate::seal::{DataKey, WrappedKey};
use crate::secrets::{AlibabaIdentity, AlibabaKeys, Secret};

/// The words of a service that was asked with another context, or for what another key wrapped.
const WRONG: &[&str] = &["InvalidCiphertext", "InvalidParameter", "KeyNotFound"];

/// Alibaba's key management service.
pub(super) struct AlibabaKms {
    identity: AlibabaIdentity,
}

impl Default for AlibabaKms {
    fn default() -> Self {
        Self {
            identity: AlibabaIdentity::from_environment(&|name| std::env::var(name).ok()),
        }
    }
}

impl AlibabaKms {
    /// With the keys of an OSS store's Secret, else with whatever identity the environment gives.
    pub fn new(secret: Option<&Secret>) -> Result<Self, KmsError> {
        match secret.filter(|secret| secret.bytes("access-key-id").is_some()) {
            None => Ok(Self::default()),
            Some(secret) => Ok(Self {
                identity: AlibabaIdentity::from_secret(secret)?,
            }),
        }
    }

    pub async fn generate(
        &self,
        key: &KeyName,
        context: &BTreeMap<String, String>,
    ) -> Result<(DataKey, WrappedKey), KmsError> {
        let id = id_of(key);
        let fields = [("KeyId", id), ("KeySpec", "AES_256")];
        let answer = self
            .ask(key, "GenerateDataKey", &fields, context)
            .await?
            .map_err(|refusal| refused(key, None, refusal, WRONG))?;
        answer.pair(key, context)
    }

    pub async fn unwrap(&self, key: &KeyName, wrapped: &WrappedKey) -> Result<DataKey, KmsError> {
        let fields = [("CiphertextBlob", wrapped.wrapped.as_str())];
        let answer = self
            .ask(key, "Decrypt", &fields, &wrapped.context)
            .await?
            .map_err(|refusal| refused(key, Some(&wrapped.key_id), refusal, WRONG))?;
        answer.data_key(key)
    }

    async fn ask(
        &self,
        key: &KeyName,
        action: &'static str,
        fields: &[(&str, &str)],
        context: &BTreeMap<String, String>,
    ) -> Result<Result<Answer, Refusal>, KmsError> {
        let endpoint = std::env::var("ALIBABA_CLOUD_KMS_ENDPOINT")
            .ok()
            .filter(|url| !url.is_empty());
        let url = match endpoint {
            Some(url) if url.contains("://") => url,
            Some(host) => format!("https://{host}"),
            None => format!("https://kms.{}.aliyuncs.com", key.region),
        };
        let url = format!("{}/", url.trim_end_matches('/'));
        let context = serde_json::json!(context).to_string();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .append_pair("EncryptionContext", &context)
            .finish();
        let request = Unsigned {
            key,
            url: &url,
            body,
        };
        let keys = self.identity.keys().await?;
        ask(
            &request,
            |body| {
                let nonce = uuid::Uuid::new_v4().simple().to_string();
                let made = signed(key, &url, action, &body, &keys, Timestamp::now(), nonce);
                std::future::ready(made)
            },
            |answer| answer.get("Code")?.as_str(),
        )
        .await
    }
}

/// The id by which the service knows the key: the last part, or the alias with its word.
fn id_of(key: &KeyName) -> &str {
    key.resource.strip_prefix("key/").unwrap_or(&key.resource)
}

fn signed(
    key: &KeyName,
    url: &str,
    action: &str,
    body: &str,
    keys: &AlibabaKeys,
    now: Timestamp,
    nonce: String,
) -> Result<HeaderMap, KmsError> {
    let wrong = |problem| KmsError::Answer {
        key: key.text.clone(),
        problem,
    };
    let parsed = url::Url::parse(url)
        .map_err(|_| wrong("ALIBABA_CLOUD_KMS_ENDPOINT is not a URL or host"))?;
    let host = &parsed[url::Position::BeforeHost..url::Position::AfterPort];
    let hash = sha256(body.as_bytes());
    let date = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut headers = BTreeMap::from([
        ("host".to_owned(), host.to_owned()),
        (
            "content-type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        ),
        ("x-acs-action".to_owned(), action.to_owned()),
        ("x-acs-version".to_owned(), "2016-01-20".to_owned()),
        ("x-acs-date".to_owned(), date),
        ("x-acs-signature-nonce".to_owned(), nonce),
        ("x-acs-content-sha256".to_owned(), hash.clone()),
    ]);
    if let Some(token) = &keys.token {
        let token = token.expose_secret().to_owned();
        headers.insert("x-acs-security-token".to_owned(), token);
    }
    let request = Request {
        method: "POST",
        query: "",
        headers: &headers,
        body_sha256: &hash,
    };
    let signature = authorization(&request, &keys.id, keys.secret.expose_secret());
    headers.insert("authorization".to_owned(), signature);
    headers.remove("host");
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|_| wrong("a header has no name"))?;
        let mut value =
            HeaderValue::try_from(value).map_err(|_| wrong("a key or token is not printable"))?;
        value.set_sensitive(true);
        sent.insert(name, value);
    }
    Ok(sent)
}
