//! The keys that a snapshot holds at one of its revisions: listed, looked up, summed by prefix, compared with another's.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bolt::{Database, row_at};
use super::mvcc::ledger::Ledger;
use super::mvcc::{Compaction, KeyValue, hash};
use super::{Snapshot, SnapshotError};

/// The live keys of a snapshot at a revision.
pub struct Contents<'a> {
    image: &'a [u8],
    /// Key and element of its newest row, in the order of the keys: 24 bytes a live key.
    live: Vec<(&'a [u8], usize)>,
}

/// What lies below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixSum {
    /// The prefix.
    pub prefix: String,
    /// Live keys.
    pub keys: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Bytes of keys and values in rows that are no longer the newest, and of deletions: what a compaction may free.
    pub history: u64,
}

/// What happened below a prefix between two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixChange {
    /// The prefix.
    pub prefix: String,
    /// Keys that only the second has.
    pub created: u64,
    /// Keys that both have, with another row.
    pub changed: u64,
    /// Keys that only the first has.
    pub deleted: u64,
    /// Bytes of the keys and values that were created or changed, as the second has them.
    pub bytes: u64,
    /// By how many bytes live keys and values grew.
    pub growth: i64,
}

/// What differs between two snapshots: keys in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Keys that only the second has.
    pub created: Vec<String>,
    /// Keys that both have, with another row.
    pub changed: Vec<String>,
    /// Keys that only the first has.
    pub deleted: Vec<String>,
    /// The same by prefix.
    pub prefixes: Vec<PrefixChange>,
}

impl<'a> Contents<'a> {
    /// The live keys below `prefix` at `revision` (the newest unless given), with their sums for prefixes of `depth` parts.
    ///
    /// # Errors
    /// When rows cannot be read, or do not reach to the revision.
    pub fn of(
        bytes: &'a [u8],
        prefix: &[u8],
        revision: Option<i64>,
        depth: usize,
    ) -> Result<(Self, Vec<PrefixSum>), SnapshotError> {
        let image = Snapshot::split(bytes).image;
        let mut ledger = Ledger::new(image);
        let mut sums: BTreeMap<&[u8], PrefixSum> = BTreeMap::new();
        each_row(bytes, revision, |element, kv, tombstone| {
            if kv.key.is_empty() || !kv.key.starts_with(prefix) {
                return;
            }
            if tombstone {
                ledger.remove(kv.key);
            } else {
                ledger.put(kv.key, element, false);
            }
            // All rows for now; the live ones are taken off below.
            let sum = sums.entry(prefix_of(kv.key, prefix, depth)).or_default();
            sum.history += size(&kv);
        })?;
        let contents = Self::sorted(image, &ledger);
        for kv in contents.rows() {
            if let Some(sum) = sums.get_mut(prefix_of(kv.key, prefix, depth)) {
                sum.keys += 1;
                sum.bytes += size(&kv);
                sum.history -= size(&kv);
            }
        }
        let named = |(prefix, sum): (&[u8], PrefixSum)| PrefixSum {
            prefix: text(prefix),
            ..sum
        };
        Ok((contents, sums.into_iter().map(named).collect()))
    }

    fn sorted(image: &'a [u8], ledger: &Ledger<'a>) -> Self {
        let mut live: Vec<(&[u8], usize)> = ledger
            .elements()
            .filter_map(|element| Some((kv_at(image, element)?.key, element)))
            .collect();
        live.sort_unstable();
        Self { image, live }
    }

    /// The live keys with their values, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = KeyValue<'a>> + '_ {
        // The ledger gave only elements that could be read.
        self.live
            .iter()
            .map(|(_, element)| kv_at(self.image, *element).unwrap_or_default())
    }

    /// What changed from these to those of `second`, with sums for prefixes of `depth` parts behind `prefix`.
    pub fn difference(&self, second: &Contents<'_>, prefix: &[u8], depth: usize) -> Difference {
        let mut difference = Difference::default();
        let mut sums: BTreeMap<Vec<u8>, PrefixChange> = BTreeMap::new();
        let (mut before, mut after) = (self.rows().peekable(), second.rows().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (Some(before), Some(after)) => before.key.cmp(after.key),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => break,
            };
            let old = order.is_le().then(|| before.next()).flatten();
            let new = order.is_ge().then(|| after.next()).flatten();
            let Some(key) = old.or(new).map(|kv| kv.key) else {
                break;
            };
            if old == new {
                continue;
            }
            let place = prefix_of(key, prefix, depth);
            let sum = sums.entry(place.to_vec()).or_default();
            let (list, count) = match (old, new) {
                (None, _) => (&mut difference.created, &mut sum.created),
                (_, None) => (&mut difference.deleted, &mut sum.deleted),
                _ => (&mut difference.changed, &mut sum.changed),
            };
            list.push(text(key));
            *count += 1;
            let (old, new) = (old.map_or(0, |kv| size(&kv)), new.map_or(0, |kv| size(&kv)));
            sum.bytes += new;
            sum.growth += new.cast_signed() - old.cast_signed();
        }
        difference.prefixes = sums
            .into_iter()
            .map(|(prefix, sum)| PrefixChange {
                prefix: text(&prefix),
                ..sum
            })
            .collect();
        difference
    }
}

