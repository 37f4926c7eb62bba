//! A chain while it grows: merged as a restore would merge it, held to the live cluster's HashKV, and, when it is long enough, stored as
//! a full backup of its own, so that the old chain may go.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::bridge::DISAGREES;
use super::increment::{Continued, Tools};
use super::prove::on_map;
use super::run::{Attempt, auth_revision, remove};
use super::seal_file::{Plain, provable};
use super::{PipelineError, Stage, plan};
use crate::etcd::{Etcd, LiveHash};
use crate::kms::Sealing;
use crate::recorder::merge::Until;
use crate::repository::key::full_id;
use crate::repository::{Check, Kind, Level, Manifest, Repository, Synthetic, this_process};
use crate::restore::{RestoreError, chain};
use crate::seal::Unsealer;
use crate::snapshot;
use crate::verify::{self, Live, VerifyError};

/// What a comparison with the live cluster came to.
pub(super) enum Compared {
    /// Base and increments come to the live hash; the merged snapshot lies here.
    Equal { merged: PathBuf, live: LiveHash },
    /// They come to another.
    Differs(String),
    /// Nothing can be concluded, for this reason; the live hash, when the cluster gave one.
    Unknown(String, Option<LiveHash>),
}

/// A chain that becomes a full backup.
pub(super) struct Merging {
    /// The merged snapshot, with a digest behind it.
    pub merged: PathBuf,
    /// What the live cluster had at its revision.
    pub live: LiveHash,
    /// Its full backup.
    pub base: Manifest,
    /// How many increments were merged.
    pub increments: usize,
    /// Why.
    pub why: String,
    pub sealing: Sealing,
    pub unsealer: Unsealer,
}

