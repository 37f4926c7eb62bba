//! The servers around: an S3 store, a mail server, a stand-in for Slack, and a TCP proxy that breaks connections on demand.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{Pki, Process, free_port, http, repository, tool, until};

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// versitygw: S3 in front of a folder. Access key `vgw`, secret `vgwsecret`, region `us-east-1`, path-style.
pub struct Versitygw {
    /// Its URL.
    pub url: String,
    /// Its port, for a proxy in front.
    pub port: u16,
    /// To kill it, or to read its log.
    pub process: Process,
    data: PathBuf,
    _scratch: TempDir,
}

impl Versitygw {
    /// Starts one that holds these empty buckets.
    pub fn start(buckets: &[&str]) -> Self {
        Self::start_as(buckets, "vgw", "vgwsecret", &[])
    }

    /// Starts one with these root keys and further flags of its own.
    pub fn start_as(buckets: &[&str], access: &str, secret: &str, flags: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let data = scratch.path().join("data");
        for folder in ["data", "iam", "versions"] {
            std::fs::create_dir_all(scratch.path().join(folder)).expect("create a folder");
        }
        for bucket in buckets {
            std::fs::create_dir_all(data.join(bucket)).expect("create a bucket");
        }
        let port = free_port();
        let mut process = Process::start(
            "versitygw",
            Command::new(tool("versitygw"))
                .arg("--port")
                .arg(format!("127.0.0.1:{port}"))
                .args(["--access", access, "--secret", secret])
                .args(["--quiet", "--health", "/healthz"])
                .args(flags)
                .arg("--iam-dir")
                .arg(scratch.path().join("iam"))
                .args(["posix", "--versioning-dir"])
                .arg(scratch.path().join("versions"))
                .arg(&data),
            &scratch.path().join("versitygw.log"),
        );
        process.wait_ready(|| http("GET", port, "/healthz", "").is_some_and(|a| a.status == 200));
        Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            process,
            data,
            _scratch: scratch,
        }
    }

    /// The folder of its buckets.
    pub fn data(&self) -> &std::path::Path {
        &self.data
    }

    /// The uploads in parts of a bucket that were begun and not finished, as the server lists them.
    pub fn unfinished(&self, bucket: &str) -> Vec<String> {
        use object_store::aws::{AwsAuthorizer, AwsCredential};
        use object_store::client::{HttpRequest, HttpRequestBody};
        let credential = AwsCredential {
            key_id: "vgw".to_owned(),
            secret_key: "vgwsecret".to_owned(),
            token: None,
        };
        let url = format!("{}/{bucket}?uploads=", self.url);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().expect("a URL");
        AwsAuthorizer::new(&credential, "s3", "us-east-1")
            .try_authorize(&mut request, None)
            .expect("a signature");
        let headers = request.headers().clone();
        let text = super::block_on(async move {
            etcdguardian::init_tls();
            let answer = reqwest::Client::new()
                .get(url)
                .headers(headers)
                .send()
                .await;
            let answer = answer.expect("versitygw answers");
            assert_eq!(answer.status(), 200);
            answer.text().await.expect("a listing")
        });
        let keys = text.split("<Upload>").skip(1);
        keys.filter_map(|one| one.split("<Key>").nth(1)?.split('<').next())
            .map(str::to_owned)
            .collect()
    }

    /// The file behind an object; objects are plain files.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.data.join(bucket).join(key)
    }
}

/// mailpit: takes any mail and shows it by HTTP.
pub struct Mailpit {
    /// The SMTP port.
    pub smtp_port: u16,
    http_port: u16,
    /// To kill it, or to read its log.
    pub process: Process,
    _scratch: TempDir,
}

impl Mailpit {
    /// Starts one that takes plain connections, without authentication.
    pub fn start() -> Self {
        Self::launch(&[], None)
    }

    /// Starts one that insists on STARTTLS and on a user with a password.
    pub fn start_tls(pki: &Pki, user: &str, password: &str) -> Self {
        let cert = pki.server_cert.display().to_string();
        let key = pki.server_key.display().to_string();
        let args = [
            "--smtp-tls-cert",
            &cert,
            "--smtp-tls-key",
            &key,
            "--smtp-require-starttls",
        ];
        Self::launch(&args, Some(format!("{user}:{password}\n")))
    }

    /// Starts one that speaks TLS from the first byte.
    pub fn start_implicit_tls(pki: &Pki) -> Self {
        let cert = pki.server_cert.display().to_string();
        let key = pki.server_key.display().to_string();
        let args = [
            "--smtp-tls-cert",
            &cert,
            "--smtp-tls-key",
            &key,
            "--smtp-require-tls",
        ];
        Self::launch(&args, None)
    }

