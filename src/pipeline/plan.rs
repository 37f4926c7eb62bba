//! What a backup's spec comes to, before anything is done: what is refused, what is promoted, what its name in the store is.

use jiff::{SignedDuration, Timestamp};

use super::{Part, Request};
use crate::api::{FullEvery, Source, VeleroIntegration};
use crate::etcd::known_problems;
use crate::recorder::watch::users_changed;
use crate::repository::{Kind, Level, Manifest, exports_to, increments_of};

/// What `fullEvery` is when it is not set: a restore merges at most a day of increments.
const MOST_INCREMENTS: i64 = 288;
const LONGEST_CHAIN: SignedDuration = SignedDuration::from_hours(24);
/// So many small increments are merged: a day of one a minute is then 60 objects and not 1,440.
const MERGE_AT: usize = 24;
/// How often a chain is compared with the live cluster, at most.
const HASH_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// So many stored bytes may be fetched for each of these comparisons; a larger chain is compared less often.
const COMPARED_BYTES: u64 = 64 << 20;
/// A restore asks the store for each object of a chain.
const PER_OBJECT: SignedDuration = SignedDuration::from_millis(50);
/// Paces that are believed, bytes in a second: a tiny backup says little about a large one.
const SLOWEST_PACE: f64 = 1e6;
const FASTEST_PACE: f64 = 300e6;

/// How a backup is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// All of etcd.
    Etcd,
    /// The objects of some namespaces, out of etcd.
    EtcdObjects,
    /// Objects, through the Kubernetes API.
    Api,
}

/// How a backup is read, or why it must not be taken as it is asked for; never silently something less: an etcd that is named and does
/// not answer is a failure.
pub(super) fn how(request: &Request) -> Result<How, String> {
    let spec = &request.spec;
    let wants_pair = |velero: &VeleroIntegration| velero.enabled;
    if !request.makes_velero_pair && spec.velero_integration.as_ref().is_some_and(wants_pair) {
        return Err(
            "veleroIntegration needs the operator, which makes Velero's backup; set enabled: false"
                .to_owned(),
        );
    }
    let objects = spec.namespace_selector.is_some() || !request.export.namespaces.is_empty();
    match (spec.source, request.cluster.endpoints.is_empty()) {
        (Source::Direct, true) => {
            Err("source Direct reads etcd, and no endpoint is named; set etcdEndpoints".to_owned())
        }
        (Source::Proxy, _) | (Source::Auto, true) => Ok(How::Api),
        (Source::Direct | Source::Auto, false) if objects => Ok(How::EtcdObjects),
        (Source::Direct | Source::Auto, false) => Ok(How::Etcd),
    }
}

/// What is worth saying although the backup is good.
pub(super) fn warnings(promoted: Option<&str>, etcd_version: &str) -> Vec<String> {
    let mut warnings = known_problems(etcd_version);
    if let Some(why) = promoted {
        warnings.push(format!(
            "BackupPromotedToFull: {why}; so the whole database was backed up"
        ));
    }
    warnings
}

/// Where a chain can be continued.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tip<'a> {
    /// Its full backup.
    pub base: &'a Manifest,
    /// Its last backup; the full one when there is no increment yet.
    pub last: &'a Manifest,
}

/// The newest full backup of the request's schedule that a chain may stand on.
pub(super) fn newest_base<'a>(backups: &'a [Manifest], request: &Request) -> Option<&'a Manifest> {
    let proved =
        |backup: &&Manifest| backup.level >= Level::Verified || !request.spec.validation.enabled;
    backups
        .iter()
        .filter(|backup| backup.kind == Kind::Full)
        .filter(|backup| {
            backup.namespace == request.namespace && backup.schedule == request.schedule
        })
        .filter(proved)
        .max_by_key(|backup| (backup.created, backup.revision))
}

/// How many increments a writer made of what is one now.
fn merged_from(increment: &Manifest) -> u32 {
    let merged = increment
        .chain
        .as_ref()
        .and_then(|chain| chain.merged.as_ref());
    merged.map_or(1, |merged| merged.count)
}

/// The increments to merge into one: those before the chain's last that were not merged yet, once there are enough of them.
pub(super) fn to_merge<'a>(increments: &[&'a Manifest]) -> Option<Vec<&'a Manifest>> {
    let (_, before) = increments.split_last()?;
    let small = |one: &&&Manifest| merged_from(one) == 1 && one.level >= Level::Verified;
    let mut run: Vec<&Manifest> = before.iter().rev().take_while(small).copied().collect();
    run.reverse();
    (run.len() >= MERGE_AT).then_some(run)
}

