//! Seals a snapshot into a file beside it, hashing what goes in, on a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ring::digest::{Context, SHA256};

use super::PipelineError;
use crate::seal::{Sealer, Unsealer};

const TOLD_EVERY: Duration = Duration::from_millis(100);

/// What went into the seal.
pub(super) struct Sealed {
    /// Plain bytes.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
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

/// Seals `plain` into `stored`, created new with mode 0600, and says how many plain bytes are done.
pub(super) async fn seal_file(
    sealer: &Sealer,
    plain: &Path,
    stored: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Sealed, PipelineError> {
    let done = Arc::new(AtomicU64::new(0));
    let (sealer, counted) = (sealer.clone(), Arc::clone(&done));
    let (from, to) = (plain.to_owned(), stored.to_owned());
    let mut work = tokio::task::spawn_blocking(move || seal(&sealer, &from, &to, counted));
    loop {
        match tokio::time::timeout(TOLD_EVERY, &mut work).await {
            Err(_) => progress(done.load(Ordering::Relaxed)),
            Ok(Ok(outcome)) => {
                progress(done.load(Ordering::Relaxed));
                return outcome;
            }
            Ok(Err(_)) => {
                return Err(PipelineError::Interrupted {
                    what: "the sealing of the snapshot",
                });
            }
        }
    }
}

fn seal(
    sealer: &Sealer,
    plain: &Path,
    stored: &Path,
    done: Arc<AtomicU64>,
) -> Result<Sealed, PipelineError> {
    let failed = |path: &Path, source| PipelineError::Scratch {
        path: path.to_owned(),
        source,
    };
    let file = File::open(plain).map_err(|source| failed(plain, source))?;
    let mut reader = Hashing {
        inner: file,
        hash: Context::new(&SHA256),
        done,
    };
    let out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(stored)
        .map_err(|source| failed(stored, source))?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    sealer.seal(&mut reader, &mut out)?;
    out.into_inner()
        .map_err(|error| failed(stored, error.into_error()))?;
    Ok(Sealed {
        size: reader.done.load(Ordering::Relaxed),
        sha256: hex::encode(reader.hash.finish()),
    })
}

struct Hashing {
    inner: File,
    hash: Context,
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
