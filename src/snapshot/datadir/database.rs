//! The database of a restored cluster: the snapshot's rows, written anew with the members, the raft index and the revision of
//! the new cluster, and without what would keep an older or newer etcd from booting (etcd-format.md §5.8).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Seek, Write};

use super::protobuf::Message;
use super::{Cluster, TERM};
use crate::snapshot::Proof;
use crate::snapshot::bolt::build::{BuildError, ImageBuilder, Kept};
use crate::snapshot::bolt::{Database, Fault, Row};
use crate::snapshot::mvcc::crc::Crc;
use crate::snapshot::mvcc::{BUCKETS, KEY_BUCKET, KeyValue, LEASE_BUCKET, RowKey};

/// Seconds that a lease lives whose own length of life is not in the snapshot any more.
pub const MISSING_LEASE_TTL: u64 = 3600;

/// What becomes of the rows.
#[derive(Debug, Clone, Copy)]
pub struct Rewrite<'a> {
    /// The new cluster.
    pub cluster: &'a Cluster,
    /// Rows of later revisions are left out.
    pub kept_to: i64,
    /// A last, empty row is added at this revision, and everything up to it is marked compacted.
    pub raised_to: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Bytes of the image.
    pub length: u64,
    /// Rows of the bucket `key`.
    pub rows: u64,
    /// Rows left out.
    pub left_out: u64,
    /// Leases that keys name and the snapshot does not hold, added.
    pub added_leases: u64,
    /// CRC-32C over the names of all buckets, their keys and values, in order.
    pub checksum: u32,
    /// CRC-32C of the bucket `key` alone: its name and rows.
    pub rows_checksum: u32,
}

/// Why a database could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The snapshot is broken.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The output broke, or rows are out of order.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Of a database whose pages are kept, so much at least must be in use; the rest stays free space for etcd.
const IN_USE: (u64, u64) = (3, 4);

/// Writes the restored database of `image` to `out`, front to back. `progress` hears of bytes of rows that were passed on.
///
/// # Errors
/// When the image is broken or the output breaks; `out` is then worthless.
pub fn rewrite<W: Write + Seek>(
    image: &Database<'_>,
    wanted: &Rewrite<'_>,
    out: W,
    progress: &dyn Fn(u64),
) -> Result<(W, Rewritten), RewriteError> {
    let mut leases = HashSet::new();
    for row in rows(image, LEASE_BUCKET)? {
        leases.extend(row?.key.first_chunk().map(|id| i64::from_be_bytes(*id)));
    }
    let builder = ImageBuilder::new(out, image.meta().page_size)?;
    Sink::new(image, builder, progress).everything(image, wanted, |sink| {
        sink.bucket(KEY_BUCKET)?;
        let missing = sink.key_rows(image, wanted, &leases)?;
        sink.done.rows_checksum = sink.sum.clone().finish();
        Ok(missing)
    })
}

/// The rows of an image that can stay where they are: none is left out, and the pages hold little else.
///
/// # Errors
/// When the image is broken.
pub fn kept_rows<'a>(
    image: &Database<'a>,
    wanted: &Rewrite<'_>,
) -> Result<Option<Kept<'a>>, Fault> {
    let Some(bucket) = image.bucket(KEY_BUCKET)? else {
        return Ok(None);
    };
    let last = bucket.last()?.and_then(|row| RowKey::decode(row.key));
    if last.is_none_or(|last| last.revision.main > wanted.kept_to) {
        return Ok(None);
    }
    let in_use = bucket.pages()?.saturating_mul(IN_USE.1);
    if in_use < image.meta().high_water.saturating_mul(IN_USE.0) {
        return Ok(None);
    }
    bucket.kept()
}

