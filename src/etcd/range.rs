//! Keys as of one revision, in pages: what is read where not all of etcd is wanted.

use etcd_client::{GetOptions, KeyValue, KvClient};

use super::watch::LARGEST_MESSAGE;
use super::{Etcd, EtcdError, MemberStatus, error, plan};

/// A member that is read as of one revision.
pub struct Pinned<'a> {
    etcd: &'a Etcd,
    client: KvClient,
    /// The member, as it was just before.
    pub member: MemberStatus,
    /// The revision.
    pub revision: i64,
}

impl Etcd {
    /// Takes the newest revision that the cluster agrees on, as a member knows it who may read below `prefix`.
    ///
    /// # Errors
    /// When no member answers, or none lets this user read there.
    pub async fn pin(&self, prefix: &[u8]) -> Result<Pinned<'_>, EtcdError> {
        let members = self.answering().await?;
        let mut failures = Vec::new();
        for index in plan::asking_order(&members) {
            match self.pin_at(&members[index], prefix).await {
                Ok(pinned) => return Ok(pinned),
                Err(failure) => failures.push(failure),
            }
        }
        Err(error::all_failed(failures))
    }

    async fn pin_at(&self, member: &MemberStatus, prefix: &[u8]) -> Result<Pinned<'_>, EtcdError> {
        let endpoint = &member.endpoint;
        let client = self.client_of(self.member(endpoint)?).await?.kv_client();
        let mut client = client.max_decoding_message_size(LARGEST_MESSAGE);
        let options = GetOptions::new()
            .with_prefix()
            .with_limit(1)
            .with_keys_only();
        let limit = self.options.call_timeout;
        let call = client.get(prefix, Some(options));
        let answer = self.limited(endpoint, 0, limit, call).await?;
        let header = answer.header().ok_or_else(|| EtcdError::Answer {
            endpoint: endpoint.clone(),
            answer: "keys without a header".to_owned(),
        })?;
        Ok(Pinned {
            etcd: self,
            client,
            member: member.clone(),
            revision: header.revision(),
        })
    }
}

impl Pinned<'_> {
    /// At most so many keys from `from` on and before `end`, and whether there are more.
    ///
    /// # Errors
    /// When the member does not answer, or has compacted the revision meanwhile.
    pub async fn page(
        &mut self,
        (from, end): (&[u8], &[u8]),
        most: i64,
        keys_only: bool,
    ) -> Result<(Vec<KeyValue>, bool), EtcdError> {
        let options = GetOptions::new()
            .with_range(end)
            .with_revision(self.revision)
            .with_limit(most);
        let options = match keys_only {
            true => options.with_keys_only(),
            false => options,
        };
        let endpoint = &self.member.endpoint;
        let limit = self.etcd.options.call_timeout;
        let call = self.client.get(from, Some(options));
        let mut answer = self
            .etcd
            .limited(endpoint, self.revision, limit, call)
            .await?;
        Ok((answer.take_kvs(), answer.more()))
    }
}
