//! A certificate authority with one certificate that serves and one that calls, as PEM files in a folder.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// PEM files: what a server and a client of `127.0.0.1` and `localhost` need for mutual TLS.
pub struct Pki {
    /// `ca.crt`.
    pub ca: PathBuf,
    /// `server.crt`.
    pub server_cert: PathBuf,
    /// `server.key`.
    pub server_key: PathBuf,
    /// `client.crt`, of the common name `root`.
    pub client_cert: PathBuf,
    /// `client.key`.
    pub client_key: PathBuf,
}

impl Pki {
    /// A fresh authority in `dir`, which is created; files that are there already are replaced.
    pub fn create(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("create the folder");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("generate a key");
        let authority = params.self_signed(&key).expect("sign the authority");
        let pki = Self {
            ca: dir.join("ca.crt"),
            server_cert: dir.join("server.crt"),
            server_key: dir.join("server.key"),
            client_cert: dir.join("client.crt"),
            client_key: dir.join("client.key"),
        };
        std::fs::write(&pki.ca, authority.pem()).expect("write ca.crt");
        let issuer = Issuer::new(params, key);
        issue(&issuer, "localhost", &pki.server_cert, &pki.server_key);
        issue(&issuer, "root", &pki.client_cert, &pki.client_key);
        pki
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, name: &str, cert_file: &Path, key_file: &Path) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
        .expect("two good names");
    params.distinguished_name.push(DnType::CommonName, name);
    // etcd calls its own listeners with its serving certificate, so each certificate may do both.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().expect("generate a key");
    let cert = params.signed_by(&key, issuer).expect("sign");
    std::fs::write(cert_file, cert.pem()).expect("write the certificate");
    std::fs::write(key_file, key.serialize_pem()).expect("write the key");
}
