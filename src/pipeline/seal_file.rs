//! Seals a file into a stream that is stored meanwhile: the codecs on one thread, the digest of what goes in on another, and a few
//! hundred kilobytes between them and the upload.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio_util::io::StreamReader;
use tracing::Span;

use super::PipelineError;
use crate::seal::{Digest, Sealer, Unsealer};

/// Sealed bytes go over in pieces of this size.
const PIECE: usize = 256 * 1024;
/// So many pieces wait for the upload.
const WAITING: usize = 8;

/// What went into the seal.
pub(super) struct Sealed {
    /// Plain bytes.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
}

/// A file that is being sealed.
pub(super) struct Sealing {
    /// What comes out; it breaks when the sealing does.
    pub stored: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    /// So many plain bytes went in.
    pub done: Arc<AtomicU64>,
    /// Ends with the stream.
    pub work: JoinHandle<Result<Sealed, PipelineError>>,
}

/// What a backup is sealed and read back with. Where no key at hand opens the seal, as the private ones are kept elsewhere, a key
/// of the moment joins them, so that the proof of what lies in the store is the same.
pub(super) fn provable(sealer: Sealer, unsealer: Option<&Unsealer>) -> (Sealer, Option<Unsealer>) {
    let seal = sealer.describe();
    match unsealer {
        Some(unsealer) if seal.kms.is_none() && !unsealer.opens(&seal) => {
            let (sealer, witness) = sealer.witnessed();
            (sealer, Some(witness))
        }
        other => (sealer, other.cloned()),
    }
}

/// The most that sealing makes of so many bytes, when nothing compresses: zstd's and age's frames are less than a hundredth.
pub(super) fn most_sealed(plain: u64) -> u64 {
    plain.saturating_add(plain / 64).saturating_add(1 << 20)
}

/// Begins to seal `plain`, which is the work of `span`; it goes on as the stream is read, and ends early when that is dropped.
pub(super) fn seal_file(sealer: &Sealer, plain: &Path, span: Span) -> Sealing {
    let done = Arc::new(AtomicU64::new(0));
    let (send, receive) = channel(WAITING);
    let (sealer, from, counted) = (sealer.clone(), plain.to_owned(), Arc::clone(&done));
    let work =
        tokio::task::spawn_blocking(move || span.in_scope(|| seal(&sealer, from, counted, send)));
    Sealing {
        stored: StreamReader::new(received(receive)),
        done,
        work,
    }
}

/// The pieces as a stream, whose end is its end only when the sealing said so.
fn received(receive: Receiver<Option<Bytes>>) -> BoxStream<'static, io::Result<Bytes>> {
    futures::stream::unfold(Some(receive), |receive| async move {
        let mut receive = receive?;
        match receive.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(receive))),
            Some(None) => None,
            None => Some((Err(io::Error::other("the sealing broke off")), None)),
        }
    })
    .boxed()
}

fn seal(
    sealer: &Sealer,
    plain: PathBuf,
    done: Arc<AtomicU64>,
    send: Sender<Option<Bytes>>,
) -> Result<Sealed, PipelineError> {
    let failed = |source| PipelineError::Scratch {
        path: plain.clone(),
        source,
    };
    let mut reader = Hashing {
        inner: File::open(&plain).map_err(failed)?,
        hash: Digest::start().map_err(failed)?,
        done,
    };
    let mut pieces = Pieces {
        filling: Vec::with_capacity(PIECE),
        send,
    };
    sealer.seal(&mut reader, &mut pieces)?;
    pieces.end().map_err(failed)?;
    let hash = reader.hash.finish().map_err(failed)?;
    Ok(Sealed {
        size: reader.done.load(Ordering::Relaxed),
        sha256: hex::encode(hash.finish()),
    })
}

struct Hashing {
    inner: File,
    hash: Digest,
    done: Arc<AtomicU64>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Hands what is written over, piece by piece; waits when the other side is slower.
struct Pieces {
    filling: Vec<u8>,
    send: Sender<Option<Bytes>>,
}

impl Pieces {
    fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(None)
    }

    fn send(&self, piece: Option<Bytes>) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody stores it any more");
        self.send.blocking_send(piece).map_err(gone)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.len() >= PIECE {
            self.flush()?;
        }
        let count = bytes.len().min(PIECE);
        self.filling.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.filling, Vec::with_capacity(PIECE));
        self.send(Some(piece.into()))
    }
}
