//! Uploads at bounded memory: parts that grow with the object, hashed as they go, aborted when anything fails.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use object_store::{MultipartUpload, PutPayload};
use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;

use super::bucket::Bucket;
use super::error::RepositoryError;
use super::key::Key;
use super::{Repository, Stored, data_key};

const MIB: u64 = 1024 * 1024;
/// Stores refuse parts below 5 MiB, and small parts waste round trips.
const SMALLEST_PART: u64 = 8 * MIB;
/// Stores refuse more than 10,000 parts; a margin costs nothing.
const MOST_PARTS: u64 = 9_000;
/// What may be in flight at once, beyond the part that is being read.
const IN_FLIGHT_BYTES: u64 = 32 * MIB;

/// The size of every part but the last of an object of this size: whole mebibytes, all the same.
pub(super) fn part_size(total: u64) -> u64 {
    total
        .div_ceil(MOST_PARTS)
        .div_ceil(MIB)
        .saturating_mul(MIB)
        .max(SMALLEST_PART)
}

/// How many parts of this size may be in flight at once.
pub(super) fn parts_in_flight(part_size: u64) -> usize {
    usize::try_from((IN_FLIGHT_BYTES / part_size.max(1)).max(1)).unwrap_or(1)
}

/// Aborts an upload that is dropped before it is complete, as on a signal.
struct Unfinished {
    upload: Option<Box<dyn MultipartUpload>>,
}

/// When an upload is aborted again: parts that were on their way may arrive after it, and stores keep those.
const ABORT_AGAIN: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

impl Unfinished {
    async fn abort(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        if let Err(error) = upload.abort().await {
            tracing::warn!(
                %error,
                "an upload could not be aborted; a lifecycle rule for incomplete uploads removes its parts"
            );
        }
        tokio::spawn(abort_again(upload));
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) =
            (self.upload.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            drop(upload.abort().await);
            abort_again(upload).await;
        });
    }
}

/// Aborts until the store knows nothing of the upload any more.
async fn abort_again(mut upload: Box<dyn MultipartUpload>) {
    for pause in ABORT_AGAIN {
        tokio::time::sleep(pause).await;
        if let Err(object_store::Error::NotFound { .. }) = upload.abort().await {
            return;
        }
    }
}

/// How long a stream is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Length {
    /// As long as this: anything else is an error.
    Exactly(u64),
    /// No longer than this.
    AtMost(u64),
}

/// A stream in parts, which all but the last are equally long.
pub(super) struct Source<'a> {
    reader: &'a mut (dyn AsyncRead + Send + Unpin),
    length: Length,
    part: u64,
    read: u64,
    what: &'a str,
}

impl<'a> Source<'a> {
    pub fn new(
        reader: &'a mut (dyn AsyncRead + Send + Unpin),
        length: Length,
        what: &'a str,
    ) -> Self {
        let (Length::Exactly(bound) | Length::AtMost(bound)) = length;
        Self {
            reader,
            length,
            part: part_size(bound),
            read: 0,
            what,
        }
    }

    /// The next part; one that is not full is the last, and may be empty.
    async fn next(&mut self) -> Result<Bytes, RepositoryError> {
        let failed = |source: io::Error, problem| RepositoryError::Source {
            what: self.what.to_owned(),
            problem,
            source,
        };
        let (Length::Exactly(bound) | Length::AtMost(bound)) = self.length;
        // One byte more than there should be shows a stream that is longer.
        let room = self.part.min(bound.saturating_sub(self.read) + 1);
        let room = usize::try_from(room)
            .map_err(|error| failed(io::Error::other(error), "a part does not fit into memory"))?;
        let mut bytes = Vec::with_capacity(room);
        (&mut *self.reader)
            .take(self.part)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| {
                failed(
                    error,
                    "try again; if it lasts, look at the disk or the source store",
                )
            })?;
        let read = self.read + bytes.len() as u64;
        if let Length::Exactly(size) = self.length {
            if read > size {
                let error = io::Error::other("it became longer");
                return Err(failed(error, "nothing else may write to it"));
            }
            if (bytes.len() as u64) < self.part && read != size {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(failed(
                    error,
                    "it became shorter; nothing else may write to it",
                ));
            }
        }
        self.read = read;
        Ok(bytes.into())
    }

    fn is_last(&self, part: &Bytes) -> bool {
        (part.len() as u64) < self.part
    }
}

