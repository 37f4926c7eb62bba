//! What holds for every catalogue and every policy.

use super::*;

fn rules() -> impl Strategy<Value = RetentionPolicy> {
    let count = || proptest::option::of(1_i64..6);
    (
        count(),
        proptest::option::of(1_i64..400),
        count(),
        count(),
        count(),
        count(),
    )
        .prop_map(
            |(max_backups, age, keep_hourly, keep_daily, keep_weekly, keep_monthly)| {
                RetentionPolicy {
                    max_backups,
                    max_age: age.map(|hours| format!("{hours}h").parse().unwrap()),
                    keep_hourly,
                    keep_daily,
                    keep_weekly,
                    keep_monthly,
                }
            },
        )
}

/// Whether each full backup is proved, and how many hours passed since the one before.
fn history() -> impl Strategy<Value = Vec<Manifest>> {
    proptest::collection::vec((any::<bool>(), 1_i64..200), 0..24).prop_map(|steps| {
        let total: i64 = steps.iter().map(|(_, gap)| gap).sum();
        let mut ago = total;
        let mut backups = Vec::new();
        for (revision, (proved, gap)) in (1..).zip(&steps) {
            ago -= gap;
            let backup = full(revision, ago);
            backups.push(if *proved { backup } else { unproved(backup) });
        }
        backups
    })
}

/// The rules, said as slowly and plainly as can be: for one backup, look at all others.
fn model_keeps(backups: &[Manifest], index: usize, policy: &RetentionPolicy) -> bool {
    let backup = &backups[index];
    let proved = |one: &Manifest| one.level >= Level::Verified;
    let newer: Vec<&Manifest> = backups[index + 1..]
        .iter()
        .filter(|other| proved(other) == proved(backup))
        .collect();
    let slot = |grain, moment| match grain {
        Grain::Hour => moment_parts(moment, 13),
        Grain::Day => moment_parts(moment, 10),
        Grain::Week => iso_week(moment),
        Grain::Month => moment_parts(moment, 7),
    };
    let rule = |count: Option<i64>, grain| {
        count.is_some_and(|count| {
            let mine: String = slot(grain, backup.created);
            let others: BTreeSet<String> =
                newer.iter().map(|one| slot(grain, one.created)).collect();
            !others.contains(&mine) && (others.len() as i64) < count
        })
    };
    *policy == RetentionPolicy::default()
        || policy
            .max_backups
            .is_some_and(|most| (newer.len() as i64) < most)
        || policy
            .max_age
            .is_some_and(|age| now() < backup.created + age.as_signed())
        || rule(policy.keep_hourly, Grain::Hour)
        || rule(policy.keep_daily, Grain::Day)
        || rule(policy.keep_weekly, Grain::Week)
        || rule(policy.keep_monthly, Grain::Month)
        || (proved(backup) && newer.is_empty())
}

fn moment_parts(moment: Timestamp, length: usize) -> String {
    moment.to_string()[..length].to_owned()
}

fn iso_week(moment: Timestamp) -> String {
    let week = moment
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .iso_week_date();
    format!("{}-W{}", week.year(), week.week())
}

/// A chain: whether its full backup is proved, how many increments it has, how many of them were merged into one, whether the last is
/// of another schedule, and the hours to the next.
type Shape = (bool, usize, usize, bool, i64);

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    proptest::collection::vec(
        (
            any::<bool>(),
            0_usize..6,
            0_usize..6,
            any::<bool>(),
            1_i64..300,
        ),
        1..8,
    )
}