impl Attempt<'_> {
    /// Compares a chain that ends with a new increment with the live cluster, when that is due; a chain that becomes a full backup is
    /// always compared.
    pub(super) async fn held_to_live(
        &self,
        tools: &Tools<'_>,
        etcd: &Etcd,
        (base, increments): (&Manifest, &[&Manifest]),
        mut manifest: Manifest,
        merge: Option<String>,
        mut warnings: Vec<String>,
    ) -> Result<Continued, PipelineError> {
        let wanted = self.request.spec.validation.consistency_check;
        let not_now = plan::not_compared(base, increments, self.request.started);
        let not_now = match (wanted, &merge) {
            (false, _) => Some("consistencyCheck is off".to_owned()),
            (true, Some(_)) => None,
            (true, None) => not_now,
        };
        if let Some(why) = not_now {
            let words = format!("not compared with the live cluster this time: {why}");
            note(&mut manifest, true, None, words);
            return Ok(Continued::Made(Box::new(manifest), warnings, None));
        }
        let compared = self.compare(tools, etcd, base, increments, &manifest).await;
        let mut merging = None;
        match compared {
            Compared::Equal { merged, live } => {
                manifest.hash_kv = Some(live.hash);
                let words = format!(
                    "base and increments come to HashKV {} at revision {}, as the live cluster has it",
                    live.hash.hash, live.hash.revision
                );
                note(&mut manifest, true, Some(Level::Consistent), words);
                if let Some(why) = merge {
                    let count = increments.len() + 1;
                    match self.merging(tools, base, count, (merged, live), &why).await {
                        Ok(made) => merging = made,
                        Err(error) => warnings.push(format!("{why}; it was not merged: {error}")),
                    }
                } else {
                    remove(&merged)?;
                }
            }
            Compared::Unknown(why, live) => {
                manifest.hash_kv = live.map(|live| live.hash);
                let words = format!("not compared with the live cluster: {why}");
                note(&mut manifest, true, None, words);
                if let Some(due) = merge {
                    warnings.push(format!("{due}; it was not merged: {why}"));
                }
            }
            Compared::Differs(why) => {
                self.clean_up().await;
                let words = format!("{DISAGREES}chain {}: {why}", base.id);
                return Ok(Continued::Promoted(words));
            }
        }
        Ok(Continued::Made(Box::new(manifest), warnings, merging))
    }

    /// What a chain of so many increments that is the live cluster's becomes a full backup with, for this reason.
    pub(super) async fn merging(
        &self,
        tools: &Tools<'_>,
        base: &Manifest,
        increments: usize,
        (merged, live): (PathBuf, LiveHash),
        why: &str,
    ) -> Result<Option<Box<Merging>>, PipelineError> {
        let Some(unsealer) = tools.unsealer else {
            return Ok(None);
        };
        Ok(Some(Box::new(Merging {
            merged: compact(merged, base, live).await?,
            live,
            base: base.clone(),
            increments,
            why: why.to_owned(),
            sealing: tools.sealing.clone(),
            unsealer: unsealer.clone(),
        })))
    }

    /// Merges a chain up to `last`, whose manifest need not be written yet, and holds it to the live cluster.
    pub(super) async fn compare(
        &self,
        tools: &Tools<'_>,
        etcd: &Etcd,
        base: &Manifest,
        increments: &[&Manifest],
        last: &Manifest,
    ) -> Compared {
        self.stages.begin(Stage::Check);
        let revision = last.revision;
        let live = match etcd.hash_kv(revision).await {
            Ok(live) if live.hash.revision == revision => live,
            Ok(live) => {
                let why = format!("the member spoke of revision {}", live.hash.revision);
                return Compared::Unknown(why, None);
            }
            Err(error) => return Compared::Unknown(error.to_string(), None),
        };
        if live.hash.compact_revision < base.compact_revision {
            let why = format!(
                "the member answered as of compaction {}, and the chain begins at {}",
                live.hash.compact_revision, base.compact_revision
            );
            return Compared::Unknown(why, Some(live));
        }
        let opens = |one: &&Manifest| {
            tools.unsealer.is_some_and(|key| {
                !one.is_sealed() || one.seal.kms.is_some() || key.opens(&one.seal)
            })
        };
        let parts = [base, last].into_iter().chain(increments.iter().copied());
        let Some(unsealer) = tools
            .unsealer
            .filter(|_| parts.clone().all(|one| opens(&one)))
        else {
            let why = "the key that opens the chain is not at hand".to_owned();
            return Compared::Unknown(why, Some(live));
        };
        let merged = match self.merge(tools, unsealer, base, increments, last).await {
            Ok(merged) => merged,
            Err(error) => return Compared::Unknown(error.to_string(), Some(live)),
        };
        match own_hash(&merged, live).await {
            Ok(None) => Compared::Equal { merged, live },
            Ok(Some(why)) => Compared::Differs(why),
            Err(error) => Compared::Unknown(error.to_string(), Some(live)),
        }
    }

    /// Fetches a chain and merges it into one snapshot in the scratch folder.
    async fn merge(
        &self,
        tools: &Tools<'_>,
        unsealer: &Unsealer,
        base: &Manifest,
        increments: &[&Manifest],
        last: &Manifest,
    ) -> Result<PathBuf, PipelineError> {
        let base_file = tools.scratch.file("chain.db");
        let reading = async {
            verify::fetch(tools.repository, base, unsealer, &base_file, &|_| {}).await?;
            let mut files: Vec<PathBuf> = Vec::new();
            for increment in increments.iter().copied().chain([last]) {
                let file = tools.scratch.file(&format!("chain-{}", files.len()));
                verify::fetch(tools.repository, increment, unsealer, &file, &|_| {}).await?;
                files.push(file);
            }
            Ok::<_, PipelineError>(files)
        };
        let committed: Vec<&Manifest> = [base]
            .into_iter()
            .chain(increments.iter().copied())
            .collect();
        let who = this_process();
        let files = tools.repository.pinned(&committed, &who, reading).await??;
        let merged = tools.scratch.file("merged.db");
        let (from, to) = (base_file.clone(), merged.clone());
        let work = tokio::task::spawn_blocking(move || {
            let merged = chain::assemble(&from, &files, Until::End, &to);
            for file in files.iter().chain([&from]) {
                let _ = std::fs::remove_file(file);
            }
            merged
        });
        work.await.map_err(|_| PipelineError::Interrupted {
            what: "the merging of the chain",
        })??;
        Ok(merged)
    }

    /// Stores a merged chain as a full backup: proved from its bytes, held to the live hash, read back; its manifest says what it is.
    /// `None` when it is there already.
    pub(super) async fn store_synthetic(
        &self,
        repository: &Repository,
        merging: &Merging,
        last: &Manifest,
    ) -> Result<Option<Manifest>, PipelineError> {
        self.stages.begin(Stage::Check);
        let merged = &merging.merged;
        let proof = on_map(merged, snapshot::prove).await?;
        let unsound = |problem: String| PipelineError::NotSound {
            endpoint: format!("chain {}", merging.base.id),
            revision: last.revision,
            problem,
        };
        let Some(status) = proof.status.clone() else {
            return Err(unsound("it cannot be read".to_owned()));
        };
        // Compacted as the live cluster was, its own hash is that of the cluster without more ado.
        let hash = merging.live.hash;
        let own = on_map(merged, move |bytes| {
            snapshot::hash_kv(bytes, Some(hash.revision), Some(hash.compact_revision))
        });
        let own = own.await??;
        let live = Live::Answered {
            live: merging.live,
            own,
        };
        let mut verdict = verify::judge(&proof, None, &live);
        if !verdict.ok() || status.revision != last.revision {
            return Err(unsound(verdict.problem()));
        }
        for check in &mut verdict.checks {
            if check.name == "digest" {
                check.message = "the digest behind it is that of its bytes".to_owned();
            }
        }
        verdict.checks.push(Check {
            name: "synthetic".to_owned(),
            ok: true,
            message: format!(
                "merged from {} and {} increments, not read from etcd: {}",
                merging.base.id, merging.increments, merging.why
            ),
        });
        let id = full_id(last.created, last.revision);
        let catalog = repository.catalog(Some(&last.cluster_id)).await?;
        if catalog.backups.iter().any(|one| one.id == id) {
            return Ok(None);
        }
        self.stages.begin(Stage::Store);
        let sealer = merging.sealing.of_backup(&last.cluster_id, &id).await?;
        let (sealer, unsealer) = provable(sealer, Some(&merging.unsealer));
        let (seal, compression) = (sealer.describe(), sealer.compression());
        let mut manifest = Manifest {
            data_key: Repository::full_data_key(&last.cluster_id, &id, compression, &seal),
            id,
            kind: Kind::Full,
            // The small buckets are those of the base, and its release wrote them.
            etcd_version: merging.base.etcd_version.clone(),
            backup_name: format!("{}-merged", self.request.name),
            run_id: uuid::Uuid::now_v7().to_string(),
            settled: Some(last.created),
            start_revision: None,
            compact_revision: status.compact_revision,
            key_count: status.total_keys,
            compression,
            seal,
            chain: None,
            level: verdict.level,
            auth_revision: auth_revision(&status),
            synthetic: Some(Synthetic {
                base: merging.base.id.clone(),
                increments: u32::try_from(merging.increments).unwrap_or(u32::MAX),
                read: merging.base.read_at(),
            }),
            checks: verdict.checks,
            hash_kv: Some(merging.live.hash),
            shares: proof.shares.clone(),
            ..last.clone()
        };
        self.store_sealed(repository, &sealer, Plain::kept(merged), &mut manifest)
            .await?;
        let proved = async {
            if let Some(unsealer) = &unsealer {
                self.stages.begin(Stage::Verify);
                let read = verify::read_back(repository, &manifest, unsealer, &|_| {}).await?;
                let image = read.plain.map(|plain| plain.image_sha256);
                if image.as_deref() != Some(proof.image_sha256.as_str()) {
                    return Err(VerifyError::Damaged {
                        id: manifest.id.clone(),
                        problem: "the database read back is not the one that was proved".to_owned(),
                    });
                }
            }
            Ok(())
        };
        if let Err(error) = proved.await {
            if let Err(left) = repository.discard(&manifest).await {
                tracing::warn!(key = manifest.data_key, error = %left, "data without a backup stays until it is swept after a day");
            }
            return Err(error.into());
        }
        manifest.completed = Timestamp::now();
        repository.commit(&manifest).await?;
        tracing::info!(
            base = merging.base.id,
            id = manifest.id,
            increments = merging.increments,
            "the chain was merged into a full backup: {}",
            merging.why
        );
        Ok(Some(manifest))
    }
}

