//! Says which stage is on, and keeps how long each took.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Progress, Stage};
use crate::etcd::StreamProgress;

/// The stages of one attempt.
pub(super) struct Stages<'a> {
    progress: &'a dyn Progress,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    current: Option<(Stage, Instant)>,
    done: Vec<(Stage, Duration)>,
}

impl<'a> Stages<'a> {
    pub fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            inner: Mutex::new(Inner::default()),
        }
    }

    /// The next stage begins; the one before it ends.
    pub fn begin(&self, stage: Stage) {
        self.turn(Some(stage));
        tracing::debug!(stage = stage.name(), "backup stage");
        self.progress.stage(stage);
    }

    /// So many bytes of so many.
    pub fn bytes(&self, done: u64, total: u64) {
        self.progress.bytes(done, total);
    }

    /// How long each stage took, in order.
    pub fn finish(&self) -> Vec<(Stage, Duration)> {
        self.turn(None)
    }

    fn turn(&self, next: Option<Stage>) -> Vec<(Stage, Duration)> {
        let mut inner = match self.inner.lock() {
            Ok(inner) => inner,
            Err(poisoned) => poisoned.into_inner(),
        };
        let now = Instant::now();
        if let Some((stage, since)) = inner.current.take() {
            inner.done.push((stage, now.duration_since(since)));
        }
        inner.current = next.map(|stage| (stage, now));
        inner.done.clone()
    }
}

impl StreamProgress for Stages<'_> {
    fn bytes(&self, done: u64, total: u64) {
        self.progress.bytes(done, total);
    }
}
