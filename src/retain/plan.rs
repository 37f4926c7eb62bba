//! The decision, pure: chains are kept or dropped whole; proved and unproved ones are counted apart, so that a run of failing
//! proofs never pushes out what is known to restore.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Holds, Judged, RetentionPlan, Scope};
use crate::api::RetentionPolicy;
use crate::repository::{Level, Manifest, Pin, replacement};

/// What was merged into a larger increment stays for so long: a restore that chose the small ones is done by then.
const LONGEST_RESTORE: SignedDuration = SignedDuration::from_hours(1);

/// The calendar's grains in which one backup each is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    Hour,
    Day,
    Week,
    Month,
}

impl Grain {
    fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// The one place that says which hour, day, week (from Monday) or month, in UTC, a moment lies in.
pub(super) fn bucket(moment: Timestamp, grain: Grain) -> i64 {
    let hour = moment.as_second().div_euclid(3600);
    let day = hour.div_euclid(24);
    match grain {
        Grain::Hour => hour,
        Grain::Day => day,
        // 1970-01-01 was a Thursday.
        Grain::Week => (day + 3).div_euclid(7),
        Grain::Month => {
            let date = moment.to_zoned(TimeZone::UTC).date();
            i64::from(date.year()) * 12 + i64::from(date.month()) - 1
        }
    }
}

/// A full backup or an export with the increments that build on it: it stays or goes as one.
struct Chain<'a> {
    head: &'a Manifest,
    increments: Vec<&'a Manifest>,
    /// When the head was taken. A clock that once went back does not make a newer revision look older.
    taken: Timestamp,
    /// When its newest member was taken, likewise.
    newest: Timestamp,
}

impl Chain<'_> {
    fn is_proved(&self) -> bool {
        self.head.level >= Level::Verified
    }
}

/// Applies a policy to the backups of a scope; the last verified full backup, what kept increments need, what somebody reads and
/// what the store has locked always stay. `backups` are in the catalogue's order. Each cluster and each namespace is judged for itself.
pub fn plan(
    backups: &[Manifest],
    holds: &Holds,
    scope: &Scope,
    policy: &RetentionPolicy,
    now: Timestamp,
) -> RetentionPlan {
    let mut groups: BTreeMap<(&str, &str), Vec<&Manifest>> = BTreeMap::new();
    for backup in backups {
        let in_scope = backup.schedule == scope.schedule
            && scope
                .namespace
                .as_ref()
                .is_none_or(|name| *name == backup.namespace);
        if in_scope {
            groups
                .entry((&backup.cluster_id, &backup.namespace))
                .or_default()
                .push(backup);
        }
    }
    let mut plan = RetentionPlan::default();
    for group in groups.values() {
        judge(group, backups, holds, policy, now, &mut plan);
    }
    plan
}

fn judge(
    group: &[&Manifest],
    all: &[Manifest],
    holds: &Holds,
    policy: &RetentionPolicy,
    now: Timestamp,
    plan: &mut RetentionPlan,
) {
    let (chains, strays) = chains_of(group, all, now);
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); chains.len()];
    // Newest first, the proved and the unproved apart.
    for proved in [true, false] {
        let ranked: Vec<usize> = (0..chains.len())
            .rev()
            .filter(|index| chains[*index].is_proved() == proved)
            .collect();
        for (index, reason) in kept_by_rules(&chains, &ranked, policy, now) {
            let word = if proved {
                ""
            } else {
                " (not verified, counted apart)"
            };
            reasons[index].push(format!("{reason}{word}"));
        }
    }
    let last_proved = (0..chains.len())
        .rev()
        .find(|index| is_verified_full(chains[*index].head));
    for (index, chain) in chains.iter().enumerate().rev() {
        let mut why = std::mem::take(&mut reasons[index]);
        if Some(index) == last_proved {
            why.push("the last verified full backup".to_owned());
        }
        let held = held_because(chain, holds, now);
        why.extend(held.clone());
        let kept = !why.is_empty();
        if !kept {
            why.push(dropped_because(policy));
        }
        for (position, increment) in chain.increments.iter().enumerate().rev() {
            let mut why = why.clone();
            let larger = replacement(increment, all).filter(|_| kept && held.is_none());
            if let Some(larger) = larger
                && now.duration_since(larger.completed) >= LONGEST_RESTORE
            {
                let why = format!("increment {} holds it, and has for an hour", larger.id);
                push(plan, false, increment, vec![why]);
                continue;
            }
            if kept {
                why = vec![format!("an increment of {}, which stays", chain.head.id)];
            } else if position > 0 {
                why.push("its chain goes as one".to_owned());
            }
            push(plan, kept, increment, why);
        }
        push(plan, kept, chain.head, why);
    }
    for stray in strays {
        let why = "the full backup that it builds on is not in the catalogue: look why".to_owned();
        push(plan, true, stray, vec![why]);
    }
}

