//! A finished file, mapped into memory: read without a copy, and without being counted as our memory.

use std::fs::File;
use std::io;
use std::path::Path;

/// A file, memory-mapped read-only.
pub struct Mapped {
    map: memmap2::Mmap,
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be opened or is empty.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            let problem = format!("{} is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        if about.len() == 0 {
            let problem = format!("{} is empty", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        #[expect(
            unsafe_code,
            reason = "a map is the only way to read 8 GiB without copying them; the file is a finished snapshot that nobody writes to, and whoever truncates it under us ends this process only"
        )]
        // SAFETY: see the reason: the bytes do not change while they are mapped.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}
