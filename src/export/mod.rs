//! Kubernetes objects out of backups: what etcd holds → the object as JSON → what can be applied again, and applying it.

pub mod apply;
pub mod bundle;
mod cbor;
pub mod chain;
pub mod changes;
pub mod clean;
pub mod decode;
pub mod direct;
pub mod find;
pub mod findings;
pub mod fit;
pub mod import;
pub mod increment;
pub mod index;
pub mod kinds;
pub mod left;
pub mod link;
pub mod list;
pub mod plan;
pub mod proxy;
pub mod ranged;
pub mod ranges;
pub mod removed;
pub mod resources;
mod scalar;
mod schema;
pub mod stored;
pub mod survey;
pub mod target;
#[cfg(test)]
mod tests;
pub mod wire;

use crate::api::ErrorClass;
use crate::etcd::EtcdError;
use crate::snapshot::SnapshotError;

/// Why an object cannot be had or put back.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot cannot be read, or does not reach to the revision.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// etcd does not answer, or not as it should.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The value is encrypted by the API server.
    #[error(
        "{key} is encrypted at rest by the API server (provider {provider}, key '{name}'): restore the whole cluster, whose API server has that key"
    )]
    Encrypted {
        /// The key in etcd.
        key: String,
        /// As `aescbc` or `kms`.
        provider: String,
        /// The name of the encryption key.
        name: String,
    },
    /// The value is no object.
    #[error("{key} is no Kubernetes object: {problem}; see it with 'etcdguardian snapshot get'")]
    NoObject {
        /// The key in etcd.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A built-in kind that this version does not know.
    #[error(
        "{key} holds a {kind} of {api_version}, whose stored form this version of etcdguardian does not know; a server that serves it takes it back by 'etcdguardian object restore --stored-form'"
    )]
    UnknownKind {
        /// The key in etcd.
        key: String,
        /// As `apps/v1`.
        api_version: String,
        /// As `Deployment`.
        kind: String,
    },
    /// The API server cannot be reached, or says no.
    #[error("{action}: {source}")]
    Server {
        /// What was tried.
        action: String,
        /// What the client or the server says.
        #[source]
        source: Box<kube::Error>,
    },
    /// The bundle of an export cannot be written or read.
    #[error("the bundle cannot be {action}")]
    Bundle {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// There is no way to the API server.
    #[error(
        "no API server is known: {problem}; add --kubeconfig FILE, or set KUBECONFIG, or run in a pod"
    )]
    NoServer {
        /// What is wrong.
        problem: String,
    },
}

/// How the API server of exports is reached.
#[derive(Clone, Default)]
pub enum ApiServer {
    /// By `KUBECONFIG`, else as the pod that this process is in.
    #[default]
    Inferred,
    /// By this client.
    Client(kube::Client),
}

impl ApiServer {
    /// A client of it.
    ///
    /// # Errors
    /// When no server is known.
    pub async fn client(&self) -> Result<kube::Client, ExportError> {
        match self {
            Self::Client(client) => Ok(client.clone()),
            Self::Inferred => Ok(apply::Server::connect(None, None).await?.client()),
        }
    }
}

impl ExportError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Snapshot(error) => error.class(),
            Self::Etcd(error) => error.class(),
            Self::Encrypted { .. } => ErrorClass::Credentials,
            Self::Bundle { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                ErrorClass::VerificationFailed
            }
            Self::Bundle { .. }
            | Self::NoObject { .. }
            | Self::UnknownKind { .. }
            | Self::Server { .. } => ErrorClass::Failed,
            Self::NoServer { .. } => ErrorClass::Usage,
        }
    }

    /// Attaches what was tried to an error of the client.
    pub(crate) fn server(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Server {
            action,
            source: Box::new(source),
        }
    }
}
