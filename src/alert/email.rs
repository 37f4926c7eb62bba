//! Email: the same content as text and as HTML, by SMTP with implicit TLS, STARTTLS or none.

use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};

use super::deliver::{DeliveryError, root_cause, secret};
use super::message::{Line, Message, clipped};
use super::plan::Stage;
use crate::api::{AlertSeverity, EmailChannel, SmtpConfig, SmtpTls};

/// Tells vacation responders and mailing lists that no person wrote this (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Sends a message; its Message-ID comes back, and `thread` is the one to reply to.
pub async fn send(
    channel: &str,
    config: &EmailChannel,
    message: &Message,
    thread: Option<&str>,
) -> Result<Option<String>, DeliveryError> {
    let id = format!("<{}@etcdguardian>", uuid::Uuid::now_v7());
    let mail = mail(channel, config, message, thread, &id)?;
    let transport = transport(channel, &config.smtp).await?;
    transport
        .send(mail)
        .await
        .map_err(|error| explained(channel, &config.smtp, &error))?;
    Ok(Some(thread.map_or(id, str::to_owned)))
}

/// The mail with its headers.
pub fn mail(
    channel: &str,
    config: &EmailChannel,
    message: &Message,
    thread: Option<&str>,
    id: &str,
) -> Result<Mail, DeliveryError> {
    let wrong = |problem: String| DeliveryError::Config {
        channel: channel.to_owned(),
        problem,
    };
    let mailbox = |field: &str, text: &str| {
        text.parse::<Mailbox>().map_err(|error| {
            wrong(format!(
                "{field} '{}' is not an address: {error}",
                clipped(text, 100)
            ))
        })
    };
    let mut builder = Mail::builder()
        .from(mailbox("email.from", &config.from)?)
        .subject(subject(message))
        .message_id(Some(id.to_owned()))
        .date_now()
        .header(AutoSubmitted);
    for to in &config.to {
        builder = builder.to(mailbox("email.to", to)?);
    }
    if let Some(first) = thread {
        builder = builder
            .in_reply_to(first.to_owned())
            .references(first.to_owned());
    }
    builder
        .multipart(MultiPart::alternative_plain_html(
            message.text(),
            html(message),
        ))
        .map_err(|error| wrong(format!("no mail can be made of it: {error}")))
}

fn subject(message: &Message) -> String {
    let word = match message.stage {
        Stage::Recovered => "OK",
        Stage::Test => "TEST",
        Stage::Digest => "DIGEST",
        Stage::New | Stage::Repeat => match message.severity {
            AlertSeverity::Critical => "CRITICAL",
            AlertSeverity::Warning => "WARNING",
            AlertSeverity::Info => "INFO",
        },
    };
    format!("[{word}] {}", clipped(&message.title, 180))
}

