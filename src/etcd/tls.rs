//! Certificates for etcd: the material that a connection uses, and a bare handshake that says why a connection fails
//! and when the server's certificate ends.

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Identity, TlsOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use secrecy::{ExposeSecret, SecretSlice};

use super::EtcdError;

/// What a TLS connection needs, read and checked.
#[derive(Clone)]
pub(super) struct Material {
    roots: Arc<RootCertStore>,
    identity: Option<ClientIdentity>,
    /// SHA-256 of what it was read from.
    pub(super) digest: Vec<u8>,
}

#[derive(Clone)]
struct ClientIdentity {
    certificate: Vec<u8>,
    key: SecretSlice<u8>,
}

/// PEM bytes with the place that they came from, for errors.
pub(super) struct Pem {
    pub place: String,
    pub bytes: Vec<u8>,
}

/// How a bare handshake ended.
#[derive(Debug)]
pub(super) enum Probed {
    /// Nobody listens, or the name is unknown.
    Unreachable(String),
    /// The two sides do not trust each other.
    Untrusted(String),
    /// The handshake went well; the server's certificates, its own first.
    Trusted(Vec<CertificateDer<'static>>),
}

impl Material {
    /// Trusts `ca`, or the system's roots without one; shows the client certificate when there is one.
    pub fn new(ca: Option<&Pem>, certificate: Option<(&Pem, &Pem)>) -> Result<Self, EtcdError> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(ca) => {
                for certificate in certificates(ca, "CA certificate")? {
                    roots
                        .add(certificate)
                        .map_err(|error| unusable("CA certificate", &ca.place, &error))?;
                }
            }
            // A system without roots still works with http endpoints, so a failure shows only when one is needed.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let identity = match certificate {
            None => None,
            Some((certificate, key)) => {
                certificates(certificate, "client certificate")?;
                PrivateKeyDer::from_pem_slice(&key.bytes)
                    .map_err(|error| unusable("client key", &key.place, &error))?;
                Some(ClientIdentity {
                    certificate: certificate.bytes.clone(),
                    key: SecretSlice::from(key.bytes.clone()),
                })
            }
        };
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let (shown, key) = certificate.unzip();
        for pem in [ca, shown, key] {
            let bytes = pem.map_or(&[] as &[u8], |pem| &pem.bytes);
            digest.update(&(bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        }
        let material = Self {
            roots: Arc::new(roots),
            identity,
            digest: digest.finish().as_ref().to_vec(),
        };
        // A key that does not belong to the certificate is found here, not at the first connection.
        if let Some((certificate, _)) = certificate {
            material
                .config()
                .map_err(|error| unusable("client certificate", &certificate.place, &error))?;
        }
        Ok(material)
    }

    /// The options that etcd's client takes.
    pub fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::new().trust_anchors(self.roots.roots.iter().cloned());
        if let Some(identity) = &self.identity {
            options = options.identity(Identity::from_pem(
                &identity.certificate,
                identity.key.expose_secret(),
            ));
        }
        options
    }

    /// The certificates that the client shows, its own first.
    pub fn client_certificates(&self) -> Vec<CertificateDer<'static>> {
        self.identity
            .iter()
            .flat_map(|identity| CertificateDer::pem_slice_iter(&identity.certificate))
            .filter_map(Result::ok)
            .collect()
    }

    fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key.expose_secret())
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_auth_cert(self.client_certificates(), key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &Pem, what: &'static str) -> Result<Vec<CertificateDer<'static>>, EtcdError> {
    let found = CertificateDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(what, &pem.place, &error))?;
    if found.is_empty() {
        return Err(unusable(what, &pem.place, &"it holds no certificate"));
    }
    Ok(found)
}

fn unusable(what: &'static str, place: &str, problem: &dyn std::fmt::Display) -> EtcdError {
    EtcdError::Certificate {
        what,
        place: place.to_owned(),
        problem: problem.to_string(),
    }
}

/// Connects to `host:port`, shakes hands when there is material, and says how far it got. Blocks for at most about three `limit`s.
pub(super) fn probe(host: &str, port: u16, material: Option<&Material>, limit: Duration) -> Probed {
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match (bare_host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Probed::Unreachable(error.to_string()),
    };
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                return match material {
                    Some(material) => handshake(stream, bare_host, material, limit),
                    None => Probed::Trusted(Vec::new()),
                };
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Probed::Unreachable(reason)
}

fn handshake(mut stream: TcpStream, host: &str, material: &Material, limit: Duration) -> Probed {
    let config = match material.config() {
        Ok(config) => Arc::new(config),
        Err(error) => return Probed::Untrusted(error.to_string()),
    };
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Probed::Untrusted(format!("'{host}' is no name that a certificate can hold"));
    };
    let mut connection = match ClientConnection::new(config, name) {
        Ok(connection) => connection,
        Err(error) => return Probed::Untrusted(error.to_string()),
    };
    let limited = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.set_write_timeout(Some(limit)));
    if let Err(error) = limited {
        return Probed::Unreachable(error.to_string());
    }
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            return refused(error);
        }
    }
    let certificates = connection
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    // TLS 1.3 tells of a missing client certificate only after the handshake: the first byte is HTTP/2's settings, or an alert.
    let mut first = [0_u8; 1];
    match rustls::Stream::new(&mut connection, &mut stream).read(&mut first) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => refused(error),
        _ => Probed::Trusted(certificates),
    }
}

fn refused(error: std::io::Error) -> Probed {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            Probed::Unreachable("it does not speak TLS: write http:// or switch TLS on".to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => Probed::Untrusted(format!(
            "it refused our client certificate or connection ({alert:?})"
        )),
        Some(tls) => Probed::Untrusted(format!("its certificate is not trusted: {tls}")),
        None => Probed::Unreachable(format!("the TLS handshake broke: {error}")),
    }
}
