//! Reading a stored backup: its bytes are hashed as they come, unsealed, and the plain bytes hashed again, at bounded memory.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ring::digest::{Context, SHA256};

use crate::repository::Manifest;
use crate::seal::Digest;

/// Bytes behind a database: etcd's digest of it.
const DIGEST_BYTES: usize = 32;
const BUFFER_BYTES: usize = 256 * 1024;

/// What came out of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Stored bytes.
    pub stored_size: u64,
    /// Their SHA-256, hexadecimal.
    pub stored_sha256: String,
    /// The plain bytes, when they were unsealed.
    pub plain: Option<Plain>,
}

/// What came out of the seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// Bytes.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
    /// SHA-256 of all but the last 32 bytes: of the database without the digest behind it.
    pub image_sha256: String,
}

impl ReadBack {
    /// What differs from what the manifest says; the stored bytes first.
    pub fn problem(&self, manifest: &Manifest) -> Option<String> {
        let differs = |what: &str, is: &str, should: &str| {
            Some(format!("its {what} is {is} and should be {should}"))
        };
        if self.stored_size != manifest.stored_size {
            let (is, should) = (
                self.stored_size.to_string(),
                manifest.stored_size.to_string(),
            );
            return differs("stored size", &is, &should);
        }
        if self.stored_sha256 != manifest.stored_sha256 {
            let should = &manifest.stored_sha256;
            return differs("stored SHA-256", &self.stored_sha256, should);
        }
        let plain = self.plain.as_ref()?;
        if plain.size != manifest.raw_size {
            let (is, should) = (plain.size.to_string(), manifest.raw_size.to_string());
            return differs("unsealed size", &is, &should);
        }
        if plain.sha256 != manifest.plain_sha256 {
            return differs("unsealed SHA-256", &plain.sha256, &manifest.plain_sha256);
        }
        None
    }
}

/// How far a reading is, and whether anybody still waits for it.
#[derive(Clone, Default)]
pub(super) struct Watch {
    pub done: Arc<AtomicU64>,
    pub gone: Arc<AtomicBool>,
}

/// Ends a reading on its own thread when whoever started it is dropped.
pub(super) struct EndOnDrop(pub Watch);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

/// Hashes and counts what is read, and remembers why it broke.
pub(super) struct HashingReader<R> {
    inner: R,
    hash: Context,
    count: u64,
    watch: Watch,
    pub broke: Option<io::Error>,
}

impl<R: Read> HashingReader<R> {
    pub fn new(inner: R, watch: Watch) -> Self {
        Self {
            inner,
            hash: Context::new(&SHA256),
            count: 0,
            watch,
            broke: None,
        }
    }

    /// Reads what is left, so that the hash is that of everything.
    pub fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Bytes and SHA-256.
    pub fn finish(self) -> (u64, String) {
        (self.count, hex::encode(self.hash.finish()))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.gone.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        match self.inner.read(buffer) {
            Ok(count) => {
                self.hash.update(&buffer[..count]);
                self.count += count as u64;
                self.watch.done.store(self.count, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.broke = Some(error);
                Err(copy)
            }
        }
    }
}

/// Hashes what is written: all of it, and all but the last 32 bytes.
pub(super) struct HashingWriter<W> {
    inner: W,
    hash: Digest,
    held: Vec<u8>,
    count: u64,
    pub broke: Option<io::Error>,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> io::Result<Self> {
        Ok(Self {
            inner,
            hash: Digest::start()?,
            held: Vec::with_capacity(2 * DIGEST_BYTES),
            count: 0,
            broke: None,
        })
    }

    /// What was written, and where to.
    pub fn finish(self) -> io::Result<(Plain, W)> {
        let image = self.hash.finish()?;
        let mut whole = image.clone();
        whole.update(&self.held);
        let plain = Plain {
            size: self.count,
            sha256: hex::encode(whole.finish()),
            image_sha256: hex::encode(image.finish()),
        };
        Ok((plain, self.inner))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        if bytes.len() >= DIGEST_BYTES {
            let (body, tail) = bytes.split_at(bytes.len() - DIGEST_BYTES);
            self.hash.update(&self.held);
            self.hash.update(body);
            self.held.clear();
            self.held.extend_from_slice(tail);
            return;
        }
        self.held.extend_from_slice(bytes);
        if let Some(over) = self.held.len().checked_sub(DIGEST_BYTES) {
            self.hash.update(&self.held[..over]);
            self.held.drain(..over);
        }
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write(bytes) {
            Ok(count) => {
                self.take(&bytes[..count]);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.broke = Some(error);
                Err(copy)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn sha256(bytes: &[u8]) -> String {
        hex::encode(ring::digest::digest(&SHA256, bytes))
    }

    proptest! {
        #[test]
        fn both_digests_are_right_however_the_bytes_are_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..12),
        ) {
            let whole = pieces.concat();
            let mut writer = HashingWriter::new(Vec::new()).unwrap();
            for piece in &pieces {
                writer.write_all(piece).unwrap();
            }
            let (plain, written) = writer.finish().unwrap();
            prop_assert_eq!(&written, &whole);
            prop_assert_eq!(plain.size, whole.len() as u64);
            prop_assert_eq!(plain.sha256, sha256(&whole));
            let image = &whole[..whole.len().saturating_sub(DIGEST_BYTES)];
            prop_assert_eq!(plain.image_sha256, sha256(image));
        }
    }

    #[test]
    fn a_reading_that_nobody_waits_for_ends() {
        let watch = Watch::default();
        let mut reader = HashingReader::new(io::repeat(1), watch.clone());
        let mut some = [0; 10];
        reader.read_exact(&mut some).unwrap();
        drop(EndOnDrop(watch));
        assert!(reader.drain().is_err());
    }
}