/// A key as it was at `revision` (the newest unless given); nothing when it was not there.
///
/// # Errors
/// When rows cannot be read, or do not reach to the revision.
pub fn get<'a>(
    bytes: &'a [u8],
    key: &[u8],
    revision: Option<i64>,
) -> Result<Option<KeyValue<'a>>, SnapshotError> {
    let mut found = None;
    each_row(bytes, revision, |_, kv, tombstone| {
        if kv.key == key {
            found = (!tombstone).then_some(kv);
        }
    })?;
    Ok(found)
}

/// Keys below `prefix` that are not there at `revision` (the newest unless given) any more, as they last were, with the
/// revision that deleted them; in the order of the keys. Only what the file's history still holds.
///
/// # Errors
/// When rows cannot be read, or do not reach to the revision.
pub fn deleted<'a>(
    bytes: &'a [u8],
    prefix: &[u8],
    revision: Option<i64>,
) -> Result<Vec<(KeyValue<'a>, i64)>, SnapshotError> {
    let image = Snapshot::split(bytes).image;
    let mut ledger = Ledger::new(image);
    let mut gone: BTreeMap<&[u8], (usize, i64)> = BTreeMap::new();
    each_row(bytes, revision, |element, kv, tombstone| {
        if !kv.key.starts_with(prefix) {
            return;
        }
        if !tombstone {
            ledger.put(kv.key, element, false);
            gone.remove(kv.key);
        } else if let Some(last) = ledger.remove(kv.key) {
            gone.insert(kv.key, (last, kv.mod_revision));
        }
    })?;
    let last = |(element, at)| Some((kv_at(image, element)?, at));
    Ok(gone.into_values().filter_map(last).collect())
}

/// Keys as JSON can hold them: as they are when they are UTF-8, else with `\x` escapes.
pub fn text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) => text.to_owned(),
        Err(_) => key.escape_ascii().to_string(),
    }
}

/// Bytes of a key and its value.
pub fn size(kv: &KeyValue<'_>) -> u64 {
    (kv.key.len() + kv.value.len()) as u64
}

/// Shows each row up to a revision: its element, its content, whether it deletes. A deletion's revision is that of its row.
fn each_row<'a>(
    bytes: &'a [u8],
    revision: Option<i64>,
    mut show: impl FnMut(usize, KeyValue<'a>, bool),
) -> Result<(), SnapshotError> {
    let database = Database::open(Snapshot::split(bytes).image)?;
    let newest = hash::newest_revision(&database)?;
    let oldest = Compaction::of(&database)?.revision();
    let last = revision.unwrap_or(newest);
    if last > newest || last < oldest {
        return Err(SnapshotError::RevisionOutOfRange {
            wanted: last,
            oldest: oldest.max(1),
            newest,
        });
    }
    for row in hash::rows_up_to(&database, last)? {
        let (row, key) = row?;
        let mut kv = KeyValue::decode(row.value).map_err(|problem| SnapshotError::Unreadable {
            problem: problem.to_owned(),
            place: format!("row {}", key.revision),
        })?;
        kv.mod_revision = key.revision.main;
        show(row.element, kv, key.tombstone);
    }
    Ok(())
}

fn kv_at(image: &[u8], element: usize) -> Option<KeyValue<'_>> {
    let (_, value) = row_at(image, element)?;
    KeyValue::decode(value).ok()
}

/// The first `depth` parts of a key behind `base`, each ended by a slash; fewer where it has fewer. A leading slash is no part.
fn prefix_of<'k>(key: &'k [u8], base: &[u8], depth: usize) -> &'k [u8] {
    let start = base.len().min(key.len());
    let rest = key.get(start..).unwrap_or_default();
    let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
    let end = rest
        .iter()
        .enumerate()
        .skip(slashes)
        .filter(|(_, byte)| **byte == b'/')
        .take(depth)
        .last()
        .map_or(start, |(at, _)| start + at + 1);
    key.get(..end).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_parts_between_slashes() {
        let of = |key: &'static str, base: &str, depth| {
            text(prefix_of(key.as_bytes(), base.as_bytes(), depth))
        };
        assert_eq!(of("/registry/pods/a/b", "", 2), "/registry/pods/");
        assert_eq!(
            of("/registry/pods/a/b", "/registry/pods/", 2),
            "/registry/pods/a/"
        );
        assert_eq!(of("k/1", "", 2), "k/");
        assert_eq!(of("plain", "", 2), "");
        assert_eq!(of("k/1", "k", 1), "k");
        assert_eq!(text(b"a\xff"), "a\\xff");
    }
}