/// Takes out of a merged snapshot what the live cluster has compacted meanwhile: else a chain of chains would keep all history for ever.
async fn compact(
    merged: PathBuf,
    base: &Manifest,
    live: LiveHash,
) -> Result<PathBuf, PipelineError> {
    let revision = live.hash.compact_revision;
    if revision <= base.compact_revision.max(0) {
        return Ok(merged);
    }
    let work = tokio::task::spawn_blocking(move || {
        let to = merged.with_extension("compacted");
        chain::compact(&merged, revision, &to)?;
        let _ = std::fs::remove_file(&merged);
        Ok::<_, RestoreError>(to)
    });
    Ok(work.await.map_err(|_| PipelineError::Interrupted {
        what: "the merging of the chain",
    })??)
}

/// Why a merged snapshot is not what the live cluster had; `None` when it is.
async fn own_hash(merged: &Path, live: LiveHash) -> Result<Option<String>, PipelineError> {
    let (revision, compacted) = (live.hash.revision, live.hash.compact_revision);
    let own = on_map(merged, move |bytes| {
        snapshot::hash_kv(bytes, Some(revision), Some(compacted))
    });
    let own = own.await??;
    if own.hash == live.hash.hash {
        return Ok(None);
    }
    let status = on_map(merged, snapshot::status).await??;
    if status.total_keys == 0 {
        // Without a live key the value depends on how far a compaction has come.
        return Err(PipelineError::Interrupted {
            what: "the comparison, as there is no live key,",
        });
    }
    Ok(Some(format!(
        "base and increments come to HashKV {} at revision {revision}, and the live cluster has {}",
        own.hash, live.hash.hash
    )))
}

/// The level and the check of an increment that was compared, or was not.
fn note(manifest: &mut Manifest, ok: bool, level: Option<Level>, message: String) {
    if let Some(level) = level {
        manifest.level = manifest.level.max(level);
    }
    manifest.checks.push(Check {
        name: "live-hashkv".to_owned(),
        ok,
        message,
    });
}
