//! Small increments of a chain, merged into a larger one that stands for them: a restore then asks the store for few objects. The
//! small ones stay until retention finds that nobody can be reading them any more.

use std::path::PathBuf;

use super::increment::Tools;
use super::run::{Attempt, scratch_failed};
use super::{PipelineError, plan};
use crate::etcd::MemberStatus;
use crate::recorder::concat;
use crate::recorder::watch::RecordError;
use crate::repository::{Lease, Manifest, MergedFrom, this_process};
use crate::verify;

impl Attempt<'_> {
    /// Merges the newest run of small increments when it is long enough; the chain's last one stays as it is. What goes wrong is
    /// said, and the chain is as good as before.
    pub(super) async fn join_small(
        &self,
        tools: &Tools<'_>,
        lease: &Lease,
        increments: &[&Manifest],
        base: &Manifest,
        member: &MemberStatus,
    ) -> Option<String> {
        let run = plan::to_merge(increments)?;
        let (count, id) = (run.len(), base.id.clone());
        match self.try_join(tools, lease, &run, base, member).await {
            Ok(()) => {
                tracing::info!(base = id, count, "small increments were merged");
                None
            }
            Err(error) => {
                self.clean_up().await;
                Some(format!(
                    "{count} small increments of {id} were not merged: {error}"
                ))
            }
        }
    }

    async fn try_join(
        &self,
        tools: &Tools<'_>,
        lease: &Lease,
        run: &[&Manifest],
        base: &Manifest,
        member: &MemberStatus,
    ) -> Result<(), PipelineError> {
        // Without a key nothing can be read back.
        let (Some(unsealer), [first, .., last]) = (tools.unsealer, run) else {
            return Ok(());
        };
        let reading = async {
            let mut files: Vec<PathBuf> = Vec::new();
            for increment in run {
                let file = tools.scratch.file(&format!("small-{}", files.len()));
                verify::fetch(tools.repository, increment, unsealer, &file, &|_| {}).await?;
                files.push(file);
            }
            Ok::<_, PipelineError>(files)
        };
        let who = this_process();
        let files = tools.repository.pinned(run, &who, reading).await??;
        let to = tools.scratch.file("joined");
        let failed = scratch_failed(&to);
        let joined = tokio::task::spawn_blocking(move || {
            let joined = concat::join(&files, &to);
            for file in &files {
                let _ = std::fs::remove_file(file);
            }
            joined
        });
        let joined = joined
            .await
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let segment = joined.map_err(RecordError::from)?;
        let parent = first
            .chain
            .as_ref()
            .map(|chain| chain.parent_sha256.clone());
        let parent = Manifest {
            stored_sha256: parent.unwrap_or_default(),
            ..base.clone()
        };
        let mut manifest = self.publish(&segment, &parent, member, tools).await?;
        if let Some(chain) = &mut manifest.chain {
            chain.merged = Some(MergedFrom {
                count: u32::try_from(run.len()).unwrap_or(u32::MAX),
                last_sha256: last.stored_sha256.clone(),
                last_epoch: last.chain.as_ref().map_or(0, |chain| chain.epoch),
            });
        }
        manifest.covered_to = Some(last.covers());
        manifest.hash_kv = run.iter().rev().find_map(|one| one.hash_kv);
        self.commit_earlier(tools, lease, manifest).await?;
        Ok(())
    }
}
