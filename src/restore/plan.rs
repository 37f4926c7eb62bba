//! Which members get which data directory, at which revision, and what becomes of what is there: decided from what was seen,
//! before anything is written.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::RestoreError;
use crate::api::RevisionPolicy;
use crate::snapshot::datadir::{Cluster, Member, peer_url};
use crate::snapshot::{Digest, SnapshotError};

/// By how much the revision is raised for Kubernetes: more than any client can have seen since the backup.
pub const DEFAULT_BUMP: u64 = 1_000_000_000;
/// Beside the database: log, raft snapshot and folders, in bytes.
const BESIDE_DATABASE: u64 = 1 << 20;
/// What a file system's root holds from the beginning.
pub(super) const LOST_AND_FOUND: &str = "lost+found";
/// Where a restore works in the root of a file system.
pub(super) const WORKSPACE: &str = ".restoring";

/// What the caller asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The snapshot, as people recognise it.
    pub source_name: String,
    /// Where the data directory goes; with several members, the folder of all of them.
    pub data_dir: PathBuf,
    /// This member's name.
    pub name: String,
    /// `--initial-cluster`; this member alone when absent.
    pub initial_cluster: Option<String>,
    /// What ids are made with.
    pub token: String,
    /// This member's peer URLs; those of the initial cluster when empty.
    pub advertise: Vec<String>,
    /// A directory for every member instead of one.
    pub all_members: bool,
    /// Last revision to keep; the newest when absent.
    pub to_revision: Option<i64>,
    /// What becomes of the revision; decided from the keys when absent.
    pub policy: Option<RevisionPolicy>,
    /// By how much it is raised.
    pub bump: Option<u64>,
    /// Whether a missing or wrong digest is let pass.
    pub skip_hash_check: bool,
    /// Whether what is in the target is moved aside.
    pub replace: bool,
}

/// What was seen of the snapshot.
#[derive(Debug, Clone)]
pub struct Source {
    /// Newest revision.
    pub revision: i64,
    /// Compact revision; -1 when never compacted.
    pub compact_revision: i64,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// What the digest says, or that it is there and was not compared yet.
    pub digest: Digest,
    /// Whether it holds keys of Kubernetes.
    pub kubernetes: bool,
}

/// What was seen of the target.
#[derive(Debug, Clone)]
pub struct Target {
    /// What lies in the directory; absent when it does not exist.
    pub entries: Option<Vec<String>>,
    /// Whether it is the root of a file system, which cannot be renamed.
    pub mount_point: bool,
    /// Bytes free for us.
    pub free: u64,
    /// Whether an etcd runs on it.
    pub running: bool,
}

/// One member that gets a directory.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMember {
    /// Its name.
    pub name: String,
    /// Its id, hexadecimal.
    pub id: String,
    /// Where other members reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Its data directory.
    pub data_dir: PathBuf,
}

/// What becomes of the revision.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revisions {
    /// Exact or BumpAndCompact.
    pub policy: RevisionPolicy,
    /// Why.
    pub reason: String,
    /// The last revision whose rows are kept.
    pub kept_to: i64,
    /// The revision that the restored cluster starts at.
    pub starts_at: i64,
}

/// A restore that is decided.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The snapshot.
    pub source: String,
    /// Newest revision of the snapshot.
    pub snapshot_revision: i64,
    /// What becomes of the revision.
    pub revisions: Revisions,
    /// The target.
    pub data_dir: PathBuf,
    /// Where what is there now will be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_old_as: Option<PathBuf>,
    /// The new cluster's id, hexadecimal.
    pub cluster_id: String,
    /// The new cluster's token.
    pub cluster_token: String,
    /// The words of `--initial-cluster`.
    pub initial_cluster: String,
    /// The members that get a directory.
    pub members: Vec<PlannedMember>,
    /// Bytes that the restore needs at most.
    pub needed_bytes: u64,
    /// What a person should know.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(super) cluster: Cluster,
    #[serde(skip)]
    pub(super) skip_hash_check: bool,
    #[serde(skip)]
    pub(super) inside: bool,
    #[serde(skip)]
    pub(super) bump: Option<u64>,
    #[serde(skip)]
    pub(super) truncate: bool,
}

