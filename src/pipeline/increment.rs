//! An incremental backup: what the watch recorded since the chain's last backup, proved from its bytes, sealed and stored; or
//! the reason why a full one is due instead.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Cluster, Next};
use super::run::{Attempt, Made, scratch_failed};
use super::scratch::Scratch;
use super::seal_file::{Plain, provable};
use super::synthetic::Merging;
use super::{Part, PipelineError, Stage, plan};
use crate::etcd::{ConnectOptions, Etcd, EtcdError, MemberStatus, StatusSource};
use crate::kms::Sealing;
use crate::recorder::spill::{self, Ready as Segment};
use crate::recorder::watch::{Cut, RecordError, Recorder};
use crate::repository::key::{Key, Role, increment_id};
use crate::repository::{
    Chain, Check, Kind, Lease, LeaseTimes, Level, Manifest, Repository, increments_of, this_process,
};
use crate::seal::{Sealer, Unsealer};
use crate::verify;

/// Bytes that a recording without a standing watch may take on disk.
pub(super) const BUDGET: u64 = 4 << 30;
/// How long earlier segments' manifests may take, as the last one's.
const COMMIT_LIMIT: Duration = Duration::from_secs(120);

/// Everything that an increment is made with.
pub(super) struct Tools<'a> {
    pub repository: &'a Arc<Repository>,
    pub options: &'a ConnectOptions,
    pub scratch: &'a Scratch,
    pub sealing: &'a Sealing,
    pub unsealer: Option<&'a Unsealer>,
}

/// The increment, or why the whole database is backed up instead, or that the chain becomes a full backup, which is not done here.
pub(super) enum Outcome {
    Made(Box<Made>),
    Promoted(String),
    Mergeable,
}

/// The last increment, stored and not yet committed, with what is worth saying and the chain that becomes a full backup; or the backup
/// that holds everything already; or why there is none.
pub(super) enum Continued {
    Made(Box<Manifest>, Vec<String>, Option<Box<Merging>>),
    Idle(Box<Manifest>, String),
    Promoted(String),
}

