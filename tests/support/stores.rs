//! Stores of the other clouds and their key services: emulators where there are good ones, contract servers where there are none.

use std::process::Command;

use etcdguardian::api::StorageLocation;
use tempfile::TempDir;

use super::{Pki, Process, Versitygw, free_port, http, repository, tool};

/// A contract server for Google Cloud Storage: its XML API, and the tokens of one service account.
pub struct GcsFake {
    /// Its URL.
    pub url: String,
    key: String,
    _process: Process,
    scratch: TempDir,
}

impl GcsFake {
    /// Starts one with this empty bucket.
    pub fn start(bucket: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let key = Self::private_key(&scratch.path().join("key.pem"));
        let public = scratch.path().join("public.pem");
        let made = Command::new("openssl")
            .args(["rsa", "-pubout", "-in"])
            .arg(scratch.path().join("key.pem"))
            .arg("-out")
            .arg(&public)
            .output()
            .expect("run openssl");
        assert!(made.status.success(), "the public key is written");
        let port = free_port();
        let mut process = Process::start(
            "gcsfake",
            Command::new("python3")
                .arg(repository("tests/tools/emu/gcsfake.py"))
                .args([&port.to_string(), bucket])
                .arg(&public)
                .arg("guardian@example.com"),
            &scratch.path().join("gcsfake.log"),
        );
        process.wait_ready(|| http("GET", port, "/_ready", "").is_some());
        Self {
            url: format!("http://127.0.0.1:{port}"),
            key,
            _process: process,
            scratch,
        }
    }

