//! Reads a snapshot stream to its very end: the database, the digest behind it, and nothing else (etcd-format.md §1.3).

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::{EtcdError, StreamProblem, StreamProgress};
use crate::records::SyncingFile;

/// Chunks of 32 KiB go to the disk together, so that its thread need not be woken for each.
const PIECE: usize = 256 << 10;
/// So many pieces may wait for the disk: 4 MiB.
const QUEUED_PIECES: usize = 16;
/// A server whose copy broke sends empty messages for ever; a good one sends none.
const MAX_EMPTY_MESSAGES: usize = 1_000;
const DIGEST_BYTES: usize = 32;

/// One message of the stream.
pub(super) struct Chunk<B> {
    /// Bytes of the database that follow this message.
    pub remaining: u64,
    /// Bytes of the database, or the digest behind it.
    pub blob: B,
}

/// Where messages come from: etcd, or a test.
#[async_trait]
pub(super) trait Chunks: Send {
    /// What holds the bytes of a message, which are not copied out of it.
    type Blob: AsRef<[u8]> + Send;

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Result<Option<Chunk<Self::Blob>>, EtcdError>;
}

/// A stream that arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes written: database and digest.
    pub bytes: u64,
    /// SHA-256 of the database, hexadecimal.
    pub image_sha256: String,
    /// SHA-256 of all bytes written, hexadecimal.
    pub file_sha256: String,
}

/// SHA-256 of the database, and of it with its digest behind it.
struct Digests {
    image: String,
    file: String,
}

/// Whose stream is read, and how patiently.
pub(super) struct Reading<'a> {
    /// The member.
    pub endpoint: &'a str,
    /// How long nothing may arrive.
    pub stall: Duration,
    /// Hears of every chunk.
    pub progress: &'a dyn StreamProgress,
    /// Free bytes where the file goes, when known.
    pub free: Option<u64>,
}

enum Piece {
    Image(Vec<u8>),
    Digest([u8; DIGEST_BYTES]),
}

