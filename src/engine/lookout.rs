//! What the schedules of one cluster share: its samples, asked for once for all that look at about the same time and held in memory
//! once, so that a thousand schedules of a cluster are no more load than one.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Mutex as Turn;

use super::dispatch::Failed;
use super::readings::{ReadSource, Readings};
use crate::cause::with_causes;
use crate::etcd::StatusSource;
use crate::schedule::history::History;
use crate::signals::series::{Series, SeriesError};
use crate::signals::{
    Exposure, Sample, Sampler, Signal, SignalError, SignalReport, SignalSource, floor,
};

/// Nobody is content with an older answer to another's question.
pub const SHARED_AT_MOST: Duration = Duration::from_secs(5);

/// Which samples are the same: those of one cluster, seen with the same credentials from one namespace, on the same grid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SampledCluster {
    /// The namespace: what one has seen, another is not shown.
    pub namespace: String,
    /// The cluster and how it is reached, in words that stay the same from start to start.
    pub cluster: String,
    /// Length of a cell, seconds.
    pub step_seconds: u32,
}

impl SampledCluster {
    fn file(&self, folder: &Path) -> PathBuf {
        let Self {
            namespace,
            cluster,
            step_seconds,
        } = self;
        folder.join(format!("{namespace}_{cluster}_{step_seconds}.samples"))
    }
}

/// Everything that is looked at, for as long as somebody does.
#[derive(Default)]
pub struct Lookouts {
    samples: Mutex<HashMap<SampledCluster, Weak<Samples>>>,
    readings: Mutex<HashMap<ReadSource, Weak<Readings>>>,
}

impl Lookouts {
    /// The samples of a cluster, with the history in `folder`; one that has none yet goes on from `before`. The second value says
    /// what is wrong with the history.
    ///
    /// # Errors
    /// When the step is zero.
    pub async fn samples(
        &self,
        folder: &Path,
        of: &SampledCluster,
        before: Option<&Samples>,
    ) -> Result<(Arc<Samples>, Option<String>), SeriesError> {
        let nothing = Series::empty(Timestamp::UNIX_EPOCH, of.step_seconds)?;
        let (samples, warning) = shared(&self.samples, of, || {
            let (sampler, warning) = Sampler::open(&of.file(folder), of.step_seconds);
            let samples = Samples {
                nothing,
                certificates: Mutex::default(),
                state: Turn::new(Sampled {
                    sampler,
                    seen: None,
                }),
            };
            (samples, warning)
        });
        if let Some(before) = before.filter(|before| !std::ptr::eq(*before, &*samples)) {
            // Never both at once: another schedule may go the other way.
            let earlier: Vec<Sample> = before.state.lock().await.sampler.samples().collect();
            samples.state.lock().await.sampler.go_on_from(earlier);
        }
        Ok((samples, warning.flatten()))
    }

    /// The readings of a Prometheus.
    pub fn readings(&self, of: &ReadSource) -> Arc<Readings> {
        let (readings, _) = shared(&self.readings, of, || (Readings::default(), ()));
        readings
    }
}

/// The one that is known, or a new one and what was said when it was made; those that nobody has any more are dropped.
fn shared<K: Clone + Eq + Hash, V, W>(
    known: &Mutex<HashMap<K, Weak<V>>>,
    key: &K,
    make: impl FnOnce() -> (V, W),
) -> (Arc<V>, Option<W>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = known.get(key).and_then(Weak::upgrade) {
        return (there, None);
    }
    known.retain(|_, one| one.strong_count() > 0);
    let (new, said) = make();
    let new = Arc::new(new);
    known.insert(key.clone(), Arc::downgrade(&new));
    (new, Some(said))
}

/// Whether what was begun then is fresh enough for one who came at `arrived`.
pub(super) fn fresh(begun: Instant, arrived: Instant, within: Duration) -> bool {
    begun >= arrived || begun.elapsed() <= within
}

