//! A target → the full backup and the increments that lead there, and these → one snapshot file. No etcd takes part.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::RestoreError;
use super::choose::candidates;
use crate::recorder::merge::{self, Merged, Until};
use crate::recorder::segment::SegmentReader;
use crate::records::WRITE_AT_ONCE;
use crate::repository::{Kind, Manifest, increments_of, increments_to, refused};
use crate::snapshot::bolt::Database;
use crate::snapshot::mvcc::compact::{CompactError, compacted};
use crate::snapshot::{self, HashKv, Snapshot, SnapshotError};
use crate::verify::Mapped;

const BUFFER: usize = 1 << 20;

/// What is restored from.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain<'a> {
    /// The full backup.
    pub base: &'a Manifest,
    /// What follows on it, in order; none when the base alone leads there.
    pub increments: Vec<&'a Manifest>,
    /// Where it ends.
    pub until: Until,
}

/// The chain that leads to `until`: on the named backup, else on the newest proved full backup that gets there with the
/// fewest increments.
///
/// # Errors
/// In words: what was asked for is not covered, and what is.
pub fn resolve<'a>(
    backups: &'a [Manifest],
    named: Option<&'a Manifest>,
    until: Until,
) -> Result<Chain<'a>, String> {
    let mut last = None;
    let mut fulls = match named {
        None => candidates(backups)?,
        Some(full) if full.kind == Kind::Full => vec![full],
        Some(increment) if increment.kind == Kind::Increment => {
            last = Some(increment);
            let base = increment.chain.as_ref().map(|chain| chain.base.as_str());
            let found = backups
                .iter()
                .find(|full| full.kind == Kind::Full && Some(full.id.as_str()) == base);
            vec![found.ok_or_else(|| {
                format!("the full backup of increment {} is not there", increment.id)
            })?]
        }
        Some(other) => {
            return Err(format!(
                "{} is an export: use 'etcdguardian import'",
                other.id
            ));
        }
    };
    // What leads there with least to merge comes first, among the equally proved.
    if until != Until::End {
        fulls.sort_by_key(|full| {
            let proved = full.level >= crate::repository::Level::Verified;
            (!proved, std::cmp::Reverse((full.created, full.revision)))
        });
    }
    let mut nearest: Option<(&Manifest, &Manifest)> = None;
    for base in fulls {
        let mut increments = match last {
            None => increments_of(base, backups),
            Some(last) => increments_to(base, last, backups),
        };
        if let Some(last) = last {
            let Some(index) = increments
                .iter()
                .position(|increment| increment.id == last.id)
            else {
                let end = increments.last().copied().unwrap_or(base);
                let why = refused(end, backups);
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                return Err(format!(
                    "increment {} does not follow on {} without a gap; the chain ends at revision {}{why}",
                    last.id, base.id, end.revision
                ));
            };
            increments.truncate(index + 1);
        }
        let end = increments.last().copied().unwrap_or(base);
        let covered = match until {
            Until::End => true,
            Until::Revision(wanted) => {
                wanted >= base.compact_revision.max(1) && wanted <= end.revision
            }
            Until::Time(time) => holds_all_by(base) <= time && time <= covered_to(end, backups),
        };
        if covered {
            let mut reached = base;
            increments.retain(|increment| {
                let needed = match until {
                    Until::End => last.is_some() || named.is_none(),
                    Until::Revision(wanted) => reached.revision < wanted,
                    Until::Time(time) => reached.created < time,
                };
                reached = increment;
                needed
            });
            return Ok(Chain {
                base,
                increments,
                until,
            });
        }
        if nearest.is_none_or(|(_, known)| known.revision < end.revision) {
            nearest = Some((base, end));
        }
    }
    Err(match nearest {
        None => "it holds no full backup".to_owned(),
        Some((base, end)) => {
            let why = refused(end, backups);
            let why = why.map(|why| format!("; {why}")).unwrap_or_default();
            format!(
                "what was asked for is not covered: the newest chain leads from revision {} ({}) to {} ({}){why}",
                base.revision, base.created, end.revision, end.created
            )
        }
    })
}

/// By when all of a full backup had been written: a moment before that may hold less than it does.
fn holds_all_by(base: &Manifest) -> Timestamp {
    base.settled.unwrap_or(base.completed).max(base.created)
}

/// Up to when a chain covers everything: a later full backup at its last revision says that nothing was written in between.
fn covered_to(end: &Manifest, backups: &[Manifest]) -> Timestamp {
    backups
        .iter()
        .filter(|one| one.kind == Kind::Full && one.cluster_id == end.cluster_id)
        .filter(|one| one.revision == end.revision)
        .map(|one| one.created)
        .fold(end.created.max(end.covers()), Timestamp::max)
}

/// The newest hash of the live cluster that the increments of a chain hold and that what was merged can be held to: of a revision
/// in it, and as of a compaction that its base can reproduce.
pub fn live_sample<'a>(chain: &Chain<'a>, reached: i64) -> Option<(&'a Manifest, HashKv)> {
    let sampled = |increment: &&'a Manifest| Some((*increment, increment.hash_kv?));
    let found = chain.increments.iter().rev().filter_map(sampled);
    found
        .filter(|(_, live)| live.revision <= reached)
        .find(|(_, live)| live.compact_revision >= chain.base.compact_revision)
}

/// Holds a merged snapshot to a hash of the live cluster.
///
/// # Errors
/// When they differ: base and increments do not come to what the cluster had.
pub fn hold_to(merged: &Path, increment: &str, live: HashKv) -> Result<(), RestoreError> {
    let mapped = Mapped::open(merged).map_err(RestoreError::file("read back", merged))?;
    let (revision, compacted) = (live.revision, live.compact_revision);
    let own = snapshot::hash_kv(mapped.bytes(), Some(revision), Some(compacted))?;
    if own.hash == live.hash {
        return Ok(());
    }
    Err(RestoreError::Damaged {
        source_name: format!("the chain up to increment {increment}"),
        problem: format!(
            "it comes to HashKV {} at revision {revision}, and the live cluster had {}",
            own.hash, live.hash
        ),
    })
}

