//! The one pass over all rows: checks each row and the history that they make (etcd-format.md §7 L2b, L2c), hashes them,
//! and keeps the live keys.

use std::collections::BTreeSet;

use super::KEY_BUCKET;
use super::compaction::Compaction;
use super::crc::Crc;
use super::hash::{compacted_part, of_the_living};
use super::key_value::KeyValue;
use super::ledger::{Address, Ledger};
use super::revision::{Revision, RowKey};
use super::rules::{fields_problem, history_problem};
use super::schema::{LeaseTable, Schema};
use super::shares::{Share, Tally};
use crate::snapshot::bolt::check::Visitor;
use crate::snapshot::bolt::{Database, Row, row_at};
use crate::snapshot::findings::Findings;
use crate::snapshot::{HashKv, SnapshotError};

/// The most keys that are named one by one for the same warning.
const NAMED_KEYS: usize = 20;
/// Rows whose keys are looked up together.
const BATCH: usize = 32;

/// A row that is well formed, before its key is looked up.
struct Waiting<'a> {
    key: RowKey,
    kv: KeyValue<'a>,
    row: Row<'a>,
    recent: bool,
    address: Address,
}

/// What the pass gathers.
pub struct Survey<'a> {
    database: Database<'a>,
    compaction: Compaction,
    in_rows: bool,
    /// All buckets before `key`, then those behind it are added: as `etcdutl snapshot status` hashes.
    status_crc: Crc<'a>,
    /// The rows up to the compact revision, with the bucket's name before them.
    compacted_crc: Crc<'a>,
    /// The rows after it.
    recent_crc: Crc<'a>,
    /// Whether HashKV leaves out none of the rows up to the compact revision.
    compacted_whole: bool,
    ledger: Ledger<'a>,
    waiting: Vec<Waiting<'a>>,
    leases: LeaseTable<'a>,
    rows: u64,
    last: Option<Revision>,
    bump_rows: u64,
    tally: Tally<'a>,
    schema: Schema<'a>,
}

/// What the pass found out.
pub struct Surveyed {
    /// The newest revision.
    pub revision: i64,
    /// The compact revision; -1 when none.
    pub compact_revision: i64,
    /// Live user keys.
    pub live_keys: u64,
    /// Rows of the bucket `key`.
    pub rows: u64,
    /// The hash of `etcdutl snapshot status`.
    pub status_hash: u32,
    /// HashKV at the newest revision and the file's own compact revision.
    pub hash_kv: Option<HashKv>,
    /// HashKV at the newest revision once that is compacted; where it was wanted and a key is alive.
    pub compacted_hash: Option<HashKv>,
    /// CRC-32C of the bucket `key`: its name and every row.
    pub rows_checksum: u32,
    /// The bytes that this is of.
    pub rows_bytes: usize,
    /// Leases that live keys name and the file does not hold.
    pub missing_leases: BTreeSet<i64>,
    /// What fills the bucket `key`.
    pub shares: Vec<Share>,
    /// What the small buckets say.
    pub about: super::schema::About,
}

impl<'a> Survey<'a> {
    /// A survey that has seen nothing yet of a database compacted so far.
    pub fn new(database: &Database<'a>, compaction: Compaction) -> Self {
        let image = database.image();
        Self {
            database: *database,
            compaction,
            in_rows: false,
            status_crc: Crc::new(image),
            compacted_crc: Crc::new(image),
            recent_crc: Crc::new(image),
            compacted_whole: true,
            ledger: Ledger::new(image),
            waiting: Vec::with_capacity(BATCH),
            leases: LeaseTable::of(database),
            rows: 0,
            last: None,
            bump_rows: 0,
            tally: Tally::default(),
            schema: Schema::new(database),
        }
    }

    /// Draws the sums when everything was seen; `compacting` asks for [`Surveyed::compacted_hash`].
    pub fn finish(mut self, compacting: bool, findings: &mut Findings) -> Surveyed {
        self.settle(findings);
        self.leave_rows();
        let missing_leases = self.report_orphans(findings);
        let compact_revision = self.compaction.revision();
        let last = self.last.map_or(1, |last| last.main);
        let revision = last.max(compact_revision);
        let hash_kv = self.hash_kv(revision, compact_revision, findings);
        let hash_kv = hash_kv.map_err(|error| {
            findings.error("HashUnknown", "bucket key", error);
        });
        let bump_key = self.bump_rows > 0 && self.has_bump_key();
        let live_keys = self.ledger.len() - u64::from(bump_key);
        let mut rows = self.compacted_crc;
        rows.append(&self.recent_crc);
        let elements = compacting.then(|| self.ledger.into_elements());
        let compacted_hash = elements.and_then(|elements| {
            of_the_living(&self.database, &elements, revision)
                .ok()
                .flatten()
        });
        Surveyed {
            revision,
            compact_revision,
            live_keys,
            rows: self.rows,
            status_hash: self.status_crc.finish(),
            hash_kv: hash_kv.ok(),
            compacted_hash,
            rows_bytes: rows.length(),
            rows_checksum: rows.finish(),
            missing_leases,
            shares: self.tally.finish(),
            about: self.schema.finish(findings),
        }
    }

