//! How etcd is reached: endpoints, certificates and a user, read from files and Secrets at that moment.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::tls::{Material, Pem};
use super::{EtcdError, error};
use crate::api::{ClusterConfig, EtcdCertificates};
use crate::secrets::{Secret, Secrets};

/// How long connecting to one endpoint may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a short answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a hash over the whole database may take.
const HASH_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a snapshot stream may be silent.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// etcd closes connections that ping more often than every five seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How to reach a cluster: endpoints, certificates and a user, read from files and Secrets at that moment.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Client URLs, each with its scheme.
    pub endpoints: Vec<String>,
    /// How long connecting to one endpoint may take.
    pub connect_timeout: Duration,
    /// How long a short answer may take.
    pub call_timeout: Duration,
    /// How long a hash over the whole database may take.
    pub hash_timeout: Duration,
    /// How long a snapshot stream may be silent.
    pub stall_timeout: Duration,
    pub(super) tls: Option<Material>,
    pub(super) user: Option<(String, SecretString)>,
}

impl ConnectOptions {
    /// Reads the certificates and credentials that a cluster's configuration names, anew at each call.
    ///
    /// # Errors
    /// When a Secret or file is missing, unreadable or not what it should be, or an endpoint is no URL.
    pub async fn resolve(
        cluster: &ClusterConfig,
        namespace: &str,
        secrets: &dyn Secrets,
    ) -> Result<Self, EtcdError> {
        if cluster.endpoints.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        let named = cluster.certificates.clone().unwrap_or_default();
        let source = Source { namespace, secrets };
        let configured = named != EtcdCertificates::default();
        let endpoints = cluster
            .endpoints
            .iter()
            .map(|endpoint| normalise(endpoint, configured))
            .collect::<Result<Vec<_>, _>>()?;
        let tls = if endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("https://"))
        {
            Some(source.material(&named).await?)
        } else {
            None
        };
        let user = match &cluster.auth {
            None => None,
            Some(auth) => {
                let secret = secrets.read(namespace, &auth.secret_name).await?;
                let name = secret.require_text("username")?.to_owned();
                let password = SecretString::from(secret.require_text("password")?);
                Some((name, password))
            }
        };
        Ok(Self {
            endpoints,
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            hash_timeout: HASH_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            tls,
            user,
        })
    }

    /// The same for options that lead to the same members with the same credentials.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_le_bytes());
            context.update(bytes);
        };
        for endpoint in &self.endpoints {
            part(endpoint.as_bytes());
        }
        part(self.tls.as_ref().map_or(&[], |tls| &tls.digest));
        if let Some((name, password)) = &self.user {
            part(name.as_bytes());
            part(password.expose_secret().as_bytes());
        }
        let digest = context.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        bytes
    }

    /// One endpoint without TLS and without a user.
    pub fn plain(endpoint: String) -> Self {
        Self {
            endpoints: vec![endpoint],
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            hash_timeout: HASH_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            tls: None,
            user: None,
        }
    }

    /// A client of one endpoint. The connection is made by the first call, so only a wrong user shows here.
    pub(super) async fn client(
        &self,
        endpoint: &str,
    ) -> Result<etcd_client::Client, etcd_client::Error> {
        let mut options = etcd_client::ConnectOptions::new()
            .with_connect_timeout(self.connect_timeout)
            .with_keep_alive(KEEP_ALIVE, self.call_timeout)
            .with_auto_token_refresh(true);
        if let (Some(tls), true) = (&self.tls, endpoint.starts_with("https://")) {
            options = options.with_tls(tls.options());
        }
        let with_user = match &self.user {
            None => options.clone(),
            Some((name, password)) => options.clone().with_user(name, password.expose_secret()),
        };
        match etcd_client::Client::connect([endpoint], Some(with_user)).await {
            Err(error) if error::auth_is_off(&error) => {
                tracing::warn!(
                    endpoint,
                    "a user is configured, but etcd's user management is off: going on without it"
                );
                etcd_client::Client::connect([endpoint], Some(options)).await
            }
            outcome => outcome,
        }
    }
}

/// Where certificates are read from.
struct Source<'a> {
    namespace: &'a str,
    secrets: &'a dyn Secrets,
}