/// Why nothing of a chain can go now, whatever the rules say.
fn held_because(chain: &Chain<'_>, holds: &Holds, now: Timestamp) -> Option<String> {
    if let Some(pin) = reader(chain.head, &holds.pins, now) {
        return Some(format!("{} reads it", pin.who));
    }
    // A chain goes as one, and its newest objects are locked longest.
    let members = chain.increments.iter().chain([&chain.head]);
    let written = members.map(|one| one.completed).max()?;
    let until = written.checked_add(holds.lock?).unwrap_or(Timestamp::MAX);
    (until > now).then(|| format!("the store has locked it until {until}"))
}

/// Who reads the chain of a backup at this moment.
pub fn reader<'a>(backup: &Manifest, pins: &'a [Pin], now: Timestamp) -> Option<&'a Pin> {
    pins.iter().find(|pin| pin.holds(backup, now))
}

fn push(plan: &mut RetentionPlan, kept: bool, backup: &Manifest, reasons: Vec<String>) {
    let judged = Judged {
        cluster_id: backup.cluster_id.clone(),
        id: backup.id.clone(),
        reasons,
    };
    if kept {
        plan.kept.push(judged)
    } else {
        plan.dropped.push(judged)
    }
}

/// Chains in the order of their heads, and increments whose head is not among them.
fn chains_of<'a>(
    group: &[&'a Manifest],
    all: &'a [Manifest],
    now: Timestamp,
) -> (Vec<Chain<'a>>, Vec<&'a Manifest>) {
    let mut taken = Timestamp::MIN;
    let mut chains: Vec<Chain<'a>> = Vec::new();
    let mut strays = Vec::new();
    for backup in group {
        // The catalogue is ordered by revision, so time may only grow along it; what lies in the future says nothing.
        if backup.created <= now {
            taken = taken.max(backup.created);
        }
        let moment = if backup.created > now {
            backup.created
        } else {
            taken
        };
        if backup.is_part() {
            let base = backup.chain.as_ref().map(|chain| chain.base.as_str());
            match chains
                .iter_mut()
                .find(|chain| Some(chain.head.id.as_str()) == base)
            {
                Some(chain) => {
                    chain.increments.push(backup);
                    chain.newest = chain.newest.max(moment);
                }
                None => strays.push(*backup),
            }
        } else {
            let increments = Vec::new();
            chains.push(Chain {
                head: backup,
                increments,
                taken: moment,
                newest: moment,
            });
        }
    }
    // Increments that another schedule's recorder made build on this group's heads, too.
    for backup in all.iter().filter(|backup| backup.is_part()) {
        let base = backup.chain.as_ref().map(|chain| chain.base.as_str());
        let of_group = group.iter().any(|ours| std::ptr::eq(*ours, backup));
        if of_group {
            continue;
        }
        if let Some(chain) = chains.iter_mut().find(|chain| {
            Some(chain.head.id.as_str()) == base && chain.head.cluster_id == backup.cluster_id
        }) {
            // They are not ours to delete: what they need stays, as if it were new.
            chain.newest = Timestamp::MAX;
        }
    }
    (chains, strays)
}

