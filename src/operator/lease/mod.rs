//! Leader election by a Lease: one replica works, the others wait; a leader that loses its lease ends.

pub mod plan;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};

use self::plan::{Claim, Observation, Seen};
use crate::api::LeaderElectionConfig;

/// The Lease of the replicas, as this one sees it.
pub struct Election {
    api: Api<Lease>,
    config: LeaderElectionConfig,
    me: String,
    observed: Option<Observation>,
}

impl Election {
    /// An election in the operator's namespace; `me` differs from replica to replica and from start to start.
    pub fn new(client: Client, namespace: &str, config: LeaderElectionConfig, me: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            config,
            me,
            observed: None,
        }
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self) {
        let mut waiting_for = String::new();
        loop {
            match self.step().await {
                Ok(Claim::Wait) => {
                    let holder = self.observed.as_ref().map(|o| o.seen.holder.clone());
                    let holder = holder.unwrap_or_default();
                    if holder != waiting_for {
                        tracing::info!(leader = %holder, "another replica leads: waiting");
                        waiting_for = holder;
                    }
                }
                Ok(_) => {
                    tracing::info!(identity = %self.me, "this replica leads");
                    return;
                }
                Err(error) if is_conflict(&error) => {}
                Err(error) => {
                    tracing::warn!(
                        "the lease {} cannot be claimed: {error}; check the operator's role",
                        self.config.lease_name
                    );
                }
            }
            tokio::time::sleep(self.config.retry_period.as_std()).await;
        }
    }

    /// Renews until that fails for too long; returns why. The caller must end then: another replica may lead already.
    pub async fn hold(&mut self) -> String {
        let mut renewed = Timestamp::now();
        let deadline = self.config.renew_deadline.as_signed();
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(self.config.retry_period.as_std()).await;
            // A request that hangs must not outlast the deadline.
            let limit = self.config.renew_deadline.as_std() / 2;
            match tokio::time::timeout(limit, self.step()).await {
                Ok(Ok(Claim::Renew | Claim::Take | Claim::Create)) => renewed = Timestamp::now(),
                Ok(Ok(Claim::Wait)) => return "another replica has taken it".to_owned(),
                Ok(Err(error)) => last_error = error.to_string(),
                Err(_) => last_error = "the API server does not answer".to_owned(),
            }
            if plan::is_lost(renewed, deadline, Timestamp::now()) {
                return format!("it could not be renewed: {last_error}");
            }
        }
    }

    /// Gives the lease up, so that another replica need not wait for it to run out.
    pub async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.config.lease_name).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.me.as_str()) {
            return;
        }
        spec.holder_identity = Some(String::new());
        let name = self.config.lease_name.clone();
        match self
            .api
            .replace(&name, &PostParams::default(), &lease)
            .await
        {
            Ok(_) => tracing::info!("the lease is released"),
            Err(error) => tracing::warn!(%error, "the lease could not be released: it runs out"),
        }
    }

    /// Looks at the Lease and does what is to be done about it. A replacement carries the version that was seen, so that of
    /// two replicas one loses.
    async fn step(&mut self) -> Result<Claim, kube::Error> {
        let now = Timestamp::now();
        let lease = self.api.get_opt(&self.config.lease_name).await?;
        self.observed = lease
            .as_ref()
            .map(|lease| plan::observe(self.observed.take(), seen(lease), now));
        let claim = plan::claim(self.observed.as_ref(), &self.me, now);
        match (claim, lease) {
            (Claim::Wait, _) => {}
            (_, None) => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.config.lease_name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(None, now)),
                };
                self.api.create(&PostParams::default(), &lease).await?;
            }
            (_, Some(mut lease)) => {
                lease.spec = Some(self.spec(lease.spec.as_ref(), now));
                let name = &self.config.lease_name;
                self.api
                    .replace(name, &PostParams::default(), &lease)
                    .await?;
            }
        }
        Ok(claim)
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let same = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.me);
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_duration.as_std().as_secs())
                .ok(),
            acquire_time: match before {
                Some(spec) if same => spec.acquire_time.clone(),
                _ => Some(MicroTime(now)),
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if same || before.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0),
        duration: SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(15))),
    }
}

/// Whether an answer says that somebody else was faster.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// How long a process has to release its lease when it is told to end.
pub const RELEASE: Duration = Duration::from_secs(1);
