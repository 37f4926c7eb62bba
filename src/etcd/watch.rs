//! The watch over all keys, and the questions that a recorder asks beside it.

use etcd_client::{GetOptions, LeaseTimeToLiveOptions, WatchOptions, WatchStream};

use jiff::Timestamp;

use super::{Etcd, EtcdError, MemberStatus, StatusSource};

/// The largest message that is accepted. etcd cuts responses at 2 MiB unless it was told otherwise, but never a single event.
pub(super) const LARGEST_MESSAGE: usize = 512 << 20;
/// All keys: from the smallest on. One watcher, because several would lose the order within a transaction.
const ALL_KEYS: [u8; 1] = [0];

impl Etcd {
    /// Watches all keys of a member from a revision on, in fragments, with progress notices.
    ///
    /// # Errors
    /// When the member does not answer or refuses.
    pub async fn watch_all(&self, endpoint: &str, from: i64) -> Result<WatchStream, EtcdError> {
        let member = self.member(endpoint)?;
        let client = self.client_of(member).await?.watch_client();
        let mut client = client.max_decoding_message_size(LARGEST_MESSAGE);
        let options = WatchOptions::new()
            .with_range(ALL_KEYS)
            .with_start_revision(from)
            .with_fragment()
            .with_progress_notify();
        let limit = self.options.call_timeout;
        let call = client.watch(ALL_KEYS, Some(options));
        self.limited(endpoint, from, limit, call).await
    }

    /// Fails with [`EtcdError::Compacted`] when a member can no longer show its keys as of a revision: everything after it is
    /// whole as long as this succeeds.
    ///
    /// # Errors
    /// That, or when the member does not answer.
    pub async fn require_history(&self, endpoint: &str, revision: i64) -> Result<(), EtcdError> {
        let member = self.member(endpoint)?;
        let mut client = self.client_of(member).await?;
        let options = GetOptions::new()
            .with_revision(revision)
            .with_limit(1)
            .with_count_only()
            .with_serializable();
        let limit = self.options.call_timeout;
        let call = client.get(ALL_KEYS, Some(options));
        self.limited(endpoint, revision, limit, call).await?;
        Ok(())
    }

    /// The furthest member, its revision raised to what the cluster has acknowledged, and the moment before which all of that was;
    /// no moment without a quorum, for then nobody can say.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn reach(&self) -> Result<(MemberStatus, Option<Timestamp>), EtcdError> {
        let asked = Timestamp::now();
        let mut furthest = self.status().await?;
        match self.acknowledged(&furthest.endpoint).await {
            Ok(revision) => {
                furthest.revision = furthest.revision.max(revision);
                Ok((furthest, Some(asked)))
            }
            Err(problem) => {
                tracing::warn!(%problem, "how far the cluster is was not confirmed");
                Ok((furthest, None))
            }
        }
    }

    /// A revision that everything lies at or before which any member had acknowledged when this was asked. The member has applied
    /// it when it answers (a linearizable read: etcd's API guarantees).
    ///
    /// # Errors
    /// When the member does not answer in time, or the cluster has no quorum.
    pub(super) async fn acknowledged(&self, endpoint: &str) -> Result<i64, EtcdError> {
        let member = self.member(endpoint)?;
        let mut client = self.client_of(member).await?;
        let options = GetOptions::new().with_limit(1).with_count_only();
        let limit = self.options.call_timeout;
        let call = client.get(ALL_KEYS, Some(options));
        let answer = self.limited(endpoint, 0, limit, call).await?;
        let header = answer.header().ok_or_else(|| EtcdError::Answer {
            endpoint: endpoint.to_owned(),
            answer: "a read without a header".to_owned(),
        })?;
        Ok(header.revision())
    }

    /// The seconds that a lease was granted for; `None` when it is gone.
    ///
    /// # Errors
    /// When the member does not answer.
    pub async fn granted_ttl(&self, endpoint: &str, id: i64) -> Result<Option<i64>, EtcdError> {
        let member = self.member(endpoint)?;
        let mut client = self.client_of(member).await?;
        let limit = self.options.call_timeout;
        let call = client.lease_time_to_live(id, None::<LeaseTimeToLiveOptions>);
        let answer = self.limited(endpoint, 0, limit, call).await?;
        // A lease that is gone has a time to live of -1 and a grant of 0.
        Ok((answer.granted_ttl() > 0).then(|| answer.granted_ttl()))
    }
}
