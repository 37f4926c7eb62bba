//! Says which stage is on, keeps how long each took, and gives each a span in the trace of the backup.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::Span;

use super::{Progress, Stage, trace};
use crate::etcd::StreamProgress;

/// The stages of one attempt.
pub(super) struct Stages<'a> {
    progress: &'a dyn Progress,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    current: Option<Current>,
    done: Vec<(Stage, Duration)>,
}

struct Current {
    stage: Stage,
    since: Instant,
    span: Span,
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

    /// The span of the stage that is on, for the parts of its work.
    pub fn span(&self) -> Span {
        let inner = self.lock();
        let current = inner.current.as_ref();
        current.map_or_else(Span::none, |current| current.span.clone())
    }

    /// How long each stage took, in order.
    pub fn finish(&self) -> Vec<(Stage, Duration)> {
        self.turn(None)
    }

    fn turn(&self, next: Option<Stage>) -> Vec<(Stage, Duration)> {
        let mut inner = self.lock();
        let now = Instant::now();
        if let Some(current) = inner.current.take() {
            let took = now.duration_since(current.since);
            inner.done.push((current.stage, took));
        }
        inner.current = next.map(|stage| Current {
            stage,
            since: now,
            span: trace::stage(stage),
        });
        inner.done.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        match self.inner.lock() {
            Ok(inner) => inner,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl StreamProgress for Stages<'_> {
    fn bytes(&self, done: u64, total: u64) {
        self.progress.bytes(done, total);
    }
}
