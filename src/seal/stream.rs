//! The two streams: plain → zstd → age → stored, and back. Tells a broken reader or writer from damaged bytes.

use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use age::{DecryptError, Decryptor, Encryptor};
use bytes::Bytes;

use super::error::wanted;
use super::pieces::Pieces;
use super::{AGE, Lock, Seal, SealError, Sealer, Unsealer};
use crate::api::Compression;

/// Level 1 compresses a snapshot threefold at disk speed; level 3 costs twice the time and saves nothing.
const ZSTD_LEVEL: i32 = 1;
/// scrypt with N = 2^17 needs 128 MiB and a third of a second: age's own 2^18 does not fit a small pod.
/// Tests run unoptimised, where that takes a minute.
const WORK_FACTOR: u8 = if cfg!(test) { 10 } else { 17 };
/// What a foreign passphrase header may ask for: 2^20 needs 1 GiB.
const MOST_WORK: u8 = 20;
const BUFFER: usize = 256 * 1024;
/// So many compressed pieces wait to be encrypted.
const WAITING: usize = 4;

/// Compresses on this thread, encrypts and hands on on another.
pub(super) fn seal(
    sealer: &Sealer,
    plain: &mut dyn Read,
    stored: &mut (dyn Write + Send),
) -> Result<(), SealError> {
    let (read_failed, write_failed) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut plain = Watched {
        inner: plain,
        failed: &read_failed,
    };
    let stored = Watched {
        inner: stored,
        failed: &write_failed,
    };
    let copied = std::thread::scope(|threads| {
        let (send, pieces) = sync_channel(WAITING);
        let locking = std::thread::Builder::new()
            .name("seal".to_owned())
            .spawn_scoped(threads, move || lock(sealer, &pieces, stored))?;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let mut packed = Pieces::new(|piece| send.send(piece).map_err(gone));
        let compressed =
            compress(sealer.compression, &mut plain, &mut packed).and_then(|()| packed.end());
        drop(send);
        let locked = locking
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that seals died")));
        // Each side breaks when the other does: whose end of the stream failed says why.
        if read_failed.load(Ordering::Relaxed) {
            compressed
        } else {
            locked.and(compressed)
        }
    });
    copied.map_err(|source| SealError::Io {
        action: if read_failed.load(Ordering::Relaxed) {
            "read"
        } else {
            "written"
        },
        source,
    })
}

/// Encrypts the pieces as the lock says. Pieces that broke off leave nothing that looks whole: age's last chunk is not written.
fn lock(
    sealer: &Sealer,
    pieces: &Receiver<Option<Bytes>>,
    mut stored: impl Write,
) -> io::Result<()> {
    let encryptor = match &sealer.lock {
        Lock::Open => {
            drain(pieces, &mut stored)?;
            return stored.flush();
        }
        Lock::Recipients(recipients) => {
            let keys = recipients.iter().chain(&sealer.witness);
            Encryptor::with_recipients(keys.map(|key| key as &dyn age::Recipient))
        }
        Lock::Passphrase(passphrase) => {
            let mut key = age::scrypt::Recipient::new(passphrase.clone());
            key.set_work_factor(WORK_FACTOR);
            Encryptor::with_recipients(std::iter::once(&key as _))
        }
    };
    let mut sealing = encryptor
        .map_err(io::Error::other)?
        .wrap_output(&mut stored)?;
    drain(pieces, &mut sealing)?;
    sealing.finish()?;
    stored.flush()
}

/// Writes the pieces to their end.
fn drain(pieces: &Receiver<Option<Bytes>>, out: &mut impl Write) -> io::Result<()> {
    loop {
        match pieces.recv() {
            Ok(Some(piece)) => out.write_all(&piece)?,
            Ok(None) => return Ok(()),
            Err(_) => return Err(io::Error::other("what is compressed broke off")),
        }
    }
}

fn compress(
    compression: Compression,
    plain: &mut dyn Read,
    stored: &mut dyn Write,
) -> io::Result<()> {
    match compression {
        Compression::None => pump(plain, stored),
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(stored, ZSTD_LEVEL)?;
            // Four bytes that let zstd itself find damage.
            encoder.include_checksum(true)?;
            // A thread of its own, so that reading goes on meanwhile.
            encoder.multithread(1)?;
            pump(plain, &mut encoder)?;
            encoder.finish().map(|_| ())
        }
    }
}

/// How stored bytes were made, or that they say so themselves.
#[derive(Clone, Copy)]
pub(super) enum Made<'a> {
    /// The manifest says it.
    As(&'a Seal, Compression),
    /// Their first bytes say it.
    Told,
}

/// What every age file begins with.
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// What every zstd frame begins with.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

