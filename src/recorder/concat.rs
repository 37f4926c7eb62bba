//! Segments that follow each other, as one: the same rows, times and leases, in the same order.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::group::Row;
use super::segment::{Header, Item, SegmentError, SegmentReader, SegmentWriter};
use super::spill::Ready;

const BUFFER: usize = 256 << 10;

/// Joins segments of one chain, in their order, into the new file `to`.
///
/// # Errors
/// When one is damaged, a revision is missing between two, or a file cannot be read or written.
pub fn join(segments: &[PathBuf], to: &Path) -> Result<Ready, SegmentError> {
    let open = |path: &PathBuf| {
        let file = File::open(path)?;
        SegmentReader::open(BufReader::with_capacity(BUFFER, file))
    };
    let Some(first) = segments.first() else {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput).into());
    };
    let header: Header = open(first)?.header().clone();
    let file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(to)?;
    let mut writer = SegmentWriter::create(BufWriter::with_capacity(BUFFER, file), &header)?;
    let mut raft_term = header.raft_term;
    for path in segments {
        let after = writer.totals().last_revision;
        raft_term = raft_term.max(copy_beyond(open(path)?, after, &mut writer)?);
    }
    let (out, finished) = writer.finish(raft_term, None, None)?;
    let file = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(Ready {
        path: to.to_owned(),
        header,
        finished,
    })
}

/// Copies what came after a revision, and gives the segment's raft term; the rows of what came before are left out.
pub(super) fn copy_beyond<R: Read, W: Write>(
    mut from: SegmentReader<R>,
    after: i64,
    to: &mut SegmentWriter<W>,
) -> Result<u64, SegmentError> {
    let mut beyond = false;
    while let Some(item) = from.next_item()? {
        match item {
            Item::Revision { revision, at } => {
                beyond = revision > after;
                if beyond {
                    let wanted = to.totals().last_revision + 1;
                    if revision != wanted {
                        return Err(SegmentError::Damaged {
                            at: 0,
                            problem: format!("revision {revision} comes where {wanted} was due"),
                        });
                    }
                    to.begin(revision, at)?;
                }
            }
            Item::Row { key, value } if beyond => to.row(&Row {
                // A tombstone's key has a letter more.
                tombstone: key.len() > 17,
                value: value.to_vec(),
                lease: 0,
            })?,
            Item::Commit if beyond => to.commit()?,
            Item::Idle(at) if beyond => to.idle(at)?,
            // The keys of a lease may come later than its note.
            Item::Lease { id, ttl } => to.lease(id, ttl)?,
            Item::Row { .. } | Item::Commit | Item::Idle(_) => {}
        }
    }
    Ok(from.footer().map_or(0, |footer| footer.raft_term))
}
