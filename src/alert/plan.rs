//! Which messages go to which channel: state + event + now → messages. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
}

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
                Some(place) => {
                    let standing = self.standing.remove(place);
                    self.recovery(standing, event, config)
                }
                None => Vec::new(),
            };
        }
        match place.and_then(|place| self.standing.get_mut(place)) {
            Some(standing) => {
                standing.occurrences = standing.occurrences.saturating_add(1);
                standing.event = event;
            }
            None => self.standing.push(Standing {
                since: event.at,
                event,
                told: None,
                occurrences: 1,
                channels: BTreeMap::new(),
            }),
        }
        self.due(config, now)
    }

    /// What is to be sent because time passed: repeats, and what a restart interrupted.
    pub fn due(&mut self, config: &AlertsConfig, now: Timestamp) -> Vec<Outgoing> {
        let mut messages = Vec::new();
        for standing in &self.standing {
            let key = standing.event.key();
            for channel in hearers(&standing.event, config) {
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

    /// When [`State::due`] next has something to say.
    pub fn next_due(&self, config: &AlertsConfig) -> Option<Timestamp> {
        let interval = config.repeat_interval.as_signed();
        self.standing
            .iter()
            .flat_map(|standing| {
                let key = standing.event.key();
                hearers(&standing.event, config)
                    .into_iter()
                    .map(move |channel| {
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