/// How often a chain is compared with the live cluster: a member's writers wait while its hash is computed, and the chain is fetched
/// anew, so the more there is to fetch, the seldomer.
fn compared_every(base: &Manifest, increments: &[&Manifest]) -> SignedDuration {
    let stored = increments.iter().map(|one| one.stored_size).sum::<u64>();
    let steps = stored
        .saturating_add(base.stored_size)
        .div_ceil(COMPARED_BYTES);
    HASH_EVERY * i32::try_from(steps.clamp(1, 1_000)).unwrap_or(1)
}

/// Why a chain is not to be compared with the live cluster now; `None` when it is: at its first increment, and then every so often.
pub(super) fn not_compared(
    base: &Manifest,
    increments: &[&Manifest],
    now: Timestamp,
) -> Option<String> {
    let last = increments.iter().rev().find(|one| one.hash_kv.is_some())?;
    let every = compared_every(base, increments);
    (now.duration_since(last.created) < every).then(|| {
        format!(
            "it was with increment {}, and is again {} minutes after that",
            last.id,
            every.as_mins()
        )
    })
}

/// What is known of the cluster as a backup begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cluster {
    /// Its newest revision.
    pub revision: i64,
    /// The revision of its users and roles, where somebody tells.
    pub auth_revision: Option<u64>,
    /// The release of the member that was asked.
    pub version: String,
}

/// What an incremental backup comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next<'a> {
    /// An increment.
    Increment(Tip<'a>),
    /// An increment, and then the chain becomes a full backup, for this reason.
    Merge(Tip<'a>, String),
    /// A full backup of etcd, for this reason.
    Full(String),
}

/// How long a restore of a chain is expected to take, and how that is known. The pace is that of the last drill, bytes in a second, else
/// that at which the full backup was proved, sealed, stored and read back, which is about what a restore does.
fn restore_time(
    base: &Manifest,
    increments: &[&Manifest],
    drilled: Option<f64>,
) -> (SignedDuration, String) {
    let bytes = increments.iter().map(|one| one.raw_size).sum::<u64>();
    let bytes = bytes.saturating_add(base.raw_size);
    let began = base.settled.unwrap_or(base.created);
    let took = base.completed.duration_since(began).as_secs_f64().max(1.0);
    #[expect(clippy::cast_precision_loss, reason = "bytes in a second, roughly")]
    let (bytes_as_float, own) = (bytes as f64, base.raw_size as f64 / took);
    let (pace, seen) = match drilled {
        Some(pace) => (pace, "as in the last drill"),
        None => (own, "as when the full backup was made"),
    };
    let pace = pace.clamp(SLOWEST_PACE, FASTEST_PACE);
    let objects = i32::try_from(increments.len() + 1).unwrap_or(i32::MAX);
    let seconds = SignedDuration::try_from_secs_f64(bytes_as_float / pace);
    let time = seconds.unwrap_or(SignedDuration::MAX);
    let time = time.saturating_add(PER_OBJECT.saturating_mul(objects));
    let words = format!(
        "{} s for {} bytes in {objects} objects at {:.1} MB/s, {seen}",
        time.as_secs(),
        bytes,
        pace / 1e6
    );
    (time, words)
}

fn too_many(count: i64, every: &FullEvery) -> Option<String> {
    let most = every.increments.unwrap_or(MOST_INCREMENTS);
    (count >= most)
        .then(|| format!("the chain has {count} increments, and fullEvery allows {most}"))
}

fn too_old(base: &Manifest, every: &FullEvery, now: Timestamp) -> Option<String> {
    let oldest = every.max_age.as_ref();
    let oldest = oldest.map_or(LONGEST_CHAIN, |age| age.as_signed());
    (now.duration_since(base.read_at()) >= oldest).then(|| {
        let whole = if base.kind == Kind::Export {
            "export"
        } else {
            "full backup"
        };
        format!("the {whole} {} is older than fullEvery allows", base.id)
    })
}

/// Why the chain is long enough: by its number of increments, or by what a restore of it would take.
fn long_enough(
    base: &Manifest,
    increments: &[&Manifest],
    every: &FullEvery,
    drilled: Option<f64>,
) -> Option<String> {
    if let Some(many) = too_many(merged_count(increments), every) {
        return Some(many);
    }
    let target = every.restore_time.as_ref()?.as_signed();
    let (takes, words) = restore_time(base, increments, drilled);
    let (alone, _) = restore_time(base, &[], drilled);
    // When the full backup alone takes as long, another one does not help.
    (takes >= target && alone < target * 9 / 10).then(|| {
        format!(
            "a restore is expected to take {words}, and fullEvery.restoreTime allows {} s",
            target.as_secs()
        )
    })
}

/// That no full backup can be restored as fast as is wanted, in words.
pub(super) fn out_of_reach(
    base: &Manifest,
    every: Option<&FullEvery>,
    drilled: Option<f64>,
) -> Option<String> {
    let target = every?.restore_time.as_ref()?.as_signed();
    let (alone, words) = restore_time(base, &[], drilled);
    (alone >= target * 9 / 10).then(|| {
        format!(
            "RestoreTime: a restore of the full backup alone is expected to take {words}; fullEvery.restoreTime wants {} s: raise it",
            target.as_secs()
        )
    })
}

fn merged_count(increments: &[&Manifest]) -> i64 {
    let counts = increments.iter().map(|one| i64::from(merged_from(one)));
    counts.sum()
}

/// Why a chain cannot be merged into a full backup that is as good as one of etcd.
fn not_merged(
    base: &Manifest,
    increments: &[&Manifest],
    request: &Request,
    cluster: &Cluster,
) -> Option<String> {
    let minor = |version: &str| {
        version
            .splitn(3, '.')
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let validation = &request.spec.validation;
    if !validation.enabled || !validation.consistency_check {
        return Some("it cannot be held to the live cluster, as validation is off".to_owned());
    }
    if minor(&base.etcd_version) != minor(&cluster.version) {
        return Some(format!(
            "etcd was {} then, and is {} now",
            base.etcd_version, cluster.version
        ));
    }
    let unproved = increments.iter().find(|one| one.level < Level::Verified)?;
    Some(format!("increment {} was never proved", unproved.id))
}

/// What the next incremental backup of the request's schedule comes to. `drilled` is the pace of its last drill, bytes in a second.
pub(super) fn next<'a>(
    backups: &'a [Manifest],
    request: &Request,
    cluster: &Cluster,
    (full_every, drilled): (Option<&FullEvery>, Option<f64>),
    now: Timestamp,
) -> Next<'a> {
    let Some(base) = newest_base(backups, request) else {
        return Next::Full("there is no verified full backup to continue".to_owned());
    };
    let increments = increments_of(base, backups);
    let last = increments.last().copied().unwrap_or(base);
    let tip = Tip { base, last };
    if cluster.revision < last.revision {
        return Next::Full(format!(
            "the cluster is at revision {}, before the recorded {}: it was restored",
            cluster.revision, last.revision
        ));
    }
    if let (Some(then), Some(is)) = (base.auth_revision, cluster.auth_revision)
        && then != is
    {
        return Next::Full(users_changed(then, is));
    }
    let every = full_every.cloned().unwrap_or_default();
    if let Some(old) = too_old(base, &every, now) {
        return Next::Full(old);
    }
    let Some(due) = long_enough(base, &increments, &every, drilled) else {
        return Next::Increment(tip);
    };
    if !every.synthetic {
        return Next::Full(due);
    }
    match not_merged(base, &increments, request, cluster) {
        Some(why) => Next::Full(format!("{due}; the chain is not merged: {why}")),
        // What could not be merged again and again is not waited for; whoever merges alone was told so.
        None if request.part != Part::Merge
            && merged_count(&increments) >= 2 * every.increments.unwrap_or(MOST_INCREMENTS) =>
        {
            Next::Full(format!(
                "{due}, and merging it has failed for as long again"
            ))
        }
        None => Next::Merge(tip, due),
    }
}