/// Merges a fetched full backup and fetched increments into the snapshot file `to`, with its digest behind it.
///
/// # Errors
/// When one of them is broken, or a revision is missing.
pub fn assemble(
    base: &Path,
    increments: &[PathBuf],
    until: Until,
    to: &Path,
) -> Result<Merged, RestoreError> {
    let mapped = Mapped::open(base).map_err(RestoreError::file("read", base))?;
    let image =
        Database::open(Snapshot::split(mapped.bytes()).image).map_err(SnapshotError::from)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(RestoreError::file("create", to))?;
    let segments = increments.iter().map(|path| {
        let file = File::open(path)?;
        SegmentReader::open(BufReader::with_capacity(BUFFER, file))
    });
    let out = BufWriter::with_capacity(WRITE_AT_ONCE, file);
    let (out, merged) = merge::merge(&image, segments, until, out)?;
    with_digest(out, to)?;
    Ok(merged)
}

/// Compacts a merged snapshot at a revision, as the live cluster was, into the snapshot file `to` with its digest behind it.
///
/// # Errors
/// When it is broken, or the file cannot be written.
pub fn compact(merged: &Path, revision: i64, to: &Path) -> Result<(), RestoreError> {
    let mapped = Mapped::open(merged).map_err(RestoreError::file("read", merged))?;
    let image =
        Database::open(Snapshot::split(mapped.bytes()).image).map_err(SnapshotError::from)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(RestoreError::file("create", to))?;
    let out = BufWriter::with_capacity(WRITE_AT_ONCE, file);
    let out = compacted(&image, revision, out).map_err(|error| match error {
        CompactError::Snapshot(error) => RestoreError::from(error),
        CompactError::Build(error) => RestoreError::from(error),
    })?;
    with_digest(out, to)
}

/// Writes behind an image the digest of its bytes, as etcd does.
fn with_digest(out: BufWriter<File>, to: &Path) -> Result<(), RestoreError> {
    let mut file = out
        .into_inner()
        .map_err(|error| RestoreError::file("write", to)(error.into_error()))?;
    let written = Mapped::open(to).map_err(RestoreError::file("read back", to))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, written.bytes());
    drop(written);
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))
        .and_then(|_| file.write_all(digest.as_ref()))
        .map_err(RestoreError::file("write", to))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn backup(id: &str, first: Option<i64>, last: i64, parent: &str) -> Manifest {
        let time = jiff::Timestamp::from_second(last * 60).unwrap();
        let mut value = serde_json::json!({
            "formatVersion": 1, "id": id, "kind": "Full", "clusterId": "c", "clusterName": "c",
            "memberId": "1", "etcdVersion": "3.6.0", "backupName": id, "namespace": "default",
            "runId": id, "created": time, "completed": time, "revision": last, "compactRevision": 5,
            "keyCount": 1, "dataKey": id, "rawSize": 1, "storedSize": 1, "plainSha256": "",
            "storedSha256": id, "compression": "Zstd", "level": "Verified", "toolVersion": "0",
        });
        if let Some(first) = first {
            value["kind"] = "Increment".into();
            value["startRevision"] = first.into();
            value["chain"] = serde_json::json!({"base": "a", "parentSha256": parent, "epoch": 1});
        }
        serde_json::from_value(value).unwrap()
    }

    fn ids(chain: &Chain<'_>) -> Vec<String> {
        let all = std::iter::once(&chain.base).chain(&chain.increments);
        all.map(|backup| backup.id.clone()).collect()
    }

    #[test]
    fn a_target_is_reached_with_what_is_needed_and_nothing_more() {
        let all = [
            backup("a", None, 10, ""),
            backup("i1", Some(11), 20, "a"),
            backup("i2", Some(21), 30, "i1"),
            backup("b", None, 40, ""),
        ];
        let at = |until| ids(&resolve(&all, None, until).unwrap());
        assert_eq!(at(Until::End), ["b"]);
        assert_eq!(at(Until::Revision(40)), ["b"]);
        // The newer full's own history holds it.
        assert_eq!(at(Until::Revision(25)), ["b"]);
        let minute = |minute: i64| jiff::Timestamp::from_second(minute * 60).unwrap();
        assert_eq!(at(Until::Time(minute(15))), ["a", "i1"]);
        assert_eq!(at(Until::Time(minute(20))), ["a", "i1"]);
        assert_eq!(at(Until::Time(minute(21))), ["a", "i1", "i2"]);
        assert!(
            resolve(&all, None, Until::Time(minute(35)))
                .unwrap_err()
                .contains("covered")
        );
        assert!(resolve(&all, None, Until::Revision(3)).is_err());
        assert!(resolve(&all, None, Until::Revision(41)).is_err());
        let named =
            |id: usize, until| resolve(&all, Some(&all[id]), until).map(|chain| ids(&chain));
        assert_eq!(named(0, Until::End).unwrap(), ["a"]);
        assert_eq!(named(2, Until::End).unwrap(), ["a", "i1", "i2"]);
        assert_eq!(named(0, Until::Revision(20)).unwrap(), ["a", "i1"]);
        assert!(named(0, Until::Revision(31)).is_err());
        let hole: Vec<Manifest> = all.iter().filter(|m| m.id != "i1").cloned().collect();
        assert!(
            resolve(&hole, Some(&hole[1]), Until::End)
                .unwrap_err()
                .contains("gap")
        );
    }
}