/// What was made ready for others is let go of when none of them can come any more: a thousand clusters' would be gigabytes.
pub(super) fn forget_later<V: Send + Sync + 'static, S: Send + 'static>(
    of: &Arc<V>,
    state: fn(&V) -> &Turn<S>,
    forget: fn(&mut S),
) {
    let of = Arc::downgrade(of);
    tokio::spawn(async move {
        tokio::time::sleep(SHARED_AT_MOST).await;
        if let Some(of) = of.upgrade() {
            forget(&mut *state(&of).lock().await);
        }
    });
}

/// A signal made ready for decisions.
#[derive(Clone)]
pub struct Signalled {
    /// As it was read.
    pub plain: Arc<Series>,
    /// The same, less what is written all the time where that is most of a raw signal.
    pub series: Arc<Series>,
    /// The latter with its running sums.
    pub history: Arc<History>,
    /// Where it comes from.
    pub report: SignalReport,
    /// Whether every change counts in it.
    pub counts_all: bool,
}

impl Signalled {
    /// Of a series and where it comes from.
    pub fn of(plain: Arc<Series>, mut report: SignalReport) -> Self {
        // Nothing tells work from housekeeping here: what is written all the time is taken off.
        let raw = matches!(report.signal, Signal::EtcdWrites | Signal::EtcdRevision);
        let floored = Some(&*plain).filter(|_| raw).and_then(floor::less_floor);
        let counts_all = floored.is_none();
        let series = match floored {
            Some((above, floor)) => {
                report.why = format!(
                    "{}; less the {floor:.2} a second that are written all the time",
                    report.why
                );
                Arc::new(above)
            }
            None => Arc::clone(&plain),
        };
        Self {
            history: Arc::new(History::new(&series)),
            plain,
            series,
            report,
            counts_all,
        }
    }
}

/// The samples of a cluster.
pub struct Samples {
    nothing: Series,
    certificates: Mutex<Option<Instant>>,
    state: Turn<Sampled>,
}

struct Sampled {
    sampler: Sampler,
    /// When it was begun, and what came of it.
    seen: Option<(Instant, Arc<Seen>)>,
}

/// What came of asking etcd.
pub struct Seen {
    /// The sample, when it answered.
    pub sample: Option<Sample>,
    /// Why it did not.
    pub error: Option<Failed>,
    /// The samples so far.
    pub signalled: Signalled,
}

impl Samples {
    /// What etcd says: what it said to another one who asked at most `within` ago is good enough. Whoever comes while it is being asked
    /// waits for that answer. With the changes since a cluster's revision.
    pub async fn look(
        self: &Arc<Self>,
        etcd: &dyn StatusSource,
        last_good: Option<(u64, i64)>,
        within: Duration,
        now: Timestamp,
    ) -> (Arc<Seen>, Option<Exposure>) {
        let arrived = Instant::now();
        let mut state = self.state.lock().await;
        let lately = state.seen.clone();
        let lately = lately.filter(|(begun, _)| fresh(*begun, arrived, within));
        let seen = if let Some((_, seen)) = lately {
            seen
        } else {
            let begun = Instant::now();
            let (sample, error) = match state.sampler.tick(etcd, now).await {
                Ok(sample) => (Some(sample), None),
                Err(SignalError::Etcd(error)) => {
                    let failed = Failed {
                        class: error.class(),
                        message: with_causes(&error),
                    };
                    (None, Some(failed))
                }
                Err(error) => {
                    tracing::warn!(%error, "the sample was taken but not saved");
                    (state.sampler.newest(), None)
                }
            };
            let series = state.sampler.series(self.nothing.step_seconds());
            let series = series.unwrap_or_else(|_| self.nothing.clone());
            let report = SignalReport::of(SignalSource::Sampler, &series);
            let seen = Arc::new(Seen {
                signalled: Signalled::of(Arc::new(series), report),
                sample,
                error,
            });
            state.seen = Some((begun, Arc::clone(&seen)));
            forget_later(self, |one| &one.state, |state| state.seen = None);
            seen
        };
        let exposure = last_good
            .and_then(|(cluster, revision)| state.sampler.exposure_since(cluster, revision));
        (seen, exposure)
    }

