//! Proves a whole file in one pass over its pages, with the digest computed beside it on a second core.

use std::thread;

use super::bolt::{Database, Row, check};
use super::findings::Findings;
use super::mvcc::crc::Crc;
use super::mvcc::survey::{Survey, Surveyed};
use super::mvcc::{Compaction, KEY_BUCKET};
use super::{Digest, Proof, Severity, Skimmed, Snapshot, SnapshotError, Status};

/// See [`super::prove`] and [`super::prove_compacting`].
pub(super) fn prove(bytes: &[u8], compacting: bool) -> Proof {
    let snapshot = Snapshot::split(bytes);
    let mut findings = Findings::default();
    let (mut surveyed, digest) = thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, || sha256(snapshot.image));
        let surveyed = survey(&snapshot, compacting, &mut findings);
        // Without a second thread the digest is computed here.
        let digest = beside.ok().and_then(|thread| thread.join().ok());
        (surveyed, digest.unwrap_or_else(|| sha256(snapshot.image)))
    });
    let verdict = match snapshot.trailer {
        None => Digest::Missing,
        Some(trailer) if *trailer == digest => Digest::Ok,
        Some(_) => Digest::Mismatch,
    };
    check_file(bytes, verdict, &mut findings);
    let hash_kv = surveyed.as_ref().and_then(|(_, surveyed)| surveyed.hash_kv);
    let compacted_hash = surveyed
        .as_ref()
        .and_then(|(_, surveyed)| surveyed.compacted_hash);
    let rows_checksum = surveyed
        .as_ref()
        .map(|(_, surveyed)| surveyed.rows_checksum);
    let (shares, missing_leases, rows_bytes) = surveyed
        .as_mut()
        .map(|(_, surveyed)| {
            let shares = std::mem::take(&mut surveyed.shares);
            let leases = std::mem::take(&mut surveyed.missing_leases);
            (shares, leases, surveyed.rows_bytes)
        })
        .unwrap_or_default();
    let status = surveyed.map(|(size, surveyed)| Status {
        revision: surveyed.revision,
        compact_revision: surveyed.compact_revision,
        total_keys: surveyed.live_keys,
        rows: surveyed.rows,
        db_size: size,
        file_size: bytes.len() as u64,
        digest: verdict,
        hash: surveyed.status_hash,
        storage_version: surveyed.about.storage_version,
        leases: surveyed.about.leases,
        alarms: surveyed.about.alarms,
        auth_enabled: surveyed.about.auth_enabled,
        auth_revision: surveyed.about.auth_revision,
    });
    Proof {
        status,
        image_sha256: hex::encode(digest),
        hash_kv,
        compacted_hash,
        rows_checksum,
        rows_bytes,
        missing_leases,
        shares,
        findings: findings.into_vec(),
    }
}

/// See [`super::skim`].
pub(super) fn skim(image: &[u8]) -> Result<Skimmed, SnapshotError> {
    let database = Database::open(image)?;
    let mut findings = Findings::default();
    let (mut sums, mut later) = (Sums::new(image), Sums::new(image));
    later.part = IN_ROWS;
    let visitors = (&mut sums, &mut later);
    let complete = check::walk_in_halves(&database, &mut findings, KEY_BUCKET, visitors);
    let worst = findings.into_vec().into_iter().next();
    match worst.filter(|worst| worst.severity == Severity::Error) {
        Some(worst) => Err(SnapshotError::Unreadable {
            problem: worst.message,
            place: worst.place,
        }),
        None if !complete => Err(SnapshotError::Unreadable {
            problem: "a part of it cannot be reached".to_owned(),
            place: "file".to_owned(),
        }),
        None => {
            let [mut all, mut rows, behind] = sums.crcs;
            let [_, later, _] = later.crcs;
            rows.append(&later);
            all.append(&rows);
            all.append(&behind);
            Ok(Skimmed {
                hash: all.finish(),
                rows_checksum: rows.finish(),
            })
        }
    }
}

/// The part of the checksums that is the bucket `key`.
const IN_ROWS: usize = 1;

/// The checksums of what lies before the bucket `key`, of that bucket, and of what lies behind it.
struct Sums<'a> {
    crcs: [Crc<'a>; 3],
    part: usize,
}

impl<'a> Sums<'a> {
    fn new(image: &'a [u8]) -> Self {
        Self {
            crcs: [Crc::new(image), Crc::new(image), Crc::new(image)],
            part: 0,
        }
    }

    fn crc(&mut self) -> Option<&mut Crc<'a>> {
        self.crcs.get_mut(self.part)
    }
}

impl<'a> check::Visitor<'a> for Sums<'a> {
    fn bucket(&mut self, name: &'a [u8], _: &mut Findings) {
        if name == KEY_BUCKET {
            self.part = IN_ROWS;
        } else if self.part == IN_ROWS {
            self.part = 2;
        }
        if let Some(crc) = self.crc() {
            crc.word(name);
        }
    }

    fn row(&mut self, row: &Row<'a>, _: &mut Findings) {
        if let Some(crc) = self.crc() {
            crc.piece(row.data, row.key.len() + row.value.len());
        }
    }
}

/// The pages' bytes and what is in them; nothing when a part of it cannot be reached.
fn survey(
    snapshot: &Snapshot<'_>,
    compacting: bool,
    findings: &mut Findings,
) -> Option<(u64, Surveyed)> {
    let database = match Database::open(snapshot.image) {
        Ok(database) => database,
        Err(fault) => {
            findings.fault(fault);
            return None;
        }
    };
    let (length, size) = (snapshot.image.len() as u64, database.size());
    if snapshot.trailer.is_some() && length > size {
        let more = length - size;
        findings.warning(
            "ImageTooLong",
            "file",
            format_args!("{more} bytes lie behind the last page; etcd streams none"),
        );
    }
    // The walk finds what keeps the marks from being read.
    let compaction = Compaction::of(&database).unwrap_or_default();
    let mut survey = Survey::new(&database, compaction);
    let complete = check::walk(&database, findings, &mut survey);
    let surveyed = survey.finish(compacting, findings);
    complete.then_some((size, surveyed))
}

fn check_file(bytes: &[u8], digest: Digest, findings: &mut Findings) {
    match digest {
        Digest::Ok => {}
        Digest::Missing if bytes.len().is_multiple_of(512) => findings.info(
            "DigestMissing",
            "file",
            "no digest lies behind the image, as in a file copied from a data directory",
        ),
        Digest::Missing => findings.error(
            "FileCut",
            "file",
            format_args!(
                "{} bytes are no whole number of pages, nor that and a digest: the file was cut",
                bytes.len()
            ),
        ),
        Digest::Mismatch => findings.error(
            "DigestMismatch",
            "file",
            "the image does not have the digest behind it: bytes changed since etcd sent it",
        ),
    }
}

fn sha256(image: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, image);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