/// Decides a restore.
///
/// # Errors
/// When the words fit no restore, or the target cannot take it.
pub fn plan(
    request: &Request,
    source: &Source,
    target: &Target,
    now: Timestamp,
) -> Result<Plan, RestoreError> {
    let cluster = cluster(request)?;
    let chosen = chosen_members(request, &cluster)?;
    let members: Vec<PlannedMember> = chosen
        .into_iter()
        .map(|member| PlannedMember {
            name: member.name.clone(),
            id: member.key(),
            peer_urls: member.peer_urls.clone(),
            data_dir: if request.all_members {
                request.data_dir.join(&member.name)
            } else {
                request.data_dir.clone()
            },
        })
        .collect();
    let revisions = revisions(request, source)?;
    let keep_old_as = occupied(request, target, now)?;
    let needed_bytes = (source.image_bytes + BESIDE_DATABASE) * members.len() as u64;
    if target.free < needed_bytes {
        return Err(RestoreError::NoSpace {
            place: request.data_dir.display().to_string(),
            free: target.free,
            needed: needed_bytes,
        });
    }
    if source.digest == Digest::Missing && !request.skip_hash_check {
        return Err(RestoreError::NoDigest {
            source_name: request.source_name.clone(),
        });
    }
    let bump = u64::try_from(revisions.starts_at - revisions.kept_to)
        .ok()
        .filter(|by| *by > 0);
    Ok(Plan {
        source: request.source_name.clone(),
        snapshot_revision: source.revision,
        data_dir: request.data_dir.clone(),
        keep_old_as,
        cluster_id: format!("{:x}", cluster.id),
        cluster_token: cluster.token.clone(),
        initial_cluster: cluster.initial_cluster(),
        members,
        needed_bytes,
        notes: notes(request, source, target),
        truncate: revisions.kept_to < source.revision,
        revisions,
        cluster,
        skip_hash_check: request.skip_hash_check,
        inside: target.mount_point,
        bump,
    })
}

fn cluster(request: &Request) -> Result<Cluster, RestoreError> {
    let alone = || {
        let default = ["http://localhost:2380".to_owned()];
        let urls: &[String] = if request.advertise.is_empty() {
            &default
        } else {
            &request.advertise
        };
        let pairs: Vec<String> = urls
            .iter()
            .map(|url| format!("{}={url}", request.name))
            .collect();
        pairs.join(",")
    };
    let words = request.initial_cluster.clone().unwrap_or_else(alone);
    let cluster = Cluster::parse(&words, &request.token)?;
    // A member's name becomes a folder's.
    let unfit = |name: &str| name.contains('/') || name == "." || name == "..";
    if let Some(member) = cluster.members.iter().find(|member| unfit(&member.name)) {
        return Err(RestoreError::Usage(format!(
            "'{}' is no name for a member: it must not hold a slash",
            member.name
        )));
    }
    Ok(cluster)
}

fn chosen_members<'a>(
    request: &Request,
    cluster: &'a Cluster,
) -> Result<Vec<&'a Member>, RestoreError> {
    if request.all_members {
        let mut members: Vec<&Member> = cluster.members.iter().collect();
        members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        return Ok(members);
    }
    let Some(member) = cluster.member(&request.name) else {
        let names: Vec<&str> = cluster
            .members
            .iter()
            .map(|member| member.name.as_str())
            .collect();
        return Err(RestoreError::Usage(format!(
            "'{}' is not in the initial cluster: use --name with one of {}, or --all-members",
            request.name,
            names.join(", ")
        )));
    };
    let mut advertised = Vec::new();
    for url in &request.advertise {
        advertised.push(peer_url(url).map_err(|problem| {
            RestoreError::Usage(format!("--initial-advertise-peer-urls {url}: {problem}"))
        })?);
    }
    advertised.sort_unstable();
    if !advertised.is_empty() && advertised != member.peer_urls {
        return Err(RestoreError::Usage(format!(
            "--initial-advertise-peer-urls says {}, but the initial cluster says {} for '{}': make them equal",
            advertised.join(","),
            member.peer_urls.join(","),
            member.name
        )));
    }
    Ok(vec![member])
}