    fn hash_kv(
        &self,
        revision: i64,
        compact_revision: i64,
        findings: &mut Findings,
    ) -> Result<HashKv, SnapshotError> {
        let nothing_alive = self.ledger.len() == 0;
        let mut crc = if self.compacted_whole {
            self.compacted_crc.clone()
        } else {
            compacted_part(&self.database, &self.ledger, compact_revision)?.crc
        };
        crc.append(&self.recent_crc);
        if nothing_alive && !self.compacted_whole {
            findings.info(
                "HashIndeterminate",
                "bucket key",
                "no key is alive, so the hash depends on how far a member's compaction got: do not compare it",
            );
        }
        Ok(HashKv {
            hash: crc.finish(),
            revision,
            compact_revision,
        })
    }

    /// The row of a revision bump has the empty key, which no user can have.
    fn has_bump_key(&self) -> bool {
        self.ledger.has(b"")
    }

    fn leave_rows(&mut self) {
        if std::mem::take(&mut self.in_rows) {
            self.status_crc.append(&self.compacted_crc);
            self.status_crc.append(&self.recent_crc);
        }
    }

    fn report_orphans(&self, findings: &mut Findings) -> BTreeSet<i64> {
        let (mut count, mut missing) = (0_usize, BTreeSet::new());
        for element in self.ledger.marked() {
            count += 1;
            let Some((_, value)) = row_at(self.database.image(), element) else {
                continue;
            };
            let Ok(kv) = KeyValue::decode(value) else {
                continue;
            };
            missing.insert(kv.lease);
            if count <= NAMED_KEYS {
                findings.warning(
                    "LeaseMissing",
                    format_args!("key {}", kv.key.escape_ascii()),
                    format_args!(
                        "its lease {:x} is not in the file: after a restore the key never expires",
                        kv.lease
                    ),
                );
            }
        }
        if count > NAMED_KEYS {
            let more = count - NAMED_KEYS;
            findings.warning(
                "LeaseMissing",
                "bucket key",
                format_args!("{more} more keys live by leases that are not in the file"),
            );
        }
        missing
    }

    fn history_row(&mut self, row: &Row<'a>, findings: &mut Findings) {
        self.rows += 1;
        let Some(key) = RowKey::decode(row.key) else {
            findings.error(
                "RowKeyMalformed",
                format_args!("row {}", row.key.escape_ascii()),
                "its key is not a revision",
            );
            self.recent_crc
                .piece(row.data, row.key.len() + row.value.len());
            return;
        };
        let compact_revision = self.compaction.revision();
        let recent = key.revision.main > compact_revision;
        let length = length(row);
        if recent {
            self.recent_crc.piece(row.data, length);
            self.check_sequence(key.revision, compact_revision, findings);
        } else {
            self.compacted_crc.piece(row.data, length);
            // HashKV leaves out every tombstone here.
            self.compacted_whole &= !key.tombstone;
        }
        self.last = Some(key.revision);
        match KeyValue::decode_canonical(row.value) {
            Err(problem) => findings.error("RowUnreadable", place(key), problem),
            Ok((kv, canonical)) => {
                if !canonical {
                    let problem = "etcd would write its value with other bytes";
                    findings.warning("RowNotCanonical", place(key), problem);
                }
                self.waiting.push(Waiting {
                    key,
                    kv,
                    row: *row,
                    recent,
                    address: self.ledger.address(kv.key),
                });
                if self.waiting.len() == BATCH {
                    self.settle(findings);
                }
            }
        }
    }

    /// Looks the keys of the waiting rows up, in the order of the rows.
    fn settle(&mut self, findings: &mut Findings) {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.ledger
            .touch::<BATCH>(waiting.iter().map(|row| row.address));
        for row in waiting.drain(..) {
            if row.key.tombstone {
                self.tombstone(&row, findings);
            } else {
                self.put(&row, findings);
            }
        }
        self.waiting = waiting;
    }

