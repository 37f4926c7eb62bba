//! Secrets of the API server: an object's from its own namespace, the operator's own from the operator's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1;
use kube::{Api, Client};

use crate::api::{ClusterConfig, EtcdBackupSpec, EtcdCertificates, FieldError};
use crate::secrets::{Secret, SecretError, Secrets};

/// Before the name of a Secret that is the operator's own. No resource can write such a name: ':' is in no Secret's name, and
/// [`foreign_names`] refuses it.
const OWN: &str = "operator:";

/// Reads Secrets by name, never by list.
pub struct ClusterSecrets {
    client: Client,
    own_namespace: String,
}

impl ClusterSecrets {
    /// Reads with the rights of `client`.
    pub fn new(client: Client, own_namespace: String) -> Self {
        Self {
            client,
            own_namespace,
        }
    }
}

#[async_trait]
impl Secrets for ClusterSecrets {
    async fn read(&self, namespace: &str, name: &str) -> Result<Secret, SecretError> {
        let (namespace, name) = match name.strip_prefix(OWN) {
            Some(own) => (self.own_namespace.as_str(), own),
            None => (namespace, name),
        };
        let api: Api<v1::Secret> = Api::namespaced(self.client.clone(), namespace);
        let place = format!("secret/{name} in namespace {namespace}");
        match api.get_opt(name).await {
            Ok(Some(secret)) => {
                let data = secret.data.unwrap_or_default();
                let values: BTreeMap<String, Vec<u8>> = data
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect();
                Ok(Secret::new(name, values))
            }
            Ok(None) => Err(SecretError::NotFound {
                name: name.to_owned(),
                place,
            }),
            Err(error) => Err(SecretError::Unreadable {
                name: name.to_owned(),
                place,
                source: std::io::Error::other(error),
            }),
        }
    }
}

/// The operator's configured etcd with its Secrets marked as the operator's own.
pub fn own_cluster(mut cluster: ClusterConfig) -> ClusterConfig {
    let own = |name: &mut Option<String>| {
        if let Some(name) = name.as_mut().filter(|name| !name.starts_with('/')) {
            name.insert_str(0, OWN);
        }
    };
    if let Some(certificates) = &mut cluster.certificates {
        own(&mut certificates.secret_name);
        own(&mut certificates.ca);
        own(&mut certificates.cert);
        own(&mut certificates.key);
    }
    if let Some(auth) = &mut cluster.auth {
        auth.secret_name.insert_str(0, OWN);
    }
    cluster
}

/// Names in a resource that would lead out of its namespace's Secrets: a path of a file, or one of the operator's own. Pure.
pub fn foreign_names(spec: &EtcdBackupSpec, path: &str) -> Vec<FieldError> {
    let mut names: Vec<(&str, Option<&String>)> = Vec::new();
    let none = EtcdCertificates::default();
    let certificates = spec.etcd_certificates.as_ref().unwrap_or(&none);
    names.push((
        "etcdCertificates.secretName",
        certificates.secret_name.as_ref(),
    ));
    names.push(("etcdCertificates.ca", certificates.ca.as_ref()));
    names.push(("etcdCertificates.cert", certificates.cert.as_ref()));
    names.push(("etcdCertificates.key", certificates.key.as_ref()));
    names.push((
        "etcdAuth.secretName",
        spec.etcd_auth.as_ref().map(|auth| &auth.secret_name),
    ));
    names.push((
        "storageLocation.credentialsSecret",
        spec.storage_location.credentials_secret.as_ref(),
    ));
    for replica in &spec.replicate_to {
        names.push((
            "replicateTo.storageLocation.credentialsSecret",
            replica.storage_location.credentials_secret.as_ref(),
        ));
    }
    let encryption = spec.encryption.as_ref();
    names.push((
        "encryption.encryptionSecret",
        encryption.and_then(|one| one.encryption_secret.as_ref()),
    ));
    names
        .into_iter()
        .filter_map(|(field, name)| Some((field, name?)))
        .filter(|(_, name)| name.starts_with('/') || name.contains(':'))
        .map(|(field, name)| FieldError {
            path: format!("{path}.{field}"),
            message: format!("'{name}' is no name of a Secret of this namespace"),
        })
        .collect()
}
