//! Calls to the members of a cluster, each with a limit, each failure told by endpoint.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::Mutex;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::connect::{ConnectOptions, host_and_port};
use super::tls::{Probed, probe};
use super::{EtcdError, LiveHash, MemberStatus, StatusSource, error, plan};
use crate::cause::with_causes;
use crate::snapshot::HashKv;

/// A connected cluster.
pub struct Etcd {
    pub(super) options: ConnectOptions,
    pub(super) members: Vec<Endpoint>,
}

/// One endpoint and its client, made at first use.
pub(super) struct Endpoint {
    pub url: String,
    client: Mutex<Option<etcd_client::Client>>,
}

/// A certificate and whose it is.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// `client`, or the endpoint that showed it.
    pub holder: String,
    /// The certificate itself.
    pub der: CertificateDer<'static>,
}

impl Certificate {
    /// Whose it is, and from when until when it is valid; `None` when it cannot be read as X.509.
    pub fn validity(&self) -> Option<(String, Timestamp, Timestamp)> {
        let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
        let at = |second: i64| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        let validity = parsed.validity();
        Some((
            parsed.subject().to_string(),
            at(validity.not_before.timestamp()),
            at(validity.not_after.timestamp()),
        ))
    }
}

impl Etcd {
    /// Connects; at least one endpoint must answer.
    ///
    /// # Errors
    /// With each endpoint's own failure.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, EtcdError> {
        if options.endpoints.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        let etcd = Self::unconnected(options);
        etcd.answering().await?;
        Ok(etcd)
    }

    /// The cluster without a first call, for asking after each endpoint by itself.
    pub fn unconnected(options: &ConnectOptions) -> Self {
        let members = options
            .endpoints
            .iter()
            .map(|url| Endpoint {
                url: url.clone(),
                client: Mutex::new(None),
            })
            .collect();
        Self {
            options: options.clone(),
            members,
        }
    }

    /// The status of every endpoint, in their order.
    pub async fn members(&self) -> Vec<(String, Result<MemberStatus, EtcdError>)> {
        let asked = self.members.iter().map(|member| async {
            let status = self.status_of(member).await;
            (member.url.clone(), status)
        });
        join_all(asked).await
    }

    /// The members that answer; an error when none does.
    pub(super) async fn answering(&self) -> Result<Vec<MemberStatus>, EtcdError> {
        let mut good = Vec::new();
        let mut failures = Vec::new();
        for (endpoint, status) in self.members().await {
            match status {
                Ok(status) => good.push(status),
                Err(failure) => {
                    tracing::debug!(endpoint, %failure, "an etcd endpoint does not answer");
                    failures.push(failure);
                }
            }
        }
        if good.is_empty() {
            return Err(error::all_failed(failures));
        }
        Ok(good)
    }

    /// Fails when no member that answers knows a leader.
    ///
    /// # Errors
    /// When nobody answers, or the cluster has no quorum.
    pub async fn require_leader(&self) -> Result<(), EtcdError> {
        let members = self.answering().await?;
        if members.iter().any(|member| member.leader != 0) {
            return Ok(());
        }
        let endpoints: Vec<&str> = members.iter().map(|m| m.endpoint.as_str()).collect();
        Err(EtcdError::NoLeader {
            endpoints: endpoints.join(", "),
        })
    }

    /// HashKV at `revision` (0: the newest), from a follower where there is one.
    ///
    /// # Errors
    /// When no member answers, or the revision was compacted.
    pub async fn hash_kv(&self, revision: i64) -> Result<LiveHash, EtcdError> {
        let members = self.answering().await?;
        let mut failures = Vec::new();
        for index in plan::asking_order(&members) {
            match self.hash_kv_of(&members[index].endpoint, revision).await {
                Ok(hash) => return Ok(hash),
                // Every member has compacted what one has.
                Err(compacted @ EtcdError::Compacted { .. }) => return Err(compacted),
                Err(failure) => failures.push(failure),
            }
        }
        // Being behind is no fault, so it must not hide in a list of faults.
        match failures
            .iter()
            .position(|failure| matches!(failure, EtcdError::Behind { .. }))
        {
            Some(index) => Err(failures.swap_remove(index)),
            None => Err(error::all_failed(failures)),
        }
    }

    /// HashKV of one member.
    ///
    /// # Errors
    /// When it does not answer, has compacted the revision or is not that far.
    pub async fn hash_kv_of(&self, endpoint: &str, revision: i64) -> Result<LiveHash, EtcdError> {
        let member = self.member(endpoint)?;
        let mut client = self.client_of(member).await?.maintenance_client();
        let limit = self.options.hash_timeout;
        let answer = self
            .limited(endpoint, revision, limit, client.hash_kv(revision))
            .await?;
        let header = answer.header();
        let newest = header.map(|header| header.revision()).unwrap_or_default();
        // Releases before 3.6 do not say of which revision they speak.
        let spoken = [answer.hash_revision(), revision, newest];
        Ok(LiveHash {
            hash: HashKv {
                hash: answer.hash(),
                revision: spoken.into_iter().find(|&said| said > 0).unwrap_or(newest),
                compact_revision: answer.compact_version(),
            },
            member_id: header.map(|header| header.member_id()).unwrap_or_default(),
        })
    }

    /// The certificates in play: the client's own, and those that each https endpoint shows, its own first.
    pub async fn certificates(&self) -> Vec<Certificate> {
        let Some(material) = self.options.tls.clone() else {
            return Vec::new();
        };
        let mut found: Vec<Certificate> = material
            .client_certificates()
            .into_iter()
            .map(|der| Certificate {
                holder: "client".to_owned(),
                der,
            })
            .collect();
        for member in &self.members {
            if let Some(Probed::Trusted(shown)) = self.probe(&member.url).await {
                found.extend(shown.into_iter().map(|der| Certificate {
                    holder: member.url.clone(),
                    der,
                }));
            }
        }
        found
    }

    pub(super) fn member(&self, endpoint: &str) -> Result<&Endpoint, EtcdError> {
        self.members
            .iter()
            .find(|member| member.url == endpoint)
            .ok_or(EtcdError::NoEndpoint)
    }

    /// The endpoint's client, authenticated when a user is configured.
    pub(super) async fn client_of(
        &self,
        member: &Endpoint,
    ) -> Result<etcd_client::Client, EtcdError> {
        let mut slot = member.client.lock().await;
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let connecting = self.options.client(&member.url);
        let client = self
            .limited(&member.url, 0, self.options.call_timeout, connecting)
            .await?;
        *slot = Some(client.clone());
        Ok(client)
    }

    async fn status_of(&self, member: &Endpoint) -> Result<MemberStatus, EtcdError> {
        let mut client = self.client_of(member).await?.maintenance_client();
        let limit = self.options.call_timeout;
        let answer = self.limited(&member.url, 0, limit, client.status()).await?;
        let header = answer.header().ok_or_else(|| EtcdError::Answer {
            endpoint: member.url.clone(),
            answer: "a status without a header".to_owned(),
        })?;
        Ok(MemberStatus {
            endpoint: member.url.clone(),
            cluster_id: header.cluster_id(),
            member_id: header.member_id(),
            revision: header.revision(),
            raft_term: answer.raft_term(),
            raft_index: answer.raft_index(),
            applied_index: answer.raft_applied_index(),
            db_size: answer.db_size(),
            db_size_in_use: answer.raft_used_db_size(),
            version: answer.version().to_owned(),
            leader: answer.leader(),
            is_learner: answer.is_learner(),
            errors: answer.errors().to_vec(),
        })
    }

    /// Waits for a call for at most `limit`; when it fails without etcd's own words, a bare handshake finds out why.
    pub(super) async fn limited<T>(
        &self,
        endpoint: &str,
        revision: i64,
        limit: Duration,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, EtcdError> {
        let failure = match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let problem = format!("no answer within {} s", limit.as_secs_f32());
                let attempts = format!("{endpoint}: {problem}");
                return Err(match self.probe(endpoint).await {
                    Some(Probed::Trusted(_)) | None => EtcdError::Timeout { attempts },
                    Some(other) => broken(endpoint, &problem, Some(other)),
                });
            }
        };
        Err(self.explain(endpoint, revision, &failure).await)
    }

    /// What a failed call means.
    pub(super) async fn explain(
        &self,
        endpoint: &str,
        revision: i64,
        failure: &etcd_client::Error,
    ) -> EtcdError {
        if let Some(known) = error::of_call(endpoint, revision, failure) {
            return known;
        }
        let problem = match failure {
            etcd_client::Error::GRpcStatus(status) => with_causes(status),
            other => with_causes(other),
        };
        broken(endpoint, &problem, self.probe(endpoint).await)
    }

    async fn probe(&self, endpoint: &str) -> Option<Probed> {
        let (host, port) = host_and_port(endpoint)?;
        let material = self
            .options
            .tls
            .clone()
            .filter(|_| endpoint.starts_with("https://"));
        let limit = self.options.connect_timeout;
        tokio::task::spawn_blocking(move || probe(&host, port, material.as_ref(), limit))
            .await
            .ok()
    }
}

fn broken(endpoint: &str, problem: &str, probed: Option<Probed>) -> EtcdError {
    match probed {
        Some(Probed::Untrusted(why)) => EtcdError::Credentials {
            attempts: format!("{endpoint}: {why}"),
        },
        Some(Probed::Unreachable(why)) => EtcdError::Unavailable {
            attempts: format!("{endpoint}: {why}"),
        },
        Some(Probed::Trusted(_)) if endpoint.starts_with("http://") => EtcdError::Unavailable {
            attempts: format!("{endpoint}: {problem}; if it serves TLS, write https://"),
        },
        Some(Probed::Trusted(_)) | None => EtcdError::Unavailable {
            attempts: format!("{endpoint}: {problem}"),
        },
    }
}

#[async_trait]
impl StatusSource for Etcd {
    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        plan::furthest(self.answering().await?).ok_or(EtcdError::NoEndpoint)
    }
}