/// The rules that keep something, of chains ranked from the newest.
fn kept_by_rules(
    chains: &[Chain<'_>],
    ranked: &[usize],
    policy: &RetentionPolicy,
    now: Timestamp,
) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    if *policy == RetentionPolicy::default() {
        kept.extend(
            ranked
                .iter()
                .map(|index| (*index, "no rule is set".to_owned())),
        );
        return kept;
    }
    for index in ranked {
        let chain = &chains[*index];
        if chain.newest == Timestamp::MAX {
            kept.push((
                *index,
                "an increment of another schedule needs it".to_owned(),
            ));
        } else if chain.newest > now {
            kept.push((
                *index,
                "it is from the future: look at the clock".to_owned(),
            ));
        }
    }
    if let Some(most) = policy.max_backups {
        let newest = ranked
            .iter()
            .take(usize::try_from(most).unwrap_or(usize::MAX));
        kept.extend(newest.map(|index| (*index, format!("one of the newest {most}"))));
    }
    if let Some(age) = policy.max_age {
        let limit = age.as_signed();
        for index in ranked {
            if now.duration_since(chains[*index].newest) < limit {
                kept.push((*index, format!("younger than {age}")));
            }
        }
    }
    for (count, grain) in [
        (policy.keep_hourly, Grain::Hour),
        (policy.keep_daily, Grain::Day),
        (policy.keep_weekly, Grain::Week),
        (policy.keep_monthly, Grain::Month),
    ] {
        let Some(count) = count else { continue };
        // The newest of each of the last so many that hold one: a pause in backing up deletes nothing.
        let mut seen = BTreeSet::new();
        for index in ranked {
            if seen.len() >= usize::try_from(count).unwrap_or(usize::MAX) {
                break;
            }
            if seen.insert(bucket(chains[*index].taken, grain)) {
                kept.push((*index, format!("the newest of its {}", grain.word())));
            }
        }
    }
    kept
}

fn dropped_because(policy: &RetentionPolicy) -> String {
    let mut rules = Vec::new();
    if let Some(most) = policy.max_backups {
        rules.push(format!("not one of the newest {most}"));
    }
    if let Some(age) = policy.max_age {
        rules.push(format!("not younger than {age}"));
    }
    for (count, grain) in [
        (policy.keep_hourly, Grain::Hour),
        (policy.keep_daily, Grain::Day),
        (policy.keep_weekly, Grain::Week),
        (policy.keep_monthly, Grain::Month),
    ] {
        if let Some(count) = count {
            rules.push(format!(
                "not the newest of one of the last {count} {}s",
                grain.word()
            ));
        }
    }
    rules.join(", ")
}

/// Of a cluster whose etcd is out of reach the exports are the whole backups.
fn is_verified_full(backup: &Manifest) -> bool {
    !backup.is_part() && backup.level >= Level::Verified
}

/// Why a backup must not be deleted by hand; `None` when it may. `backups` are in the catalogue's order.
pub fn must_keep(backups: &[Manifest], id: &str) -> Option<String> {
    let wanted: Vec<&Manifest> = backups.iter().filter(|backup| backup.id == id).collect();
    for backup in wanted {
        let same_cluster = backups
            .iter()
            .filter(|other| other.cluster_id == backup.cluster_id);
        let needs_it = |other: &&Manifest| {
            other.chain.as_ref().is_some_and(|chain| {
                chain.parent_sha256 == backup.stored_sha256 || chain.base == backup.id
            }) && other.id != backup.id
        };
        if let Some(child) = same_cluster.clone().find(needs_it) {
            return Some(format!(
                "increment {} needs it; delete the newer increments first",
                child.id
            ));
        }
        let mut verified = same_cluster.filter(|other| is_verified_full(other));
        if is_verified_full(backup) && verified.all(|other| other.id == backup.id) {
            return Some(
                "it is the last verified full backup of its cluster; take another first".to_owned(),
            );
        }
    }
    None
}
