//! Uploads at bounded memory: parts that grow with the object, hashed as they go, aborted when anything fails.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use object_store::{MultipartUpload, PutPayload};
use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;

use super::Stored;
use super::bucket::Bucket;
use super::error::RepositoryError;
use super::key::Key;

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

impl Bucket {
    /// Uploads exactly `size` bytes of `reader` under `key`, where nothing may lie yet.
    pub async fn upload(
        &self,
        key: &Key,
        size: u64,
        what: &str,
        reader: &mut (dyn AsyncRead + Send + Unpin),
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
        let part = part_size(size);
        if size <= part {
            let bytes = read_part(reader, size, what).await?;
            ended(reader, what).await?;
            hash.update(&bytes);
            self.create_settled(&text, bytes).await?;
            progress(size);
        } else {
            let upload = self.begin(&text).await?;
            let mut unfinished = Unfinished {
                upload: Some(upload),
            };
            let sent = self
                .send_parts(
                    &text,
                    size,
                    part,
                    what,
                    reader,
                    &mut unfinished,
                    &mut hash,
                    progress,
                )
                .await;
            if let Err(error) = sent {
                unfinished.abort().await;
                return Err(error);
            }
            self.complete(key, size, unfinished).await?;
        }
        Ok(Stored {
            size,
            sha256: hex::encode(hash.finish()),
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the loop of upload, split off so that it can fail as one"
    )]
    async fn send_parts(
        &self,
        key: &str,
        size: u64,
        part: u64,
        what: &str,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        unfinished: &mut Unfinished,
        hash: &mut digest::Context,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RepositoryError> {
        let most = parts_in_flight(part);
        // Tasks of their own, so that they move on while the next part is read; they end with this set.
        let mut flying = JoinSet::new();
        let (mut read, mut done) = (0, 0);
        let arrived = |joined: Result<object_store::Result<u64>, tokio::task::JoinError>| {
            let result = joined.unwrap_or_else(|error| Err(error.into()));
            self.observe("put", result)
                .map_err(|error| self.attempt("write", key).failed(error))
        };
        while read < size {
            if flying.len() >= most
                && let Some(sent) = flying.join_next().await
            {
                done += arrived(sent)?;
                progress(done);
            }
            let length = part.min(size - read);
            let bytes = read_part(reader, length, what).await?;
            read += length;
            hash.update(&bytes);
            if let Some(upload) = &mut unfinished.upload {
                let sending = upload.put_part(PutPayload::from(bytes));
                flying.spawn(async move { sending.await.map(|()| length) });
            }
        }
        ended(reader, what).await?;
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

async fn read_part(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    length: u64,
    what: &str,
) -> Result<Bytes, RepositoryError> {
    let failed = |source: io::Error, problem| RepositoryError::Source {
        what: what.to_owned(),
        problem,
        source,
    };
    let room = usize::try_from(length)
        .map_err(|error| failed(io::Error::other(error), "a part does not fit into memory"))?;
    let mut bytes = Vec::with_capacity(room);
    (&mut *reader)
        .take(length)
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| {
            failed(
                error,
                "try again; if it lasts, look at the disk or the source store",
            )
        })?;
    if bytes.len() as u64 != length {
        let error = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(failed(
            error,
            "it became shorter; nothing else may write to it",
        ));
    }
    Ok(bytes.into())
}

async fn ended(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    what: &str,
) -> Result<(), RepositoryError> {
    let mut byte = [0];
    match reader.read(&mut byte).await {
        Ok(0) => Ok(()),
        Ok(_) => Err(RepositoryError::Source {
            what: what.to_owned(),
            problem: "nothing else may write to it",
            source: io::Error::other("it became longer"),
        }),
        Err(source) => Err(RepositoryError::Source {
            what: what.to_owned(),
            problem: "try again; if it lasts, look at the disk or the source store",
            source,
        }),
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
