//! At the end of a soak: the store's chains against the writers' log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcdguardian::recorder::merge::Until;
use etcdguardian::recorder::segment::{Item, SegmentReader};
use etcdguardian::repository::{Kind, Manifest, Repository, SilentObserver};
use etcdguardian::restore::chain;
use etcdguardian::seal::Unsealer;
use etcdguardian::secrets::FolderSecrets;
use etcdguardian::snapshot::Snapshot;
use etcdguardian::snapshot::bolt::Database;
use etcdguardian::verify::{self, Mapped};
use jiff::Timestamp;

use super::load::{Dice, Written};
use super::model::{Keys, Model, Row, Write, live};
use crate::run::Site;
use crate::support::{block_on, location};

type Rows = BTreeMap<i64, Vec<Row>>;

/// Everything in the store, unsealed.
struct Stored {
    backups: Vec<Manifest>,
    folder: tempfile::TempDir,
    /// Restores that were held to a hash of the live cluster.
    held: std::cell::Cell<usize>,
}

impl Stored {
    fn open(site: &Site) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backups = block_on(async {
            let store = serde_json::json!({"provider": "Local", "bucket": site.path("store")});
            let none = FolderSecrets::new(None);
            let quiet = Arc::new(SilentObserver);
            let repository = Repository::open(&location(store), "default", &none, quiet)
                .await
                .unwrap();
            let catalog = repository.catalog(None).await.unwrap();
            assert!(catalog.damaged.is_empty(), "{:?}", catalog.damaged);
            for backup in &catalog.backups {
                let to = folder.path().join(backup.id.replace('/', "_"));
                verify::fetch(&repository, backup, &Unsealer::default(), &to, &|_| {})
                    .await
                    .unwrap();
            }
            catalog.backups
        });
        let held = std::cell::Cell::new(0);
        Self {
            backups,
            folder,
            held,
        }
    }

    fn file(&self, backup: &Manifest) -> PathBuf {
        self.folder.path().join(backup.id.replace('/', "_"))
    }

    /// The live keys at a target, and the revision that it came to.
    fn restored(&self, until: Until) -> Result<(Keys, i64), String> {
        let chain = chain::resolve(&self.backups, None, until)?;
        let base = self.file(chain.base);
        let segments: Vec<PathBuf> = chain.increments.iter().map(|one| self.file(one)).collect();
        let to = self.folder.path().join("restored");
        let merged = chain::assemble(&base, &segments, until, &to).unwrap();
        let rows = rows_of(&to);
        if let Some((increment, live)) = chain::live_sample(&chain, merged.revision) {
            chain::hold_to(&to, &increment.id, live).unwrap();
            self.held.set(self.held.get() + 1);
        }
        std::fs::remove_file(&to).unwrap();
        let rows = rows.values().flatten();
        let keys = live(rows.map(|(key, value)| (key.as_slice(), value.as_slice())));
        Ok((keys, merged.revision))
    }
}

fn rows_of(file: &Path) -> Rows {
    let mapped = Mapped::open(file).unwrap();
    let database = Database::open(Snapshot::split(mapped.bytes()).image).unwrap();
    let mut rows = Rows::new();
    for row in database.bucket(b"key").unwrap().unwrap().rows() {
        let row = row.unwrap();
        let revision = i64::from_be_bytes(*row.key.first_chunk().unwrap());
        let made = rows.entry(revision).or_default();
        made.push((row.key.to_vec(), row.value.to_vec()));
    }
    rows
}