/// The newest export of the request's schedule, which the next one goes on from, or the reason why a whole one is due. `backups` are
/// those of its cluster.
pub(super) fn export_tip<'a>(
    backups: &'a [Manifest],
    request: &Request,
    selection: &str,
    full_every: Option<&FullEvery>,
    now: Timestamp,
) -> Result<&'a Manifest, String> {
    let exports = backups.iter().filter(|one| {
        one.kind == Kind::Export
            && one.namespace == request.namespace
            && one.schedule == request.schedule
            && (one.level >= Level::Verified || !request.spec.validation.enabled)
    });
    let last = exports
        .max_by_key(|one| (one.created, one.revision))
        .ok_or("there is no verified export to continue")?;
    let scope = last.export.as_ref();
    if scope.is_none_or(|scope| scope.selection != selection) {
        return Err(format!(
            "export {} was asked for other resources or namespaces",
            last.id
        ));
    }
    if last.revision <= 0 {
        return Err(format!("export {} is of no one resourceVersion", last.id));
    }
    let chain = exports_to(last, backups)?;
    let base = chain.first().copied().unwrap_or(last);
    let count = i64::try_from(chain.len()).unwrap_or(i64::MAX) - 1;
    let every = full_every.cloned().unwrap_or_default();
    match too_many(count, &every).or_else(|| too_old(base, &every, now)) {
        Some(why) => Err(why),
        None => Ok(last),
    }
}

#[cfg(test)]
pub(super) mod tests;
