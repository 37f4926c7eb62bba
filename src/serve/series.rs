//! A metric family that knows its series, so that those of a removed schedule go, and those that nobody updates expire.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

/// How a new series of a family is made.
type Make<M> = fn() -> M;

/// Labels that the family and the list of its series hold together: a thousand schedules have some ten series each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held<L>(Arc<L>);

impl<L: EncodeLabelSet> EncodeLabelSet for Held<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

impl<L> Borrow<L> for Held<L> {
    fn borrow(&self) -> &L {
        &self.0
    }
}

/// A family and the series in it.
pub struct Series<L, M> {
    family: Family<Held<L>, M, Make<M>>,
    known: Mutex<HashMap<Held<L>, Option<Instant>>>,
}

impl<L, M> Series<L, M>
where
    L: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static,
    M: Clone + Debug + Send + Sync + 'static,
    Family<Held<L>, M, Make<M>>: Metric,
{
    /// A family of that name, registered. Counters are named without `_total`.
    pub fn register(registry: &mut Registry, name: &str, help: &str, make: Make<M>) -> Self {
        let family = Family::new_with_constructor(make);
        registry.register(name, help, family.clone());
        Self {
            family,
            known: Mutex::default(),
        }
    }

    /// Changes the series with these labels, made when it is new.
    pub fn with(&self, labels: L, change: impl FnOnce(&M)) {
        self.until(labels, None, change);
    }

    /// As [`Series::with`]; the series goes when it is not changed again until `end`.
    pub fn until(&self, labels: L, end: Option<Instant>, change: impl FnOnce(&M)) {
        let mut known = self.known();
        let held = known.get_key_value(&labels).map(|(held, _)| held.clone());
        let labels = held.unwrap_or_else(|| Held(Arc::new(labels)));
        change(&self.family.get_or_create(&labels));
        known.insert(labels, end);
    }

    /// Removes the series with these labels, if there is one.
    pub fn remove(&self, labels: &L) {
        if let Some((labels, _)) = self.known().remove_entry(labels) {
            self.family.remove(&labels);
        }
    }

    /// Removes every series whose labels are not to be kept.
    pub fn keep(&self, mut is_kept: impl FnMut(&L) -> bool) {
        self.known().retain(|labels, _| {
            let kept = is_kept(&labels.0);
            if !kept {
                self.family.remove(labels);
            }
            kept
        });
    }

    /// Removes what expired.
    pub fn expire(&self, now: Instant) {
        self.known().retain(|labels, end| {
            let kept = end.is_none_or(|end| now < end);
            if !kept {
                self.family.remove(labels);
            }
            kept
        });
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Held<L>, Option<Instant>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
