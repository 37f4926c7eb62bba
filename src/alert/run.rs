//! The task that takes events in and hands messages to the channels' lanes; it keeps what stands across restarts.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::lane::{self, Lane, Report};
use super::plan::{Outgoing, Stage, State};
use super::{AlertObserver, ChannelHealth, Event, Facts, Key, Kind, Standing, Subject, template};
use crate::api::AlertsConfig;
use crate::records::{read_record, write_record};

/// More events than this do not wait; a flood must not fill the memory.
const INBOX_LIMIT: usize = 1024;
/// How long the task sleeps when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Takes events and tells people, in a task of its own.
#[derive(Clone)]
pub struct Alerter {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Mutex<VecDeque<Input>>,
    arrived: Notify,
    dropped: AtomicU64,
    seen: Mutex<Seen>,
    /// True from the moment that nobody may hand in events any more.
    finishing: watch::Sender<bool>,
    finished: watch::Sender<bool>,
}

/// What stands, what is over (the newest first), how the channels are.
type Seen = (Vec<Standing>, Vec<Standing>, Vec<ChannelHealth>);

enum Input {
    Event(Box<Event>),
    Forget { namespace: String, name: String },
    Digest(Box<Event>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alerter {
    /// Starts the task. With a record file what stood before a restart still stands: nobody is told twice, and nobody
    /// who was not told is forgotten.
    pub fn start(
        config: AlertsConfig,
        observer: Arc<dyn AlertObserver>,
        record: Option<PathBuf>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        crate::init_tls();
        let state: State = record.as_deref().and_then(read_record).unwrap_or_default();
        let channels = config.channels.iter();
        channels.for_each(|channel| observer.expects(&channel.name));
        let health = config
            .channels
            .iter()
            .map(|channel| ChannelHealth {
                name: channel.name.clone(),
                last_delivered: None,
                error: None,
            })
            .collect();
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            arrived: Notify::new(),
            dropped: AtomicU64::new(0),
            seen: Mutex::new((open(&state), state.past.iter().cloned().collect(), health)),
            finishing: watch::Sender::new(false),
            finished: watch::Sender::new(false),
        });
        let dispatcher = Dispatcher {
            shared: Arc::clone(&shared),
            config,
            observer,
            record,
            kept: state.standing.clone(),
            state,
            lanes: BTreeMap::new(),
        };
        let task = tokio::spawn(dispatcher.run());
        (Self { shared }, task)
    }

    /// Hands in an event; never waits.
    pub fn tell(&self, event: Event) {
        self.hand_in(Input::Event(Box::new(event)));
    }

    /// Drops what stands about a resource that exists no more, telling nobody.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.hand_in(Input::Forget {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }

    /// Hands in the summary of a week, for the channels of `digest`.
    pub fn digest(&self, event: Event) {
        self.hand_in(Input::Digest(Box::new(event)));
    }

    /// How many events a flood pushed out unread.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// What stands now, what is over (the newest first), and how the channels are.
    pub fn state(&self) -> (Vec<Standing>, Vec<Standing>, Vec<ChannelHealth>) {
        lock(&self.shared.seen).clone()
    }

    /// Delivers what is queued, for at most `limit`, then stops. What could not be delivered is delivered after the next
    /// start, when it still stands then.
    pub async fn finish(&self, limit: Duration) {
        let mut finished = self.shared.finished.subscribe();
        self.shared.finishing.send_replace(true);
        let end = finished.wait_for(|finished| *finished);
        if tokio::time::timeout(limit, end).await.is_err() {
            tracing::warn!(
                "some alerts could not be delivered before the end; they are kept for the next start"
            );
        }
    }

    fn hand_in(&self, input: Input) {
        let mut inbox = lock(&self.shared.inbox);
        if inbox.len() >= INBOX_LIMIT {
            // The oldest that a later event about the same matter makes moot, else the oldest of all.
            let moot = inbox.iter().enumerate().position(|(place, older)| {
                let Input::Event(older) = older else {
                    return false;
                };
                inbox
                    .iter()
                    .skip(place + 1)
                    .any(|newer| matches!(newer, Input::Event(newer) if newer.key() == older.key()))
            });
            inbox.remove(moot.unwrap_or(0));
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        inbox.push_back(input);
        drop(inbox);
        self.shared.arrived.notify_one();
    }
}

/// What stands: not what waits to be told that it is over.
fn open(state: &State) -> Vec<Standing> {
    let all = state.standing.iter();
    all.filter(|one| one.ended.is_none()).cloned().collect()
}

/// The summary of a week for each channel that gets it.
fn digests(event: &Event, config: &AlertsConfig) -> Vec<Outgoing> {
    let wanted = config.digest.iter().flat_map(|digest| {
        let all = config.channels.iter().map(|channel| channel.name.clone());
        all.filter(|name| digest.channels.is_empty() || digest.channels.contains(name))
    });
    wanted
        .map(|channel| Outgoing {
            channel,
            stage: Stage::Digest,
            standing: Standing {
                event: event.clone(),
                since: event.at,
                told: None,
                occurrences: 1,
                ended: None,
                channels: BTreeMap::new(),
            },
            recovery: None,
        })
        .collect()
}

struct Dispatcher {
    shared: Arc<Shared>,
    config: AlertsConfig,
    observer: Arc<dyn AlertObserver>,
    record: Option<PathBuf>,
    /// What the record file holds.
    kept: Vec<Standing>,
    state: State,
    lanes: BTreeMap<String, Arc<Lane>>,
}

impl Dispatcher {
    async fn run(mut self) {
        let (reporter, mut reports) = mpsc::channel::<Report>(64);
        // Dropped with this task, and the lanes' tasks with it.
        let mut workers = JoinSet::new();
        for channel in &self.config.channels {
            let lane = Arc::new(Lane::default());
            self.lanes.insert(channel.name.clone(), Arc::clone(&lane));
            let channel = template::with_defaults(channel, &self.config);
            workers.spawn(lane::run(channel, lane, reporter.clone()));
        }
        let mut finishing = self.shared.finishing.subscribe();
        loop {
            let closing = *finishing.borrow_and_update();
            self.take_inbox().await;
            let due = self.state.due(&self.config, Timestamp::now());
            self.dispatch(due);
            // An end that waited for quiet hours to be over stands no more.
            self.publish().await;
            if closing && self.lanes.values().all(|lane| lane.is_done()) {
                break;
            }
            let sleep = self.sleep();
            tokio::select! {
                () = self.shared.arrived.notified() => {}
                Some(report) = reports.recv() => self.note(report).await,
                () = tokio::time::sleep(sleep) => {}
                _ = finishing.changed(), if !closing => {}
            }
        }
        self.shared.finished.send_replace(true);
    }