impl Repository {
    /// Stores exactly `size` bytes of a stream under `key` in parts, at bounded memory; aborts what it began when it fails. `what`
    /// names the stream in errors.
    ///
    /// # Errors
    /// When something lies under the key already, the stream is shorter or longer, or the store refuses or breaks.
    pub async fn store_stream(
        &self,
        key: &str,
        size: u64,
        what: &str,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Stored, RepositoryError> {
        self.upload(key, Length::Exactly(size), what, reader, progress)
            .await
    }

    /// Stores a stream to its end, as [`Self::store_stream`] does, of which only is known that it has no more than `most` bytes.
    ///
    /// # Errors
    /// When something lies under the key already, the stream breaks, or the store refuses or breaks.
    pub async fn store_until_end(
        &self,
        key: &str,
        most: u64,
        what: &str,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Stored, RepositoryError> {
        self.upload(key, Length::AtMost(most), what, reader, progress)
            .await
    }

    async fn upload(
        &self,
        key: &str,
        length: Length,
        what: &str,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Stored, RepositoryError> {
        let key = data_key(key)?;
        let source = Source::new(reader, length, what);
        self.bucket.upload(&key, source, progress).await
    }
}

impl Bucket {
    /// Uploads a stream to its end under `key`, where nothing may lie yet.
    pub async fn upload(
        &self,
        key: &Key,
        mut source: Source<'_>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Stored, RepositoryError> {
        let text = key.to_string();
        if self.head(key).await?.is_some() {
            return Err(RepositoryError::Conflict {
                location: self.location.clone(),
                key: text,
            });
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        let first = source.next().await?;
        let second = match source.is_last(&first) {
            true => Bytes::new(),
            false => source.next().await?,
        };
        if second.is_empty() {
            hash.update(&first);
            self.create_settled(&text, first).await?;
            progress(source.read);
        } else {
            let upload = self.begin(&text).await?;
            let mut unfinished = Unfinished {
                upload: Some(upload),
            };
            let known = [first, second];
            let sent = self.send_parts(
                &text,
                known,
                &mut source,
                &mut unfinished,
                &mut hash,
                progress,
            );
            if let Err(error) = sent.await {
                unfinished.abort().await;
                return Err(error);
            }
            self.complete(key, source.read, unfinished).await?;
        }
        Ok(Stored {
            size: source.read,
            sha256: hex::encode(hash.finish()),
        })
    }

    /// Sends the two parts that were read and those that follow, a few at once.
    async fn send_parts(
        &self,
        key: &str,
        known: [Bytes; 2],
        source: &mut Source<'_>,
        unfinished: &mut Unfinished,
        hash: &mut digest::Context,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RepositoryError> {
        let most = parts_in_flight(source.part);
        // Tasks of their own, so that they move on while the next part is read; they end with this set.
        let mut flying = JoinSet::new();
        let mut done = 0;
        let arrived = |joined: Result<object_store::Result<u64>, tokio::task::JoinError>| {
            let result = joined.unwrap_or_else(|error| Err(error.into()));
            self.observe("put", result)
                .map_err(|error| self.attempt("write", key).failed(error))
        };
        let mut known = known.into_iter();
        loop {
            if flying.len() >= most
                && let Some(sent) = flying.join_next().await
            {
                done += arrived(sent)?;
                progress(done);
            }
            let bytes = match known.next() {
                Some(bytes) => bytes,
                None => source.next().await?,
            };
            let (length, last) = (bytes.len() as u64, source.is_last(&bytes));
            hash.update(&bytes);
            if let Some(upload) = unfinished.upload.as_mut().filter(|_| length > 0) {
                let sending = upload.put_part(PutPayload::from(bytes));
                flying.spawn(async move { sending.await.map(|()| length) });
            }
            if last {
                break;
            }
        }
        while let Some(sent) = flying.join_next().await {
            done += arrived(sent)?;
            progress(done);
        }
        Ok(())
    }

    /// Completes an upload. When the reply is lost the object may be there all the same: its size decides.
    async fn complete(
        &self,
        key: &Key,
        size: u64,
        mut unfinished: Unfinished,
    ) -> Result<(), RepositoryError> {
        let Some(upload) = &mut unfinished.upload else {
            return Ok(());
        };
        match self.observe("multipart", upload.complete().await) {
            Ok(_) => {
                unfinished.upload = None;
                Ok(())
            }
            Err(error) => {
                let there = self.head(key).await;
                if matches!(there, Ok(Some(meta)) if meta.size == size) {
                    unfinished.upload = None;
                    return Ok(());
                }
                unfinished.abort().await;
                Err(self.attempt("write", &key.to_string()).failed(error))
            }
        }
    }

    /// Writes a small object create-only. A lost reply, or "already exists" to a retry, is settled by reading back.
    pub async fn create_settled(&self, key: &str, bytes: Bytes) -> Result<(), RepositoryError> {
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            let Err(error) = self.create(key, bytes.clone()).await else {
                return Ok(());
            };
            let error = self.attempt("write", key).failed(error);
            let unclear = matches!(
                error,
                RepositoryError::Conflict { .. } | RepositoryError::Unavailable { .. }
            );
            if !unclear {
                return Err(error);
            }
            match self.get_small(key, bytes.len() as u64).await {
                Ok(Some(there)) if there == bytes => return Ok(()),
                Ok(Some(_)) | Err(RepositoryError::Manifest { .. }) => {
                    let (location, key) = (self.location.clone(), key.to_owned());
                    return Err(RepositoryError::Conflict { location, key });
                }
                // Nothing is there: the request never arrived, or a write at the same time was refused with it.
                Ok(None) if attempt < ATTEMPTS => attempt += 1,
                _ => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_size_fits_in_ten_thousand_parts(total in 1_u64..=(50_u64 << 40)) {
            let part = part_size(total);
            prop_assert!(total.div_ceil(part) <= 10_000);
            prop_assert!(part >= 5 * MIB && part.is_multiple_of(MIB));
            prop_assert!(parts_in_flight(part) >= 1);
        }
    }

    #[test]
    fn common_sizes_use_small_parts_and_little_memory() {
        for total in [1, MIB, 8 << 30, 70 << 30] {
            let part = part_size(total);
            assert_eq!(part, SMALLEST_PART);
            assert!(part * (parts_in_flight(part) as u64 + 1) <= 40 * MIB);
        }
    }
}
