//! Carries a plan out: writes beside the target, reads back and proves what was written, and moves it into place last.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use serde::Serialize;

use super::RestoreError;
use super::database::{Begun, copy_databases, new_file};
use super::place::{keep_owner, put_in_place, refuse_running};
use super::plan::{Plan, PlannedMember, Revisions};
use super::proof::{Restored, is_compacting, prove_written, raised_hash};
use super::steps::{next_steps, start_command};
use super::workspace::{Workspace, make_folder, sync_folder};
use crate::snapshot::datadir::database::{MISSING_LEASE_TTL, Rewritten};
use crate::snapshot::datadir::{
    self, DATABASE, LOG, Member, WAL_NAME, WAL_SEGMENT_BYTES, raft_snapshot, raft_snapshot_name,
    restored_problem, write_ahead_log,
};
use crate::snapshot::{self, Proof, Severity};

/// What was restored.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Revision of the restored cluster.
    pub revision: i64,
    /// Live keys.
    pub keys: u64,
    /// HashKV at that revision, as a member that boots from it answers.
    pub hash: u32,
    /// Compact revision that the hash stands for.
    pub compact_revision: i64,
    /// A directory a member.
    pub data_dirs: Vec<PathBuf>,
    /// What became of the revision, and why.
    pub revisions: Revisions,
    /// The new cluster's id, hexadecimal.
    pub cluster_id: String,
    /// The new cluster's token.
    pub cluster_token: String,
    /// The members that got a directory.
    pub members: Vec<PlannedMember>,
    /// Where the old content of the target is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_kept_as: Option<PathBuf>,
    /// A command line a member.
    pub start: Vec<String>,
    /// What to do next, in order.
    pub next_steps: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Restores the snapshot in `bytes`, working in `workspace`. `progress` hears of bytes as they are written.
///
/// # Errors
/// When the snapshot is damaged, or files cannot be written, or what was written does not read back as it must. The target is
/// then as it was.
pub fn restore(
    plan: &Plan,
    workspace: &Workspace,
    bytes: &[u8],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Outcome, RestoreError> {
    refuse_running(&plan.data_dir)?;
    let data = workspace.data();
    let first = first_of(plan)?;
    let folders: Vec<PathBuf> = if plan.members.len() > 1 || first.data_dir != plan.data_dir {
        plan.members
            .iter()
            .map(|member| data.join(&member.name))
            .collect()
    } else {
        vec![data.clone()]
    };
    for folder in &folders {
        make_folder(&folder.join(datadir::SNAPSHOTS))?;
    }
    let database = folder_database(&folders)?;
    // The snapshot is proved on one core while the other writes; what was written of a damaged one is thrown away.
    let (source, raft, begun) = thread::scope(|scope| {
        let proving = scope.spawn(|| {
            let source = prove_source(plan, bytes)?;
            let raised = raised_hash(plan, &source, bytes)?;
            Ok((source, raised))
        });
        // Beside it, as the disk takes these small files at its leisure.
        let raft = scope.spawn(|| {
            let mut all = folders.iter().zip(&plan.members);
            all.try_for_each(|(folder, planned)| write_raft_files(plan, folder, planned))
        });
        let begun = Begun::write(plan, bytes, &database, progress);
        let broke_off = |what: &str| RestoreError::Unproved {
            problem: format!("{what} broke off"),
        };
        let proof = proving
            .join()
            .unwrap_or_else(|_| Err(broke_off("the check of the snapshot")));
        let raft = raft
            .join()
            .unwrap_or_else(|_| Err(broke_off("the writing of the log")));
        (proof, raft, begun)
    });
    let (source, raised) = source?;
    raft?;
    let (written, skimmed) = begun?.complete(plan, &source, &database)?;
    let result = prove_written(
        plan,
        bytes,
        (&source, raised),
        (&written, skimmed),
        &database,
    )?;
    copy_databases(&database, folders.get(1..).unwrap_or_default())?;
    for folder in &folders {
        for part in ["member/snap", "member/wal", "member", ""] {
            sync_folder(&folder.join(part))?;
        }
    }
    sync_folder(&data)?;
    keep_owner(&plan.data_dir, &data)?;
    put_in_place(plan, &data)?;
    let mut outcome = outcome(plan, source, &result, &written);
    if workspace.cleaned {
        outcome
            .notes
            .push("the remains of an interrupted restore were removed".into());
    }
    Ok(outcome)
}

fn first_of(plan: &Plan) -> Result<&PlannedMember, RestoreError> {
    plan.members
        .first()
        .ok_or_else(|| RestoreError::Usage("the plan names no member".into()))
}

fn folder_database(folders: &[PathBuf]) -> Result<PathBuf, RestoreError> {
    folders
        .first()
        .map(|folder| folder.join(DATABASE))
        .ok_or_else(|| RestoreError::Usage("the plan names no member".into()))
}

/// The log and the raft snapshot of one member, written and read back.
fn write_raft_files(
    plan: &Plan,
    folder: &Path,
    planned: &PlannedMember,
) -> Result<(), RestoreError> {
    let snapshots = folder.join(datadir::SNAPSHOTS);
    let log = folder.join(LOG);
    make_folder(&log)?;
    let member: &Member = plan
        .cluster
        .member(&planned.name)
        .ok_or_else(|| RestoreError::Usage(format!("'{}' is no member", planned.name)))?;
    let log = log.join(WAL_NAME);
    let records = write_ahead_log(&plan.cluster, member);
    let write = RestoreError::file("write", &log);
    let wal = new_file(&log)?;
    (&wal)
        .write_all(&records)
        .and_then(|()| wal.set_len(WAL_SEGMENT_BYTES))
        .and_then(|()| wal.sync_all())
        .map_err(write)?;
    let snapshot = snapshots.join(raft_snapshot_name(&plan.cluster));
    let write = RestoreError::file("write", &snapshot);
    let file = new_file(&snapshot)?;
    (&file)
        .write_all(&raft_snapshot(&plan.cluster))
        .and_then(|()| file.sync_all())
        .map_err(write)?;
    // The zeros behind the records are a hole: a few of them will do.
    let head = read_head(&log, records.len() as u64 + 4096)?;
    let raft = read_head(&snapshot, u64::MAX)?;
    match restored_problem(&plan.cluster, member, &head, &raft) {
        None => Ok(()),
        Some(problem) => Err(RestoreError::Unproved { problem }),
    }
}

/// A file's first bytes, read back.
fn read_head(path: &Path, most: u64) -> Result<Vec<u8>, RestoreError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(RestoreError::file("read back", path))?;
    Ok(bytes)
}