/// Backups of these shapes, and the ids of those of another schedule.
fn catalogue(shapes: &[Shape]) -> (Vec<Manifest>, BTreeSet<String>) {
    let mut backups: Vec<Manifest> = Vec::new();
    let mut foreign: BTreeSet<String> = BTreeSet::new();
    let mut revision = 0;
    let mut ago: i64 = shapes.iter().map(|one| one.4).sum::<i64>() + 100;
    for (proved, length, merged, others, gap) in shapes {
        revision += 10;
        ago -= gap;
        let head = full(revision, ago);
        let base = if *proved { head } else { unproved(head) };
        backups.push(base.clone());
        let mut parent = base.clone();
        let mut made = Vec::new();
        for step in 0..*length {
            revision += 1;
            let mut next = increment(&base, &parent, revision, ago);
            next.stored_sha256 = format!("{}-stored", next.id);
            if *others && step + 1 == *length {
                next.schedule = Some("another".to_owned());
                foreign.insert(next.id.clone());
            }
            made.push(next.clone());
            parent = next;
        }
        // The first so many of them as one, written a while ago or just now.
        if *merged >= 2 && *merged < made.len() {
            let last = &made[*merged - 1];
            let mut larger = increment(&base, &base, last.revision, ago);
            larger.stored_sha256 = format!("{}-stored", larger.id);
            if let Some(chain) = &mut larger.chain {
                chain.merged = Some(crate::repository::MergedFrom {
                    count: u32::try_from(*merged).unwrap(),
                    last_sha256: last.stored_sha256.clone(),
                    last_epoch: 1,
                });
            }
            if *gap % 2 == 0 {
                larger.completed = now();
            }
            made.push(larger);
        }
        backups.extend(made);
    }
    (backups, foreign)
}

