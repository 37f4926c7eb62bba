//! Reads the written database back, and says what it is worth: every page is sound, and its rows are those of the snapshot.

use std::path::Path;

use super::RestoreError;
use super::plan::Plan;
use crate::snapshot::datadir::database::Rewritten;
use crate::snapshot::mvcc::RowKey;
use crate::snapshot::{self, HashKv, Proof, Severity, Skimmed};
use crate::verify::Mapped;

/// What lies in the restored database.
pub struct Restored {
    /// Live keys.
    pub keys: u64,
    /// HashKV at its newest revision.
    pub hash_kv: Option<HashKv>,
}

/// Looks at the written database, before the snapshot is proved: it must be sound and hold what was written. Nothing when rows
/// were left out, for then it is proved as a whole.
///
/// # Errors
/// When it is not sound, or holds something else.
pub fn look(
    plan: &Plan,
    written: &Rewritten,
    path: &Path,
) -> Result<Option<Skimmed>, RestoreError> {
    if plan.truncate {
        return Ok(None);
    }
    let mapped = Mapped::open(path).map_err(RestoreError::file("read back", path))?;
    let image = mapped.bytes();
    let skimmed = snapshot::skim(image).map_err(|error| unproved(error.to_string()))?;
    if image.len() as u64 != written.length
        || skimmed.hash != written.checksum
        || skimmed.rows_checksum != written.rows_checksum
    {
        return Err(unproved("its rows are not those that were written".into()));
    }
    Ok(Some(skimmed))
}

/// Whether the proof of the snapshot should say what HashKV is once everything is compacted.
pub fn is_compacting(plan: &Plan) -> bool {
    plan.bump.is_some() && !plan.truncate
}

/// HashKV at the raised revision; nothing when none is raised, or rows are left out.
///
/// # Errors
/// When the snapshot's rows cannot be read.
pub fn raised_hash(
    plan: &Plan,
    source: &Proof,
    bytes: &[u8],
) -> Result<Option<HashKv>, RestoreError> {
    if !is_compacting(plan) {
        return Ok(None);
    }
    let known = source.compacted_hash;
    match known.filter(|known| known.revision == plan.revisions.kept_to) {
        Some(kept) => Ok(Some(raised(plan, kept))),
        None => expected_raised(plan, bytes).map(Some),
    }
}

/// Says what the written database is worth, of which `skimmed` is known: its rows against the snapshot's, its HashKV against
/// what it must be.
///
/// # Errors
/// When anything differs.
pub fn prove_written(
    plan: &Plan,
    bytes: &[u8],
    (source, raised): (&Proof, Option<HashKv>),
    (written, skimmed): (&Rewritten, Option<Skimmed>),
    path: &Path,
) -> Result<Restored, RestoreError> {
    let keys = source.status.as_ref().map(|status| status.total_keys);
    match (keys, source.rows_checksum, skimmed) {
        // Every row of the snapshot lies in the database, and perhaps one more behind them: then all that was proved of
        // them holds.
        (Some(keys), Some(rows), Some(held)) if plan.bump.is_none() || keys > 1 => {
            let rows = match plan.bump {
                None => rows,
                Some(_) => crc32c::crc32c_append(rows, &raised_row(plan)),
            };
            if held.rows_checksum != rows {
                return Err(unproved("its rows are not the snapshot's".into()));
            }
            let hash_kv = match plan.bump {
                None => source.hash_kv,
                Some(_) => raised,
            };
            Ok(Restored { keys, hash_kv })
        }
        _ => {
            let mapped = Mapped::open(path).map_err(RestoreError::file("read back", path))?;
            other_rows(plan, bytes, source, written, mapped.bytes())
        }
    }
}

/// Rows were left out, or there is no key to tell a hash by: the database is proved as any snapshot is.
fn other_rows(
    plan: &Plan,
    bytes: &[u8],
    source: &Proof,
    written: &Rewritten,
    image: &[u8],
) -> Result<Restored, RestoreError> {
    let proof = snapshot::prove(image);
    let worst = proof
        .findings
        .iter()
        .find(|finding| finding.severity == Severity::Error && !finding.code.starts_with("Digest"));
    if let Some(finding) = worst {
        return Err(unproved(format!(
            "{} at {}",
            finding.message, finding.place
        )));
    }
    let (Some(status), Some(hash)) = (&proof.status, proof.hash_kv) else {
        return Err(unproved("its rows cannot be read".into()));
    };
    if image.len() as u64 != written.length || status.hash != written.checksum {
        return Err(unproved("its rows are not those that were written".into()));
    }
    let starts_at = plan.revisions.starts_at;
    if status.revision != starts_at {
        return Err(unproved(format!(
            "its revision is {} instead of {starts_at}",
            status.revision
        )));
    }
    // Without a key etcd itself hashes whatever compaction has left.
    let expected = match plan.bump.is_some() && status.total_keys <= 1 {
        true => None,
        false => expected_hash(plan, bytes, source)?,
    };
    if let Some(expected) = expected.filter(|expected| *expected != hash) {
        return Err(unproved(format!(
            "HashKV is {} instead of {}",
            hash.hash, expected.hash
        )));
    }
    Ok(Restored {
        keys: status.total_keys,
        hash_kv: Some(hash),
    })
}

/// What HashKV must be after the restore, computed from the snapshot.
fn expected_hash(
    plan: &Plan,
    bytes: &[u8],
    source: &Proof,
) -> Result<Option<HashKv>, RestoreError> {
    let revisions = &plan.revisions;
    if plan.bump.is_none() {
        if !plan.truncate {
            return Ok(source.hash_kv);
        }
        let kept = snapshot::hash_kv(bytes, Some(revisions.kept_to), None)?;
        return Ok(Some(kept));
    }
    expected_raised(plan, bytes).map(Some)
}

fn expected_raised(plan: &Plan, bytes: &[u8]) -> Result<HashKv, RestoreError> {
    let revisions = &plan.revisions;
    // Compacted where it ends, then the one row of the raised revision.
    let kept = snapshot::hash_kv(bytes, Some(revisions.kept_to), Some(revisions.kept_to))?;
    Ok(raised(plan, kept))
}

fn raised(plan: &Plan, kept: HashKv) -> HashKv {
    let revision = plan.revisions.starts_at;
    HashKv {
        hash: crc32c::crc32c_append(kept.hash, &raised_row(plan)),
        revision,
        compact_revision: revision,
    }
}

/// The row of the raised revision: a key without a value.
fn raised_row(plan: &Plan) -> Vec<u8> {
    RowKey::first_of(plan.revisions.starts_at).encode()
}

fn unproved(problem: String) -> RestoreError {
    RestoreError::Unproved { problem }
}
