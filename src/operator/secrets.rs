//! Secrets of the API server: an object's from its own namespace, the operator's own from the operator's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1;
use kube::{Api, Client};

use crate::api::{
    ClusterConfig, Encryption, EtcdBackupScheduleSpec, EtcdBackupSpec, EtcdCertificates,
    EtcdRestoreSpec, FieldError, PrometheusSource,
};
use crate::kms::KeyName;
use crate::secrets::{Secret, SecretError, Secrets};

/// Before the name of a Secret that is the operator's own. No resource can write such a name: ':' is in no Secret's name, and
/// [`is_name`] refuses it.
const OWN: &str = "operator:";

/// Ends of the fields that may name a key of the Secret.
const CA: &str = ".ca";
const CERT: &str = ".cert";
const KEY: &str = ".key";

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

/// The config's Prometheus with its Secret marked as the operator's own.
pub fn own_prometheus(mut source: PrometheusSource) -> PrometheusSource {
    if let Some(name) = &mut source.credentials_secret {
        name.insert_str(0, OWN);
    }
    source
}

/// Names in a backup that would lead out of its namespace's Secrets: a path of a file, or one of the operator's own; and the name of a
/// key that names none. Pure.
pub fn foreign_names(spec: &EtcdBackupSpec, path: &str) -> Vec<FieldError> {
    let mut names = certificate_names("etcdCertificates", spec.etcd_certificates.as_ref());
    names.push((
        "etcdAuth.secretName".to_owned(),
        spec.etcd_auth.as_ref().map(|auth| &auth.secret_name),
    ));
    names.push((
        "storageLocation.credentialsSecret".to_owned(),
        spec.storage_location.credentials_secret.as_ref(),
    ));
    for replica in &spec.replicate_to {
        names.push((
            "replicateTo.storageLocation.credentialsSecret".to_owned(),
            replica.storage_location.credentials_secret.as_ref(),
        ));
    }
    names.push(encryption_name(spec.encryption.as_ref()));
    let mut found = refused(names, path);
    found.extend(no_key(spec.encryption.as_ref(), path));
    found
}

/// The same in a schedule, whose Prometheus is told what a Secret holds. Pure.
pub fn foreign_names_of_schedule(spec: &EtcdBackupScheduleSpec) -> Vec<FieldError> {
    let prometheus = spec.ai_optimization.prometheus.as_ref();
    let name = prometheus.and_then(|source| source.credentials_secret.as_ref());
    let field = "aiOptimization.prometheus.credentialsSecret".to_owned();
    let mut found = foreign_names(&spec.backup_template.spec, "spec.backupTemplate.spec");
    found.extend(refused(vec![(field, name)], "spec"));
    found
}

/// The same in a restore. Pure.
pub fn foreign_names_of_restore(spec: &EtcdRestoreSpec) -> Vec<FieldError> {
    let cluster = spec.etcd_cluster.as_ref();
    let certificates = cluster.and_then(|cluster| cluster.certificates.as_ref());
    let mut names = certificate_names("etcdCluster.certificates", certificates);
    names.push(encryption_name(spec.encryption.as_ref()));
    let mut found = refused(names, "spec");
    found.extend(no_key(spec.encryption.as_ref(), "spec"));
    found
}

fn no_key(encryption: Option<&Encryption>, path: &str) -> Option<FieldError> {
    let encryption = encryption.filter(|one| one.enabled)?;
    let error = KeyName::parse(encryption.kms_key_id.as_deref()?).err()?;
    Some(FieldError {
        path: format!("{path}.encryption.kmsKeyID"),
        message: error.to_string(),
    })
}

type Named<'a> = (String, Option<&'a String>);

fn certificate_names<'a>(
    field: &str,
    certificates: Option<&'a EtcdCertificates>,
) -> Vec<Named<'a>> {
    let Some(named) = certificates else {
        return Vec::new();
    };
    vec![
        (format!("{field}.secretName"), named.secret_name.as_ref()),
        (format!("{field}{CA}"), named.ca.as_ref()),
        (format!("{field}{CERT}"), named.cert.as_ref()),
        (format!("{field}{KEY}"), named.key.as_ref()),
    ]
}

fn encryption_name(encryption: Option<&Encryption>) -> Named<'_> {
    let name = encryption.and_then(|one| one.encryption_secret.as_ref());
    ("encryption.encryptionSecret".to_owned(), name)
}

fn refused(names: Vec<Named<'_>>, path: &str) -> Vec<FieldError> {
    names
        .into_iter()
        .filter_map(|(field, name)| Some((field, name?)))
        .filter(|(field, name)| !is_name(field, name))
        .map(|(field, name)| FieldError {
            path: format!("{path}.{field}"),
            message: format!("'{name}' is no name of a Secret of this namespace"),
        })
        .collect()
}

/// Whether it can only be a Secret of the namespace that is asked: a name as Kubernetes allows it, with a key behind a slash where a
/// certificate is named.
fn is_name(field: &str, text: &str) -> bool {
    let keyed = [CA, CERT, KEY].iter().any(|end| field.ends_with(end));
    let name = match text.split_once('/') {
        Some((name, key)) if keyed && !key.contains('/') => name,
        _ => text,
    };
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !name.is_empty() && name.bytes().all(fits) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn no_name_leads_out_of_the_namespace() {
        for (field, good) in [
            ("etcdAuth.secretName", "db.v1-user"),
            ("etcdCertificates.ca", "tls/ca.crt"),
            ("etcdCertificates.key", "tls"),
        ] {
            assert!(is_name(field, good), "{good}");
        }
        for (field, bad) in [
            ("etcdAuth.secretName", "tls/ca.crt"),
            ("etcdAuth.secretName", "operator:s3"),
            ("etcdAuth.secretName", "/run/secrets/x"),
            ("etcdAuth.secretName", ".."),
            ("etcdAuth.secretName", ""),
            ("etcdAuth.secretName", "a?x=y"),
            ("etcdCertificates.ca", "../guardian/s3"),
            ("etcdCertificates.ca", "operator:s3/ca.crt"),
            ("etcdCertificates.ca", "../ca.crt"),
        ] {
            assert!(!is_name(field, bad), "{bad}");
        }
    }
}
