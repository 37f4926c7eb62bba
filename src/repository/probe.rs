//! Tries a store out: an object is written, written again create-only, read back and deleted, and the two clocks are compared.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStoreExt, PutMode, PutOptions};

use super::Repository;
use super::error::RepositoryError;

/// What a trial of a store showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whether a second write under the same key was refused, which keeps two writers apart.
    pub create_only: bool,
    /// How far the store's clock is ahead of this machine's.
    pub clock_ahead: SignedDuration,
}

/// How the objects of trials are named.
const TRIAL: &str = "doctor-";

/// Whether an object beside the backups is one that a trial made.
pub(super) fn is_trial(name: &str) -> bool {
    let id = name.strip_prefix(TRIAL);
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Repository {
    /// Tries the store out with an object of its own beside the backups, which is deleted again.
    ///
    /// # Errors
    /// When it cannot be written, read back or deleted.
    pub async fn probe(&self) -> Result<Probe, RepositoryError> {
        let key = format!("{TRIAL}{}", uuid::Uuid::new_v4().simple());
        let path = self.bucket.path(&key);
        let store = &self.bucket.store;
        let body = Bytes::from_static(b"written by etcdguardian doctor; it may be deleted\n");
        let failed = |action, error| self.bucket.attempt(action, &key).failed(error);
        self.bucket.create_settled(&key, body.clone()).await?;
        let clock_ahead = match store.head(&path).await {
            Ok(meta) => {
                let written = Timestamp::from_second(meta.last_modified.timestamp());
                written.map_or(SignedDuration::ZERO, |at| {
                    at.duration_since(Timestamp::now())
                })
            }
            Err(error) => return Err(failed("read", error)),
        };
        let options = PutOptions::from(PutMode::Create);
        let again = store.put_opts(&path, body.clone().into(), options).await;
        let create_only = matches!(
            again,
            Err(object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. })
        );
        let read = self.bucket.get_small(&key, body.len() as u64).await;
        // Deleted whatever the reading said.
        let deleted = store.delete(&path).await;
        if read?.as_ref() != Some(&body) {
            return Err(RepositoryError::Damaged {
                location: self.location(),
                key,
                problem: "what was written is not what is read back; look at the store itself"
                    .to_owned(),
            });
        }
        deleted.map_err(|error| failed("delete", error))?;
        Ok(Probe {
            create_only,
            clock_ahead,
        })
    }
}
