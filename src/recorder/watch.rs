//! The standing watch: one watcher over all keys, carried from member to member, whose whole revisions go to disk at once.
//! A gap ends it, with its name.

mod beside;
mod work;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::WatchStream;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::group::{Gap, Grouper, Step};
use super::segment::{Header, SegmentError};
use super::significance::Counter;
use super::spill::{Ready, Spill, SpillError};
use crate::api::ErrorClass;
use crate::etcd::{Etcd, EtcdError, MemberStatus};
pub use beside::{Beside, changed as users_changed};
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
    /// Fencing epoch that the recorder has taken on the chain.
    pub epoch: u64,
    /// The revision of users and roles in the full backup, where that is known.
    pub auth_revision: Option<u64>,
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

/// What a cut gave.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Finished segments that wait for the store, the oldest first.
    pub segments: Vec<Ready>,
    /// Why the recording ends behind them, when it does.
    pub gap: Option<Gap>,
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last whole revision on disk.
    pub committed: i64,
    /// Bytes on disk.
    pub bytes: u64,
    /// When the first of the revisions came that the store does not have.
    pub unpublished_since: Option<Timestamp>,
}

/// When what waits on disk is to be published without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The oldest revision may wait so long.
    pub age: Option<SignedDuration>,
    /// So many bytes may wait.
    pub bytes: Option<u64>,
}

impl Limits {
    /// Why it is time; `None` while it is not.
    pub fn reached(&self, progress: &Progress, now: Timestamp) -> Option<String> {
        let since = progress.unpublished_since?;
        if let Some(most) = self.bytes.filter(|most| progress.bytes >= *most) {
            return Some(format!(
                "{} bytes are recorded, and recording.segmentMaxBytes allows {most}",
                progress.bytes
            ));
        }
        let age = self.age.filter(|age| now.duration_since(since) >= *age)?;
        Some(format!(
            "the oldest recorded change is as old as recording.segmentMaxAge allows: {} s",
            age.as_secs()
        ))
    }
}

enum Wish {
    Cut(work::PendingCut),
    Stored(i64, oneshot::Sender<Result<(), RecordError>>),
}

/// A recording at work; it ends when this is dropped, and what it wrote to disk stays.
pub struct Recorder {
    origin: Origin,
    wishes: mpsc::Sender<Wish>,
    progress: watch::Receiver<Progress>,
    over: Arc<OnceLock<String>>,
    beside: watch::Receiver<Beside>,
    task: JoinHandle<()>,
    asking: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
        self.asking.abort();
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
        if !spill.continues(&origin.base, origin.revision) && !spill.rebase(&origin)? {
            spill.clear()?;
        }
        let committed = spill.last().unwrap_or(origin.revision);
        if let Some(counter) = &counter {
            counter.begin(origin.cluster_id, committed);
        }
        let (wishes, inbox) = mpsc::channel(4);
        let (told, progress) = watch::channel(Progress {
            committed,
            bytes: spill.bytes(),
            unpublished_since: spill.unpublished_since(),
        });
        let over = Arc::new(OnceLock::new());
        let etcd = Arc::new(etcd);
        let (said, beside) = watch::channel(Beside::default());
        let asking = tokio::spawn(beside::ask(Arc::clone(&etcd), said));
        let work = Work {
            over: Arc::clone(&over),
            counter,
            grouper: Grouper::new(origin.cluster_id, spill.raft_term(), committed),
            etcd,
            origin: origin.clone(),
            due: spill.take_unnoted(),
            noted: BTreeSet::new(),
            told,
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
            progress,
            over,
            beside,
            task,
            asking,
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

    /// Ends it; its folder is free when this returns, whoever else still holds on to it.
    pub async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// What etcd says that no watch tells.
    pub fn beside(&self) -> Beside {
        self.beside.borrow().clone()
    }

    /// Waits until that is something else than `known`; for ever once nobody asks any more.
    pub async fn beside_other_than(&self, known: &Beside) {
        let mut beside = self.beside.clone();
        if beside.wait_for(|now| now != known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// That users or roles are no longer those of the chain's full backup, in words.
    pub fn users_changed(&self) -> Option<String> {
        self.beside.borrow().users_changed(&self.origin)
    }

    /// Waits until what is recorded is to be published, or the recording has ended, and says why; for ever when neither comes.
    pub async fn due(&self, limits: Limits) -> String {
        let (mut progress, mut beside) = (self.progress.clone(), self.beside.clone());
        loop {
            let now = *progress.borrow_and_update();
            if let Some(changed) = beside.borrow_and_update().users_changed(&self.origin) {
                return changed;
            }
            if let Some(problem) = self.problem() {
                return format!("the recording of changes has a gap: {problem}");
            }
            if let Some(why) = limits.reached(&now, Timestamp::now()) {
                return why;
            }
            let left = limits.age.zip(now.unpublished_since).map(|(age, since)| {
                let left = age - Timestamp::now().duration_since(since);
                Duration::try_from(left).unwrap_or(Duration::ZERO)
            });
            let changed = async {
                tokio::select! {
                    changed = progress.changed() => changed,
                    Ok(()) = beside.changed() => Ok(()),
                }
            };
            let ended = match left {
                // A clock that is set is noticed within a minute.
                Some(left) => {
                    let left = left.clamp(Duration::from_millis(1), Duration::from_secs(60));
                    matches!(tokio::time::timeout(left, changed).await, Ok(Err(_)))
                }
                None => changed.await.is_err(),
            };
            if ended {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until everything up to `reach` is on disk, and finishes a segment there; what was acknowledged before `known_at`, where
    /// that is known, lies at or before `reach`. All finished segments that wait are given, and why no more will come when the recording has a gap.
    ///
    /// # Errors
    /// When it took too long, or the disk failed.
    pub async fn cut(&self, reach: i64, known_at: Option<Timestamp>) -> Result<Cut, RecordError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish::Cut(work::PendingCut::new(reach, known_at, answer));
        self.wishes
            .send(wish)
            .await
            .map_err(|_| RecordError::Stopped)?;
        answered.await.map_err(|_| RecordError::Stopped)?
    }

    /// Removes the segments up to a revision: the store has them.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn stored_to(&self, revision: i64) -> Result<(), RecordError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish::Stored(revision, answer);
        self.wishes
            .send(wish)
            .await
            .map_err(|_| RecordError::Stopped)?;
        answered.await.map_err(|_| RecordError::Stopped)?
    }
}
