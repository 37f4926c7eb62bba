//! Signs a webhook as the specification of Standard Webhooks says, so that receivers check it with a library they have. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::header::{HeaderName, HeaderValue};
use ring::hmac;

/// The headers of a signed message; `None` when the secret is not one.
pub fn headers(
    secret: &str,
    id: &str,
    now: Timestamp,
    body: &[u8],
) -> Option<[(HeaderName, HeaderValue); 3]> {
    let secret = secret.trim();
    let bytes = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap_or(secret))
        .ok()
        .filter(|bytes| (24..=64).contains(&bytes.len()))?;
    let time = now.as_second().to_string();
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
    let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)));
    let value = |text: &str| HeaderValue::from_str(text).ok();
    Some([
        (HeaderName::from_static("webhook-id"), value(id)?),
        (HeaderName::from_static("webhook-timestamp"), value(&time)?),
        (
            HeaderName::from_static("webhook-signature"),
            value(&signature)?,
        ),
    ])
}
