//! Seals a file into a stream that is stored meanwhile: the codecs on one thread, the digest of what goes in on another, where it
//! is not known yet, and a few hundred kilobytes between them and the upload.

use std::fs::File;
use std::io::{self, Read};
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
use crate::seal::{Digest, Pieces, Sealer, Unsealer};

/// So many pieces wait for the upload.
const WAITING: usize = 8;

/// What goes into the seal.
#[derive(Clone)]
pub(super) struct Content {
    /// Plain bytes.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
}

/// A file to be sealed.
pub(super) struct Plain {
    path: PathBuf,
    known: Option<Content>,
    spent: bool,
}

impl Plain {
    /// A file that stays.
    pub fn kept(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            known: None,
            spent: false,
        }
    }

    /// A file that nobody needs once it is sealed: it is removed while the last of it is stored. What is `known` of it is not
    /// computed again; who reads the backup back finds a file that became another one meanwhile.
    pub fn spent(path: &Path, known: Option<Content>) -> Self {
        Self {
            path: path.to_owned(),
            known,
            spent: true,
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A file that is being sealed.
pub(super) struct Sealing {
    /// What comes out; it breaks when the sealing does.
    pub stored: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    /// So many plain bytes went in.
    pub done: Arc<AtomicU64>,
    /// Ends with the stream.
    pub work: JoinHandle<Result<Content, PipelineError>>,
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
pub(super) fn seal_file(sealer: &Sealer, plain: Plain, span: Span) -> Sealing {
    let done = Arc::new(AtomicU64::new(0));
    let (send, receive) = channel(WAITING);
    let (sealer, counted) = (sealer.clone(), Arc::clone(&done));
    let work =
        tokio::task::spawn_blocking(move || span.in_scope(|| seal(&sealer, plain, counted, send)));
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
    plain: Plain,
    done: Arc<AtomicU64>,
    send: Sender<Option<Bytes>>,
) -> Result<Content, PipelineError> {
    let Plain { path, known, spent } = plain;
    let failed = |source| PipelineError::Scratch {
        path: path.clone(),
        source,
    };
    let hash = match known {
        None => Some(Digest::start().map_err(failed)?),
        Some(_) => None,
    };
    let mut reader = Hashing {
        inner: File::open(&path).map_err(failed)?,
        hash,
        done,
    };
    let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody stores it any more");
    let mut pieces = Pieces::new(|piece| send.blocking_send(piece).map_err(gone));
    sealer.seal(&mut reader, &mut pieces)?;
    let size = reader.done.load(Ordering::Relaxed);
    let content = match (reader.hash, known) {
        (Some(hash), _) => Content {
            size,
            sha256: hex::encode(hash.finish().map_err(failed)?.finish()),
        },
        (None, Some(known)) if known.size == size => known,
        (None, _) => return Err(failed(io::Error::other("its length changed meanwhile"))),
    };
    pieces.end().map_err(failed)?;
    if spent {
        std::fs::remove_file(&path).map_err(failed)?;
    }
    Ok(content)
}

struct Hashing {
    inner: File,
    hash: Option<Digest>,
    done: Arc<AtomicU64>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::api::Compression;

    /// Seals a file of 64 KiB and reads its bytes, but not yet that they end: whether the file is there then, and what was said of it.
    async fn all_but_its_end(
        plain: impl FnOnce(&Path) -> Plain,
    ) -> (bool, Result<Content, PipelineError>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plain");
        let bytes = vec![7; 64 << 10];
        std::fs::write(&file, &bytes).unwrap();
        let sealer = Sealer::open(Compression::None);
        let mut sealing = seal_file(&sealer, plain(&file), Span::none());
        let mut stored = vec![0; bytes.len()];
        sealing.stored.read_exact(&mut stored).await.unwrap();
        assert!(stored == bytes);
        let said = sealing.work.await.unwrap();
        (file.exists(), said)
    }

    fn content(size: u64) -> Content {
        Content {
            size,
            sha256: "of before".into(),
        }
    }

    #[tokio::test]
    async fn a_spent_file_goes_with_its_sealing_before_anybody_has_read_the_end_and_a_kept_one_stays()
     {
        let (there, said) = all_but_its_end(Plain::kept).await;
        let said = said.unwrap();
        assert!(there && said.size == 64 << 10 && said.sha256.len() == 64);
        let spent = |file: &Path| Plain::spent(file, Some(content(64 << 10)));
        let (there, said) = all_but_its_end(spent).await;
        assert!(!there && said.unwrap().sha256 == "of before");
        // What is not as long as it was said to be is neither believed nor removed.
        let other = |file: &Path| Plain::spent(file, Some(content(5)));
        let (there, said) = all_but_its_end(other).await;
        assert!(there && said.is_err());
    }
}