impl Attempt<'_> {
    /// Makes the increment that is due, as far as there is a chain to continue.
    pub(super) async fn increment(&self, tools: &Tools<'_>) -> Result<Outcome, PipelineError> {
        self.stages.begin(Stage::Snapshot);
        let etcd = Etcd::connect(tools.options).await?;
        etcd.require_leader().await?;
        let recorder = self.recording.recorder.as_ref();
        let known = recorder.and_then(|one| one.beside().auth_revision);
        let (cluster_id, backups, cluster) = self.look(tools, &etcd, known).await?;
        let tip = match self.next(&backups, &cluster) {
            Next::Merge(..) if self.request.part == Part::Increment => {
                return Ok(Outcome::Mergeable);
            }
            Next::Increment(tip) | Next::Merge(tip, _) => tip,
            Next::Full(why) => return Ok(Outcome::Promoted(why)),
        };
        let epoch = |backup: &Manifest| backup.chain.as_ref().map_or(0, |chain| chain.epoch);
        let (base, floor) = (tip.base.id.clone(), epoch(tip.last));
        let who = format!("backup {} on {}", self.request.name, this_process());
        let times = LeaseTimes::default();
        let lease = tools
            .repository
            .lease(&cluster_id, &base, &who, floor, times)
            .await?;
        let made = |manifest: Box<Manifest>| Made {
            repository: Arc::clone(tools.repository),
            manifest: *manifest,
            about: None,
            lease: None,
            warnings: Vec::new(),
            idle: None,
            merging: None,
        };
        match self
            .continued(tools, &etcd, &base, &lease, cluster.auth_revision)
            .await
        {
            Ok(Continued::Made(manifest, warnings, merging)) => Ok(Outcome::Made(Box::new(Made {
                lease: Some(lease),
                warnings,
                merging,
                ..made(manifest)
            }))),
            Ok(Continued::Idle(manifest, why)) => Ok(Outcome::Made(Box::new(Made {
                lease: Some(lease),
                idle: Some(why),
                ..made(manifest)
            }))),
            Ok(Continued::Promoted(why)) => {
                lease.release().await;
                Ok(Outcome::Promoted(why))
            }
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// The cluster's id, what the store holds of it, and how it is now.
    pub(super) async fn look(
        &self,
        tools: &Tools<'_>,
        etcd: &Etcd,
        known_users: Option<u64>,
    ) -> Result<(String, Vec<Manifest>, Cluster), PipelineError> {
        let status = etcd.status().await?;
        let cluster_id = format!("{:016x}", status.cluster_id);
        let catalog = tools.repository.catalog(Some(&cluster_id)).await?;
        let cluster = Cluster {
            revision: status.revision,
            auth_revision: etcd.auth_revision().await.or(known_users),
            version: status.version,
        };
        Ok((cluster_id, catalog.backups, cluster))
    }

    /// Cuts what follows the tip of the chain, whose lease is held.
    async fn continued(
        &self,
        tools: &Tools<'_>,
        etcd: &Etcd,
        base: &str,
        lease: &Lease,
        auth_revision: Option<u64>,
    ) -> Result<Continued, PipelineError> {
        // Another writer may have gone on while the lease was waited for.
        // Without a quorum what is recorded is worth storing all the more.
        let (status, known_at) = etcd.reach().await?;
        let cluster_id = format!("{:016x}", status.cluster_id);
        let catalog = tools.repository.catalog(Some(&cluster_id)).await?;
        let cluster = Cluster {
            revision: status.revision,
            auth_revision,
            version: status.version.clone(),
        };
        let (tip, merge) = match self.next(&catalog.backups, &cluster) {
            Next::Increment(tip) => (tip, None),
            // Long enough only now: another process merges it, next time.
            Next::Merge(tip, _) if self.request.part == Part::Increment => (tip, None),
            Next::Merge(tip, why) => (tip, Some(why)),
            Next::Full(why) => return Ok(Continued::Promoted(why)),
        };
        if tip.base.id != base {
            let why = "another chain was begun meanwhile".to_owned();
            return Ok(Continued::Promoted(why));
        }
        let increments = increments_of(tip.base, &catalog.backups);
        let said = self
            .join_small(tools, lease, &increments, tip.base, &status)
            .await;
        let recorded = self.recorded(tools, &tip, &status, known_at).await;
        let Cut { segments, gap } = match recorded {
            Ok(cut) => cut,
            Err(behind @ RecordError::Behind { .. }) => {
                return Err(EtcdError::Unavailable {
                    attempts: behind.to_string(),
                }
                .into());
            }
            Err(other) => return Err(other.into()),
        };
        let mut made: Option<Manifest> = None;
        let mut parent = tip.last.clone();
        let mut earlier_ones: Vec<Manifest> = Vec::new();
        for segment in segments {
            if let Some(earlier) = made.take() {
                parent = self.commit_earlier(tools, lease, earlier).await?;
                earlier_ones.push(parent.clone());
            }
            if segment.header.base != tip.base.id
                || segment.header.first_revision != parent.revision + 1
                || segment.header.parent_sha256 != parent.plain_sha256
            {
                return Ok(Continued::Promoted(format!(
                    "the recording does not continue backup {}",
                    parent.id
                )));
            }
            made = Some(self.publish(&segment, &parent, &status, tools).await?);
        }
        let mut warnings = plan::warnings(None, &status.version);
        warnings.extend(said);
        let policy = (
            self.recording.full_every.as_ref(),
            self.recording.drilled_pace,
        );
        warnings.extend(plan::out_of_reach(tip.base, policy.0, policy.1));
        match (made, gap) {
            (Some(mut manifest), None) => {
                manifest.covered_to = known_at.max(manifest.covered_to);
                let before: Vec<&Manifest> =
                    increments.iter().copied().chain(&earlier_ones).collect();
                let chain = (tip.base, before.as_slice());
                self.held_to_live(tools, etcd, chain, manifest, merge, warnings)
                    .await
            }
            // What was whole before the gap is published; the watch begins anew behind it, if etcd still has what follows.
            (Some(manifest), Some(gap)) if !gap.is_final() => {
                warnings.push(format!("RecorderGap: {gap}"));
                Ok(Continued::Made(Box::new(manifest), warnings, None))
            }
            (Some(manifest), Some(gap)) => {
                self.commit_earlier(tools, lease, manifest).await?;
                Ok(Continued::Promoted(gap.to_string()))
            }
            (None, Some(gap)) => Ok(Continued::Promoted(gap.to_string())),
            // What the chain holds is what the cluster has: there is nothing to store, and no reason for a full backup.
            (None, None) => {
                let covered = tip.last.covers().max(known_at.unwrap_or(Timestamp::MIN));
                let why = format!(
                    "nothing was written since revision {}: backup {} holds everything up to {covered}",
                    tip.last.revision, tip.last.id
                );
                let held = Manifest {
                    // Nobody may take it for what this run has stored.
                    run_id: self.request.run_id.clone(),
                    created: covered.max(tip.last.created),
                    covered_to: Some(covered),
                    completed: Timestamp::now(),
                    ..tip.last.clone()
                };
                Ok(Continued::Idle(Box::new(held), why))
            }
        }
    }

    /// What is to be done with a catalogue, by the schedule's own rules.
    pub(super) fn next<'a>(&self, backups: &'a [Manifest], cluster: &Cluster) -> Next<'a> {
        let recording = self.recording;
        let policy = (recording.full_every.as_ref(), recording.drilled_pace);
        plan::next(backups, self.request, cluster, policy, self.request.started)
    }

    /// The segments after the tip: of the standing watch where there is one that continues it, else of a watch of this moment,
    /// which reads out of etcd's own history what it still has.
    async fn recorded(
        &self,
        tools: &Tools<'_>,
        tip: &plan::Tip<'_>,
        status: &MemberStatus,
        known_at: Option<Timestamp>,
    ) -> Result<Cut, RecordError> {
        if let Some(recorder) = &self.recording.recorder
            && recorder.is_alive()
            && recorder.origin().base == tip.base.id
        {
            let Cut { segments, gap } = recorder.cut(status.revision, known_at).await?;
            // What is in the store already was not removed when a process died in between.
            let stored =
                |one: &Segment| one.finished.footer.totals.last_revision <= tip.last.revision;
            return Ok(Cut {
                segments: segments.into_iter().filter(|one| !stored(one)).collect(),
                gap,
            });
        }
        let Some(origin) = super::origin_after(tip.last) else {
            return Err(RecordError::Stopped);
        };
        let (etcd, folder) = (
            Etcd::unconnected(tools.options),
            tools.scratch.file("recording"),
        );
        let recorder = Recorder::start(etcd, origin, &folder, BUDGET, None)?;
        recorder.cut(status.revision, known_at).await
    }

    /// Publishes a segment whole: proved, stored, and with its manifest.
    pub(super) async fn follow_up(
        &self,
        tools: &Tools<'_>,
        lease: &Lease,
        segment: &Segment,
        parent: &Manifest,
        member: &MemberStatus,
    ) -> Result<Manifest, PipelineError> {
        let manifest = self.publish(segment, parent, member, tools).await?;
        self.commit_earlier(tools, lease, manifest).await
    }

    /// Proves a segment from its bytes, stores it and reads it back; its manifest is not written yet.
    pub(super) async fn publish(
        &self,
        segment: &Segment,
        parent: &Manifest,
        status: &MemberStatus,
        tools: &Tools<'_>,
    ) -> Result<Manifest, PipelineError> {
        self.stages.begin(Stage::Check);
        let proved = prove(&segment.path).await?;
        self.stages.begin(Stage::Store);
        let header = &proved.header;
        let last = proved.finished.footer.totals.last_revision;
        let id = increment_id(&header.base, header.first_revision, last);
        let sealer = tools.sealing.of_backup(&header.cluster_id, &id).await?;
        let (sealer, unsealer) = provable(sealer, tools.unsealer);
        let mut manifest = self.increment_manifest(&proved, parent, status, &sealer)?;
        // One that was killed may have stored the same revisions and not committed them.
        let rest = &manifest.data_key;
        tools.repository.discard_rest(rest).await?;
        self.deposit(
            tools.repository,
            &sealer,
            Plain::kept(&segment.path),
            &mut manifest,
        )
        .await?;
        if let Some(unsealer) = &unsealer {
            self.stages.begin(Stage::Verify);
            let told = |done: u64| self.stages.bytes(done, manifest.stored_size);
            verify::read_back(tools.repository, &manifest, unsealer, &told).await?;
            manifest.level = Level::Verified;
            let totals = &proved.finished.footer.totals;
            manifest.checks.push(Check {
                name: "rows".to_owned(),
                ok: true,
                message: format!(
                    "revisions {} to {} are whole and without a hole: {} rows, read back from the store",
                    proved.header.first_revision, totals.last_revision, totals.rows
                ),
            });
        }
        Ok(manifest)
    }

    fn increment_manifest(
        &self,
        segment: &Segment,
        parent: &Manifest,
        status: &MemberStatus,
        sealer: &Sealer,
    ) -> Result<Manifest, PipelineError> {
        let header = &segment.header;
        let totals = &segment.finished.footer.totals;
        let mut manifest = Manifest {
            id: increment_id(&header.base, header.first_revision, totals.last_revision),
            cluster_id: header.cluster_id.clone(),
            member_id: header.member_id.clone(),
            etcd_version: status.version.clone(),
            start_revision: Some(header.first_revision),
            // Who knows more says so.
            covered_to: Some(parent.covers()),
            revision: totals.last_revision,
            chain: Some(Chain {
                base: header.base.clone(),
                parent_sha256: parent.stored_sha256.clone(),
                epoch: header.epoch,
                merged: None,
            }),
            ..self.blank_manifest(Kind::Increment, totals.covered_to, sealer)
        };
        let role = Role::Data {
            zstd: manifest.compression == crate::api::Compression::Zstd,
            age: manifest.is_sealed(),
        };
        let key = Key::of_manifest(&manifest).map_err(|_| PipelineError::Refused {
            name: self.request.name.clone(),
            why: format!("its base has an id that cannot be a key: {}", header.base),
        })?;
        manifest.data_key = Key { role, ..key }.to_string();
        Ok(manifest)
    }

    /// Several segments wait when the store was away, or when a chain is led up to a new full backup: each is a backup of its own,
    /// in order, with a name of its own.
    pub(super) async fn commit_earlier(
        &self,
        tools: &Tools<'_>,
        lease: &Lease,
        mut manifest: Manifest,
    ) -> Result<Manifest, PipelineError> {
        fence(lease, &mut manifest).await?;
        manifest.run_id = uuid::Uuid::now_v7().to_string();
        manifest.backup_name = format!("{}-to-{}", self.request.name, manifest.revision);
        manifest.completed = Timestamp::now();
        self.remember(None);
        tokio::time::timeout(COMMIT_LIMIT, tools.repository.commit(&manifest))
            .await
            .map_err(|_| PipelineError::Interrupted {
                what: "the writing of the manifest",
            })??;
        Ok(manifest)
    }
}

/// Gives the manifest the writer's epoch, and makes sure that the writer still holds the chain.
pub(super) async fn fence(lease: &Lease, manifest: &mut Manifest) -> Result<(), PipelineError> {
    lease.confirm().await?;
    if let Some(chain) = &mut manifest.chain {
        chain.epoch = lease.epoch();
    }
    Ok(())
}

async fn prove(path: &Path) -> Result<Segment, PipelineError> {
    let file = path.to_owned();
    let failed = scratch_failed(path);
    let proved = tokio::task::spawn_blocking(move || spill::prove(&file))
        .await
        .map_err(|error| failed(std::io::Error::other(error)))?;
    proved.map_err(|error| RecordError::from(error).into())
}