fn prove_source(plan: &Plan, bytes: &[u8]) -> Result<Proof, RestoreError> {
    let proof = match is_compacting(plan) {
        true => snapshot::prove_compacting(bytes),
        false => snapshot::prove(bytes),
    };
    let about_digest = |code: &str| code.starts_with("Digest");
    let worst = proof.findings.iter().find(|finding| {
        finding.severity == Severity::Error
            && !(plan.skip_hash_check && about_digest(&finding.code))
    });
    match worst {
        None => Ok(proof),
        Some(finding) => Err(RestoreError::Damaged {
            source_name: plan.source.clone(),
            problem: format!(
                "{} ({} at {})",
                finding.message, finding.code, finding.place
            ),
        }),
    }
}

fn outcome(plan: &Plan, source: Proof, result: &Restored, written: &Rewritten) -> Outcome {
    let mut notes = plan.notes.clone();
    if let Some(status) = &source.status {
        if !status.alarms.is_empty() {
            notes.push(format!(
                "alarms are cleared: {}; etcd raises them again if their cause is still there",
                status.alarms.join(", ")
            ));
        }
        if status.auth_enabled {
            notes.push(
                "etcd's user management is on: users and passwords are those of the backup".into(),
            );
        }
    }
    if written.added_leases > 0 {
        notes.push(format!(
            "{} leases that keys name are not in the snapshot any more: they are added with {MISSING_LEASE_TTL} s to live, so that their keys expire",
            written.added_leases
        ));
    }
    if written.left_out > 0 {
        notes.push(format!(
            "{} rows of later revisions are left out",
            written.left_out
        ));
    }
    let hash = result.hash_kv;
    Outcome {
        revision: plan.revisions.starts_at,
        keys: result.keys,
        hash: hash.map_or(0, |hash| hash.hash),
        compact_revision: hash.map_or(-1, |hash| hash.compact_revision),
        data_dirs: plan
            .members
            .iter()
            .map(|member| member.data_dir.clone())
            .collect(),
        revisions: plan.revisions.clone(),
        cluster_id: plan.cluster_id.clone(),
        cluster_token: plan.cluster_token.clone(),
        members: plan.members.clone(),
        old_kept_as: plan.keep_old_as.clone(),
        start: plan
            .members
            .iter()
            .map(|member| start_command(plan, member))
            .collect(),
        next_steps: next_steps(plan),
        notes,
    }
}
