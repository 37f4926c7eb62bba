//! Words of the user's in place of the built-in ones: Jinja templates over the fields of the webhook's JSON. Pure.

use jiff::Timestamp;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::deliver::DeliveryError;
use super::message::{Message, clipped, one_line};
use super::plan::Outgoing;
use super::webhook::Payload;
use crate::api::{AlertChannel, AlertTemplates, AlertsConfig};

/// The channel with the templates that apply to it: its own, else those of the whole config.
pub fn with_defaults(channel: &AlertChannel, config: &AlertsConfig) -> AlertChannel {
    let own = channel.templates.clone().unwrap_or_default();
    let all = config.templates.clone().unwrap_or_default();
    let body = all.body.filter(|_| channel.webhook.is_some());
    AlertChannel {
        templates: Some(AlertTemplates {
            title: own.title.or(all.title),
            what: own.what.or(all.what),
            body: own.body.or(body),
        }),
        ..channel.clone()
    }
}

/// The message in the channel's words. A template that fails costs its words, never the message.
pub fn words(
    channel: &AlertChannel,
    outgoing: &Outgoing,
    now: Timestamp,
) -> Result<Message, DeliveryError> {
    let message = Message::new(outgoing, now);
    let Some(templates) = &channel.templates else {
        return Ok(message);
    };
    if templates.title.is_none() && templates.what.is_none() {
        return Ok(message);
    }
    let payload = Payload::new(message.clone(), outgoing);
    let render = |name: &str, template: &Option<String>, built_in: String| {
        let Some(template) = template else {
            return built_in;
        };
        match rendered(template, &payload) {
            Ok(text) if !text.trim().is_empty() => one_line(&text),
            Ok(_) => built_in,
            Err(error) => {
                tracing::warn!(channel = channel.name, template = name, %error, "a template fails: the built-in words are sent");
                built_in
            }
        }
    };
    Ok(Message {
        title: render("title", &templates.title, message.title.clone()),
        what: render("what", &templates.what, message.what.clone()),
        ..message
    })
}

/// The body of a webhook: the payload, or what the channel's template makes of it.
pub fn body(channel: &AlertChannel, payload: &Payload) -> Result<String, DeliveryError> {
    let wrong = |problem: String| DeliveryError::Config {
        channel: channel.name.clone(),
        problem,
    };
    let template = channel.templates.as_ref().and_then(|all| all.body.as_ref());
    let Some(template) = template else {
        return serde_json::to_string(payload)
            .map_err(|error| wrong(format!("no JSON can be made of it: {error}")));
    };
    let text = rendered(template, payload).map_err(|error| {
        wrong(format!(
            "templates.body fails: {}",
            clipped(&error.to_string(), 300)
        ))
    })?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(wrong(format!(
            "templates.body does not give JSON: {error}; write each value as {{{{ what | tojson }}}}"
        ))),
    }
}

fn rendered(template: &str, payload: &impl Serialize) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    // A slip in a name is an error and not a hole in the text.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(100_000));
    environment.render_str(template, payload)
}
