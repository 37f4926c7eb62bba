//! Reads stored backups back and proves them; the hashing and unsealing run on a thread of their own.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::io::SyncIoBridge;

use super::read_back::{EndOnDrop, HashingReader, HashingWriter, Watch};
use super::{Live, Mapped, ReadBack, Verdict, VerifyError, judge};
use crate::recorder::spill;
use crate::records::{SyncingFile, WRITE_AT_ONCE};
use crate::repository::{Check, Kind, Level, Manifest, Repository};
use crate::seal::{SealError, Unsealer};
use crate::snapshot;

/// How often whoever waits is told how far the reading is.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// Reads a stored backup back into `to` (created new, 0600): the stored bytes' size and digest are checked, then it is
/// unsealed, and the plain bytes' size and digest are checked. Nothing stays at `to` when it fails.
///
/// # Errors
/// When the store does not answer, the key is wrong, or the bytes are not those of the manifest.
pub async fn fetch(
    repository: &Repository,
    manifest: &Manifest,
    unsealer: &Unsealer,
    to: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), VerifyError> {
    let unwritable = |source| VerifyError::File {
        path: to.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(unwritable)?;
    let syncing = SyncingFile::new(file).map_err(unwritable)?;
    let sink = Sink::File(BufWriter::with_capacity(WRITE_AT_ONCE, syncing));
    let half = RemoveOnDrop(Some(to));
    let outcome = read_sealed(repository, manifest, Some(unsealer), sink, progress).await;
    let (read, sink) = outcome.map_err(|error| match error {
        VerifyError::File { source, .. } => unwritable(source),
        other => other,
    })?;
    check(manifest, &read)?;
    if let Sink::File(writer) = sink {
        let file = writer
            .into_inner()
            .map_err(|error| unwritable(error.into_error()))?;
        file.finish().map_err(unwritable)?;
    }
    half.keep();
    Ok(())
}

/// Reads a stored backup back, unseals it and keeps nothing: what is left is its sizes and digests, which are those of the
/// manifest.
///
/// # Errors
/// As [`fetch`].
pub async fn read_back(
    repository: &Repository,
    manifest: &Manifest,
    unsealer: &Unsealer,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<ReadBack, VerifyError> {
    let read = read_sealed(repository, manifest, Some(unsealer), Sink::None, progress).await?;
    check(manifest, &read.0)?;
    Ok(read.0)
}

/// Checks the stored bytes' size and digest only; no key is needed.
///
/// # Errors
/// When the store does not answer. What is wrong with the bytes is in the verdict.
pub async fn shallow(
    repository: &Repository,
    manifest: &Manifest,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Verdict, VerifyError> {
    let (read, _) = read_sealed(repository, manifest, None, Sink::None, progress).await?;
    let check = match read.problem(manifest) {
        Some(problem) => stored_check(false, problem),
        None => stored_check(
            true,
            format!("{} stored bytes have their SHA-256", read.stored_size),
        ),
    };
    Ok(Verdict {
        level: Level::Stored,
        checks: vec![check],
    })
}

/// Reads a stored backup into `scratch`, unseals it and proves every page and row.
///
/// # Errors
/// When the store does not answer, the key is wrong, or the scratch folder cannot be used. What is wrong with the backup is
/// in the verdict.
pub async fn deep(
    repository: &Repository,
    manifest: &Manifest,
    unsealer: &Unsealer,
    scratch: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Verdict, VerifyError> {
    let folder = tempfile::Builder::new()
        .prefix("verify-")
        .tempdir_in(scratch)
        .map_err(|source| VerifyError::File {
            path: scratch.to_owned(),
            source,
        })?;
    let file = folder.path().join("snapshot.db");
    match fetch(repository, manifest, unsealer, &file, progress).await {
        Ok(()) => {}
        Err(VerifyError::Damaged { problem, .. }) => {
            return Ok(Verdict {
                level: Level::Stored,
                checks: vec![stored_check(false, problem)],
            });
        }
        Err(other) => return Err(other),
    }
    if manifest.kind == Kind::Increment {
        return prove_increment(&file, manifest).await;
    }
    let proof = prove(&file, &manifest.id).await?;
    let mut verdict = judge(&proof, None, &Live::NotAsked);
    if verdict.ok()
        && let Some(recorded) = manifest.hash_kv
    {
        let consistent = manifest.level >= Level::Consistent;
        let check = recorded_hash(&file, &manifest.id, recorded, consistent).await?;
        verdict.level = match check.ok {
            true if consistent => Level::Consistent,
            true => verdict.level,
            false => Level::Stored,
        };
        verdict.checks.push(check);
    }
    let bytes = format!(
        "{} stored and {} unsealed bytes have their SHA-256",
        manifest.stored_size, manifest.raw_size
    );
    verdict.checks.insert(0, stored_check(true, bytes));
    let revision = proof.status.as_ref().map(|status| status.revision);
    if let Some(revision) = revision.filter(|revision| *revision != manifest.revision) {
        verdict.level = Level::Stored;
        verdict.checks.push(Check {
            name: "revision".to_owned(),
            ok: false,
            message: format!(
                "the file ends at revision {revision} and its manifest says {}",
                manifest.revision
            ),
        });
    }
    Ok(verdict)
}

/// Proves an increment from its bytes: every revision whole and none missing, and the range is that of its manifest.
async fn prove_increment(file: &Path, manifest: &Manifest) -> Result<Verdict, VerifyError> {
    let path = file.to_owned();
    let proved = tokio::task::spawn_blocking(move || spill::prove(&path))
        .await
        .map_err(|_| VerifyError::Interrupted {
            id: manifest.id.clone(),
        })?;
    let (ok, message) = match proved {
        Err(error) => (false, error.to_string()),
        Ok(segment) => {
            let (first, totals) = (
                segment.header.first_revision,
                segment.finished.footer.totals,
            );
            let same = manifest.start_revision == Some(first)
                && manifest.revision == totals.last_revision
                && manifest
                    .chain
                    .as_ref()
                    .is_some_and(|chain| chain.base == segment.header.base);
            let said = format!(
                "revisions {first} to {} on {} are whole: {} rows",
                totals.last_revision, segment.header.base, totals.rows
            );
            (same, said)
        }
    };
    let bytes = format!("{} stored bytes have their SHA-256", manifest.stored_size);
    let rows = Check {
        name: "rows".to_owned(),
        ok,
        message,
    };
    Ok(Verdict {
        level: if ok { Level::Verified } else { Level::Stored },
        checks: vec![stored_check(true, bytes), rows],
    })
}

/// Compares the file's hash with the one in its manifest, which was the live cluster's when it was `consistent`.
async fn recorded_hash(
    file: &Path,
    id: &str,
    recorded: snapshot::HashKv,
    consistent: bool,
) -> Result<Check, VerifyError> {
    let own = on_file(file, id, move |bytes| {
        let (revision, compacted) = (recorded.revision, recorded.compact_revision);
        snapshot::hash_kv(bytes, Some(revision), Some(compacted))
    })
    .await?;
    let whose = if consistent {
        "the live cluster had when it was taken"
    } else {
        "was computed when it was taken"
    };
    let (ok, message) = match own {
        Ok(own) if own.hash == recorded.hash => (
            true,
            format!("{} at revision {} is what {whose}", own.hash, own.revision),
        ),
        Ok(own) => (
            false,
            format!(
                "{} at revision {} is not the {} that {whose}",
                own.hash, own.revision, recorded.hash
            ),
        ),
        Err(error) => (false, format!("it cannot be computed: {error}")),
    };
    Ok(Check {
        name: "hashkv".to_owned(),
        ok,
        message,
    })
}

/// Proves a file on a thread of its own.
pub async fn prove(file: &Path, id: &str) -> Result<snapshot::Proof, VerifyError> {
    on_file(file, id, snapshot::prove).await
}

async fn on_file<T: Send + 'static>(
    file: &Path,
    id: &str,
    work: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, VerifyError> {
    let path = file.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let mapped = Mapped::open(&path).map_err(|source| VerifyError::File {
            path: path.clone(),
            source,
        })?;
        Ok(work(mapped.bytes()))
    });
    let id = id.to_owned();
    done.await.map_err(|_| VerifyError::Interrupted { id })?
}

fn stored_check(ok: bool, message: String) -> Check {
    Check {
        name: "stored".to_owned(),
        ok,
        message,
    }
}

fn check(manifest: &Manifest, read: &ReadBack) -> Result<(), VerifyError> {
    match read.problem(manifest) {
        None => Ok(()),
        Some(problem) => Err(VerifyError::Damaged {
            id: manifest.id.clone(),
            problem,
        }),
    }
}

enum Sink {
    None,
    File(BufWriter<SyncingFile>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None => Ok(bytes.len()),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::File(file) => file.flush(),
        }
    }
}

struct RemoveOnDrop<'a>(Option<&'a Path>);