/// What the increments hold: each revision's rows, and when the recorder saw it.
fn recorded(stored: &Stored) -> (Rows, BTreeMap<i64, Timestamp>) {
    let (mut rows, mut times) = (Rows::new(), BTreeMap::new());
    for backup in &stored.backups {
        if backup.kind != Kind::Increment {
            continue;
        }
        let file = std::fs::File::open(stored.file(backup)).unwrap();
        let mut reader = SegmentReader::open(std::io::BufReader::new(file)).unwrap();
        let (mut now, mut made) = (0, Vec::new());
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Revision { revision, at } => {
                    now = revision;
                    let first = times.entry(revision).or_insert(at);
                    *first = at.min(*first);
                }
                Item::Row { key, value } => made.push((key.to_vec(), value.to_vec())),
                Item::Commit => {
                    let made = std::mem::take(&mut made);
                    let known = rows.entry(now).or_insert_with(|| made.clone());
                    assert_eq!(*known, made, "two increments differ at revision {now}");
                }
                Item::Idle(_) | Item::Lease { .. } => {}
            }
        }
    }
    (rows, times)
}

/// Holds every recorded row, and random revisions and moments, to the log.
pub fn all(site: &Site, log: &[Written], newest: i64, said: &str, dice: &mut Dice, samples: usize) {
    let stored = Stored::open(site);
    let (mut rows, times) = recorded(&stored);
    // Whoever was recorded is what each full backup's own history says, too.
    for full in stored.backups.iter().filter(|one| one.kind == Kind::Full) {
        for (revision, made) in rows_of(&stored.file(full)) {
            if revision > full.compact_revision {
                let known = rows.entry(revision).or_insert_with(|| made.clone());
                assert_eq!(*known, made, "{} differs at revision {revision}", full.id);
            }
        }
    }
    for full in &stored.backups {
        let denied = full.checks.iter().find(|check| !check.ok);
        assert!(denied.is_none(), "{}: {denied:?}", full.id);
    }
    let kinds = |kind| stored.backups.iter().filter(|one| one.kind == kind).count();
    eprintln!(
        "{} full backups, {} increments, {} rows",
        kinds(Kind::Full),
        kinds(Kind::Increment),
        rows.values().map(Vec::len).sum::<usize>()
    );
    let first = stored.backups.iter().find(|one| one.kind == Kind::Full);
    let first = first.unwrap();
    let missing: Vec<i64> = (first.revision..=newest)
        .filter(|revision| *revision > 1 && !rows.contains_key(revision))
        .collect();
    assert!(
        missing.is_empty(),
        "no backup holds {missing:?}; the log:\n{said}"
    );

    let revisions: Vec<i64> = (0..samples)
        .map(|_| first.revision + dice.roll((newest - first.revision + 1) as u64) as i64)
        .collect();
    let last = stored.backups.iter().map(|one| one.created).max().unwrap();
    let span = last.as_millisecond() - first.created.as_millisecond();
    let settled = first.settled.unwrap();
    let moments: Vec<Timestamp> = (0..samples)
        .map(|_| {
            let after = dice.roll(span as u64 + 1) as i64;
            let moment = first.created.as_millisecond() + after + 1;
            let moment = Timestamp::from_millisecond(moment).unwrap();
            moment.clamp(settled, last)
        })
        .collect();
    let mut wanted: BTreeMap<i64, Option<Keys>> = revisions.iter().map(|r| (*r, None)).collect();
    let mut reached = Vec::new();
    for moment in moments {
        let (keys, revision) = stored
            .restored(Until::Time(moment))
            .unwrap_or_else(|problem| panic!("{moment}: {problem}; the log:\n{said}"));
        wanted.insert(revision, None);
        reached.push((moment, revision, keys));
    }
    let sent = replay(log, &rows, newest, &mut wanted);
    for revision in &revisions {
        let (keys, came_to) = stored.restored(Until::Revision(*revision)).unwrap();
        assert_eq!(came_to, *revision);
        assert!(
            Some(&keys) == wanted[revision].as_ref(),
            "revision {revision} restored is not what was written"
        );
    }
    let mut late = std::time::Duration::ZERO;
    for (moment, revision, keys) in &reached {
        assert!(
            Some(keys) == wanted[revision].as_ref(),
            "{moment} (revision {revision}) restored is not what was written"
        );
        // Nothing that was written after the moment, and everything that the recorder had seen by then.
        if let Some(sent) = sent.get(revision) {
            assert!(
                sent <= moment,
                "revision {revision} was sent after {moment}"
            );
        }
        if let Some(next) = times.get(&(revision + 1)) {
            assert!(next > moment, "revision {} came by {moment}", revision + 1);
            let sent = sent.get(&(revision + 1)).unwrap_or(next);
            let behind = moment.duration_since(*sent).unsigned_abs();
            late = late.max(if sent < moment {
                behind
            } else {
                std::time::Duration::ZERO
            });
        }
    }
    eprintln!(
        "{} revisions and {} moments restore to what was written, {} held to a live hash; a moment missed at most {late:?}",
        revisions.len(),
        reached.len(),
        stored.held.get()
    );
}

