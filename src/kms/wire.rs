//! One signed request to a key service: sent again when the service is ill or out of reach, never when it says no; and the
//! answers in the form that both services share.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde::Deserialize;

use super::{KeyName, KmsError};
use crate::seal::{DataKey, WrappedKey};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The answer to GenerateDataKey and to Decrypt.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    #[serde(default)]
    ciphertext_blob: Option<String>,
    plaintext: SecretString,
}

impl Answer {
    /// A new data key, and the form of it that only the service opens, bound to this context.
    pub fn pair(
        &self,
        key: &KeyName,
        context: &BTreeMap<String, String>,
    ) -> Result<(DataKey, WrappedKey), KmsError> {
        let wrapped = self
            .ciphertext_blob
            .clone()
            .ok_or_else(|| KmsError::Answer {
                key: key.text.clone(),
                problem: "it has no CiphertextBlob",
            })?;
        let wrapped = WrappedKey {
            key_id: key.text.clone(),
            wrapped,
            context: context.clone(),
        };
        Ok((self.data_key(key)?, wrapped))
    }

    /// The data key.
    pub fn data_key(&self, key: &KeyName) -> Result<DataKey, KmsError> {
        use secrecy::ExposeSecret;
        let wrong = || KmsError::Answer {
            key: key.text.clone(),
            problem: "its Plaintext is not 32 bytes",
        };
        let bytes = STANDARD
            .decode(self.plaintext.expose_secret())
            .map_err(|_| wrong())?;
        DataKey::new(&bytes).ok_or_else(wrong)
    }
}

/// What a service says instead of a key.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Its word for it, as `AccessDeniedException`.
    pub code: String,
}

/// A request before it is signed; the signature is made anew for each sending, as it ages.
pub(super) struct Unsigned<'a> {
    pub key: &'a KeyName,
    pub url: &'a str,
    pub body: String,
}

enum Said {
    Answer(Answer),
    Refused(Refusal),
}

/// Sends a request; `sign` gives the headers. A refusal is an answer too.
pub(super) async fn ask<F>(
    request: &Unsigned<'_>,
    sign: impl Fn(String) -> F,
    code_of: fn(&serde_json::Value) -> Option<&str>,
) -> Result<Result<Answer, Refusal>, KmsError>
where
    F: Future<Output = Result<HeaderMap, KmsError>>,
{
    let key = || request.key.text.clone();
    let unreachable = |source: reqwest::Error| KmsError::Unreachable {
        key: key(),
        host: host_of(request.url),
        source: Some(source.without_url()),
    };
    crate::init_tls();
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .map_err(unreachable)?;
    let once = || async {
        let headers = sign(request.body.clone()).await?;
        let sent = client
            .post(request.url)
            .headers(headers)
            .body(request.body.clone())
            .send()
            .await
            .map_err(unreachable)?;
        let status = sent.status();
        let text = SecretString::from(sent.text().await.map_err(unreachable)?);
        understood(request.key, status, &text, code_of)
    };
    let again = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_times(3)
        .with_jitter();
    let said = once
        .retry(again)
        .when(|error| {
            matches!(
                error,
                KmsError::Unreachable { .. } | KmsError::Failing { .. }
            )
        })
        .await?;
    Ok(match said {
        Said::Answer(answer) => Ok(answer),
        Said::Refused(refusal) => Err(refusal),
    })
}

fn understood(
    key: &KeyName,
    status: reqwest::StatusCode,
    text: &SecretString,
    code_of: fn(&serde_json::Value) -> Option<&str>,
) -> Result<Said, KmsError> {
    use secrecy::ExposeSecret;
    if status.is_success() {
        let answer = serde_json::from_str(text.expose_secret()).map_err(|_| KmsError::Answer {
            key: key.text.clone(),
            problem: "it has no Plaintext",
        })?;
        return Ok(Said::Answer(answer));
    }
    let body: serde_json::Value = serde_json::from_str(text.expose_secret()).unwrap_or_default();
    let code: String = code_of(&body)
        .map_or_else(|| status.to_string(), str::to_owned)
        .chars()
        .filter(|letter| !letter.is_control())
        .take(100)
        .collect();
    let ill = status.is_server_error()
        || status == reqwest::StatusCode::TOO_MANY_REQUESTS
        || code.contains("Throttl");
    if ill {
        let key = key.text.clone();
        return Err(KmsError::Failing { key, code });
    }
    Ok(Said::Refused(Refusal { code }))
}

pub(super) fn host_of(url: &str) -> String {
    url::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The error of a refusal to open what another key wrapped, or of any other.
pub(super) fn refused(
    key: &KeyName,
    wanted: Option<&str>,
    refusal: Refusal,
    wrong: &[&str],
) -> KmsError {
    let code = refusal.code;
    match wanted {
        Some(wanted) if wrong.iter().any(|word| code.contains(word)) => KmsError::WrongKey {
            asked: key.text.clone(),
            wanted: wanted.to_owned(),
            code,
        },
        wanted => KmsError::Refused {
            key: key.text.clone(),
            action: if wanted.is_some() {
                "open the backup"
            } else {
                "make a data key"
            },
            code,
        },
    }
}
