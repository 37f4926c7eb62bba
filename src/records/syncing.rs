//! A file that is brought to the disk while it is still being written, so that nothing is left to wait for at the end.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are written at once. A kernel gives the bytes of one write adjacent memory where it can, and
/// takes up to four times as long over a megabyte that way as over the same in small pieces.
pub const WRITE_AT_ONCE: usize = 32 << 10;
/// Bytes that are written between two syncs: some hundredths of a second of a disk.
const SYNC_EVERY: u64 = 32 << 20;

/// A file with a thread beside it that syncs what was written; however much it is given, it writes in small pieces.
pub struct SyncingFile {
    file: File,
    unsynced: u64,
    syncing: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl SyncingFile {
    /// Around a file that is open for writing.
    ///
    /// # Errors
    /// When the file cannot be shared with the thread.
    pub fn new(file: File) -> io::Result<Self> {
        let shared = file.try_clone()?;
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new().spawn(move || {
            while told.recv().is_ok() {
                shared.sync_data()?;
            }
            Ok(())
        });
        Ok(Self {
            file,
            unsynced: 0,
            // Without the thread everything is synced at the end.
            syncing: thread.ok().map(|thread| (tell, thread)),
        })
    }

    /// Syncs the rest.
    ///
    /// # Errors
    /// When any of it does not reach the disk.
    pub fn finish(mut self) -> io::Result<()> {
        // An error that one sync was told is not told again to the next.
        if let Some((tell, thread)) = self.syncing.take() {
            drop(tell);
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the syncing broke off")))?;
        }
        self.file.sync_all()
    }
}

impl Write for SyncingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self
            .file
            .write(bytes.get(..WRITE_AT_ONCE).unwrap_or(bytes))?;
        self.unsynced += count as u64;
        if self.unsynced >= SYNC_EVERY
            && let Some((tell, _)) = &self.syncing
        {
            match tell.try_send(()) {
                // A sync that waits already takes this along.
                Ok(()) | Err(TrySendError::Full(())) => self.unsynced = 0,
                Err(TrySendError::Disconnected(())) => {
                    return match self.syncing.take().map(|(_, thread)| thread.join()) {
                        Some(Ok(Err(error))) => Err(error),
                        _ => Err(io::Error::other("the syncing broke off")),
                    };
                }
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for SyncingFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_while_it_was_synced_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut out = SyncingFile::new(File::create_new(&path).unwrap()).unwrap();
        let block = vec![7; 1 << 20];
        for _ in 0..2 * (SYNC_EVERY >> 20) + 3 {
            out.write_all(&block).unwrap();
        }
        out.seek(SeekFrom::Start(5)).unwrap();
        out.write_all(b"!").unwrap();
        out.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, 2 * SYNC_EVERY + (3 << 20));
        assert_eq!(&bytes[4..7], b"\x07!\x07");
    }
}