pub(super) fn unseal(
    unsealer: &Unsealer,
    made: Made<'_>,
    stored: &mut dyn Read,
    plain: &mut dyn Write,
) -> Result<(), SealError> {
    let (read_failed, write_failed) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut stored = Watched {
        inner: stored,
        failed: &read_failed,
    };
    let mut plain = Watched {
        inner: plain,
        failed: &write_failed,
    };
    let named = |source: io::Error| match (
        read_failed.load(Ordering::Relaxed),
        write_failed.load(Ordering::Relaxed),
    ) {
        (true, _) => SealError::Io {
            action: "read",
            source,
        },
        (_, true) => SealError::Io {
            action: "written",
            source,
        },
        _ => SealError::Damaged {
            problem: source.to_string(),
        },
    };
    let mut start = Vec::new();
    (&mut stored)
        .take(AGE_MAGIC.len() as u64)
        .read_to_end(&mut start)
        .map_err(named)?;
    let unknown = Seal {
        method: AGE.to_owned(),
        ..Seal::default()
    };
    let (seal, compression) = match made {
        Made::As(seal, compression) => (seal, Some(compression)),
        Made::Told if start == AGE_MAGIC => (&unknown, None),
        Made::Told => (&Seal::default(), None),
    };
    let mut stored = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(stored));
    match seal.method.as_str() {
        "" => decompress(compression, &mut stored, &mut plain).map_err(named)?,
        AGE => {
            let opened = open(unsealer, seal, &mut stored).map_err(|error| match error {
                SealError::Io { source, .. } => named(source),
                other => other,
            })?;
            let mut opened = BufReader::with_capacity(BUFFER, opened);
            decompress(compression, &mut opened, &mut plain).map_err(named)?;
            // The last chunk's tag proves that nothing was cut off; make sure that it was read.
            io::copy(&mut opened, &mut io::sink()).map_err(named)?;
        }
        method => {
            let method = method.chars().take(40).collect();
            return Err(SealError::UnknownMethod { method });
        }
    }
    plain.flush().map_err(|source| SealError::Io {
        action: "written",
        source,
    })
}

/// Opens the age envelope with whichever key fits.
fn open<R: io::BufRead>(
    unsealer: &Unsealer,
    seal: &Seal,
    stored: R,
) -> Result<age::stream::StreamReader<R>, SealError> {
    if !unsealer.has_key() {
        return Err(SealError::KeyMissing {
            wanted: wanted(seal),
        });
    }
    let scrypt = unsealer.passphrase.as_ref().map(|passphrase| {
        let mut key = age::scrypt::Identity::new(passphrase.clone());
        key.set_max_work_factor(MOST_WORK);
        key
    });
    let keys = unsealer
        .identities
        .iter()
        .map(|key| key as &dyn age::Identity);
    let keys = keys.chain(scrypt.iter().map(|key| key as &dyn age::Identity));
    Decryptor::new_buffered(stored)
        .and_then(|decryptor| decryptor.decrypt(keys))
        .map_err(|error| match error {
            DecryptError::Io(source) => SealError::Io {
                action: "read",
                source,
            },
            DecryptError::NoMatchingKeys
            | DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed => SealError::KeyWrong {
                wanted: wanted(seal),
            },
            DecryptError::ExcessiveWork { required, .. } => SealError::TooMuchWork { required },
            DecryptError::InvalidHeader | DecryptError::InvalidMac => SealError::Damaged {
                problem: "the age header is broken".to_owned(),
            },
            _ => SealError::Damaged {
                problem: "they are not an age file that this program knows".to_owned(),
            },
        })
}

/// Decompresses as told, or as the first bytes say.
fn decompress(
    compression: Option<Compression>,
    stored: &mut dyn io::BufRead,
    plain: &mut dyn Write,
) -> io::Result<()> {
    let is_zstd = match compression {
        Some(compression) => compression == Compression::Zstd,
        None => stored.fill_buf()?.starts_with(ZSTD_MAGIC),
    };
    if is_zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
        pump(&mut decoder, plain)
    } else {
        pump(stored, plain)
    }
}

/// `io::copy` through `dyn` uses a buffer of 8 KiB; this one is large enough to keep codecs busy.
fn pump(from: &mut (impl Read + ?Sized), to: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

/// Remembers whether it was this end of the stream that failed.
struct Watched<'a, T: ?Sized> {
    inner: &'a mut T,
    failed: &'a AtomicBool,
}

impl<T: ?Sized> Watched<'_, T> {
    fn seen<V>(&self, result: io::Result<V>) -> io::Result<V> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<T: Read + ?Sized> Read for Watched<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        self.seen(result)
    }
}

impl<T: Write + ?Sized> Write for Watched<'_, T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(buffer);
        self.seen(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.seen(result)
    }
}