    fn launch(args: &[&str], users: Option<String>) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (smtp_port, http_port) = (free_port(), free_port());
        let mut command = Command::new(tool("mailpit"));
        command
            .arg(format!("--listen=127.0.0.1:{http_port}"))
            .arg(format!("--smtp=127.0.0.1:{smtp_port}"))
            .args([
                "--smtp-disable-rdns",
                "--disable-version-check",
                "--enable-chaos",
            ])
            .args(args);
        if let Some(users) = users {
            let file = scratch.path().join("users");
            std::fs::write(&file, users).expect("write the users");
            command.arg(format!("--smtp-auth-file={}", file.display()));
        }
        let mut process =
            Process::start("mailpit", &mut command, &scratch.path().join("mailpit.log"));
        process.wait_ready(|| {
            listens(smtp_port)
                && http("GET", http_port, "/api/v1/messages", "").is_some_and(|a| a.status == 200)
        });
        Self {
            smtp_port,
            http_port,
            process,
            _scratch: scratch,
        }
    }

    /// What it has received, newest first: objects with `ID`, `Subject`, `From`, `To`.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        http("GET", self.http_port, "/api/v1/messages", "")
            .expect("mailpit answers")
            .json()["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// The whole message as it came, headers and all.
    pub fn raw(&self, id: &str) -> String {
        http(
            "GET",
            self.http_port,
            &format!("/api/v1/message/{id}/raw"),
            "",
        )
        .expect("mailpit answers")
        .body
    }

    /// Makes it refuse: mailpit's chaos triggers, as `{"Sender":{"ErrorCode":451,"Probability":100}}`; `{}` ends it.
    pub fn chaos(&self, triggers: &str) {
        let answer =
            http("PUT", self.http_port, "/api/v1/chaos", triggers).expect("mailpit answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// slackfake: Slack's incoming webhook and Web API, strict as Slack is. Token `xoxb-test`, channel `#etcd-backup`.
pub struct SlackFake {
    /// The incoming webhook's URL.
    pub webhook: String,
    /// The Web API's URL.
    pub api: String,
    port: u16,
    /// To kill it, or to read its log.
    pub process: Process,
    _scratch: TempDir,
}

impl SlackFake {
    /// Starts one.
    pub fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let port = free_port();
        let mut process = Process::start(
            "slackfake",
            Command::new("python3")
                .arg(repository("tests/tools/emu/slackfake.py"))
                .arg(port.to_string()),
            &scratch.path().join("slackfake.log"),
        );
        process.wait_ready(|| http("GET", port, "/_ready", "").is_some());
        Self {
            webhook: format!("http://127.0.0.1:{port}/services/T0/B0/secret"),
            api: format!("http://127.0.0.1:{port}/api/"),
            port,
            process,
            _scratch: scratch,
        }
    }

    /// What it has accepted, oldest first.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        let answer = http("GET", self.port, "/_messages", "").expect("slackfake answers");
        answer.json().as_array().cloned().unwrap_or_default()
    }

    /// Makes it fail: `{"match":"chat.postMessage","status":429,"retry_after":1,"count":2}`, or `"drop":true`.
    pub fn fault(&self, rule: &str) {
        let answer = http("POST", self.port, "/_fault", rule).expect("slackfake answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// toxiproxy: a TCP proxy that is slow, cuts, or goes away when told.
pub struct Toxiproxy {
    api: u16,
    /// To kill it, or to read its log.
    pub process: Process,
    _scratch: TempDir,
}

impl Toxiproxy {
    /// Starts one without proxies.
    pub fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let api = free_port();
        let mut process = Process::start(
            "toxiproxy",
            Command::new(tool("toxiproxy-server"))
                .env("LOG_LEVEL", "warn")
                .args(["-host", "127.0.0.1", "-port", &api.to_string()]),
            &scratch.path().join("toxiproxy.log"),
        );
        process.wait_ready(|| http("GET", api, "/version", "").is_some_and(|a| a.status == 200));
        Self {
            api,
            process,
            _scratch: scratch,
        }
    }

    /// A proxy in front of a loopback port; returns the port to call instead.
    pub fn proxy(&self, name: &str, upstream: u16) -> u16 {
        let port = free_port();
        let body = format!(
            "{{\"name\":\"{name}\",\"listen\":\"127.0.0.1:{port}\",\"upstream\":\"127.0.0.1:{upstream}\",\"enabled\":true}}"
        );
        self.post("/proxies", &body);
        until("the proxy listens", || listens(port).then_some(()));
        port
    }

    /// Adds a toxic: `("latency", r#"{"latency":300}"#)`, `("bandwidth", r#"{"rate":500}"#)` (KB/s), `("limit_data", r#"{"bytes":1000}"#)`,
    /// `("reset_peer", r#"{"timeout":0}"#)`, `("timeout", r#"{"timeout":0}"#)`.
    pub fn toxic(&self, proxy: &str, kind: &str, attributes: &str) {
        self.add_toxic(proxy, "downstream", kind, attributes);
    }

    /// The same for what the client sends.
    pub fn upstream_toxic(&self, proxy: &str, kind: &str, attributes: &str) {
        self.add_toxic(proxy, "upstream", kind, attributes);
    }

    fn add_toxic(&self, proxy: &str, stream: &str, kind: &str, attributes: &str) {
        let body = format!(
            "{{\"name\":\"{kind}-{stream}\",\"type\":\"{kind}\",\"stream\":\"{stream}\",\"attributes\":{attributes}}}"
        );
        self.post(&format!("/proxies/{proxy}/toxics"), &body);
    }

    /// Sends new connections to another loopback port, and ends the old ones.
    pub fn redirect(&self, proxy: &str, upstream: u16) {
        let body = format!("{{\"enabled\":true,\"upstream\":\"127.0.0.1:{upstream}\"}}");
        self.post(&format!("/proxies/{proxy}"), &body);
    }

    /// Switches a proxy off (connections refused) or on.
    pub fn enabled(&self, proxy: &str, on: bool) {
        self.post(
            &format!("/proxies/{proxy}"),
            &format!("{{\"enabled\":{on}}}"),
        );
    }

    /// Takes every toxic away and switches every proxy on.
    pub fn heal(&self) {
        self.post("/reset", "");
    }

    fn post(&self, path: &str, body: &str) {
        let answer = http("POST", self.api, path, body).expect("toxiproxy answers");
        assert!(
            answer.status < 300,
            "{path}: {} {}",
            answer.status,
            answer.body
        );
    }
}
