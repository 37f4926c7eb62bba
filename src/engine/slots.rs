//! How many pipelines run at once: a bounded number, and one namespace's queue never holds up another's.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A bounded number of slots, given in turn to the namespaces that wait.
#[derive(Clone)]
pub struct Slots(Arc<Mutex<Queue>>);

struct Queue {
    free: usize,
    waiting: BTreeMap<String, VecDeque<oneshot::Sender<Slot>>>,
    last: String,
}

/// Room for one pipeline; free again when dropped.
pub struct Slot {
    slots: Option<Slots>,
}

impl Slots {
    /// So many at once, at least one.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            free: count.max(1),
            waiting: BTreeMap::new(),
            last: String::new(),
        })))
    }

    /// Waits for the namespace's turn.
    pub async fn acquire(&self, namespace: &str) -> Slot {
        let heard = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                queue.last = namespace.to_owned();
                return self.slot();
            }
            let (told, heard) = oneshot::channel();
            let waiting = queue.waiting.entry(namespace.to_owned()).or_default();
            waiting.push_back(told);
            heard
        };
        // The sender lives in the queue that `self` holds, and is only taken out to be used.
        heard.await.unwrap_or(Slot { slots: None })
    }

    fn slot(&self) -> Slot {
        Slot {
            slots: Some(self.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a slot that became free to whose turn it is.
    fn give_back(&self) {
        let mut queue = self.lock();
        while let Some(next) = next_turn(&queue.waiting, &queue.last) {
            queue.last.clone_from(&next);
            let told = queue.waiting.get_mut(&next).and_then(VecDeque::pop_front);
            if queue.waiting.get(&next).is_some_and(VecDeque::is_empty) {
                queue.waiting.remove(&next);
            }
            let Some(told) = told else { continue };
            match told.send(self.slot()) {
                Ok(()) => return,
                // Whoever waited has gone; its slot must not be given back a second time.
                Err(mut refused) => refused.slots = None,
            }
        }
        queue.free += 1;
    }
}

/// The namespace after the last one that was served, in the order of names, round and round.
fn next_turn<T>(waiting: &BTreeMap<String, T>, last: &str) -> Option<String> {
    let after = (Bound::Excluded(last), Bound::Unbounded);
    let mut later = waiting.range::<str, _>(after);
    later
        .next()
        .or_else(|| waiting.iter().next())
        .map(|(namespace, _)| namespace.clone())
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            slots.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_namespace_with_many_backups_does_not_hold_up_another() {
        let slots = Slots::new(1);
        let held = slots.acquire("a").await;
        let (told, mut served) = tokio::sync::mpsc::unbounded_channel();
        for namespace in ["a", "a", "a", "b"] {
            let (slots, told) = (slots.clone(), told.clone());
            tokio::spawn(async move {
                let slot = slots.acquire(namespace).await;
                told.send(namespace).unwrap();
                drop(slot);
            });
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(served.recv().await.unwrap());
        }
        assert_eq!(order, ["b", "a", "a", "a"]);
    }

    #[tokio::test]
    async fn a_waiter_that_went_away_loses_no_slot() {
        let slots = Slots::new(1);
        let held = slots.acquire("a").await;
        let gone = tokio::spawn({
            let slots = slots.clone();
            async move { slots.acquire("a").await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(held);
        let _again = slots.acquire("b").await;
        assert_eq!(slots.lock().free, 0);
    }
}
