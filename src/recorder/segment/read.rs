//! Reads a segment front to back and believes nothing: order, revisions, counts, checksums and the end are checked.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use jiff::Timestamp;

use super::frame::{self, Kind};
use super::tally::Tally;
use super::{Footer, Header, MAGIC, SegmentError, SegmentWriter, Totals};
use crate::snapshot::mvcc::{KeyValue, Revision, RowKey};

/// One thing that a segment holds, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A revision begins.
    Revision {
        /// Which.
        revision: i64,
        /// When it came.
        at: Timestamp,
    },
    /// A row of it, as it lies in the bucket `key`.
    Row {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The revision is whole.
    Commit,
    /// Nothing was written up to then.
    Idle(Timestamp),
    /// A lease and the seconds it was granted for.
    Lease {
        /// Its id.
        id: i64,
        /// Seconds.
        ttl: i64,
    },
}

/// A segment being read.
pub struct SegmentReader<R> {
    source: R,
    header: Header,
    tally: Tally,
    open: Option<(i64, Timestamp, i64)>,
    raw: Vec<u8>,
    key: Vec<u8>,
    footer: Option<Footer>,
}

impl<R: Read> SegmentReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is no segment, or one of a newer format.
    pub fn open(mut source: R) -> Result<Self, SegmentError> {
        let mut magic = Vec::new();
        source
            .by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        if magic != MAGIC {
            let (name, version) = magic.split_at(magic.len().min(MAGIC.len() - 1));
            return Err(match version.first() {
                Some(&found) if name == &MAGIC[..MAGIC.len() - 1] => {
                    SegmentError::Version { found }
                }
                _ => damaged(0, "this is no segment"),
            });
        }
        let at = MAGIC.len() as u64;
        let mut raw = Vec::new();
        if frame::read(&mut source, at, &mut raw)? != Some(Kind::Header) {
            return Err(damaged(at, "the header is missing"));
        }
        let header: Header = serde_json::from_slice(frame::payload(&raw))
            .map_err(|error| damaged(at, &format!("the header cannot be read: {error}")))?;
        if header.first_revision < 1 || header.first_revision == i64::MAX {
            return Err(damaged(at, "its first revision is impossible"));
        }
        let mut tally = Tally::new(header.first_revision, header.started);
        tally.bytes(&MAGIC);
        tally.bytes(&raw);
        Ok(Self {
            source,
            header,
            tally,
            open: None,
            raw,
            key: Vec::new(),
            footer: None,
        })
    }

    /// What the segment says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its footer, once everything before it has been read and found right.
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// What was read so far.
    pub fn totals(&self) -> Totals {
        self.tally.totals
    }

    /// Gives the source back.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next item; `None` behind the footer, when all is proved.
    ///
    /// # Errors
    /// When the bytes are not those of a whole segment.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, SegmentError> {
        if self.footer.is_some() {
            return Ok(None);
        }
        let at = self.tally.length;
        let Some(kind) = frame::read(&mut self.source, at, &mut self.raw)? else {
            return Err(damaged(at, "it ends before its footer"));
        };
        if kind == Kind::Footer {
            self.close(at)?;
            return Ok(None);
        }
        self.tally.bytes(&self.raw);
        let payload = frame::payload(&self.raw);
        if let (Kind::Put | Kind::Tombstone, Some((revision, _, ordinal))) = (kind, &mut self.open)
        {
            let key = RowKey {
                revision: Revision {
                    main: *revision,
                    sub: *ordinal,
                },
                tombstone: kind == Kind::Tombstone,
            };
            *ordinal += 1;
            self.key = key.encode();
            self.tally.row(&self.key, payload);
            return Ok(Some(Item::Row {
                key: &self.key,
                value: payload,
            }));
        }
        let Some((first, second)) = frame::unpair(payload) else {
            return Err(damaged(at, "a frame stands where it cannot"));
        };
        let time = || {
            Timestamp::from_millisecond(second)
                .ok()
                .filter(|time| {
                    time.as_millisecond() >= self.tally.totals.covered_to.as_millisecond()
                })
                .ok_or_else(|| damaged(at, "a time is impossible or goes back"))
        };
        let last = self.tally.totals.last_revision;
        match (kind, self.open) {
            (Kind::Revision, None) => {
                if Some(first) != last.checked_add(1) {
                    let problem = format!("revision {first} follows {last}");
                    return Err(damaged(at, &problem));
                }
                let time = time()?;
                self.open = Some((first, time, 0));
                Ok(Some(Item::Revision {
                    revision: first,
                    at: time,
                }))
            }
            (Kind::Commit, Some((revision, time, rows))) => {
                if first != revision || second != rows || rows == 0 {
                    return Err(damaged(at, "a revision's end does not fit its rows"));
                }
                self.open = None;
                self.tally.commit(revision, time);
                Ok(Some(Item::Commit))
            }
            (Kind::Idle, None) if first == last => {
                let time = time()?;
                self.tally.totals.covered_to = time;
                Ok(Some(Item::Idle(time)))
            }
            (Kind::Lease, None) => Ok(Some(Item::Lease {
                id: first,
                ttl: second,
            })),
            _ => Err(damaged(at, "a frame stands where it cannot")),
        }
    }

    fn close(&mut self, at: u64) -> Result<(), SegmentError> {
        let footer: Footer = serde_json::from_slice(frame::payload(&self.raw))
            .map_err(|error| damaged(at, &format!("the footer cannot be read: {error}")))?;
        if self.open.is_some() {
            return Err(damaged(at, "the footer stands inside a revision"));
        }
        if footer.totals != self.tally.totals || footer.sha256 != self.tally.digest() {
            return Err(damaged(at, "the footer does not fit what is before it"));
        }
        if self.source.read(&mut [0])? != 0 {
            return Err(damaged(at, "something follows the footer"));
        }
        self.footer = Some(footer);
        Ok(())
    }
}