impl Source<'_> {
    async fn material(&self, named: &EtcdCertificates) -> Result<Material, EtcdError> {
        let bundle = match &named.secret_name {
            None => None,
            Some(name) => Some((
                name.as_str(),
                self.secrets.read(self.namespace, name).await?,
            )),
        };
        let ca = self.pem("CA certificate", &named.ca, "ca.crt", &bundle);
        let certificate = self.pem("client certificate", &named.cert, "tls.crt", &bundle);
        let key = self.pem("client key", &named.key, "tls.key", &bundle);
        let (ca, certificate, key) = (ca.await?, certificate.await?, key.await?);
        let identity = match (&certificate, &key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                return Err(EtcdError::Certificate {
                    what: "client certificate",
                    place: one.place.clone(),
                    problem: "a certificate and its key go together, and only one is there"
                        .to_owned(),
                });
            }
        };
        Material::new(ca.as_ref(), identity)
    }

    /// One PEM: from where it is named itself, else from the Secret for all three, when that has it.
    async fn pem(
        &self,
        what: &'static str,
        named: &Option<String>,
        default_key: &str,
        bundle: &Option<(&str, Secret)>,
    ) -> Result<Option<Pem>, EtcdError> {
        let Some(named) = named else {
            let found = bundle.as_ref().and_then(|(name, secret)| {
                let bytes = secret.bytes(default_key)?.to_vec();
                let place = format!("secret '{name}', key '{default_key}'");
                Some(Pem { place, bytes })
            });
            return Ok(found);
        };
        if Path::new(named).is_absolute() {
            let bytes = tokio::fs::read(named)
                .await
                .map_err(|error| EtcdError::Certificate {
                    what,
                    place: named.clone(),
                    problem: error.to_string(),
                })?;
            let place = named.clone();
            return Ok(Some(Pem { place, bytes }));
        }
        let (name, key) = named
            .split_once('/')
            .unwrap_or((named.as_str(), default_key));
        let secret = self.secrets.read(self.namespace, name).await?;
        Ok(Some(Pem {
            place: format!("secret '{name}', key '{key}'"),
            bytes: secret.require_bytes(key)?.to_vec(),
        }))
    }
}

/// The endpoint with its scheme: without one it is https where certificates are configured, as etcdctl has it.
fn normalise(endpoint: &str, certificates: bool) -> Result<String, EtcdError> {
    let trimmed = endpoint.trim();
    let trimmed = match trimmed.strip_suffix('/') {
        Some(host) if !host.ends_with('/') => host,
        _ => trimmed,
    };
    let whole = match trimmed.split_once("://") {
        Some(_) => trimmed.to_owned(),
        None if certificates => format!("https://{trimmed}"),
        None => format!("http://{trimmed}"),
    };
    let wrong = |problem: &str| EtcdError::Endpoint {
        // Never the text itself when it might hold a password.
        endpoint: endpoint
            .rsplit_once('@')
            .map_or(endpoint, |(_, host)| host)
            .to_owned(),
        problem: problem.to_owned(),
    };
    let url = Url::parse(&whole).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" => {}
        "unix" | "unixs" => return Err(wrong("unix sockets are not supported")),
        _ => return Err(wrong("the scheme is neither http nor https")),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "user and password belong into a Secret (auth.secretName)",
        ));
    }
    if url.path() != "/" || url.query().is_some() {
        return Err(wrong("it has a path"));
    }
    Ok(whole)
}

