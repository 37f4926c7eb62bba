//! Which messages go to which channel: state + event + now → messages. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::quiet::Quiet;
use super::{Event, Key, Kind, Standing, Told};
use crate::api::{AlertSeverity, AlertsConfig};

/// Where a matter stands when a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The channel hears of it for the first time.
    New,
    /// It still stands.
    Repeat,
    /// It is over.
    Recovered,
    /// Nothing is wrong: somebody tries the channel.
    Test,
    /// Nothing is wrong: the summary of a week.
    Digest,
}

/// So many matters that are over are remembered.
const REMEMBERED: usize = 50;
/// How often the end of quiet hours is looked for.
const QUIET_LOOK: SignedDuration = SignedDuration::from_secs(60);

/// A message that is to be delivered to one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The channel's name.
    pub channel: String,
    /// Why it is sent.
    pub stage: Stage,
    /// The matter, with the newest facts.
    pub standing: Standing,
    /// The end of the matter, when it is over.
    pub recovery: Option<Event>,
}

impl Outgoing {
    /// The identity of the matter.
    pub fn key(&self) -> Key {
        self.standing.event.key()
    }

    /// Whether this channel has heard of the matter.
    pub fn was_told(&self) -> bool {
        self.standing.channels.contains_key(&self.channel)
    }
}

/// The alerts that stand, and who heard of them. It is kept across restarts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// One entry a matter.
    pub standing: Vec<Standing>,
    /// What is over, the newest first.
    pub past: VecDeque<Standing>,
    /// When each channel was last asked to deliver a matter that it has not delivered; lost on purpose at a restart.
    #[serde(skip)]
    asked: BTreeMap<(Key, String), Timestamp>,
}

impl State {
    /// Takes an event in and says what is to be sent because of it.
    pub fn apply(&mut self, event: Event, config: &AlertsConfig, now: Timestamp) -> Vec<Outgoing> {
        let key = event.key();
        let place = self.standing.iter().position(|one| one.event.key() == key);
        if event.recovered {
            return match place {
                Some(place) => self.end(place, event, config, now),
                None => Vec::new(),
            };
        }
        match place.and_then(|place| self.standing.get_mut(place)) {
            Some(standing) => {
                standing.occurrences = standing.occurrences.saturating_add(1);
                standing.event = event;
                // Whoever has not heard of its end need not: it goes on.
                standing.ended = None;
            }
            None => self.standing.push(Standing {
                since: event.at,
                event,
                told: None,
                occurrences: 1,
                ended: None,
                channels: BTreeMap::new(),
            }),
        }
        self.due(config, now)
    }

    /// What is to be sent because time passed: repeats, what a restart interrupted, what waited for quiet hours to end.
    pub fn due(&mut self, config: &AlertsConfig, now: Timestamp) -> Vec<Outgoing> {
        let quiet = Quiet::of(config);
        let mut messages = self.ends_that_waited(quiet.as_ref(), config, now);
        for standing in self.standing.iter().filter(|one| one.ended.is_none()) {
            let key = standing.event.key();
            for channel in hearers(&standing.event, config) {
                if hushed(quiet.as_ref(), &standing.event, &channel, now) {
                    continue;
                }
                let told = standing.channels.get(&channel);
                let asked = self.asked.get(&(key.clone(), channel.clone())).copied();
                let last = told.map(|told| told.at).max(asked);
                let due = last.is_none_or(|last| {
                    now.duration_since(last) >= config.repeat_interval.as_signed()
                });
                if due {
                    messages.push(Outgoing {
                        stage: if told.is_some() {
                            Stage::Repeat
                        } else {
                            Stage::New
                        },
                        channel,
                        standing: standing.clone(),
                        recovery: None,
                    });
                }
            }
        }
        for message in &messages {
            self.asked
                .insert((message.key(), message.channel.clone()), now);
        }
        messages
    }

    /// When [`State::due`] next has something to say, or is to look whether quiet hours are over.
    pub fn next_due(&self, config: &AlertsConfig, now: Timestamp) -> Option<Timestamp> {
        let interval = config.repeat_interval.as_signed();
        let quiet = Quiet::of(config);
        let look = now.checked_add(QUIET_LOOK).unwrap_or(Timestamp::MAX);
        self.standing
            .iter()
            .flat_map(|standing| {
                let key = standing.event.key();
                let quiet = quiet.as_ref();
                hearers(&standing.event, config)
                    .into_iter()
                    .map(move |channel| {
                        if standing.ended.is_some() || hushed(quiet, &standing.event, &channel, now)
                        {
                            return look;
                        }
                        let told = standing.channels.get(&channel).map(|told| told.at);
                        let asked = self.asked.get(&(key.clone(), channel)).copied();
                        told.max(asked).map_or(Timestamp::MIN, |last| {
                            last.checked_add(interval).unwrap_or(Timestamp::MAX)
                        })
                    })
            })
            .min()
    }

    /// Notes that a channel heard of a matter that stands.
    pub fn delivered(&mut self, key: &Key, channel: &str, at: Timestamp, thread: Option<String>) {
        let standing = self
            .standing
            .iter_mut()
            .find(|standing| standing.event.key() == *key);
        if let Some(standing) = standing {
            standing.told = standing.told.max(Some(at));
            let told = standing
                .channels
                .entry(channel.to_owned())
                .or_insert(Told { at, thread: None });
            told.at = at;
            if told.thread.is_none() {
                told.thread = thread;
            }
        }
    }