/// What lies in a segment that was never finished, up to its last commit.
pub struct Recovered {
    /// What it says of itself.
    pub header: Header,
    /// Everything up to there is good; the file is to be truncated to this length.
    pub length: u64,
    /// What it holds up to there.
    pub totals: Totals,
    /// Leases that its rows name and that it does not note.
    pub unnoted: BTreeSet<i64>,
    tally: Tally,
}

impl Recovered {
    /// Goes on writing; `out` stands at `length`.
    pub fn resume<W: Write>(self, out: W) -> SegmentWriter<W> {
        SegmentWriter::resume(out, self.tally)
    }
}

/// Reads what a writer that was killed left behind. A torn end is what is expected, and not an error.
///
/// # Errors
/// When not even the header can be read, or the file is a finished segment.
pub fn recover<R: Read>(source: R) -> Result<Recovered, SegmentError> {
    let mut reader = SegmentReader::open(source)?;
    let mut safe = reader.tally.clone();
    let (mut named, mut noted) = (BTreeSet::new(), BTreeSet::new());
    loop {
        match reader.next_item() {
            Ok(Some(Item::Row { value, .. })) => {
                let lease = KeyValue::decode(value).map_or(0, |row| row.lease);
                named.extend((lease != 0).then_some(lease));
            }
            Ok(Some(Item::Lease { id, .. })) => {
                noted.insert(id);
                safe = reader.tally.clone();
            }
            Ok(Some(Item::Revision { .. })) => {}
            Ok(Some(_)) => safe = reader.tally.clone(),
            Ok(None) => return Err(damaged(reader.tally.length, "it is finished already")),
            Err(SegmentError::Damaged { .. }) => break,
            Err(other) => return Err(other),
        }
    }
    Ok(Recovered {
        header: reader.header,
        length: safe.length,
        totals: safe.totals,
        unnoted: named.difference(&noted).copied().collect(),
        tally: safe,
    })
}

fn damaged(at: u64, problem: &str) -> SegmentError {
    SegmentError::Damaged {
        at,
        problem: problem.to_owned(),
    }
}