/// Writes what is not kept behind the pages of `image`, which `out` holds already and at whose end it stands, and then that
/// these are in force. `proof` is what was proved of the image meanwhile.
///
/// # Errors
/// When the image is broken or the output breaks; `out` is then worthless.
pub fn complete<W: Write + Seek>(
    image: &Database<'_>,
    wanted: &Rewrite<'_>,
    kept: &Kept<'_>,
    proof: &Proof,
    out: W,
) -> Result<(W, Rewritten), RewriteError> {
    let builder = ImageBuilder::behind(out, image)?;
    let silent = |_| {};
    Sink::new(image, builder, &silent).everything(image, wanted, |sink| {
        let raised = wanted
            .raised_to
            .map(|revision| RowKey::first_of(revision).encode());
        let row = raised.as_deref().map(|key| (key, &[] as &[u8]));
        sink.complete_bucket();
        sink.sum
            .append_known(proof.rows_checksum.unwrap_or_default(), proof.rows_bytes);
        if let Some((key, _)) = row {
            sink.sum.word(key);
        }
        sink.done.rows_checksum = sink.sum.clone().finish();
        sink.done.rows =
            proof.status.as_ref().map_or(0, |status| status.rows) + u64::from(row.is_some());
        sink.builder.keep(KEY_BUCKET, kept, row)?;
        Ok(proof.missing_leases.clone())
    })
}

/// What the bucket `meta` says of the new cluster; a key without a value goes.
fn meta(wanted: &Rewrite<'_>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let number = |number: u64| Some(number.to_be_bytes().to_vec());
    let mut rows = BTreeMap::from([
        (b"consistent_index".to_vec(), number(wanted.cluster.index())),
        (b"term".to_vec(), number(TERM)),
        // Both name the old cluster: etcd writes them anew, and an older etcd refuses a newer storage version.
        (b"confState".to_vec(), None),
        (b"storageVersion".to_vec(), None),
    ]);
    if let Some(revision) = wanted.raised_to {
        rows.insert(
            b"scheduledCompactRev".to_vec(),
            Some(RowKey::first_of(revision).encode()),
        );
    }
    rows
}

/// A row of the bucket `lease`.
fn lease(id: i64) -> Vec<u8> {
    Message::default()
        .number(1, id.cast_unsigned())
        .number(2, MISSING_LEASE_TTL)
        .done()
}

/// The image under construction, and what is said of it.
struct Sink<'a, W> {
    builder: ImageBuilder<W>,
    /// The bucket that is being written, over the source's bytes where they are taken as they are.
    sum: Crc<'a>,
    /// The buckets before it.
    before: Crc<'a>,
    done: Rewritten,
    progress: &'a dyn Fn(u64),
    unreported: u64,
}

impl<'a, W: Write + Seek> Sink<'a, W> {
    fn new(image: &Database<'a>, builder: ImageBuilder<W>, progress: &'a dyn Fn(u64)) -> Self {
        Self {
            builder,
            sum: Crc::new(image.image()),
            before: Crc::new(image.image()),
            done: Rewritten::default(),
            progress,
            unreported: 0,
        }
    }

    /// All buckets, in the order of their names; `key_bucket` writes that of the rows, and says which leases they lack.
    fn everything(
        mut self,
        image: &Database<'_>,
        wanted: &Rewrite<'_>,
        key_bucket: impl FnOnce(&mut Self) -> Result<BTreeSet<i64>, RewriteError>,
    ) -> Result<(W, Rewritten), RewriteError> {
        let mut names: BTreeSet<Vec<u8>> = BUCKETS.iter().map(|name| name.to_vec()).collect();
        for bucket in image.buckets() {
            names.insert(bucket?.0.to_vec());
        }
        let later = names.split_off(KEY_BUCKET);
        for name in &names {
            self.small_bucket(image, wanted, name, &BTreeSet::new())?;
        }
        let missing = key_bucket(&mut self)?;
        self.done.added_leases = missing.len() as u64;
        for name in later.iter().filter(|name| *name != KEY_BUCKET) {
            self.small_bucket(image, wanted, name, &missing)?;
        }
        self.complete_bucket();
        self.done.checksum = self.before.finish();
        let (out, length) = self.builder.finish()?;
        self.done.length = length;
        Ok((out, self.done))
    }

    fn small_bucket(
        &mut self,
        image: &Database<'_>,
        wanted: &Rewrite<'_>,
        name: &[u8],
        missing: &BTreeSet<i64>,
    ) -> Result<(), RewriteError> {
        self.bucket(name)?;
        match name {
            b"lease" => {
                let added = missing
                    .iter()
                    .map(|id| (id.to_be_bytes().to_vec(), Some(lease(*id))));
                self.merge(image, name, added.collect())
            }
            b"meta" => self.merge(image, name, meta(wanted)),
            b"members" => {
                // In order of the hexadecimal keys, which is not that of the ids when they have leading zeros.
                let members: BTreeMap<String, String> = wanted
                    .cluster
                    .members
                    .iter()
                    .map(|member| (member.key(), member.json()))
                    .collect();
                for (key, json) in &members {
                    self.row(key.as_bytes(), json.as_bytes())?;
                }
                Ok(())
            }
            b"alarm" | b"cluster" | b"members_removed" => Ok(()),
            _ => self.merge(image, name, BTreeMap::new()),
        }
    }