proptest! {
    #[test]
    fn the_plan_is_what_the_model_says(backups in history(), policy in rules()) {
        let plan = plan(&backups, &free(), &hourly(), &policy, now());
        let kept: BTreeSet<&str> = plan.kept.iter().map(|one| one.id.as_str()).collect();
        for (index, backup) in backups.iter().enumerate() {
            prop_assert_eq!(
                kept.contains(backup.id.as_str()),
                model_keeps(&backups, index, &policy),
                "{} of {:?}", backup.id, policy
            );
        }
        prop_assert_eq!(plan.kept.len() + plan.dropped.len(), backups.len());
        if let Some(last) = backups.iter().rev().find(|one| one.level >= Level::Verified) {
            prop_assert!(kept.contains(last.id.as_str()));
        }
    }

    /// Chains with unproved ends, merged increments and those of another schedule, under any policy: what remains is whole.
    #[test]
    fn whatever_goes_what_remains_leads_as_far_as_before(shapes in shapes(), policy in rules()) {
        let (backups, foreign) = catalogue(&shapes);
        let plan = plan(&backups, &free(), &hourly(), &policy, now());
        let dropped: BTreeSet<&str> = plan.dropped.iter().map(|one| one.id.as_str()).collect();
        let rest: Vec<Manifest> = backups.iter().filter(|one| !dropped.contains(one.id.as_str())).cloned().collect();
        prop_assert!(foreign.iter().all(|id| !dropped.contains(id.as_str())));
        for base in rest.iter().filter(|one| one.kind == Kind::Full) {
            let end = |all: &[Manifest]| crate::repository::increments_of(base, all).last().map(|one| one.revision);
            prop_assert_eq!(end(&rest), end(&backups), "{} leads less far", base.id);
        }
        for increment in rest.iter().filter(|one| one.kind == Kind::Increment) {
            let base = &increment.chain.as_ref().unwrap().base;
            prop_assert!(rest.iter().any(|one| one.id == *base), "{} lost its base", increment.id);
        }
        let last = backups.iter().rev().find(|one| one.kind == Kind::Full && one.level >= Level::Verified);
        prop_assert!(last.is_none_or(|last| !dropped.contains(last.id.as_str())));
        // Chains go whole: every head by the model's rules, of heads alone, except that its newest increment counts for its age.
        for judged in &plan.dropped {
            let backup = backups.iter().find(|one| one.id == judged.id).unwrap();
            let superseded = crate::repository::replacement(backup, &backups);
            let head = backup.chain.as_ref().is_some_and(|chain| dropped.contains(chain.base.as_str()));
            prop_assert!(backup.kind == Kind::Full || head || superseded.is_some_and(|one| one.completed < now()));
        }
    }

    /// Pins of the living and the dead, and locks of any length: a chain that is held stays whole, and of the others goes what would
    /// go anyway.
    #[test]
    fn what_is_read_or_locked_stays_and_nothing_else_changes(
        shapes in shapes(),
        policy in rules(),
        pins in proptest::collection::vec((any::<prop::sample::Index>(), -30_i64..30), 0..4),
        lock in proptest::option::of(1_i64..600),
    ) {
        let (backups, _) = catalogue(&shapes);
        let base_of = |one: &Manifest| one.chain.as_ref().map_or(one.id.clone(), |chain| chain.base.clone());
        let heads: Vec<&Manifest> = backups.iter().filter(|one| one.kind == Kind::Full).collect();
        let pins: Vec<Pin> = pins.iter().map(|(at, minutes)| Pin {
            cluster_id: CLUSTER.to_owned(),
            base: heads[at.index(heads.len())].id.clone(),
            who: "a restore".to_owned(),
            until: now() + SignedDuration::from_mins(*minutes),
        }).collect();
        let ours = |one: &&Manifest| one.schedule == hourly().schedule;
        let held = |base: &str| {
            let read = pins.iter().any(|pin| pin.base == base && pin.until > now());
            let locked = |one: &Manifest| lock.is_some_and(|lock| one.completed + hours(lock) > now());
            read || backups.iter().filter(ours).any(|one| base_of(one) == base && locked(one))
        };
        let dropped = |holds: &Holds| -> BTreeSet<String> {
            let plan = plan(&backups, holds, &hourly(), &policy, now());
            plan.dropped.into_iter().map(|one| one.id).collect()
        };
        let expected: BTreeSet<String> = dropped(&free())
            .into_iter()
            .filter(|id| !held(&base_of(backups.iter().find(|one| one.id == *id).unwrap())))
            .collect();
        let holds = Holds { pins: pins.clone(), lock: lock.map(hours) };
        prop_assert_eq!(dropped(&holds), expected);
    }

    #[test]
    fn finer_grains_nest_in_coarser_ones(a in 0_i64..4_000_000_000, step in 0_i64..5_000_000) {
        let (a, b) = (Timestamp::from_second(a).unwrap(), Timestamp::from_second(a + step).unwrap());
        for (fine, coarse) in [(Grain::Hour, Grain::Day), (Grain::Day, Grain::Week), (Grain::Day, Grain::Month)] {
            prop_assert!(bucket(a, fine) != bucket(b, fine) || bucket(a, coarse) == bucket(b, coarse));
            prop_assert!(bucket(a, coarse) <= bucket(b, coarse));
        }
    }

    #[test]
    fn what_a_kept_increment_needs_is_kept(lengths in proptest::collection::vec(0_usize..4, 1..8), policy in rules()) {
        let mut backups: Vec<Manifest> = Vec::new();
        let mut revision = 0;
        for length in &lengths {
            revision += 1;
            let base = full(revision, 1000 - revision);
            backups.push(base.clone());
            let mut parent = base.clone();
            for _ in 0..*length {
                revision += 1;
                let next = increment(&base, &parent, revision, 1000 - revision);
                backups.push(next.clone());
                parent = next;
            }
        }
        let plan = plan(&backups, &free(), &hourly(), &policy, now());
        let kept: BTreeSet<&str> = plan.kept.iter().map(|one| one.id.as_str()).collect();
        for backup in backups.iter().filter(|one| kept.contains(one.id.as_str())) {
            if let Some(chain) = &backup.chain {
                prop_assert!(kept.contains(chain.base.as_str()));
                let parent = backups.iter().find(|one| one.stored_sha256 == chain.parent_sha256).unwrap();
                prop_assert!(kept.contains(parent.id.as_str()));
            }
        }
    }
}
