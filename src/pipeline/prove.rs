//! What a drained file is worth: its own proof and the live cluster's hash, which is asked for at the same time.

use std::path::Path;

use super::PipelineError;
use crate::etcd::{Drained, Etcd, LiveHash};
use crate::snapshot::{self, HashKv, Proof, Share, Status};
use crate::verify::{self, Live, Mapped, Verdict};

/// A drained file with the verdict on it.
pub struct Proved {
    /// What it holds; `None` when it is too broken to tell.
    pub status: Option<Status>,
    /// What the evidence adds up to.
    pub verdict: Verdict,
    /// The live hash that it agrees with, else its own at its newest revision.
    pub hash_kv: Option<HashKv>,
    /// What fills the database.
    pub shares: Vec<Share>,
}

/// Proves a drained file, and compares its hash with the live cluster's when `ask_live` is set.
///
/// # Errors
/// When the file cannot be read from the disk. What is wrong with its bytes is in the verdict, and an etcd that does not
/// answer makes the hash incomparable.
pub async fn prove_drained(
    etcd: &Etcd,
    drained: &Drained,
    plain: &Path,
    ask_live: bool,
) -> Result<Proved, PipelineError> {
    // The hash is asked for at once: the longer it waits, the likelier a compaction has overtaken the snapshot.
    let revision = on_map(plain, snapshot::revisions)
        .await?
        .map(|(newest, _)| newest)
        .ok();
    // A member alone agrees with itself, whatever the cluster has decided.
    let alone = drained.member.leader == 0;
    let hash = async {
        match revision.filter(|_| ask_live && !alone) {
            Some(revision) => Some(etcd.hash_kv(revision).await),
            None => None,
        }
    };
    let (proof, hash) = tokio::join!(on_map(plain, snapshot::prove), hash);
    let proof = proof?;
    let live = match hash {
        None if ask_live && alone => Live::Incomparable(format!(
            "member {} knows no leader, so it cannot tell what the cluster's newest state is",
            drained.member.endpoint
        )),
        None => Live::NotAsked,
        Some(Err(error)) => Live::Incomparable(error.to_string()),
        Some(Ok(live)) => own_hash(plain, &proof, live).await?,
    };
    let verdict = verify::judge(&proof, Some(&drained.image_sha256), &live);
    let hash_kv = match live {
        Live::Answered { live, own } if live.hash.hash == own.hash => Some(live.hash),
        _ => proof.hash_kv,
    };
    Ok(Proved {
        status: proof.status,
        verdict,
        hash_kv,
        shares: proof.shares,
    })
}

/// The file's own hash where the member's answer can be compared with it.
async fn own_hash(plain: &Path, proof: &Proof, live: LiveHash) -> Result<Live, PipelineError> {
    let Some(status) = &proof.status else {
        return Ok(Live::NotAsked);
    };
    let compact_revision = match verify::comparable(status, &live.hash) {
        Ok(compact_revision) => compact_revision,
        Err(why) => return Ok(Live::Incomparable(why)),
    };
    let revision = status.revision;
    // The proof's own value will do when the member answered as of the same compaction.
    if let Some(own) = proof.hash_kv.filter(|own| {
        own.revision == revision && own.compact_revision.max(0) == compact_revision.max(0)
    }) {
        return Ok(Live::Answered { live, own });
    }
    let own = on_map(plain, move |bytes| {
        snapshot::hash_kv(bytes, Some(revision), Some(compact_revision))
    })
    .await?;
    Ok(match own {
        Ok(own) => Live::Answered { live, own },
        Err(error) => Live::Incomparable(error.to_string()),
    })
}

/// Runs something over the bytes of a file, mapped, on a thread of its own.
pub(super) async fn on_map<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, PipelineError> {
    let path = file.to_owned();
    tokio::task::spawn_blocking(move || {
        let mapped = Mapped::open(&path).map_err(|source| PipelineError::Scratch {
            path: path.clone(),
            source,
        })?;
        Ok(work(mapped.bytes()))
    })
    .await
    .map_err(|_| PipelineError::Interrupted {
        what: "the check of the snapshot",
    })?
}