    /// Drops what stands about a resource that exists no more; nobody is told.
    pub fn forget(&mut self, namespace: &str, name: &str) -> bool {
        let before = self.standing.len();
        let gone = |event: &Event| {
            event.subject.namespace == namespace
                && event.subject.name == name
                && event.kind != Kind::ChannelDown
        };
        self.standing.retain(|standing| !gone(&standing.event));
        self.asked
            .retain(|(key, _), _| !(key.namespace == namespace && key.name == name));
        self.standing.len() != before
    }

    /// Ends a matter: who may hear it now does, for the rest it is kept until their quiet hours are over.
    fn end(
        &mut self,
        place: usize,
        event: Event,
        config: &AlertsConfig,
        now: Timestamp,
    ) -> Vec<Outgoing> {
        let mut loud = self.standing.remove(place);
        if loud.ended.is_some() {
            self.standing.insert(place, loud);
            return Vec::new();
        }
        self.past.push_front(Standing {
            ended: Some(event.clone()),
            channels: BTreeMap::new(),
            ..loud.clone()
        });
        self.past.truncate(REMEMBERED);
        let quiet = Quiet::of(config);
        let hushed = |name: &str| hushed(quiet.as_ref(), &event, name, now);
        let (waiting, told): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut loud.channels)
            .into_iter()
            .partition(|(name, _)| hushed(name));
        loud.channels = told;
        if config.resolve && !waiting.is_empty() {
            self.standing.push(Standing {
                channels: waiting,
                ended: Some(event.clone()),
                ..loud.clone()
            });
        }
        let mut messages = self.recovery(loud, event.clone(), config);
        messages.retain(|message| !hushed(&message.channel));
        messages
    }

    fn ends_that_waited(
        &mut self,
        quiet: Option<&Quiet<'_>>,
        config: &AlertsConfig,
        now: Timestamp,
    ) -> Vec<Outgoing> {
        let (ended, standing): (Vec<Standing>, Vec<Standing>) = std::mem::take(&mut self.standing)
            .into_iter()
            .partition(|one| {
                one.ended.is_some()
                    && !one
                        .channels
                        .keys()
                        .any(|name| hushed(quiet, &one.event, name, now))
            });
        self.standing = standing;
        let mut messages = Vec::new();
        for mut one in ended {
            if let Some(event) = one.ended.take() {
                messages.extend(self.recovery(one, event, config));
            }
        }
        messages
    }

    fn recovery(
        &mut self,
        standing: Standing,
        event: Event,
        config: &AlertsConfig,
    ) -> Vec<Outgoing> {
        let key = event.key();
        let mut hearers: BTreeSet<String> = standing.channels.keys().cloned().collect();
        // Those that were asked may be hearing of the trouble at this moment; they drop both messages if not.
        self.asked.retain(|(asked, channel), _| {
            if *asked == key {
                hearers.insert(channel.clone());
            }
            *asked != key
        });
        if !config.resolve {
            return Vec::new();
        }
        hearers
            .into_iter()
            .filter(|name| config.channels.iter().any(|channel| channel.name == *name))
            .map(|channel| Outgoing {
                channel,
                stage: Stage::Recovered,
                standing: standing.clone(),
                recovery: Some(event.clone()),
            })
            .collect()
    }
}

fn hushed(quiet: Option<&Quiet<'_>>, event: &Event, channel: &str, now: Timestamp) -> bool {
    quiet.is_some_and(|quiet| quiet.covers(event.kind.severity(), channel, now))
}

/// The channels that hear of an event: those that the resource names, narrowed by the routes. A critical alert
/// always has a hearer while there is a channel: a route or a name that leads nowhere must not silence it.
pub fn hearers(event: &Event, config: &AlertsConfig) -> Vec<String> {
    let severity = event.kind.severity();
    let all: Vec<String> = config
        .channels
        .iter()
        .map(|channel| channel.name.clone())
        .filter(|name| event.kind != Kind::ChannelDown || *name != event.subject.name)
        .collect();
    let named: Vec<String> = all
        .iter()
        .filter(|name| event.subject.channels.is_empty() || event.subject.channels.contains(name))
        .cloned()
        .collect();
    let routed: Vec<String> = named
        .iter()
        .filter(|name| config.routes.is_empty() || is_routed(event, severity, name, config))
        .cloned()
        .collect();
    if !routed.is_empty() || severity != AlertSeverity::Critical {
        routed
    } else if !named.is_empty() {
        named
    } else {
        all
    }
}

fn is_routed(event: &Event, severity: AlertSeverity, channel: &str, config: &AlertsConfig) -> bool {
    config.routes.iter().any(|route| {
        let for_subject = route.schedules.is_empty()
            || route.schedules.contains(&event.subject.name)
            || route.schedules.contains(&event.subject.path());
        let for_severity = route.severities.is_empty() || route.severities.contains(&severity);
        for_subject && for_severity && route.channels.iter().any(|name| name == channel)
    })
}