impl Reading<'_> {
    /// Copies the stream to `file`, created new with mode 0600, and returns once it is on disk with the digest that etcd sent.
    pub async fn copy(&self, chunks: &mut impl Chunks, file: &Path) -> Result<Received, EtcdError> {
        let out = create(file)?;
        let (pieces, queue) = mpsc::channel(QUEUED_PIECES);
        let path = file.to_owned();
        let writer = tokio::task::spawn_blocking(move || write(out, queue, path));
        let read = self.read(chunks, &pieces, file).await;
        drop(pieces);
        let written = match writer.await {
            Ok(written) => written,
            Err(join) => Err(broken(file.to_owned(), io::Error::other(join))),
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(ReadEnd::Failed(error)) => return Err(error),
            // A full disk ends the reading: the writer's own words say why.
            Err(ReadEnd::WriterGone) => 0,
        };
        match written? {
            Some(digests) => Ok(Received {
                bytes,
                image_sha256: digests.image,
                file_sha256: digests.file,
            }),
            None => Err(self.wrong(StreamProblem::DigestMismatch)),
        }
    }

    async fn read(
        &self,
        chunks: &mut impl Chunks,
        pieces: &mpsc::Sender<Piece>,
        file: &Path,
    ) -> Result<u64, ReadEnd> {
        let mut expected = None;
        let mut received = 0_u64;
        let mut piece = Vec::with_capacity(PIECE);
        let mut digest = Vec::with_capacity(DIGEST_BYTES);
        let mut empty = 0;
        let mut last_progress = tokio::time::Instant::now();
        loop {
            let limit = last_progress + self.stall;
            let message = tokio::time::timeout_at(limit, chunks.next())
                .await
                .map_err(|_| self.wrong(StreamProblem::Stalled(self.stall.as_secs())))?;
            let Some(chunk) = message? else { break };
            let blob = chunk.blob.as_ref();
            if blob.is_empty() {
                empty += 1;
                if empty > MAX_EMPTY_MESSAGES {
                    return Err(self.wrong(StreamProblem::EmptyMessages).into());
                }
                continue;
            }
            empty = 0;
            last_progress = tokio::time::Instant::now();
            let total = match expected {
                Some(total) => total,
                None => {
                    let total = chunk.remaining.saturating_add(blob.len() as u64);
                    self.check_space(total, file)?;
                    expected = Some(total);
                    total
                }
            };
            let missing = usize::try_from(total - received).unwrap_or(usize::MAX);
            let (image, behind) = blob.split_at(missing.min(blob.len()));
            digest.extend_from_slice(behind);
            if digest.len() > DIGEST_BYTES {
                return Err(self.wrong(StreamProblem::TrailingBytes).into());
            }
            if !image.is_empty() {
                received += image.len() as u64;
                self.progress.bytes(received, total);
                piece.extend_from_slice(image);
                if piece.len() >= PIECE {
                    let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                    self.hand_on(pieces, Piece::Image(full)).await?;
                }
            }
        }
        if !piece.is_empty() {
            self.hand_on(pieces, Piece::Image(piece)).await?;
        }
        let expected = expected.ok_or_else(|| self.wrong(StreamProblem::Empty))?;
        if received < expected {
            return Err(self
                .wrong(StreamProblem::Truncated { received, expected })
                .into());
        }
        let digest: [u8; DIGEST_BYTES] = digest
            .try_into()
            .map_err(|part: Vec<u8>| self.wrong(StreamProblem::DigestMissing(part.len())))?;
        self.hand_on(pieces, Piece::Digest(digest)).await?;
        Ok(received + DIGEST_BYTES as u64)
    }

    async fn hand_on(&self, pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), ReadEnd> {
        pieces.send(piece).await.map_err(|_| ReadEnd::WriterGone)
    }

    fn check_space(&self, total: u64, file: &Path) -> Result<(), EtcdError> {
        let needed = total.saturating_add(DIGEST_BYTES as u64);
        match self.free {
            Some(free) if free < needed => Err(EtcdError::NoSpace {
                folder: file.parent().unwrap_or(file).to_owned(),
                free,
                needed,
            }),
            _ => Ok(()),
        }
    }

    fn wrong(&self, problem: StreamProblem) -> EtcdError {
        EtcdError::Stream {
            endpoint: self.endpoint.to_owned(),
            problem,
        }
    }
}

enum ReadEnd {
    WriterGone,
    Failed(EtcdError),
}

impl From<EtcdError> for ReadEnd {
    fn from(error: EtcdError) -> Self {
        Self::Failed(error)
    }
}

fn create(path: &Path) -> Result<std::fs::File, EtcdError> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| broken(path.to_owned(), source))
}

/// Writes and hashes on a thread of its own, so that the disk does not hold up the stream. `None`: the digest is wrong.
fn write(
    out: std::fs::File,
    mut queue: mpsc::Receiver<Piece>,
    path: PathBuf,
) -> Result<Option<Digests>, EtcdError> {
    let failed = |source| broken(path.clone(), source);
    let mut out = SyncingFile::new(out).map_err(failed)?;
    let mut hash = Context::new(&SHA256);
    while let Some(piece) = queue.blocking_recv() {
        match piece {
            Piece::Image(bytes) => {
                hash.update(&bytes);
                out.write_all(&bytes).map_err(failed)?;
            }
            Piece::Digest(sent) => {
                let mut whole = hash.clone();
                let own = hash.finish();
                if own.as_ref() != sent {
                    return Ok(None);
                }
                out.write_all(&sent).map_err(failed)?;
                out.finish().map_err(failed)?;
                whole.update(&sent);
                return Ok(Some(Digests {
                    image: hex::encode(sent),
                    file: hex::encode(whole.finish()),
                }));
            }
        }
    }
    // The reader gave up; its own error is the one that counts.
    Ok(None)
}

fn broken(path: PathBuf, source: io::Error) -> EtcdError {
    EtcdError::Write { path, source }
}

#[cfg(test)]
mod tests;
