//! From what was seen to what it proves: checks, each with a sentence, and the level that they add up to. Pure.

use crate::etcd::LiveHash;
use crate::repository::{Check, Level};
use crate::snapshot::{Digest, Finding, HashKv, Proof, Severity, Status};

/// How many findings a check's sentence names.
const NAMED_FINDINGS: usize = 3;

/// What the live cluster said of the same data.
#[derive(Debug, Clone, PartialEq)]
pub enum Live {
    /// It was not asked.
    NotAsked,
    /// It was asked and nothing can be concluded, for this reason.
    Incomparable(String),
    /// It answered, and this is the file's own hash at the same revision and compact revision.
    Answered {
        /// The member's.
        live: LiveHash,
        /// The file's.
        own: HashKv,
    },
}

/// What the evidence adds up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How far the backup is proved; `Stored` when a check failed.
    pub level: Level,
    /// Each check with what was seen.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether every check passed.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The sentences of the checks that failed, in one.
    pub fn problem(&self) -> String {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| format!("{}: {}", check.name, check.message))
            .collect();
        failed.join("; ")
    }
}

/// The compact revision at which the file's hash must be computed to be compared with a live one; else why the two cannot be
/// compared, which is no sign of corruption (etcd-format.md §4.2, §4.3).
///
/// # Errors
/// With the reason.
pub fn comparable(file: &Status, live: &HashKv) -> Result<i64, String> {
    if live.revision != file.revision {
        return Err(format!(
            "the member spoke of revision {} and the snapshot ends at {}",
            live.revision, file.revision
        ));
    }
    // Never compacted is -1 or 0, by release.
    let own = file.compact_revision.max(0);
    let theirs = live.compact_revision.max(0);
    if theirs < own {
        return Err(format!(
            "the member answered as of compaction {theirs}, and the snapshot is compacted at {own}"
        ));
    }
    if theirs > file.revision {
        return Err(format!(
            "the cluster was compacted at {theirs} since the snapshot"
        ));
    }
    Ok(live.compact_revision)
}

/// Judges a file by its proof, by the digest that etcd sent with it when that is known, and by the live cluster's hash.
pub fn judge(proof: &Proof, sent_sha256: Option<&str>, live: &Live) -> Verdict {
    let mut checks = vec![
        digest(proof, sent_sha256),
        findings(proof, "structure", true),
        findings(proof, "rows", false),
    ];
    let mut level = Level::Verified;
    if let Some((check, consistent)) = hashkv(proof, live) {
        checks.push(check);
        if consistent {
            level = Level::Consistent;
        }
    }
    if checks.iter().any(|check| !check.ok) {
        level = Level::Stored;
    }
    Verdict { level, checks }
}

fn check(name: &str, ok: bool, message: String) -> Check {
    Check {
        name: name.to_owned(),
        ok,
        message,
    }
}

fn digest(proof: &Proof, sent: Option<&str>) -> Check {
    let of_file = proof.status.as_ref().map(|status| status.digest);
    let short = proof.image_sha256.get(..16).unwrap_or_default();
    match (of_file, sent) {
        (_, Some(sent)) if sent != proof.image_sha256 => check(
            "digest",
            false,
            "the bytes are not those whose digest etcd sent".to_owned(),
        ),
        (Some(Digest::Ok), _) => check("digest", true, format!("SHA-256 {short}… is etcd's own")),
        (Some(Digest::Missing), _) => check(
            "digest",
            false,
            "etcd's digest behind the database is missing".to_owned(),
        ),
        (Some(Digest::Mismatch), _) => check(
            "digest",
            false,
            "etcd's digest behind the database is not that of its bytes".to_owned(),
        ),
        (None, _) => check(
            "digest",
            false,
            "the file is too broken to find etcd's digest".to_owned(),
        ),
    }
}

/// Pages, metas and the file as a whole are structure; everything else is about rows.
pub fn is_structure(finding: &Finding) -> bool {
    ["page", "meta", "file", "free", "root", "image"]
        .iter()
        .any(|word| finding.place.starts_with(word))
}

fn findings(proof: &Proof, name: &str, structure: bool) -> Check {
    let of_kind: Vec<&Finding> = proof
        .findings
        .iter()
        .filter(|finding| is_structure(finding) == structure)
        .collect();
    let errors: Vec<&&Finding> = of_kind
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    if !errors.is_empty() {
        let named: Vec<String> = errors
            .iter()
            .take(NAMED_FINDINGS)
            .map(|finding| format!("{} at {}: {}", finding.code, finding.place, finding.message))
            .collect();
        let more = errors.len().saturating_sub(NAMED_FINDINGS);
        let tail = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        return check(name, false, format!("{}{tail}", named.join("; ")));
    }
    let Some(status) = &proof.status else {
        return check(name, false, "the file is too broken to look".to_owned());
    };
    let seen = if structure {
        format!("all pages of {} bytes are sound", status.db_size)
    } else {
        format!(
            "{} rows and {} keys up to revision {} are sound",
            status.rows, status.total_keys, status.revision
        )
    };
    let warnings = of_kind
        .iter()
        .filter(|finding| finding.severity == Severity::Warning)
        .count();
    let tail = if warnings > 0 {
        format!("; {warnings} warnings, see 'etcdguardian snapshot check'")
    } else {
        String::new()
    };
    check(name, true, format!("{seen}{tail}"))
}

fn hashkv(proof: &Proof, live: &Live) -> Option<(Check, bool)> {
    let (live, own) = match live {
        Live::NotAsked => return None,
        Live::Incomparable(why) => {
            return Some((check("hashkv", true, format!("incomparable: {why}")), false));
        }
        Live::Answered { live, own } => (live, own),
    };
    let member = format!("{:x}", live.member_id);
    if live.hash.hash == own.hash {
        let words = format!(
            "{} at revision {} equals member {member}'s",
            own.hash, own.revision
        );
        return Some((check("hashkv", true, words), true));
    }
    // Without a live key the value depends on how far a compaction has come, in etcd as here.
    let no_keys = proof
        .status
        .as_ref()
        .is_some_and(|status| status.total_keys == 0);
    if no_keys && own.compact_revision > 0 {
        let why = "incomparable: without a live key the hash depends on a running compaction";
        return Some((check("hashkv", true, why.to_owned()), false));
    }
    let words = format!(
        "the snapshot has {} and member {member} has {} at revision {} (compacted {}): the member's data or the snapshot is corrupt",
        own.hash, live.hash.hash, own.revision, own.compact_revision
    );
    Some((check("hashkv", false, words), false))
}

#[cfg(test)]
mod tests;
