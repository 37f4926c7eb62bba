//! Writes a segment front to back. A revision that does not come to its end is taken back by the caller, who truncates the
//! output to what `abort` says.

use std::io::Write;

use jiff::Timestamp;

use super::frame::{self, Kind};
use super::tally::Tally;
use super::{Footer, Header, MAGIC, SegmentError, Totals};
use crate::recorder::group::Row;
use crate::snapshot::HashKv;
use crate::snapshot::mvcc::{Revision, RowKey};

/// A segment under construction.
pub struct SegmentWriter<W> {
    out: W,
    /// As it was after the last commit.
    safe: Tally,
    now: Tally,
    open: Option<(i64, Timestamp, i64)>,
    buffer: Vec<u8>,
}

/// A segment that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What its footer says.
    pub footer: Footer,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole of it, hexadecimal.
    pub sha256: String,
}

impl<W: Write> SegmentWriter<W> {
    /// Begins a segment.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn create(out: W, header: &Header) -> Result<Self, SegmentError> {
        let tally = Tally::new(header.first_revision, header.started);
        let mut writer = Self::resume(out, tally);
        writer.buffer.extend_from_slice(&MAGIC);
        let json = serde_json::to_vec(header).map_err(std::io::Error::other)?;
        frame::encode(Kind::Header, &json, &mut writer.buffer)?;
        writer.flush_buffer()?;
        writer.safe = writer.now.clone();
        Ok(writer)
    }

    /// Goes on where `recover` found the last commit; `out` stands there.
    pub(super) fn resume(out: W, tally: Tally) -> Self {
        Self {
            out,
            safe: tally.clone(),
            now: tally,
            open: None,
            buffer: Vec::new(),
        }
    }

    /// Begins a revision that came at `at`; a clock that went back is not believed.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn begin(&mut self, revision: i64, at: Timestamp) -> Result<(), SegmentError> {
        let at = at.max(self.safe.totals.covered_to);
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        self.open = Some((revision, at, 0));
        self.frame(Kind::Revision, &frame::pair(revision, at.as_millisecond()))
    }

    /// Adds the next row of the revision.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn row(&mut self, row: &Row) -> Result<(), SegmentError> {
        let Some((revision, _, ordinal)) = &mut self.open else {
            return Err(out_of_order());
        };
        let key = RowKey {
            revision: Revision {
                main: *revision,
                sub: *ordinal,
            },
            tombstone: row.tombstone,
        };
        *ordinal += 1;
        self.now.row(&key.encode(), &row.value);
        let kind = if row.tombstone {
            Kind::Tombstone
        } else {
            Kind::Put
        };
        self.frame(kind, &row.value)
    }

    /// Ends the revision: from here on it is part of the segment.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn commit(&mut self) -> Result<(), SegmentError> {
        let Some((revision, at, rows)) = self.open.take() else {
            return Err(out_of_order());
        };
        self.frame(Kind::Commit, &frame::pair(revision, rows))?;
        self.now.commit(revision, at);
        self.safe = self.now.clone();
        Ok(())
    }

    /// Takes back a revision that was begun; the output is to be truncated to the length returned.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn abort(&mut self) -> Result<u64, SegmentError> {
        self.out.flush()?;
        self.open = None;
        self.now = self.safe.clone();
        Ok(self.safe.length)
    }

    /// Notes that nothing was written to etcd up to `at`.
    ///
    /// # Errors
    /// When the output breaks, or a revision is open.
    pub fn idle(&mut self, at: Timestamp) -> Result<(), SegmentError> {
        if self.open.is_some() {
            return Err(out_of_order());
        }
        let at = at.max(self.safe.totals.covered_to);
        let millis = at.as_millisecond();
        self.frame(
            Kind::Idle,
            &frame::pair(self.now.totals.last_revision, millis),
        )?;
        self.now.totals.covered_to = Timestamp::from_millisecond(millis).unwrap_or(at);
        self.safe = self.now.clone();
        Ok(())
    }

    /// Notes a lease and the seconds it was granted for.
    ///
    /// # Errors
    /// When the output breaks, or a revision is open.
    pub fn lease(&mut self, id: i64, ttl: i64) -> Result<(), SegmentError> {
        if self.open.is_some() {
            return Err(out_of_order());
        }
        self.frame(Kind::Lease, &frame::pair(id, ttl))?;
        self.safe = self.now.clone();
        Ok(())
    }

    /// Completes the segment and gives its output back, flushed.
    ///
    /// # Errors
    /// When the output breaks, or a revision is open.
    pub fn finish(
        mut self,
        raft_term: u64,
        compact_revision: Option<i64>,
        hash_kv: Option<HashKv>,
    ) -> Result<(W, Finished), SegmentError> {
        if self.open.is_some() {
            return Err(out_of_order());
        }
        let footer = Footer {
            totals: self.now.totals,
            raft_term,
            compact_revision,
            hash_kv,
            sha256: self.now.digest(),
        };
        let json = serde_json::to_vec(&footer).map_err(std::io::Error::other)?;
        self.frame(Kind::Footer, &json)?;
        self.out.flush()?;
        let finished = Finished {
            footer,
            bytes: self.now.length,
            sha256: self.now.digest(),
        };
        Ok((self.out, finished))
    }

    /// Hands what is buffered on to the operating system.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn flush(&mut self) -> Result<(), SegmentError> {
        Ok(self.out.flush()?)
    }

    /// What is committed.
    pub fn totals(&self) -> Totals {
        self.safe.totals
    }

    /// Bytes written, those of an open revision too.
    pub fn length(&self) -> u64 {
        self.now.length
    }

    /// The output.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), SegmentError> {
        frame::encode(kind, payload, &mut self.buffer)?;
        self.flush_buffer()
    }

    fn flush_buffer(&mut self) -> Result<(), SegmentError> {
        self.now.bytes(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn out_of_order() -> SegmentError {
    let problem = "rows belong into a revision, and everything else outside of one";
    std::io::Error::new(std::io::ErrorKind::InvalidInput, problem).into()
}
