//! One backup by two processes: the one with the standing watch makes the increments; a full backup, and the merging of a chain, it
//! leaves to another, after publishing what it has recorded.

use std::sync::Arc;

use jiff::Timestamp;

use super::bridge::DISAGREES;
use super::increment::{BUDGET, Outcome, Tools};
use super::plan::Next;
use super::run::{Attempt, Made};
use super::synthetic::Compared;
use super::{Part, PipelineError, Stage, origin_after, plan};
use crate::cause::with_causes;
use crate::etcd::{Etcd, StatusSource};
use crate::recorder::spill::Ready as Segment;
use crate::recorder::watch::{RecordError, Recorder};
use crate::repository::{Manifest, increments_of};

impl Attempt<'_> {
    /// What this process leaves to another. All that was recorded goes to the store first: the other goes on from there, and must not
    /// find that etcd was compacted beyond it.
    pub(super) async fn left(&self, tools: &Tools<'_>, rest: Part) -> PipelineError {
        // What the live cluster contradicts is not published.
        let sound = !matches!(&rest, Part::Full(why) if why.starts_with(DISAGREES));
        if sound && let Err(problem) = self.publish_recorded(tools).await {
            tracing::warn!(
                backup = self.request.name,
                "what was recorded is not in the store as more than an increment is due: {problem}"
            );
        }
        PipelineError::Left(rest)
    }

    async fn publish_recorded(&self, tools: &Tools<'_>) -> Result<(), String> {
        let words = |error: &dyn std::error::Error| with_causes(error);
        let etcd = Etcd::connect(tools.options).await;
        let etcd = etcd.map_err(|error| words(&error))?;
        let reach = etcd.reach().await;
        let (member, known_at) = reach.map_err(|error| words(&error))?;
        let chain = self.newest_chain(tools, member.cluster_id).await;
        let Some((base, tip)) = chain.map_err(|error| words(&error))? else {
            return Ok(());
        };
        let recorder = self.recording.recorder.as_ref();
        let Some(recorder) = recorder.filter(|one| one.is_alive() && one.origin().base == base.id)
        else {
            return Ok(());
        };
        let cut = recorder.cut(member.revision, known_at).await;
        let cut = cut.map_err(|error| words(&error))?;
        let later = |segment: &Segment| segment.finished.footer.totals.last_revision > tip.revision;
        let waiting: Vec<Segment> = cut.segments.into_iter().filter(later).collect();
        self.lead_up(tools, &member, &base, &tip, &waiting).await
    }

    /// The chain that a backup of this cluster goes on from: its full backup, and its last one.
    async fn newest_chain(
        &self,
        tools: &Tools<'_>,
        cluster_id: u64,
    ) -> Result<Option<(Manifest, Manifest)>, PipelineError> {
        let cluster_id = format!("{cluster_id:016x}");
        let backups = tools.repository.catalog(Some(&cluster_id)).await?.backups;
        let base = plan::newest_base(&backups, self.request);
        Ok(base.map(|base| {
            let last = increments_of(base, &backups).pop().unwrap_or(base);
            (base.clone(), last.clone())
        }))
    }

    /// Where another process has the standing watch, one for as long as the full backup takes: it leads the chain before up to it.
    pub(super) async fn watch_meanwhile(
        &self,
        tools: &Tools<'_>,
        promoted: Option<&str>,
    ) -> Option<Recorder> {
        let left_here = matches!(self.request.part, Part::Full(_) | Part::Merge);
        if !left_here || promoted.is_none_or(|why| why.starts_with(DISAGREES)) {
            return None;
        }
        let started = async {
            let member = Etcd::connect(tools.options).await?.status().await?;
            let chain = self.newest_chain(tools, member.cluster_id).await?;
            let Some(origin) = chain.and_then(|(_, tip)| origin_after(&tip)) else {
                return Ok(None);
            };
            let etcd = Etcd::unconnected(tools.options);
            let folder = tools.scratch.file("recording");
            let recorder = Recorder::start(etcd, origin, &folder, BUDGET, None);
            Ok(Some(recorder.map_err(RecordError::from)?))
        };
        started.await.unwrap_or_else(|error: PipelineError| {
            tracing::warn!(
                backup = self.request.name,
                "changes are not recorded while the full backup is made: {}",
                with_causes(&error)
            );
            None
        })
    }

    /// Makes a full backup of the chain as it stands, when it is the live cluster's; a chain that is not is followed by a full backup of
    /// etcd.
    pub(super) async fn merge_chain(&self, tools: &Tools<'_>) -> Result<Outcome, PipelineError> {
        self.stages.begin(Stage::Snapshot);
        let etcd = Etcd::connect(tools.options).await?;
        etcd.require_leader().await?;
        let (_, backups, cluster) = self.look(tools, &etcd, None).await?;
        let (tip, due) = match self.next(&backups, &cluster) {
            Next::Full(why) => return Ok(Outcome::Promoted(why)),
            Next::Increment(tip) => (tip, None),
            Next::Merge(tip, why) => (tip, Some(why)),
        };
        let increments = increments_of(tip.base, &backups);
        let mut warnings = Vec::new();
        let mut merging = None;
        if let (Some(why), Some((last, before))) = (due, increments.split_last()) {
            match self.compare(tools, &etcd, tip.base, before, last).await {
                Compared::Equal { merged, live } => {
                    let count = increments.len();
                    match self
                        .merging(tools, tip.base, count, (merged, live), &why)
                        .await
                    {
                        Ok(made) => merging = made,
                        Err(error) => warnings.push(format!("{why}; it was not merged: {error}")),
                    }
                }
                Compared::Unknown(unknown, _) => {
                    warnings.push(format!("{why}; it was not merged: {unknown}"));
                }
                Compared::Differs(differs) => {
                    let words = format!("{DISAGREES}chain {}: {differs}", tip.base.id);
                    return Ok(Outcome::Promoted(words));
                }
            }
        }
        let words = match &merging {
            Some(_) => format!("the chain up to {} becomes a full backup", tip.last.id),
            None => format!("the chain goes on after {}", tip.last.id),
        };
        Ok(Outcome::Made(Box::new(Made {
            repository: Arc::clone(tools.repository),
            manifest: Manifest {
                // Nobody may take it for what this run has stored.
                run_id: self.request.run_id.clone(),
                completed: Timestamp::now(),
                ..tip.last.clone()
            },
            lease: None,
            warnings,
            about: None,
            idle: Some(words),
            merging,
        })))
    }
}
