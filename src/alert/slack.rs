//! Slack: a message as blocks, sent by incoming webhook or, with threads, by a bot token.

use hyper_rustls::HttpsConnectorBuilder;
use slack_morphism::api::{SlackApiChatPostMessageRequest, SlackApiPostWebhookMessageRequest};
use slack_morphism::blocks::{
    SlackBlock, SlackBlockMarkDownText, SlackBlockPlainText, SlackBlockText, SlackContextBlock,
    SlackContextBlockElement, SlackHeaderBlock, SlackSectionBlock,
};
use slack_morphism::errors::SlackClientError;
use slack_morphism::hyper_tokio::{SlackClientHyperConnector, SlackClientHyperHttpsConnector};
use slack_morphism::{
    SlackApiToken, SlackApiTokenValue, SlackClient, SlackMessageContent, SlackTs,
};
use url::Url;

use super::deliver::{DeliveryError, root_cause, secret};
use super::message::{Line, Message, clipped};
use super::plan::Stage;
use crate::api::{AlertSeverity, SlackChannel};

/// Slack refuses a header beyond 150 characters.
const HEADER_LIMIT: usize = 130;
/// Slack refuses a section's text beyond 3000 characters; escaping can make five of one.
const TEXT_LIMIT: usize = 2900;
/// Slack refuses a section with more fields than this.
const FIELDS_LIMIT: usize = 10;
/// Slack refuses a message with more blocks than this.
const BLOCKS_LIMIT: usize = 50;

/// The content of a message: a line for notifications and blocks for the screen.
pub fn content(message: &Message) -> SlackMessageContent {
    SlackMessageContent::new()
        .with_text(format!("{} {}", mark(message), escaped(&message.title)))
        .with_blocks(blocks(message))
}

fn blocks(message: &Message) -> Vec<SlackBlock> {
    let header = format!(
        "{} {}",
        mark(message),
        clipped(&message.title, HEADER_LIMIT)
    );
    let mut blocks: Vec<SlackBlock> = vec![
        SlackHeaderBlock::new(SlackBlockPlainText::new(header).with_emoji(true).into()).into(),
        section(&escaped(&message.what)),
    ];
    for chunk in message.lines.chunks(FIELDS_LIMIT) {
        let fields = chunk.iter().map(field).collect();
        blocks.push(SlackSectionBlock::new().with_fields(fields).into());
    }
    if let Some(step) = &message.next_step {
        blocks.push(fenced("*Type next*", step));
    }
    if let Some(error) = &message.error {
        blocks.push(fenced("*Error*", error));
    }
    if message.is_trouble() {
        let words = format!(
            "{} · runbook: {}",
            message.status(),
            escaped(&message.runbook)
        );
        let element = SlackContextBlockElement::MarkDown(SlackBlockMarkDownText::new(words));
        blocks.push(SlackContextBlock::new(vec![element]).into());
    }
    blocks.truncate(BLOCKS_LIMIT);
    blocks
}

fn mark(message: &Message) -> &'static str {
    match (message.stage, message.severity) {
        (Stage::Recovered, _) => ":white_check_mark:",
        (Stage::Test, _) => ":wrench:",
        (Stage::Digest, _) => ":bar_chart:",
        (_, AlertSeverity::Critical) => ":red_circle:",
        (_, AlertSeverity::Warning) => ":large_orange_circle:",
        (_, AlertSeverity::Info) => ":large_blue_circle:",
    }
}

fn section(text: &str) -> SlackBlock {
    let text = SlackBlockText::MarkDown(SlackBlockMarkDownText::new(clipped(text, TEXT_LIMIT)));
    SlackSectionBlock::new().with_text(text).into()
}

/// A block of fixed-width text. A fence inside it would end it early.
fn fenced(label: &str, text: &str) -> SlackBlock {
    let inner = clipped(&escaped(text).replace("```", "'''"), TEXT_LIMIT - 50);
    section(&format!("{label}\n```{inner}```"))
}

fn field(Line { label, value }: &Line) -> SlackBlockText {
    let text = format!("*{}*\n{}", escaped(label), escaped(value));
    SlackBlockText::MarkDown(SlackBlockMarkDownText::new(clipped(&text, 1900)))
}