/// The message as HTML that mail clients show: tables and inline style, no outside resource. It says what its text says.
pub(super) fn html(message: &Message) -> String {
    let colour = match (message.stage, message.severity) {
        (Stage::Recovered, _) => "#1a7f37",
        (Stage::Test | Stage::Digest, _) => "#57606a",
        (_, AlertSeverity::Critical) => "#b3261e",
        (_, AlertSeverity::Warning) => "#b25e00",
        (_, AlertSeverity::Info) => "#0b5cad",
    };
    let mono = "font:13px/1.5 ui-monospace,Menlo,Consolas,monospace;background:#f3f4f6;color:#111;padding:10px 12px;border-radius:6px;white-space:pre-wrap;word-break:break-word;margin:4px 0 16px";
    let mut html = format!(
        "<!doctype html><html><body style=\"margin:0;padding:16px;background:#ffffff;color:#1f2328;font:15px/1.5 system-ui,Segoe UI,Helvetica,Arial,sans-serif\"><div style=\"max-width:640px;border-left:5px solid {colour};padding-left:16px\"><h2 style=\"margin:0 0 8px;font-size:19px;color:{colour}\">{}</h2><p style=\"margin:0 0 16px\">{}</p><table style=\"border-collapse:collapse;margin:0 0 16px\">",
        escaped(&message.title),
        escaped(&message.what)
    );
    for Line { label, value } in &message.lines {
        html.push_str(&format!(
            "<tr><td style=\"padding:2px 16px 2px 0;color:#57606a;vertical-align:top;white-space:nowrap\">{}</td><td style=\"padding:2px 0;vertical-align:top;word-break:break-word\">{}</td></tr>",
            escaped(label),
            escaped(value)
        ));
    }
    html.push_str("</table>");
    if let Some(step) = &message.next_step {
        html.push_str(&format!(
            "<div><b>Type next</b></div><pre style=\"{mono}\">{}</pre>",
            escaped(step)
        ));
    }
    if let Some(error) = &message.error {
        html.push_str(&format!(
            "<div><b>Error</b></div><pre style=\"{mono}\">{}</pre>",
            escaped(error)
        ));
    }
    if message.is_trouble() {
        html.push_str(&format!(
            "<p style=\"margin:0;color:#57606a\">Runbook: {}</p>",
            escaped(&message.runbook)
        ));
    }
    html.push_str("</div></body></html>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

async fn transport(
    channel: &str,
    smtp: &SmtpConfig,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, DeliveryError> {
    let (tls, port) = match smtp.tls {
        SmtpTls::Implicit => (Tls::Wrapper(parameters(channel, smtp).await?), 465),
        SmtpTls::StartTLS => (Tls::Required(parameters(channel, smtp).await?), 587),
        SmtpTls::None => (Tls::None, 25),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
        .port(smtp.port.unwrap_or(port))
        .tls(tls)
        .timeout(Some(Duration::from_secs(20)));
    match (&smtp.username_file, &smtp.password_file) {
        (Some(username), Some(password)) => {
            let username = secret(channel, username).await?;
            let password = secret(channel, password).await?;
            builder = builder.credentials(Credentials::new(username, password));
        }
        (None, None) => {}
        _ => {
            return Err(DeliveryError::Config {
                channel: channel.to_owned(),
                problem: "smtp.usernameFile and smtp.passwordFile go together".to_owned(),
            });
        }
    }
    Ok(builder.build())
}

async fn parameters(channel: &str, smtp: &SmtpConfig) -> Result<TlsParameters, DeliveryError> {
    let wrong = |problem: String| DeliveryError::Config {
        channel: channel.to_owned(),
        problem,
    };
    let mut builder = TlsParameters::builder(smtp.host.clone());
    if let Some(file) = &smtp.ca_file {
        let pem = secret(channel, file).await?;
        let authority = Certificate::from_pem(pem.as_bytes()).map_err(|error| {
            wrong(format!(
                "smtp.caFile {} is not a PEM certificate: {error}",
                file.display()
            ))
        })?;
        builder = builder.add_root_certificate(authority);
    }
    builder
        .build_rustls()
        .map_err(|error| wrong(format!("TLS to {} cannot be set up: {error}", smtp.host)))
}

fn explained(
    channel: &str,
    smtp: &SmtpConfig,
    error: &lettre::transport::smtp::Error,
) -> DeliveryError {
    let channel = channel.to_owned();
    if let Some(code) = error.status() {
        let code = u16::from(code);
        let advice = match code {
            530 | 534 | 535 | 538 => {
                "check the files of smtp.usernameFile and smtp.passwordFile, and smtp.tls"
            }
            550..=554 => "check email.from and email.to: the server does not take them",
            _ => "it is tried again by itself",
        };
        return DeliveryError::Refused {
            channel,
            answer: format!("{code} {}", clipped(&root_cause(error), 300)),
            advice: advice.to_owned(),
        };
    }
    if error.is_client() {
        // The server lacks what the config demands, STARTTLS or a way to log in.
        return DeliveryError::Refused {
            channel,
            answer: clipped(&root_cause(error), 300),
            advice: format!("check smtp.tls and smtp.port of {}", smtp.host),
        };
    }
    DeliveryError::Unreachable {
        channel,
        problem: format!("{}: {}", smtp.host, clipped(&root_cause(error), 300)),
    }
}
