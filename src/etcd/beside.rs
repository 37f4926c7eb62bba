//! What no watch tells: that users or roles changed, and which alarms are raised.

use etcd_client::{AlarmAction, AlarmType};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::uri::PathAndQuery;
use prost::Message;
use secrecy::ExposeSecret;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::{Etcd, EtcdError};

/// Where etcd answers with the revision of its users and roles, from 3.5 on; the client library does not know the call.
const AUTH_STATUS: &str = "/etcdserverpb.Auth/AuthStatus";

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// Of the answer only what is wanted here.
#[derive(Clone, PartialEq, Message)]
struct AuthStatus {
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

impl Etcd {
    /// The revision of users and roles, which each change of them raises; `None` where nobody tells: before 3.5, to a user without
    /// the right, and while no member answers.
    pub async fn auth_revision(&self) -> Option<u64> {
        // All at once, so that a member that is away is not waited for.
        let asked = self.members.iter().map(|one| self.auth_status(&one.url));
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(revision) => return Some(revision),
                Err(problem) => tracing::debug!(problem, "no revision of users"),
            }
        }
        None
    }

    async fn auth_status(&self, url: &str) -> Result<u64, String> {
        let words = |error: &dyn std::error::Error| crate::cause::with_causes(error);
        let limit = self.options.call_timeout;
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| words(&error))?;
        let mut endpoint = endpoint
            .connect_timeout(self.options.connect_timeout)
            .timeout(limit);
        if let (Some(tls), true) = (&self.options.tls, url.starts_with("https://")) {
            let tls = endpoint.tls_config(tls.options());
            endpoint = tls.map_err(|error| words(&error))?;
        }
        let mut request = tonic::Request::new(Nothing {});
        if let Some((name, password)) = &self.options.user {
            let member = self.member(url).map_err(|error| words(&error))?;
            let client = self
                .client_of(member)
                .await
                .map_err(|error| words(&error))?;
            let mut client = client.auth_client();
            let call = client.authenticate(name.clone(), password.expose_secret().to_owned());
            // Without users there is no token, and none is asked for.
            if let Ok(Ok(answer)) = tokio::time::timeout(limit, call).await {
                let token = answer.token().parse();
                let token = token.map_err(|_| "the token is not a header".to_owned())?;
                request.metadata_mut().insert("token", token);
            }
        }
        let channel = endpoint.connect().await.map_err(|error| words(&error))?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| words(&error))?;
        let codec: ProstCodec<Nothing, AuthStatus> = ProstCodec::default();
        let path = PathAndQuery::from_static(AUTH_STATUS);
        let answer = grpc.unary(request, path, codec).await;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        Ok(answer.into_inner().auth_revision)
    }

    /// The alarms that are raised, as `NOSPACE of member 8e9e05c52164694d`.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn alarms(&self) -> Result<Vec<String>, EtcdError> {
        let mut failures = Vec::new();
        for member in &self.members {
            match self.alarms_of(&member.url).await {
                Ok(alarms) => return Ok(alarms),
                Err(failure) => failures.push(failure),
            }
        }
        Err(super::error::all_failed(failures))
    }

    async fn alarms_of(&self, url: &str) -> Result<Vec<String>, EtcdError> {
        let client = self.client_of(self.member(url)?).await?;
        let mut client = client.maintenance_client();
        let call = client.alarm(AlarmAction::Get, AlarmType::None, None);
        let answer = self
            .limited(url, 0, self.options.call_timeout, call)
            .await?;
        let raised = answer.alarms().iter().map(|alarm| {
            let kind = match alarm.alarm() {
                AlarmType::Nospace => "NOSPACE",
                AlarmType::Corrupt => "CORRUPT",
                AlarmType::None => "of no kind",
            };
            format!("{kind} of member {:x}", alarm.member_id())
        });
        Ok(raised.collect())
    }
}