/// Replays the log along the recorded revisions: each is an acknowledged write, or one whose fate its writer never heard. Returns
/// when each acknowledged one was sent.
fn replay(
    log: &[Written],
    rows: &Rows,
    newest: i64,
    wanted: &mut BTreeMap<i64, Option<Keys>>,
) -> BTreeMap<i64, Timestamp> {
    let mut acknowledged: BTreeMap<i64, Vec<&Written>> = BTreeMap::new();
    let mut unknown: Vec<&Written> = Vec::new();
    for one in log {
        match one.revision {
            Some(revision) => acknowledged.entry(revision).or_default().push(one),
            None => unknown.push(one),
        }
    }
    let mut model = Model::default();
    let mut sent = BTreeMap::new();
    let mut settled = BTreeSet::new();
    // Before the first write there is nothing.
    if let Some(slot) = wanted.get_mut(&1) {
        *slot = Some(Keys::new());
    }
    for revision in 2..=newest {
        let recorded = rows.get(&revision).expect("checked before");
        let told = acknowledged.remove(&revision).unwrap_or_default();
        let mut found = None;
        if let [one] = &told[..]
            && matches!(one.write, Write::Txn(_))
        {
            let made = model.apply(revision, &one.write);
            assert!(
                made == *recorded,
                "revision {revision} was acknowledged as {one:?} and recorded as {recorded:?}"
            );
            sent.insert(revision, one.sent);
            found = Some(std::mem::take(&mut model));
        }
        let mut idle: Vec<&Written> = Vec::new();
        for one in if found.is_none() { &told[..] } else { &[] } {
            let mut next = model.clone();
            if found.is_none() && next.apply(revision, &one.write) == *recorded {
                found = Some(next);
                sent.insert(revision, one.sent);
            } else {
                idle.push(one);
            }
        }
        for (index, one) in unknown.iter().enumerate() {
            if found.is_some() {
                break;
            }
            // Only what can have made these rows is tried: in an hour there are thousands whose fate is unknown.
            if settled.contains(&index) || !one.write.may_have_made(recorded) {
                continue;
            }
            let mut next = model.clone();
            if next.apply(revision, &one.write) == *recorded {
                settled.insert(index);
                found = Some(next);
            }
        }
        model = found.unwrap_or_else(|| {
            panic!("nobody wrote what was recorded at revision {revision}: {recorded:?}")
        });
        // A lease that holds no key any more goes in no revision of its own: it is told of the one before.
        for one in idle {
            let made = model.clone().apply(revision, &one.write);
            assert!(
                matches!(one.write, Write::Revoke(_)) && made.is_empty(),
                "revision {revision} was acknowledged as {one:?}, which makes {made:?}, and recorded as {recorded:?}; also told: {told:?}"
            );
        }
        if let Some(slot) = wanted.get_mut(&revision) {
            *slot = Some(model.keys.clone());
        }
    }
    assert!(
        acknowledged
            .values()
            .flatten()
            .all(|one| matches!(one.write, Write::Revoke(_))),
        "acknowledged writes are not in the record"
    );
    sent
}
