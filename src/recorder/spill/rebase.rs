//! A new full backup under a recording that goes on: what lies on disk beyond the full stands on it from then on, so that no
//! revision has to be fetched anew, which etcd may have compacted meanwhile.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;

use super::{BUFFER, ENDING, Ready, Spill};
use crate::recorder::concat::copy_beyond;
use crate::recorder::segment::{Header, SegmentError, SegmentReader, SegmentWriter};
use crate::recorder::watch::Origin;

/// The new segment until it is whole; a rest of it means nothing.
const UNFINISHED: &str = "rebased.part";

impl Spill {
    /// Lets what lies on disk go on after `origin`, whose base is another: what came later is kept, with its times. `false`, and
    /// nothing is changed, when it does not reach from there on without a hole.
    ///
    /// A death in between leaves both the old segments and the new one, and the next start does the same again.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn rebase(&mut self, origin: &Origin) -> Result<bool, SegmentError> {
        let first = self.waiting.front().map(|ready| &ready.header);
        let Some(old) = first.or(self.header.as_ref()).cloned() else {
            return Ok(false);
        };
        let reaches = self.last().is_some_and(|last| last >= origin.revision);
        if old.first_revision > origin.revision + 1 || !reaches {
            return Ok(false);
        }
        match self.totals() {
            Some(open) if open.revisions > 0 => drop(self.cut(old.raft_term)?),
            _ => self.discard_open()?,
        }
        if self.last() <= Some(origin.revision) {
            self.clear()?;
            return Ok(true);
        }
        let made = self.copy_beyond(origin, &old)?;
        while let Some(gone) = self.waiting.pop_front() {
            self.waiting_bytes -= gone.finished.bytes;
            if gone.path != made.path {
                fs::remove_file(&gone.path)?;
            }
        }
        self.wait(made);
        Ok(true)
    }

    fn copy_beyond(&self, origin: &Origin, old: &Header) -> Result<Ready, SegmentError> {
        let header = Header {
            base: origin.base.clone(),
            parent_sha256: origin.parent_sha256.clone(),
            epoch: origin.epoch,
            first_revision: origin.revision + 1,
            started: origin.covered_to,
            ..old.clone()
        };
        let unfinished = self.folder.join(UNFINISHED);
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)?;
        let mut to = SegmentWriter::create(BufWriter::with_capacity(BUFFER, file), &header)?;
        let mut raft_term = old.raft_term;
        for segment in &self.waiting {
            raft_term = raft_term.max(segment.finished.footer.raft_term);
            let file = BufReader::with_capacity(BUFFER, File::open(&segment.path)?);
            copy_beyond(SegmentReader::open(file)?, origin.revision, &mut to)?;
        }
        let (out, finished) = to.finish(raft_term, None, None)?;
        let file = out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let name = format!(
            "{:020}-{:020}.{ENDING}",
            header.first_revision, finished.footer.totals.last_revision
        );
        let path = self.folder.join(name);
        fs::rename(&unfinished, &path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(Ready {
            path,
            header,
            finished,
        })
    }
}