fn revisions(request: &Request, source: &Source) -> Result<Revisions, RestoreError> {
    let oldest = source.compact_revision.max(1);
    let kept_to = request.to_revision.unwrap_or(source.revision);
    if !(oldest..=source.revision).contains(&kept_to) {
        return Err(SnapshotError::RevisionOutOfRange {
            wanted: kept_to,
            oldest,
            newest: source.revision,
        }
        .into());
    }
    let (policy, reason) = match (request.policy, request.bump) {
        (Some(RevisionPolicy::Exact), None) => (RevisionPolicy::Exact, "--exact says so"),
        (Some(RevisionPolicy::Exact), Some(_)) => {
            return Err(RestoreError::Usage(
                "--exact and --bump-revision exclude each other: leave one out".into(),
            ));
        }
        (Some(RevisionPolicy::BumpAndCompact), _) | (None, Some(_)) => {
            (RevisionPolicy::BumpAndCompact, "--bump-revision says so")
        }
        (None, None) if source.kubernetes => (
            RevisionPolicy::BumpAndCompact,
            "it holds Kubernetes objects (/registry/), whose watchers must notice that time went back",
        ),
        (None, None) => (
            RevisionPolicy::Exact,
            "it holds no Kubernetes objects (/registry/)",
        ),
    };
    let bump = match policy {
        RevisionPolicy::Exact => 0,
        RevisionPolicy::BumpAndCompact => request.bump.unwrap_or(DEFAULT_BUMP),
    };
    if policy == RevisionPolicy::BumpAndCompact && bump == 0 {
        return Err(RestoreError::Usage(
            "--bump-revision 0 raises nothing: use --exact".into(),
        ));
    }
    let starts_at = i64::try_from(bump)
        .ok()
        .and_then(|bump| kept_to.checked_add(bump))
        .ok_or_else(|| {
            RestoreError::Usage(format!(
                "--bump-revision {bump} goes beyond the largest revision"
            ))
        })?;
    Ok(Revisions {
        policy,
        reason: reason.to_owned(),
        kept_to,
        starts_at,
    })
}

/// Where what is in the target now will be kept; nowhere when nothing is there.
fn occupied(
    request: &Request,
    target: &Target,
    now: Timestamp,
) -> Result<Option<PathBuf>, RestoreError> {
    let found: Vec<&str> = target
        .entries
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|name| ![LOST_AND_FOUND, WORKSPACE].contains(name))
        .collect();
    if found.is_empty() {
        return Ok(None);
    }
    let kept_as = kept_as(&request.data_dir, target.mount_point, now);
    if request.replace {
        return Ok(Some(kept_as));
    }
    let shown: Vec<&str> = found.iter().copied().take(4).collect();
    Err(RestoreError::Occupied {
        data_dir: request.data_dir.clone(),
        found: shown.join(", "),
        kept_as,
    })
}

fn kept_as(data_dir: &Path, mount_point: bool, now: Timestamp) -> PathBuf {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    if mount_point {
        return data_dir.join(format!("before-{time}"));
    }
    let mut name = data_dir.as_os_str().to_owned();
    name.push(format!(".before-{time}"));
    name.into()
}

fn notes(request: &Request, source: &Source, target: &Target) -> Vec<String> {
    let mut notes = Vec::new();
    if target.running {
        notes.push("an etcd runs on the target: it must be stopped before this is done".to_owned());
    }
    if source.digest != Digest::Ok && request.skip_hash_check {
        notes.push(
            "the digest is not checked (--skip-hash-check): pages and rows are, but a changed value would not be noticed"
                .to_owned(),
        );
    }
    if request.to_revision.is_some_and(|to| to < source.revision) {
        notes.push(
            "leases, users and roles are those of the whole snapshot, not of the earlier revision"
                .into(),
        );
    }
    notes
}
