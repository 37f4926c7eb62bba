//! A dead man's switch: a URL that is called for as long as this process works. Whoever answers it raises the alarm once it
//! is silent, for a process that died tells nobody.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;

use super::AlertObserver;
use super::deliver::{DeliveryError, root_cause, secret};
use crate::api::HeartbeatConfig;

/// Name of the heartbeat among the channels of metrics and logs.
const NAME: &str = "heartbeat";
/// A call that takes longer is given up: the next one is due soon.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Calls the URL until its task is dropped.
pub struct Heartbeat {
    config: HeartbeatConfig,
    observer: Arc<dyn AlertObserver>,
}

impl Heartbeat {
    /// A heartbeat; nothing is called before [`Heartbeat::run`].
    pub fn new(config: HeartbeatConfig, observer: Arc<dyn AlertObserver>) -> Self {
        Self { config, observer }
    }

    /// Calls at once, then every interval, for as long as the future is driven.
    pub async fn run(self) {
        crate::init_tls();
        let mut failing = false;
        let mut tick = tokio::time::interval(self.config.interval.as_std());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let outcome = self.beat().await;
            self.observer.sent(NAME, outcome.is_ok());
            match outcome {
                Ok(()) => failing = false,
                // Said once: a URL that is gone would fill the log.
                Err(error) if !failing => {
                    tracing::warn!(error = error.words(), "the heartbeat is not heard");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Calls once. The URL is a secret: whoever knows it can keep the alarm silent.
    async fn beat(&self) -> Result<(), DeliveryError> {
        let url = secret(NAME, &self.config.url_file).await?;
        let unreachable = |error: reqwest::Error| DeliveryError::Unreachable {
            channel: NAME.to_owned(),
            problem: root_cause(&error.without_url()),
        };
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(CALL_LIMIT)
            .build()
            .map_err(unreachable)?;
        let answer = client.get(url.trim()).send().await.map_err(unreachable)?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(DeliveryError::Refused {
                channel: NAME.to_owned(),
                answer: answer.status().as_u16().to_string(),
                advice: "check the URL in the file of alerts.heartbeat.urlFile".to_owned(),
            })
        }
    }
}
