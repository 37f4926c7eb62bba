//! One channel's queue and the task that empties it: in order, each matter at most once, retried until delivered or moot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use super::Key;
use super::deliver::{DeliveryError, deliver};
use super::plan::{Outgoing, Stage};
use crate::api::AlertChannel;

/// More matters than this wait at no channel; the oldest go first, for the newest say more.
const LANE_LIMIT: usize = 256;
/// After so many failures in a row the channel is reported down: a restart of a mail server is not news.
const FAILURES_TO_BE_DOWN: u32 = 3;
/// The first delay after a failure, doubled up to the longest.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// A channel that asks for more than this is tried earlier.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What became of an attempt.
pub struct Report {
    /// The channel's name.
    pub channel: String,
    /// The matter.
    pub key: Key,
    /// Whether the message said that the matter is over.
    pub stage: Stage,
    /// When.
    pub at: Timestamp,
    /// The first message of the matter, or why there is none; `down` the moment the channel counts as down.
    pub outcome: Result<Option<String>, Failure>,
}

/// A failed attempt.
pub struct Failure {
    /// In words, without secrets.
    pub words: String,
    /// Whether the channel is to be reported now.
    pub down: bool,
}

/// The queue of a channel.
#[derive(Default)]
pub struct Lane {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    in_flight: bool,
    /// Attempts that ended and were not noted yet.
    unnoted: usize,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message. A newer one of the same matter takes the place of an older one; the end of a matter that the
    /// channel never heard of is silence.
    pub fn push(&self, message: Outgoing) {
        let mut queue = self.lock();
        let key = message.key();
        let first_kept = usize::from(queue.in_flight);
        let mut place = 0;
        let mut unheard = false;
        queue.waiting.retain(|waiting| {
            let kept = place < first_kept || waiting.key() != key;
            unheard |= !kept && waiting.stage == Stage::New;
            place += 1;
            kept
        });
        let moot = message.stage == Stage::Recovered && !message.was_told() && {
            let flying = queue.waiting.front().filter(|_| queue.in_flight);
            flying.is_none_or(|waiting| waiting.key() != key)
        };
        if !moot {
            // What replaces a first message is itself the first that the channel hears.
            let stage = match message.stage {
                Stage::Repeat if unheard => Stage::New,
                stage => stage,
            };
            queue.waiting.push_back(Outgoing { stage, ..message });
            if queue.waiting.len() > LANE_LIMIT {
                let oldest = usize::from(queue.in_flight);
                queue.waiting.remove(oldest);
            }
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Whether nothing waits, and what became of every attempt was noted.
    pub fn is_done(&self) -> bool {
        let queue = self.lock();
        queue.waiting.is_empty() && queue.unnoted == 0
    }

    /// The report of an attempt was noted.
    pub fn noted(&self) {
        let mut queue = self.lock();
        queue.unnoted = queue.unnoted.saturating_sub(1);
    }

    pub(super) fn take_up(&self) -> Option<Outgoing> {
        let mut queue = self.lock();
        let front = queue.waiting.front().cloned();
        queue.in_flight = front.is_some();
        front
    }

    /// Ends an attempt. After a failure the message stays in front, unless its matter ended meanwhile: then the channel
    /// hears of neither.
    pub(super) fn put_down(&self, message: &Outgoing, delivered: bool) {
        let mut queue = self.lock();
        queue.in_flight = false;
        queue.unnoted += 1;
        let key = message.key();
        if delivered {
            queue.waiting.pop_front();
        } else if message.stage == Stage::New {
            let ended = queue
                .waiting
                .iter()
                .any(|waiting| waiting.stage == Stage::Recovered && waiting.key() == key);
            if ended {
                queue.waiting.retain(|waiting| waiting.key() != key);
            }
        }
    }
}

/// Empties a lane until its task is dropped.
pub async fn run(channel: AlertChannel, lane: Arc<Lane>, reports: mpsc::Sender<Report>) {
    // The first message of each matter, for replies that are queued before its name is known.
    let mut threads: BTreeMap<Key, String> = BTreeMap::new();
    let mut failures = 0_u32;
    let mut delays = delays();
    loop {
        let Some(message) = lane.take_up() else {
            lane.changed.notified().await;
            continue;
        };
        let key = message.key();
        let thread = threads.get(&key).cloned().or_else(|| {
            let told = message.standing.channels.get(&channel.name)?;
            told.thread.clone()
        });
        let now = Timestamp::now();
        let result = deliver(&channel, &message, thread.as_deref(), now).await;
        lane.put_down(&message, result.is_ok());
        let wait = match &result {
            Ok(first) => {
                failures = 0;
                delays = self::delays();
                match (message.stage, first) {
                    // The digest of the next week is no reply to this one.
                    (Stage::Recovered | Stage::Digest, _) => {
                        threads.remove(&key);
                    }
                    (_, Some(first)) => {
                        threads.insert(key.clone(), first.clone());
                    }
                    _ => {}
                }
                None
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let asked = error
                    .retry_after()
                    .map(|wait| wait.min(LONGEST_RETRY_AFTER));
                Some(asked.unwrap_or_else(|| delays.next().unwrap_or(LONGEST_DELAY)))
            }
        };
        let report = Report {
            channel: channel.name.clone(),
            key,
            stage: message.stage,
            at: now,
            outcome: result.map_err(|error: DeliveryError| Failure {
                words: error.words(),
                down: failures == FAILURES_TO_BE_DOWN,
            }),
        };
        if reports.send(report).await.is_err() {
            return;
        }
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
    }
}

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_factor(2.0)
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}