    fn sleep(&self) -> Duration {
        let now = Timestamp::now();
        let until = self.state.next_due(&self.config, now);
        until
            .map(|at| at.duration_since(now))
            .and_then(|wait| Duration::try_from(wait).ok())
            .map_or(LONGEST_SLEEP, |wait| {
                // A message that is due but waits in its lane must not make this task spin.
                wait.clamp(Duration::from_millis(100), LONGEST_SLEEP)
            })
    }

    async fn take_inbox(&mut self) {
        let inputs: Vec<Input> = lock(&self.shared.inbox).drain(..).collect();
        if inputs.is_empty() {
            return;
        }
        for input in inputs {
            match input {
                Input::Event(event) => {
                    let messages = self.state.apply(*event, &self.config, Timestamp::now());
                    self.dispatch(messages);
                }
                Input::Forget { namespace, name } => {
                    self.state.forget(&namespace, &name);
                }
                Input::Digest(event) => self.dispatch(digests(&event, &self.config)),
            }
        }
        self.publish().await;
    }

    fn dispatch(&self, messages: Vec<Outgoing>) {
        for message in messages {
            if let Some(lane) = self.lanes.get(&message.channel) {
                lane.push(message);
            }
        }
    }

    async fn note(&mut self, report: Report) {
        let Report {
            channel,
            key,
            stage,
            at,
            outcome,
        } = report;
        self.observer.sent(&channel, outcome.is_ok());
        if let Some(lane) = self.lanes.get(&channel) {
            lane.noted();
        }
        match outcome {
            Ok(thread) => {
                tracing::info!(channel, "alert delivered");
                if stage != Stage::Recovered {
                    self.state.delivered(&key, &channel, at, thread);
                }
                self.health(&channel, |health| {
                    health.last_delivered = Some(at);
                    health.error = None;
                });
                let event = self.channel_event(&key, &channel, at, None);
                let messages = self.state.apply(event, &self.config, at);
                self.dispatch(messages);
            }
            Err(failure) => {
                if failure.down {
                    tracing::error!(channel, error = failure.words, "alert channel is down");
                    let event = self.channel_event(&key, &channel, at, Some(&failure.words));
                    let messages = self.state.apply(event, &self.config, at);
                    self.dispatch(messages);
                } else {
                    tracing::warn!(
                        channel,
                        error = failure.words,
                        "alert not delivered, trying again"
                    );
                }
                self.health(&channel, |health| health.error = Some(failure.words));
            }
        }
        self.publish().await;
    }

    fn health(&self, channel: &str, change: impl FnOnce(&mut ChannelHealth)) {
        let mut seen = lock(&self.shared.seen);
        if let Some(health) = seen.2.iter_mut().find(|health| health.name == channel) {
            change(health);
        }
    }

    /// Shows what stands, and keeps it.
    async fn publish(&mut self) {
        if self.kept == self.state.standing {
            return;
        }
        self.kept.clone_from(&self.state.standing);
        {
            let mut seen = lock(&self.shared.seen);
            seen.0 = open(&self.state);
            seen.1 = self.state.past.iter().cloned().collect();
        }
        let Some(path) = self.record.clone() else {
            return;
        };
        let state = self.state.clone();
        let written = tokio::task::spawn_blocking(move || write_record(&path, &state)).await;
        match written {
            Ok(Err(error)) => {
                tracing::warn!(%error, "what stands is not kept: a restart may repeat alerts");
            }
            Err(error) => tracing::warn!(%error, "what stands is not kept"),
            Ok(Ok(())) => {}
        }
    }

    /// The event that a channel is down, or up again; the cluster is that of the message that met it.
    fn channel_event(&self, key: &Key, channel: &str, at: Timestamp, error: Option<&str>) -> Event {
        let known = self
            .state
            .standing
            .iter()
            .map(|one| &one.event)
            .find(|event| event.kind == Kind::ChannelDown && event.subject.name == channel);
        let subject = known.map_or_else(
            || Subject::schedule(&key.cluster, "", channel, &[]),
            |event| event.subject.clone(),
        );
        let facts = Facts {
            what: match error {
                Some(_) => format!(
                    "Alerts do not reach the channel '{channel}'. They wait there and are tried again by themselves."
                ),
                None => format!("The channel '{channel}' delivers again."),
            },
            error: error.map(str::to_owned),
            next_step: None,
            ..Facts::default()
        };
        match error {
            Some(_) => Event::trouble(Kind::ChannelDown, subject, at, facts),
            None => Event::recovered(Kind::ChannelDown, subject, at, facts),
        }
    }
}