    /// Whether the certificates in play were not looked at for so long; whoever is told so does it.
    pub fn certificates_due(&self, every: Duration) -> bool {
        let seen = self.certificates.lock();
        let mut seen = seen.unwrap_or_else(PoisonError::into_inner);
        let due = seen.is_none_or(|at| at.elapsed() >= every);
        if due {
            *seen = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicI64, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::etcd::{EtcdError, MemberStatus};

    /// An etcd that counts how often it is asked: its revision says so. Below zero it does not answer.
    struct Counting(AtomicI64);

    #[async_trait]
    impl StatusSource for Counting {
        async fn status(&self) -> Result<MemberStatus, EtcdError> {
            tokio::task::yield_now().await;
            let revision = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            if revision <= 0 {
                return Err(EtcdError::NoEndpoint);
            }
            Ok(MemberStatus::alone_at(revision))
        }
    }

    fn cluster(namespace: &str, step_seconds: u32) -> SampledCluster {
        SampledCluster {
            namespace: namespace.to_owned(),
            cluster: "own".to_owned(),
            step_seconds,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    const LATELY: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn who_looks_at_a_cluster_at_about_the_same_time_asks_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let lookouts = Lookouts::default();
        let etcd = Counting(AtomicI64::new(0));
        let (one, _) = lookouts
            .samples(folder.path(), &cluster("a", 60), None)
            .await
            .unwrap();
        let (other, _) = lookouts
            .samples(folder.path(), &cluster("a", 60), None)
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&one, &other));
        // Together, and each wants an answer that is not older than its question: the first was asked before the others came.
        let looks = (0..50).map(|_| one.look(&etcd, None, Duration::ZERO, at(0)));
        let looked = futures::future::join_all(looks).await;
        let mut answers = looked.iter().map(|(seen, _)| seen.sample.unwrap().revision);
        assert_eq!(answers.next(), Some(1));
        assert!(answers.all(|answer| answer == 2));
        let (seen, exposure) = other.look(&etcd, Some((0, 0)), LATELY, at(5)).await;
        assert_eq!(
            (seen.sample.unwrap().at, exposure.unwrap().changes),
            (at(0), 2)
        );
        let (seen, _) = other.look(&etcd, None, Duration::ZERO, at(6)).await;
        assert_eq!(seen.sample.unwrap().revision, 3, "asked for anew");

        let (stranger, _) = lookouts
            .samples(folder.path(), &cluster("b", 60), None)
            .await
            .unwrap();
        let (seen, _) = stranger.look(&etcd, None, LATELY, at(7)).await;
        assert_eq!(seen.sample.unwrap().revision, 4, "another namespace");
    }

    #[tokio::test]
    async fn silence_is_shared_too_and_an_answer_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Counting(AtomicI64::new(-1));
        let lookouts = Lookouts::default();
        let (samples, _) = lookouts
            .samples(folder.path(), &cluster("a", 60), None)
            .await
            .unwrap();
        for _ in 0..3 {
            let (seen, _) = samples.look(&etcd, None, LATELY, at(0)).await;
            assert!(seen.error.is_some() && seen.sample.is_none());
        }
        let (seen, _) = samples.look(&etcd, None, Duration::ZERO, at(1)).await;
        assert!(seen.error.is_none() && seen.sample.is_some());
    }

    #[tokio::test]
    async fn a_history_outlives_a_restart_and_another_grid() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Counting(AtomicI64::new(0));
        {
            let lookouts = Lookouts::default();
            let (samples, _) = lookouts
                .samples(folder.path(), &cluster("a", 60), None)
                .await
                .unwrap();
            for minute in 0..10 {
                samples
                    .look(&etcd, None, Duration::ZERO, at(minute * 60))
                    .await;
            }
        }
        let lookouts = Lookouts::default();
        let (old, warning) = lookouts
            .samples(folder.path(), &cluster("a", 60), None)
            .await
            .unwrap();
        assert!(warning.is_none());
        let (new, _) = lookouts
            .samples(folder.path(), &cluster("a", 30), Some(&old))
            .await
            .unwrap();
        let (seen, exposure) = new
            .look(&etcd, Some((0xfeed, 1)), Duration::ZERO, at(600))
            .await;
        assert_eq!(exposure.unwrap().changes, 10);
        assert!(seen.signalled.report.samples > 10);
    }
}