/// The three characters that Slack's markup gives a meaning, so that no error text can mention or link.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Sends a message; with a bot token its `ts` comes back, and `thread` is the one to reply to.
pub async fn send(
    channel: &str,
    config: &SlackChannel,
    message: &Message,
    thread: Option<&str>,
) -> Result<Option<String>, DeliveryError> {
    let wrong = |problem: &str| DeliveryError::Config {
        channel: channel.to_owned(),
        problem: problem.to_owned(),
    };
    match (&config.webhook_url_file, &config.token_file) {
        (Some(file), None) => {
            let text = secret(channel, file).await?;
            let url = Url::parse(text.trim())
                .ok()
                .filter(|url| url.scheme() == "https" || is_loopback(url))
                .ok_or_else(|| {
                    wrong("the file of slack.webhookURLFile must hold one https:// URL")
                })?;
            let request = SlackApiPostWebhookMessageRequest::new(content(message));
            SlackClient::new(connector(channel, None)?)
                .post_webhook_message(&url, &request)
                .await
                .map_err(|error| explained(channel, error))?;
            Ok(None)
        }
        (None, Some(file)) => {
            let token = secret(channel, file).await?;
            let target = config
                .channel
                .as_ref()
                .ok_or_else(|| wrong("slack.channel is needed with slack.tokenFile"))?;
            let mut request =
                SlackApiChatPostMessageRequest::new(target.as_str().into(), content(message))
                    .with_unfurl_links(false);
            if let Some(first) = thread {
                // A reply alone is seen by those who follow the thread; this one shows in the channel too.
                request = request
                    .with_thread_ts(SlackTs::new(first.to_owned()))
                    .with_reply_broadcast(true);
            }
            let client = SlackClient::new(connector(channel, config.api_url.as_deref())?);
            let token = SlackApiToken::new(SlackApiTokenValue::new(token.trim().to_owned()));
            let answer = client
                .open_session(&token)
                .chat_post_message(&request)
                .await
                .map_err(|error| explained(channel, error))?;
            Ok(Some(thread.map_or(answer.ts.0, str::to_owned)))
        }
        _ => Err(wrong(
            "name exactly one of slack.webhookURLFile and slack.tokenFile",
        )),
    }
}

/// Plain HTTP is spoken only where a URL says so: to a stand-in on this host, or to the proxy named as `apiURL`.
fn connector(
    channel: &str,
    api_url: Option<&str>,
) -> Result<SlackClientHyperHttpsConnector, DeliveryError> {
    let https = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| DeliveryError::Unreachable {
            channel: channel.to_owned(),
            problem: format!("the system's certificate authorities cannot be read: {error}"),
        })?
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .build();
    let connector = SlackClientHyperConnector::with_connector(https);
    Ok(match api_url {
        Some(url) => connector.with_slack_api_url(url.trim_end_matches('/')),
        None => connector,
    })
}

fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

fn explained(channel: &str, error: SlackClientError) -> DeliveryError {
    let channel = channel.to_owned();
    match error {
        SlackClientError::ApiError(error) => {
            let advice = match error.code.as_str() {
                "channel_not_found" | "not_in_channel" | "is_archived" => {
                    "check slack.channel, and invite the bot to it"
                }
                "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked"
                | "token_expired" => "write a valid bot token into the file of slack.tokenFile",
                "missing_scope" => "give the app the scope chat:write",
                _ => "see Slack's list of errors of chat.postMessage",
            };
            DeliveryError::Refused {
                channel,
                answer: clipped(&error.code, 100),
                advice: advice.to_owned(),
            }
        }
        SlackClientError::HttpError(error) => {
            let body = error.http_response_body.unwrap_or_default();
            let advice = if error.status_code.is_server_error() {
                "it is tried again by itself"
            } else {
                "make a new incoming webhook, and write its URL into the file of slack.webhookURLFile"
            };
            DeliveryError::Refused {
                channel,
                answer: format!(
                    "{} {}",
                    error.status_code.as_u16(),
                    clipped(body.trim(), 100)
                ),
                advice: advice.to_owned(),
            }
        }
        SlackClientError::RateLimitError(error) => DeliveryError::Limited {
            channel,
            retry_after: error.retry_after,
        },
        SlackClientError::HttpProtocolError(error) => DeliveryError::Unreachable {
            channel,
            problem: error.cause.as_deref().map_or_else(
                || "the connection broke".to_owned(),
                |cause| root_cause(cause),
            ),
        },
        SlackClientError::ProtocolError(_) => DeliveryError::Unreachable {
            channel,
            problem: "the answer is not Slack's: a proxy may stand between".to_owned(),
        },
        other => DeliveryError::Unreachable {
            channel,
            problem: root_cause(&other),
        },
    }
}
