//! Drains a snapshot to a local file at full speed, so that etcd's read transaction is short.

use std::path::Path;

use async_trait::async_trait;

use super::stream::{Chunk, Chunks, Reading};
use super::{Drained, Etcd, EtcdError, MemberStatus, StreamProblem, StreamProgress, error, plan};

impl Etcd {
    /// Drains a snapshot into `file` (created new, 0600): a healthy follower's where there is one, else the leader's; the
    /// next endpoint is tried when one fails.
    ///
    /// # Errors
    /// When no endpoint gives a whole snapshot with its digest, or the disk is too small.
    pub async fn drain_snapshot(
        &self,
        file: &Path,
        progress: &dyn StreamProgress,
    ) -> Result<Drained, EtcdError> {
        let members = self.answering().await?;
        let mut failures = Vec::new();
        for index in plan::asking_order(&members) {
            let member = &members[index];
            let failure = match self.drain_from(member, file, progress).await {
                Ok(drained) => return Ok(drained),
                Err(failure) => failure,
            };
            remove(file, &failure);
            // Another member does not mend the disk.
            if matches!(failure, EtcdError::Write { .. } | EtcdError::NoSpace { .. }) {
                return Err(failure);
            }
            tracing::warn!(endpoint = member.endpoint, %failure, "a snapshot failed; the next member is asked");
            failures.push(failure);
        }
        Err(error::no_snapshot(failures))
    }

    /// Begins a snapshot and lets go of it, to see whether this user may: only the role root may. Gives the endpoint.
    ///
    /// # Errors
    /// When no member begins one.
    pub async fn try_snapshot(&self) -> Result<String, EtcdError> {
        let members = self.answering().await?;
        let mut failures = Vec::new();
        for index in plan::asking_order(&members) {
            let endpoint = &members[index].endpoint;
            match self.first_chunk(endpoint).await {
                Ok(()) => return Ok(endpoint.clone()),
                Err(failure) => failures.push(failure),
            }
        }
        Err(error::no_snapshot(failures))
    }

    async fn first_chunk(&self, endpoint: &str) -> Result<(), EtcdError> {
        let client = self.client_of(self.member(endpoint)?).await?;
        let limit = self.options.call_timeout;
        let begun = async {
            let mut stream = client.maintenance_client().snapshot().await?;
            stream.message().await
        };
        match self.limited(endpoint, 0, limit, begun).await? {
            Some(_) => Ok(()),
            None => Err(EtcdError::Stream {
                endpoint: endpoint.to_owned(),
                problem: StreamProblem::Empty,
            }),
        }
    }

    async fn drain_from(
        &self,
        member: &MemberStatus,
        file: &Path,
        progress: &dyn StreamProgress,
    ) -> Result<Drained, EtcdError> {
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let free = free_bytes(folder);
        // The stream can be larger than the size that the member reports, hence the tenth on top.
        let size = u64::try_from(member.db_size).unwrap_or_default();
        let needed = size.saturating_add(size / 10);
        if let Some(free) = free.filter(|&free| free < needed) {
            let folder = folder.to_owned();
            return Err(EtcdError::NoSpace {
                folder,
                free,
                needed,
            });
        }
        let endpoint = &member.endpoint;
        let mut client = self
            .client_of(self.member(endpoint)?)
            .await?
            .maintenance_client();
        // A follower may be behind: what was acknowledged before the snapshot was asked for is to be in it.
        // Without a quorum nobody can say, and what this member has is all there is.
        if member.leader != 0
            && let Err(problem) = self.acknowledged(endpoint).await
        {
            tracing::warn!(endpoint, %problem, "whether the member lags was not confirmed");
        }
        let limit = self.options.stall_timeout;
        let stream = self.limited(endpoint, 0, limit, client.snapshot()).await?;
        let mut chunks = Live {
            etcd: self,
            endpoint,
            stream,
        };
        let reading = Reading {
            endpoint,
            stall: self.options.stall_timeout,
            progress,
            free,
        };
        let received = reading.copy(&mut chunks, file).await?;
        Ok(Drained {
            member: member.clone(),
            bytes: received.bytes,
            image_sha256: received.image_sha256,
            file_sha256: received.file_sha256,
        })
    }
}

struct Live<'a> {
    etcd: &'a Etcd,
    endpoint: &'a str,
    stream: etcd_client::SnapshotStreaming,
}

struct Message(etcd_client::SnapshotResponse);

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.0.blob()
    }
}

#[async_trait]
impl Chunks for Live<'_> {
    type Blob = Message;

    async fn next(&mut self) -> Result<Option<Chunk<Message>>, EtcdError> {
        match self.stream.message().await {
            Ok(message) => Ok(message.map(|message| Chunk {
                remaining: message.remaining_bytes(),
                blob: Message(message),
            })),
            Err(failure) => Err(self.etcd.explain(self.endpoint, 0, &failure).await),
        }
    }
}

/// Bytes that this user may still write in `folder`; `None` where the file system does not say.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(folder).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

fn remove(file: &Path, failure: &EtcdError) {
    // A file that was there before is not ours to remove.
    let not_ours = matches!(failure, EtcdError::Write { source, .. }
        if source.kind() == std::io::ErrorKind::AlreadyExists);
    if !not_ours
        && let Err(error) = std::fs::remove_file(file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "a partial snapshot cannot be removed");
    }
}