/// Host and port of a normalised endpoint.
pub(super) fn host_and_port(endpoint: &str) -> Option<(String, u16)> {
    let url = Url::parse(endpoint).ok()?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use async_trait::async_trait;

    use super::*;
    use crate::api::{ErrorClass, EtcdAuth};
    use crate::secrets::SecretError;

    struct Fixed(BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>);

    #[async_trait]
    impl Secrets for Fixed {
        async fn read(&self, _: &str, name: &str) -> Result<Secret, SecretError> {
            let values = self.0.get(name).cloned();
            let values = values.ok_or_else(|| SecretError::NotFound {
                name: name.to_owned(),
                place: "here".to_owned(),
            })?;
            Ok(Secret::new(name, values))
        }
    }

    fn pki() -> (String, String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        (
            certificate.pem(),
            key.serialize_pem(),
            other.serialize_pem(),
        )
    }

    fn cluster(certificates: EtcdCertificates) -> ClusterConfig {
        ClusterConfig {
            endpoints: vec!["https://127.0.0.1:2379".to_owned()],
            certificates: Some(certificates),
            ..ClusterConfig::default()
        }
    }

    #[test]
    fn endpoints_get_a_scheme_and_nonsense_is_named() {
        assert_eq!(normalise("a:2379", false).unwrap(), "http://a:2379");
        assert_eq!(normalise("a:2379/", true).unwrap(), "https://a:2379");
        assert_eq!(
            normalise("https://[::1]:1", false).unwrap(),
            "https://[::1]:1"
        );
        for bad in [
            "ftp://a:1",
            "unix:///x",
            "http://",
            "http://a:1/v3",
            "http://a:99999",
        ] {
            assert_eq!(
                normalise(bad, false).unwrap_err().class(),
                ErrorClass::Usage,
                "{bad}"
            );
        }
        let secret = normalise("http://root:hunter2@a:1", false).unwrap_err();
        assert!(!secret.to_string().contains("hunter2"), "{secret}");
    }

    #[tokio::test]
    async fn certificates_come_from_secrets_keys_and_files_and_are_read_anew() {
        let (certificate, key, other_key) = pki();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &certificate).unwrap();
        let values: BTreeMap<String, Vec<u8>> = [
            ("ca.crt", &certificate),
            ("tls.crt", &certificate),
            ("tls.key", &key),
            ("wrong.key", &other_key),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone().into_bytes()))
        .into();
        let secrets = Fixed([("etcd", values)].into());
        let named = |ca: &str, key: &str| EtcdCertificates {
            secret_name: None,
            ca: Some(ca.to_owned()),
            cert: Some("etcd".to_owned()),
            key: Some(key.to_owned()),
        };
        let bundle = EtcdCertificates {
            secret_name: Some("etcd".to_owned()),
            ..EtcdCertificates::default()
        };
        let ca = ca_file.display().to_string();
        for good in [bundle, named("etcd", "etcd"), named(&ca, "etcd/tls.key")] {
            let options = ConnectOptions::resolve(&cluster(good), "default", &secrets).await;
            assert_eq!(options.unwrap().tls.unwrap().client_certificates().len(), 1);
        }
        for bad in [
            named("etcd/none", "etcd"),
            named("missing", "etcd"),
            named("/does/not/exist", "etcd"),
            named("etcd/tls.key", "etcd"),
            named("etcd", "etcd/wrong.key"),
            named("etcd", "etcd/tls.crt"),
        ] {
            let error = ConnectOptions::resolve(&cluster(bad.clone()), "default", &secrets).await;
            let error = error.err().unwrap();
            assert_eq!(error.class(), ErrorClass::Credentials, "{bad:?}");
            assert!(!error.to_string().contains("PRIVATE KEY"), "{error}");
        }
        std::fs::write(&ca_file, "not a certificate").unwrap();
        let changed = cluster(named(&ca, "etcd"));
        let again = ConnectOptions::resolve(&changed, "default", &secrets).await;
        assert_eq!(
            again.err().unwrap().class(),
            ErrorClass::Credentials,
            "the changed file is seen"
        );
    }

    #[tokio::test]
    async fn no_endpoint_and_no_user_secret_are_named() {
        let secrets = Fixed(BTreeMap::new());
        let none = ConnectOptions::resolve(&ClusterConfig::default(), "default", &secrets).await;
        assert_eq!(none.err().unwrap().class(), ErrorClass::Usage);
        let with_user = ClusterConfig {
            endpoints: vec!["http://127.0.0.1:1".to_owned()],
            auth: Some(EtcdAuth {
                secret_name: "root".to_owned(),
            }),
            ..ClusterConfig::default()
        };
        let error = ConnectOptions::resolve(&with_user, "default", &secrets).await;
        assert_eq!(error.err().unwrap().class(), ErrorClass::Credentials);
    }
}