impl RemoveOnDrop<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(file = %path.display(), %error, "a partial snapshot cannot be removed");
        }
    }
}

/// Reads to the very end of what is stored, unsealing when there is something to unseal with.
async fn read_sealed(
    repository: &Repository,
    manifest: &Manifest,
    unsealer: Option<&Unsealer>,
    sink: Sink,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(ReadBack, Sink), VerifyError> {
    let unsealer = match unsealer {
        None => None,
        Some(unsealer) => {
            let keyring = repository.keyring();
            let opening = keyring.opening(unsealer, &manifest.seal).await;
            Some(opening.map_err(|source| VerifyError::Key {
                id: manifest.id.clone(),
                source,
            })?)
        }
    };
    let stream = repository.read(&manifest.data_key).await?;
    let watch = Watch::default();
    let _end = EndOnDrop(watch.clone());
    let bridge = SyncIoBridge::new(stream);
    let reading = Reading {
        manifest: manifest.clone(),
        unsealer,
        watch: watch.clone(),
    };
    let mut work = tokio::task::spawn_blocking(move || reading.run(bridge, sink));
    loop {
        match tokio::time::timeout(TOLD_EVERY, &mut work).await {
            Err(_) => progress(watch.done.load(Ordering::Relaxed)),
            Ok(Ok(outcome)) => {
                progress(watch.done.load(Ordering::Relaxed));
                return outcome;
            }
            Ok(Err(_)) => {
                let id = manifest.id.clone();
                return Err(VerifyError::Interrupted { id });
            }
        }
    }
}

struct Reading {
    manifest: Manifest,
    unsealer: Option<Unsealer>,
    watch: Watch,
}

impl Reading {
    fn run(self, stored: impl io::Read, sink: Sink) -> Result<(ReadBack, Sink), VerifyError> {
        let id = || self.manifest.id.clone();
        let mut reader = HashingReader::new(stored, self.watch.clone());
        let thread = |source| VerifyError::Read { id: id(), source };
        let mut writer = HashingWriter::new(sink).map_err(thread)?;
        let mut unsealed: Option<Result<(), SealError>> = None;
        if let Some(unsealer) = &self.unsealer {
            let (seal, compression) = (&self.manifest.seal, self.manifest.compression);
            unsealed = Some(unsealer.unseal(seal, compression, &mut reader, &mut writer));
        }
        if let Some(source) = reader.broke.take() {
            return Err(VerifyError::Read { id: id(), source });
        }
        if let Some(source) = writer.broke.take() {
            let path = std::path::PathBuf::new();
            return Err(VerifyError::File { path, source });
        }
        // The seal may end before the object does, or fail in its middle: the digest is that of all stored bytes.
        if let Err(source) = reader.drain() {
            return Err(VerifyError::Read { id: id(), source });
        }
        let (stored_size, stored_sha256) = reader.finish();
        let (plain, sink) = writer.finish().map_err(thread)?;
        let read = ReadBack {
            stored_size,
            stored_sha256,
            plain: self.unsealer.is_some().then_some(plain),
        };
        match unsealed {
            Some(Err(source)) => {
                let stored = ReadBack {
                    plain: None,
                    ..read
                };
                // Damaged bytes explain a seal that does not open better than the seal can.
                check(&self.manifest, &stored)?;
                Err(VerifyError::Sealed { id: id(), source })
            }
            _ => Ok((read, sink)),
        }
    }
}