    fn complete_bucket(&mut self) {
        let fresh = self.sum.fresh();
        let complete = std::mem::replace(&mut self.sum, fresh);
        self.before.append(&complete);
    }

    fn bucket(&mut self, name: &[u8]) -> Result<(), BuildError> {
        self.complete_bucket();
        self.sum.word(name);
        self.builder.bucket(name)
    }

    /// A row of the source, as it is.
    fn keep(&mut self, row: &Row<'_>) -> Result<(), BuildError> {
        let length = row.key.len() + row.value.len();
        self.sum.piece(row.data, length);
        self.builder.row(row.key, row.value)?;
        self.report(length);
        Ok(())
    }

    /// A row that is not of the source.
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        self.sum.word(key);
        self.sum.word(value);
        self.builder.row(key, value)?;
        self.report(key.len() + value.len());
        Ok(())
    }

    fn report(&mut self, length: usize) {
        self.unreported += length as u64;
        if self.unreported >= 1 << 20 {
            (self.progress)(std::mem::take(&mut self.unreported));
        }
    }

    /// A bucket's rows, with some added, replaced or left out.
    fn merge(
        &mut self,
        image: &Database<'_>,
        bucket: &[u8],
        changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), RewriteError> {
        let mut changes = changes.into_iter().peekable();
        for row in rows(image, bucket)? {
            let row = row?;
            while let Some((added, content)) =
                changes.next_if(|(change, _)| change.as_slice() < row.key)
            {
                if let Some(content) = content {
                    self.row(&added, &content)?;
                }
            }
            match changes.next_if(|(change, _)| change.as_slice() == row.key) {
                None => self.keep(&row)?,
                Some((_, Some(content))) => self.row(row.key, &content)?,
                Some((_, None)) => {}
            }
        }
        for (added, content) in changes {
            if let Some(content) = content {
                self.row(&added, &content)?;
            }
        }
        Ok(())
    }

    /// The rows of revisions; returns the leases that live keys name and the snapshot does not hold.
    fn key_rows(
        &mut self,
        image: &Database<'_>,
        wanted: &Rewrite<'_>,
        leases: &HashSet<i64>,
    ) -> Result<BTreeSet<i64>, RewriteError> {
        let mut orphans: HashMap<Vec<u8>, i64> = HashMap::new();
        for row in rows(image, KEY_BUCKET)? {
            let row = row?;
            let main = row
                .key
                .first_chunk()
                .map_or(i64::MAX, |main| i64::from_be_bytes(*main));
            if main > wanted.kept_to {
                self.done.left_out += 1;
                continue;
            }
            // What is no KeyValue is found by the proof of the snapshot.
            let change = KeyValue::decode(row.value).unwrap_or_default();
            if change.lease != 0 && !leases.contains(&change.lease) {
                orphans.insert(change.key.to_vec(), change.lease);
            } else if !orphans.is_empty() {
                orphans.remove(change.key);
            }
            self.done.rows += 1;
            self.keep(&row)?;
        }
        if let Some(revision) = wanted.raised_to {
            self.done.rows += 1;
            self.row(&RowKey::first_of(revision).encode(), b"")?;
        }
        Ok(orphans.into_values().collect())
    }
}

/// The rows of a bucket; none when there is no such bucket.
fn rows<'a>(
    image: &Database<'a>,
    bucket: &[u8],
) -> Result<impl Iterator<Item = Result<Row<'a>, Fault>>, Fault> {
    let bucket = image.bucket(bucket)?;
    Ok(bucket.into_iter().flat_map(|bucket| bucket.rows()))
}

/// Whether the image holds keys of Kubernetes.
///
/// # Errors
/// When it is broken.
pub fn holds_kubernetes(image: &Database<'_>) -> Result<bool, Fault> {
    for row in rows(image, KEY_BUCKET)? {
        let change = KeyValue::decode(row?.value).unwrap_or_default();
        if change.key.starts_with(b"/registry/") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "database_tests.rs"]
mod tests;
