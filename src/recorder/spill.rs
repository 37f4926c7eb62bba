//! Segments on disk until the store has them: one that grows, those that are finished, a hard budget over all. What a killed
//! recorder left behind is continued after its last whole revision.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::group::{Gap, Step};
use super::segment::{
    Finished, Header, Item, SegmentError, SegmentReader, SegmentWriter, Totals, recover,
};

mod rebase;

const BUFFER: usize = 256 << 10;
const OPEN: &str = "open.part";
const ENDING: &str = "seg";

/// A finished segment that waits for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// What it holds.
    pub finished: Finished,
}

/// The segments of one recording on disk.
pub struct Spill {
    folder: PathBuf,
    budget: u64,
    open: Option<SegmentWriter<BufWriter<File>>>,
    header: Option<Header>,
    waiting: VecDeque<Ready>,
    waiting_bytes: u64,
    unnoted: BTreeSet<i64>,
}

impl Spill {
    /// Opens a folder and takes over what lies there: finished segments in order, then the one that was growing. What does not
    /// follow on the segment before it, or belongs to another cluster, is removed: the watch fetches it anew, or a gap says so.
    ///
    /// # Errors
    /// When files cannot be read, written or removed.
    pub fn open(folder: &Path, budget: u64, cluster_id: &str) -> Result<Self, SegmentError> {
        fs::DirBuilder::new()
            .recursive(true)
            .create(folder)
            .map_err(SegmentError::Io)?;
        let mut spill = Self {
            folder: folder.to_owned(),
            budget,
            open: None,
            header: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unnoted: BTreeSet::new(),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                match prove(&path) {
                    Ok(ready) if ready.header.cluster_id == cluster_id => found.push(ready),
                    Ok(_) | Err(SegmentError::Damaged { .. }) => fs::remove_file(&path)?,
                    Err(other) => return Err(other),
                }
            }
        }
        found.sort_by_key(|ready| ready.header.first_revision);
        for ready in found {
            match spill.last() {
                Some(last) if ready.header.first_revision != last + 1 => {
                    fs::remove_file(&ready.path)?
                }
                _ => spill.wait(ready),
            }
        }
        spill.take_over(cluster_id)?;
        Ok(spill)
    }

    /// The last whole revision on disk; `None` when there is nothing.
    pub fn last(&self) -> Option<i64> {
        self.totals()
            .map(|totals| totals.last_revision)
            .or_else(|| Some(self.waiting.back()?.finished.footer.totals.last_revision))
    }

    /// What the growing segment holds.
    pub fn totals(&self) -> Option<Totals> {
        Some(self.open.as_ref()?.totals())
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.waiting_bytes + self.open_bytes()
    }

    /// Bytes of the growing segment.
    pub fn open_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, SegmentWriter::length)
    }

    /// When the growing segment began.
    pub fn started(&self) -> Option<Timestamp> {
        self.open.as_ref()?;
        Some(self.header.as_ref()?.started)
    }

    /// When the first revision came that the store does not have.
    pub fn unpublished_since(&self) -> Option<Timestamp> {
        let waiting = self.waiting.iter();
        let first = waiting.map(|ready| ready.finished.footer.totals.first_time);
        first.flatten().next().or_else(|| self.totals()?.first_time)
    }

    /// The highest raft term that is known of what lies on disk.
    pub fn raft_term(&self) -> u64 {
        let waiting = self.waiting.iter();
        let known = waiting.map(|ready| ready.finished.footer.raft_term);
        known
            .chain(self.header.as_ref().map(|header| header.raft_term))
            .max()
            .unwrap_or(0)
    }

    /// Leases that rows of the taken-over segment name and that were not noted before the recorder died.
    pub fn take_unnoted(&mut self) -> BTreeSet<i64> {
        std::mem::take(&mut self.unnoted)
    }

    /// Finished segments, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Ready> {
        self.waiting.iter()
    }

    /// The last finished segment that still waits.
    pub fn newest(&self) -> Option<&Ready> {
        self.waiting.back()
    }

    /// Whether a segment is growing.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether what lies on disk stands on this base and goes on after this revision, or holds nothing.
    pub fn continues(&self, base: &str, revision: i64) -> bool {
        let first = self.waiting.front().map(|ready| &ready.header);
        let Some(first) = first.or(self.header.as_ref()) else {
            return true;
        };
        let all = self.waiting.iter().map(|ready| &ready.header);
        let same = all.chain(&self.header).all(|header| header.base == base);
        same && first.first_revision == revision + 1
    }

    /// Removes finished segments that hold nothing after this revision: the store has them, or nobody needs them.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget_to(&mut self, revision: i64) -> Result<(), SegmentError> {
        while let Some(first) = self.waiting.front()
            && first.finished.footer.totals.last_revision <= revision
        {
            let path = first.path.clone();
            self.published(&path)?;
        }
        Ok(())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear(&mut self) -> Result<(), SegmentError> {
        while let Some(gone) = self.waiting.pop_front() {
            self.waiting_bytes -= gone.finished.bytes;
            fs::remove_file(&gone.path)?;
        }
        self.discard_open()
    }

    /// Begins a segment.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(&mut self, header: Header) -> Result<(), SegmentError> {
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.folder.join(OPEN))?;
        let out = BufWriter::with_capacity(BUFFER, file);
        self.open = Some(SegmentWriter::create(out, &header)?);
        self.header = Some(header);
        Ok(())
    }

    /// Carries steps out, and hands them to the operating system: they survive the death of this process.
    ///
    /// # Errors
    /// A gap when the budget is used up; what was committed before stays.
    pub fn apply(&mut self, steps: &[Step], at: Timestamp) -> Result<(), SpillError> {
        let room = self.budget.saturating_sub(self.waiting_bytes);
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        for step in steps {
            match step {
                Step::Begin(revision) => open.begin(*revision, at)?,
                Step::Row(row) => {
                    if open.length() + row.value.len() as u64 > room {
                        self.abort()?;
                        return Err(SpillError::Gap(Gap::SpillFull {
                            budget: self.budget,
                        }));
                    }
                    open.row(row)?;
                }
                Step::Commit(_) => open.commit()?,
                Step::Idle => open.idle(at)?,
            }
        }
        open.flush()?;
        Ok(())
    }

    /// Notes the seconds that leases were granted for.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn leases(&mut self, granted: &[(i64, i64)]) -> Result<(), SegmentError> {
        if let Some(open) = &mut self.open {
            for &(id, ttl) in granted {
                open.lease(id, ttl)?;
            }
            open.flush()?;
        }
        Ok(())
    }

    /// Takes back a revision that was begun and will not end.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn abort(&mut self) -> Result<(), SegmentError> {
        if let Some(open) = &mut self.open {
            let length = open.abort()?;
            let file = open.output().get_mut();
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
        }
        Ok(())
    }

    /// Finishes the growing segment: from here on it waits for the store. `None` when none is growing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn cut(&mut self, raft_term: u64) -> Result<Option<&Ready>, SegmentError> {
        self.abort()?;
        let (Some(open), Some(header)) = (self.open.take(), self.header.take()) else {
            return Ok(None);
        };
        let (out, finished) = open.finish(raft_term, None, None)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let name = format!(
            "{:020}-{:020}.{ENDING}",
            header.first_revision, finished.footer.totals.last_revision
        );
        let path = self.folder.join(name);
        fs::rename(self.folder.join(OPEN), &path)?;
        File::open(&self.folder)?.sync_all()?;
        self.wait(Ready {
            path,
            header,
            finished,
        });
        Ok(self.waiting.back())
    }

    /// Removes a segment that the store has.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn published(&mut self, path: &Path) -> Result<(), SegmentError> {
        if let Some(index) = self.waiting.iter().position(|ready| ready.path == path)
            && let Some(gone) = self.waiting.remove(index)
        {
            self.waiting_bytes -= gone.finished.bytes;
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Forgets the growing segment and its file.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn discard_open(&mut self) -> Result<(), SegmentError> {
        self.header = None;
        if self.open.take().is_some() {
            fs::remove_file(self.folder.join(OPEN))?;
        }
        Ok(())
    }

    fn wait(&mut self, ready: Ready) {
        self.waiting_bytes += ready.finished.bytes;
        self.waiting.push_back(ready);
    }

    fn take_over(&mut self, cluster_id: &str) -> Result<(), SegmentError> {
        let path = self.folder.join(OPEN);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let last = self.last();
        match recover(BufReader::with_capacity(BUFFER, &file)) {
            Ok(found)
                if found.header.cluster_id == cluster_id
                    && last.is_none_or(|last| found.header.first_revision == last + 1) =>
            {
                file.set_len(found.length)?;
                let mut out = BufWriter::with_capacity(BUFFER, file);
                out.seek(SeekFrom::Start(found.length))?;
                self.header = Some(found.header.clone());
                self.unnoted.clone_from(&found.unnoted);
                self.open = Some(found.resume(out));
                Ok(())
            }
            Ok(_) | Err(SegmentError::Damaged { .. }) => Ok(fs::remove_file(&path)?),
            Err(other) => Err(other),
        }
    }
}

/// Reads a finished segment to its end: what it says of itself, proved from its bytes.
///
/// # Errors
/// When it is damaged or cannot be read.
pub fn prove(path: &Path) -> Result<Ready, SegmentError> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let hashing = Hashing {
        source: BufReader::with_capacity(BUFFER, file),
        digest: ring::digest::Context::new(&ring::digest::SHA256),
    };
    let mut reader = SegmentReader::open(hashing)?;
    while let Some(item) = reader.next_item()? {
        debug_assert!(!matches!(item, Item::Row { key: [], .. }));
    }
    let header = reader.header().clone();
    let Some(footer) = reader.footer().cloned() else {
        return Err(SegmentError::Damaged {
            at: bytes,
            problem: "it has no footer".to_owned(),
        });
    };
    let sha256 = hex::encode(reader.into_source().digest.finish());
    Ok(Ready {
        path: path.to_owned(),
        header,
        finished: Finished {
            footer,
            bytes,
            sha256,
        },
    })
}

struct Hashing<R> {
    source: R,
    digest: ring::digest::Context,
}

impl<R: io::Read> io::Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        self.digest.update(into.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Why segments on disk could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The recording ends here.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// A file could not be written.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

#[cfg(test)]
mod tests;
