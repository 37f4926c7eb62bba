//! A status in the making, and its conditions, the contract with tools: one entry a type, whose time of transition stays while its
//! status stays. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource;
use kube::core::object::HasStatus;

use crate::api::{EtcdBackupStatus, EtcdRestoreStatus};

/// What every status has.
pub trait Status: Clone + Default {
    /// Its conditions.
    fn conditions(&mut self) -> &mut Vec<Condition>;
    /// The generation that it speaks of.
    fn observed(&mut self) -> &mut Option<i64>;
}

impl Status for EtcdBackupStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn observed(&mut self) -> &mut Option<i64> {
        &mut self.observed_generation
    }
}

impl Status for EtcdRestoreStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn observed(&mut self) -> &mut Option<i64> {
        &mut self.observed_generation
    }
}

/// An object's status, and what changes it.
pub struct Draft<S> {
    /// As far as it is.
    pub status: S,
    /// The moment of the changes.
    pub now: Timestamp,
    generation: Option<i64>,
}

impl<S: Status> Draft<S> {
    /// Starts from what the object says now.
    pub fn of<K>(object: &K, now: Timestamp) -> Self
    where
        K: Resource + HasStatus<Status = S>,
    {
        let generation = object.meta().generation;
        let mut status = object.status().cloned().unwrap_or_default();
        *status.observed() = generation;
        Self {
            status,
            now,
            generation,
        }
    }

    /// Says one thing.
    pub fn say(&mut self, kind: &str, status: Option<bool>, reason: &str, message: &str) {
        let said = Said {
            kind,
            status,
            reason,
            message,
        };
        let conditions = self.status.conditions();
        say(conditions, &said, self.generation, self.now);
    }
}

/// That a spec was changed since its status was last written, as an API server without CEL allows it; in words.
pub fn spec_changed<K>(object: &K, observed: Option<i64>) -> Option<String>
where
    K: Resource<DynamicType = ()>,
{
    let changed = observed.is_some() && observed != object.meta().generation;
    changed.then(|| format!("spec: is immutable: create a new {} instead", K::kind(&())))
}

/// What is to be said of one type of condition.
pub struct Said<'a> {
    /// As `Succeeded`.
    pub kind: &'a str,
    /// True, false, or not known yet.
    pub status: Option<bool>,
    /// CamelCase.
    pub reason: &'a str,
    /// A sentence.
    pub message: &'a str,
}

/// Kubernetes takes messages of up to 32768 bytes.
const LONGEST: usize = 4000;

/// Says one thing; the other conditions stay.
pub fn say(
    conditions: &mut Vec<Condition>,
    said: &Said<'_>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = match said.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let since = conditions
        .iter()
        .find(|old| old.type_ == said.kind && old.status == status)
        .map_or(Time(now), |old| old.last_transition_time.clone());
    let condition = Condition {
        type_: said.kind.to_owned(),
        status: status.to_owned(),
        reason: said.reason.to_owned(),
        message: shortened(said.message, LONGEST),
        observed_generation: generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|old| old.type_ == said.kind) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// A text of at most so many bytes.
pub fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let said = |status, message| Said {
            kind: "Succeeded",
            status,
            reason: "Running",
            message,
        };
        let mut conditions = Vec::new();
        say(&mut conditions, &said(None, "one"), Some(1), at(1));
        say(&mut conditions, &said(None, "two"), Some(1), at(2));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time, Time(at(1)));
        assert_eq!(conditions[0].message, "two");
        say(&mut conditions, &said(Some(true), "three"), Some(1), at(3));
        assert_eq!(conditions[0].last_transition_time, Time(at(3)));
        assert_eq!(shortened("ääää", 6), "ä…");
    }
}