    fn private_key(file: &std::path::Path) -> String {
        let made = Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-out",
            ])
            .arg(file)
            .output()
            .expect("run openssl");
        assert!(made.status.success(), "a key is made");
        std::fs::read_to_string(file).expect("read the key")
    }

    /// Its port, for a proxy in front, and for the metadata server's part.
    pub fn port(&self) -> u16 {
        port_of(&self.url)
    }

    /// How many seconds its tokens say that they live, and how many they do.
    pub fn life(&self, told: u32, real: u32) {
        let wish = format!("{{\"told\":{told},\"real\":{real}}}");
        let answer = http("POST", self.port(), "/_life", &wish).expect("gcsfake answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// The file of the service account that it knows.
    pub fn account(&self) -> String {
        self.account_with(&self.key)
    }

    /// A file of the same account with a key that it does not know.
    pub fn stranger(&self) -> String {
        self.account_with(&Self::private_key(&self.scratch.path().join("other.pem")))
    }

    fn account_with(&self, key: &str) -> String {
        serde_json::json!({
            "type": "service_account", "client_email": "guardian@example.com",
            "private_key": key, "private_key_id": "1", "gcs_base_url": self.url,
        })
        .to_string()
    }
}

/// azurite: Azure Blob Storage. Account `guardian`.
pub struct Azurite {
    /// The URL of the account.
    pub url: String,
    /// Its key.
    pub key: String,
    _process: Process,
    _scratch: TempDir,
}

impl Azurite {
    /// Starts one with these empty containers.
    pub fn start(containers: &[&str]) -> Self {
        Self::launch(containers, None)
    }

    /// Starts one that speaks TLS and believes tokens of Azure's.
    pub fn start_oauth(containers: &[&str], pki: &Pki) -> Self {
        Self::launch(containers, Some(pki))
    }

    /// Its port, for a proxy in front.
    pub fn port(&self) -> u16 {
        port_of(&self.url)
    }

    fn launch(containers: &[&str], pki: Option<&Pki>) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let port = free_port();
        let key = "Z3VhcmRpYW4gZ3VhcmRpYW4gZ3VhcmRpYW4gZ3VhcmQ=".to_owned();
        let mut command = Command::new(tool("azurite-blob"));
        command
            .env("AZURITE_ACCOUNTS", format!("guardian:{key}"))
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .args(["--inMemoryPersistence", "--silent", "--disableTelemetry"])
            .arg("--skipApiVersionCheck");
        if let Some(pki) = pki {
            command
                .args(["--oauth", "basic", "--cert"])
                .arg(&pki.server_cert)
                .arg("--key")
                .arg(&pki.server_key);
        }
        let log = scratch.path().join("azurite.log");
        let mut process = Process::start("azurite", &mut command, &log);
        process.wait_ready(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let scheme = if pki.is_some() { "https" } else { "http" };
        let started = Self {
            url: format!("{scheme}://127.0.0.1:{port}/guardian"),
            key,
            _process: process,
            _scratch: scratch,
        };
        for container in containers {
            started.create(container);
        }
        started
    }

    /// Makes a container, signed as Azure wants it.
    fn create(&self, container: &str) {
        use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
        use object_store::client::{HttpRequest, HttpRequestBody};
        let key = AzureAccessKey::try_new(&self.key).expect("a key");
        let credential = AzureCredential::AccessKey(key);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = reqwest::Method::PUT;
        let url = format!("{}/{container}?restype=container", self.url);
        *request.uri_mut() = url.parse().expect("a URL");
        request.headers_mut().insert(
            "content-length",
            reqwest::header::HeaderValue::from_static("0"),
        );
        AzureAuthorizer::new(&credential, "guardian")
            .try_authorize(&mut request)
            .expect("a signature");
        let headers = request.headers().clone();
        let status = block_on(async move {
            let answer = stranger().put(url).headers(headers).send().await;
            answer.expect("azurite answers").status()
        });
        assert_eq!(status, 201, "the container is made");
    }
}

/// A client that believes any certificate.
fn stranger() -> reqwest::Client {
    etcdguardian::init_tls();
    reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .build()
        .expect("a client")
}

/// `http://127.0.0.1:PORT/…`.
fn port_of(url: &str) -> u16 {
    let url = url::Url::parse(url).expect("a URL");
    url.port().expect("a port")
}

/// Runs a future to its end on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// A contract server for Alibaba OSS in front of a real S3 server; reached as a proxy, so that hosts are the real ones.
pub struct OssGate {
    /// The proxy's URL.
    pub proxy: String,
    /// The endpoint to name in a location; region `cn-test`.
    pub endpoint: &'static str,
    behind: Versitygw,
    port: u16,
    _process: Process,
    _scratch: TempDir,
}

impl OssGate {
    /// Starts one with these empty buckets. Access key `LTAItest`, secret `testsecret`.
    pub fn start(buckets: &[&str]) -> Self {
        let flags = [
            "--region",
            "cn-test",
            "--virtual-domain",
            "s3.oss-cn-test.aliyuncs.com",
        ];
        let behind = Versitygw::start_as(buckets, "LTAItest", "testsecret", &flags);
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let port = free_port();
        let mut process = Process::start(
            "ossgate",
            Command::new("python3")
                .arg(repository("tests/tools/emu/ossgate.py"))
                .args([port.to_string(), behind.port.to_string()])
                .arg(behind.data()),
            &scratch.path().join("ossgate.log"),
        );
        process.wait_ready(|| http("GET", port, "/_ready", "").is_some());
        Self {
            proxy: format!("http://127.0.0.1:{port}"),
            endpoint: "http://oss-cn-test.aliyuncs.com",
            behind,
            port,
            _process: process,
            _scratch: scratch,
        }
    }

    /// The file behind an object.
    pub fn file(&self, bucket: &str, key: &str) -> std::path::PathBuf {
        self.behind.file(bucket, key)
    }

    /// What it was asked, oldest first: method, host, path, query, headers.
    pub fn requests(&self) -> Vec<serde_json::Value> {
        let answer = http("GET", self.port, "/_requests", "").expect("ossgate answers");
        answer.json().as_array().cloned().unwrap_or_default()
    }

    /// Sets its clock so many seconds ahead.
    pub fn clock(&self, ahead: i64) {
        let wish = format!("{{\"ahead\":{ahead}}}");
        let answer = http("POST", self.port, "/_clock", &wish).expect("ossgate answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Makes it fail: `{"match":"PUT","status":503,"count":2}`, with `"after":true` only its answer is lost.
    pub fn fault(&self, rule: &str) {
        let answer = http("POST", self.port, "/_fault", rule).expect("ossgate answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// Contract servers for the key services of AWS and Alibaba, and for the identities of both clouds.
pub struct KmsFake {
    /// Its URL.
    pub url: String,
    port: u16,
    _process: Process,
    _scratch: TempDir,
}

impl KmsFake {
    /// Starts one with the keys `k1`, `k2` and `mrk-replica`, which opens what `k1` wrapped.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// Starts one that speaks TLS, as AWS's STS must.
    pub fn start_tls(pki: &Pki) -> Self {
        Self::launch(Some(pki))
    }

    fn launch(pki: Option<&Pki>) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let port = free_port();
        let mut command = Command::new("python3");
        command
            .arg(repository("tests/tools/emu/kmsfake.py"))
            .arg(port.to_string());
        if let Some(pki) = pki {
            command.args([&pki.server_cert, &pki.server_key]);
        }
        let log = scratch.path().join("kmsfake.log");
        let mut process = Process::start("kmsfake", &mut command, &log);
        process.wait_ready(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let scheme = if pki.is_some() { "https" } else { "http" };
        Self {
            url: format!("{scheme}://127.0.0.1:{port}"),
            port,
            _process: process,
            _scratch: scratch,
        }
    }

    /// Tells it something: `{"key":"k1","state":"Disabled"}`, `{"rotate":"k1"}`, `{"life":{"told":3600,"real":2}}`,
    /// `{"fault":{"action":"Decrypt","status":503,"code":"X","count":2}}`.
    pub fn tell(&self, wish: &str) {
        let (url, wish) = (format!("{}/_admin", self.url), wish.to_owned());
        let status = block_on(async move {
            let answer = stranger().post(url).body(wish).send().await;
            answer.expect("kmsfake answers").status()
        });
        assert_eq!(status, 200);
    }

    /// The actions that it was asked for, oldest first.
    pub fn actions(&self) -> Vec<String> {
        let answer = http("GET", self.port, "/_requests", "").expect("kmsfake answers");
        let actions = answer.json().as_array().cloned().unwrap_or_default();
        actions
            .iter()
            .filter_map(|action| action.as_str().map(str::to_owned))
            .collect()
    }
}

/// A location from YAML's JSON form, for tests in this process.
pub fn location(json: serde_json::Value) -> StorageLocation {
    serde_json::from_value(json).expect("a storage location")
}