    /// Beyond the compact revision no revision is missing, nor any change of one.
    fn check_sequence(&self, at: Revision, compact_revision: i64, findings: &mut Findings) {
        let before = self
            .last
            .filter(|last| last.main > compact_revision)
            .unwrap_or(Revision {
                main: compact_revision.max(1),
                sub: i64::MAX,
            });
        let next_change = at.main == before.main && Some(at.sub) == before.sub.checked_add(1);
        let next_revision = Some(at.main) == before.main.checked_add(1) && at.sub == 0;
        if !next_change && !next_revision {
            let message = if before.sub == i64::MAX {
                format!(
                    "the history begins with it, but should with {}/0",
                    before.main + 1
                )
            } else {
                format!("the row before it is {before}: changes between them are missing")
            };
            findings.error("RevisionGap", format_args!("row {at}"), message);
        }
    }

    fn tombstone(&mut self, waiting: &Waiting<'a>, findings: &mut Findings) {
        let (key, kv, recent) = (waiting.key, &waiting.kv, waiting.recent);
        if *kv
            != (KeyValue {
                key: kv.key,
                ..KeyValue::default()
            })
            || kv.key.is_empty()
        {
            let problem = "it deletes a key, but does not hold exactly a key";
            findings.error("TombstoneMalformed", place(key), problem);
        }
        let before = self.ledger.remove_at(waiting.address, kv.key);
        self.tally
            .row(kv.key, length(&waiting.row), -i64::from(before.is_some()));
        if recent && before.is_none() {
            let problem = "it deletes a key that does not exist";
            findings.error("PredecessorMissing", place(key), problem);
        }
        if let Some(before) = before {
            self.note_superseded(before);
        }
        let compacted = key.revision.main < self.compaction.revision();
        if compacted && self.compaction.is_finished() {
            leftover(key, findings);
        }
    }

    fn put(&mut self, waiting: &Waiting<'a>, findings: &mut Findings) {
        let (key, kv, recent) = (waiting.key, &waiting.kv, waiting.recent);
        let main = key.revision.main;
        // What `etcdutl snapshot restore --bump-revision` leaves behind (etcd-format.md §3.7).
        let bump = waiting.row.value.is_empty() && key.revision.sub == 0 && !recent;
        if bump {
            self.bump_rows += 1;
        } else if let Some(problem) = fields_problem(kv, main) {
            findings.error("RowFieldsWrong", place(key), problem);
        }
        let orphan = kv.lease != 0 && !self.leases.has(kv.lease);
        let before = self
            .ledger
            .put_at(waiting.address, kv.key, waiting.row.element, orphan);
        self.tally
            .row(kv.key, length(&waiting.row), i64::from(before.is_none()));
        if let Some(before) = before {
            self.note_superseded(before);
        }
        if recent {
            let before = before
                .and_then(|element| row_at(self.database.image(), element))
                .and_then(|(_, value)| KeyValue::decode(value).ok());
            if let Some((code, problem)) = history_problem(before, kv) {
                findings.error(code, place(key), problem);
            }
        } else if before.is_some() && self.compaction.is_finished() {
            leftover(key, findings);
        }
    }

    /// A row that is no longer the newest: HashKV leaves it out if it was compacted.
    fn note_superseded(&mut self, element: usize) {
        let compact_revision = self.compaction.revision();
        // Before the first compaction every row is a recent one.
        if self.compacted_whole && compact_revision >= 0 {
            let key =
                row_at(self.database.image(), element).and_then(|(key, _)| RowKey::decode(key));
            self.compacted_whole = key.is_some_and(|key| key.revision.main > compact_revision);
        }
    }
}

impl<'a> Visitor<'a> for Survey<'a> {
    fn bucket(&mut self, name: &'a [u8], findings: &mut Findings) {
        self.settle(findings);
        self.leave_rows();
        self.in_rows = name == KEY_BUCKET;
        if self.in_rows {
            self.compacted_crc.word(name);
        } else {
            self.status_crc.word(name);
        }
        self.schema.bucket(name, findings);
    }

    fn row(&mut self, row: &Row<'a>, findings: &mut Findings) {
        if self.in_rows {
            self.history_row(row, findings);
        } else {
            let length = row.key.len() + row.value.len();
            self.status_crc.piece(row.data, length);
            self.schema.row(row, findings);
        }
    }
}

/// Bytes of a row: its key, a revision, and its value.
fn length(row: &Row<'_>) -> usize {
    row.key.len() + row.value.len()
}

fn place(key: RowKey) -> String {
    format!("row {}", key.revision)
}

fn leftover(key: RowKey, findings: &mut Findings) {
    let problem =
        "a finished compaction should have deleted this row or the one before it of its key";
    findings.warning("CompactionLeftover", place(key), problem);
}
