//! A webhook: the matter as JSON, in the versioned shape of docs/reference/alerts.md.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use serde::Serialize;

use super::deliver::{DeliveryError, root_cause, secret};
use super::kind::severity_word;
use super::message::clipped;
use super::plan::{Outgoing, Stage};
use super::{Message, signature, template};
use crate::api::{AlertChannel, WebhookChannel};

/// What is posted. Fields may be added; none is renamed while the version is 1.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    version: u32,
    /// The same for all messages of one matter.
    id: String,
    /// `firing`, `repeated`, `recovered`, `test` or `digest`.
    status: &'static str,
    kind: &'static str,
    severity: &'static str,
    cluster: String,
    namespace: String,
    name: String,
    since: Timestamp,
    at: Timestamp,
    occurrences: u64,
    title: String,
    what: String,
    error: Option<String>,
    next_step: Option<String>,
    last_good_backup: Option<Timestamp>,
    changes_at_risk: Option<f64>,
    retry_at: Option<Timestamp>,
    details: BTreeMap<String, String>,
    runbook: String,
}

impl Payload {
    /// The payload of a message.
    pub fn new(message: Message, outgoing: &Outgoing) -> Self {
        let standing = &outgoing.standing;
        let newest = outgoing.recovery.as_ref().unwrap_or(&standing.event);
        let subject = &newest.subject;
        Self {
            version: 1,
            id: format!(
                "{}/{}/{}/{}/{}",
                newest.kind.word(),
                subject.cluster,
                subject.namespace,
                subject.name,
                standing.since.as_second()
            ),
            status: match outgoing.stage {
                Stage::New => "firing",
                Stage::Repeat => "repeated",
                Stage::Recovered => "recovered",
                Stage::Test => "test",
                Stage::Digest => "digest",
            },
            kind: newest.kind.word(),
            severity: severity_word(newest.kind.severity()),
            cluster: subject.cluster.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            since: standing.since,
            at: newest.at,
            occurrences: standing.occurrences,
            title: message.title,
            what: message.what,
            error: message.error,
            next_step: message.next_step,
            last_good_backup: newest.facts.last_good,
            changes_at_risk: newest.facts.exposure.filter(|changes| changes.is_finite()),
            retry_at: newest.facts.retry_at,
            details: newest.facts.details.clone(),
            runbook: message.runbook,
        }
    }
}

/// Identifies one message, the same when it is tried again: a receiver may drop what it has seen.
fn message_id(payload: &Payload, outgoing: &Outgoing) -> String {
    let told = outgoing.standing.told.map(Timestamp::as_nanosecond);
    let text = format!(
        "{}\n{}\n{:?}\n{}",
        payload.id, payload.status, told, payload.at
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let short = digest.as_ref().get(..16).unwrap_or_default();
    format!("msg_{}", hex::encode(short))
}

/// Posts a message. Any answer below 300 is a delivery; redirects are not followed, for headers may hold secrets.
pub async fn send(
    target: &AlertChannel,
    config: &WebhookChannel,
    outgoing: &Outgoing,
    now: Timestamp,
) -> Result<Option<String>, DeliveryError> {
    let channel = target.name.as_str();
    let payload = Payload::new(template::words(target, outgoing, now)?, outgoing);
    let body = template::body(target, &payload)?;
    let mut headers = HeaderMap::new();
    if let Some(file) = &config.headers_file {
        for (number, line) in secret(channel, file).await?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let header = line.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                let mut value = HeaderValue::from_str(value.trim()).ok()?;
                value.set_sensitive(true);
                Some((name, value))
            });
            let (name, value) = header.ok_or_else(|| DeliveryError::Config {
                channel: channel.to_owned(),
                problem: format!(
                    "line {} of {} is not 'Name: value'",
                    number + 1,
                    file.display()
                ),
            })?;
            headers.insert(name, value);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(file) = &config.signing_secret_file {
        let secret = secret(channel, file).await?;
        let id = message_id(&payload, outgoing);
        let signed = signature::headers(&secret, &id, now, body.as_bytes());
        for (name, value) in signed.ok_or_else(|| DeliveryError::Config {
            channel: channel.to_owned(),
            problem: format!(
                "{} does not hold 'whsec_' and 24 to 64 bytes in base64: make one with \"echo whsec_$(openssl rand -base64 32)\"",
                file.display()
            ),
        })? {
            headers.insert(name, value);
        }
    }
    let unreachable = |error: reqwest::Error| DeliveryError::Unreachable {
        channel: channel.to_owned(),
        // A URL may hold a token in its path or query.
        problem: root_cause(&error.without_url()),
    };
    let client = reqwest::Client::builder()
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .build()
        .map_err(unreachable)?;
    let answer = client
        .post(&config.url)
        .headers(headers)
        .body(body)
        .send()
        .await
        .map_err(unreachable)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(None);
    }
    let retry_after = answer
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    if status.as_u16() == 429 || (status.as_u16() == 503 && retry_after.is_some()) {
        return Err(DeliveryError::Limited {
            channel: channel.to_owned(),
            retry_after,
        });
    }
    let body = answer.text().await.unwrap_or_default();
    Err(DeliveryError::Refused {
        channel: channel.to_owned(),
        answer: format!("{} {}", status.as_u16(), clipped(body.trim(), 200)),
        advice: "check webhook.url and webhook.headersFile".to_owned(),
    })
}
