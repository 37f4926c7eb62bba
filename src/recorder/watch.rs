//! The standing watch: one watcher over all keys, carried from member to member, whose whole revisions go to disk at once.
//! A gap ends it, with its name.

mod work;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::WatchStream;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::group::{Gap, Grouper, Step};
use super::segment::{Header, SegmentError};
use super::significance::Counter;
use super::spill::{Ready, Spill, SpillError};
use crate::api::ErrorClass;
use crate::etcd::{Etcd, EtcdError, MemberStatus};
use work::Work;

/// How long a cut waits for the watch to reach the revision that was asked for.
const REACH_LIMIT: Duration = Duration::from_secs(60);

/// After what a recording continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// etcd's cluster id.
    pub cluster_id: u64,
    /// Id of the full backup that the chain stands on.
    pub base: String,
    /// SHA-256 of the plain bytes of the chain's last backup, hexadecimal.
    pub parent_sha256: String,
    /// The last revision in the chain.
    pub revision: i64,
    /// Up to when the chain covers everything.
    pub covered_to: Timestamp,
}

/// Why a recording gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It has a gap.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// The disk failed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// etcd was not reached, or not in time.
    #[error("the watch has reached revision {reached} and not {wanted} within {} s: {problem}", REACH_LIMIT.as_secs())]
    Behind {
        /// Where it is.
        reached: i64,
        /// Where it should be.
        wanted: i64,
        /// The last trouble.
        problem: String,
    },
    /// The task is gone.
    #[error("the recording was stopped: start the backup again")]
    Stopped,
}

impl RecordError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Segment(error) => error.class(),
            Self::Behind { .. } => ErrorClass::Timeout,
            Self::Gap(_) | Self::Stopped => ErrorClass::Failed,
        }
    }
}

enum Wish {
    Cut(i64, oneshot::Sender<Result<Vec<Ready>, RecordError>>),
    Published(Vec<Ready>, oneshot::Sender<Result<(), RecordError>>),
}

/// A recording at work; it ends when this is dropped, and what it wrote to disk stays.
pub struct Recorder {
    origin: Origin,
    wishes: mpsc::Sender<Wish>,
    over: Arc<OnceLock<String>>,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    /// Records after `origin` into `folder`, at most `budget` bytes. What a recording of the same chain left there is continued;
    /// anything else there is removed. A `counter` is told of every change.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn start(
        etcd: Etcd,
        origin: Origin,
        folder: &Path,
        budget: u64,
        counter: Option<Arc<Counter>>,
    ) -> Result<Self, SegmentError> {
        let cluster = format!("{:016x}", origin.cluster_id);
        let mut spill = Spill::open(folder, budget, &cluster)?;
        spill.forget_to(origin.revision)?;
        if !spill.continues(&origin.base, origin.revision) {
            spill.clear()?;
        }
        let committed = spill.last().unwrap_or(origin.revision);
        if let Some(counter) = &counter {
            counter.begin(origin.cluster_id, committed);
        }
        let (wishes, inbox) = mpsc::channel(4);
        let over = Arc::new(OnceLock::new());
        let work = Work {
            over: Arc::clone(&over),
            counter,
            grouper: Grouper::new(origin.cluster_id, 0, committed),
            etcd,
            origin: origin.clone(),
            spill,
            inbox,
            cut: None,
            problem: String::new(),
            turn: 0,
        };
        let task = tokio::spawn(work.run());
        Ok(Self {
            origin,
            wishes,
            over,
            task,
        })
    }

    /// After what it continues.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it still records; it does not after a gap.
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// Why it ended, as soon as it did.
    pub fn problem(&self) -> Option<String> {
        self.over.get().cloned()
    }

    /// Waits until everything up to `reach` is on disk, and finishes a segment there. All finished segments that wait are
    /// given, the oldest first.
    ///
    /// # Errors
    /// The gap, or that it took too long.
    pub async fn cut(&self, reach: i64) -> Result<Vec<Ready>, RecordError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish::Cut(reach, answer);
        self.wishes
            .send(wish)
            .await
            .map_err(|_| RecordError::Stopped)?;
        answered.await.map_err(|_| RecordError::Stopped)?
    }

    /// Removes segments that the store has.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn published(&self, segments: Vec<Ready>) -> Result<(), RecordError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish::Published(segments, answer);
        self.wishes
            .send(wish)
            .await
            .map_err(|_| RecordError::Stopped)?;
        answered.await.map_err(|_| RecordError::Stopped)?
    }
}
