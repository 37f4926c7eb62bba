//! More servers that speak S3: MinIO, which encrypts, locks and gives keys for an hour; and one that ignores the conditions of a write.

use std::process::{Command, Output};

use tempfile::TempDir;

use super::{Process, block_on, free_port, http, tool, until};

/// MinIO. Access key `guardian`, secret `guardiansecret`, region `us-east-1`, path-style; encrypts with its own key `store-key`.
pub struct Minio {
    /// Its URL.
    pub url: String,
    /// Its port, for a proxy in front.
    pub port: u16,
    data: std::path::PathBuf,
    _process: Process,
    _scratch: TempDir,
}

impl Minio {
    /// Starts one that holds these empty buckets.
    pub fn start(buckets: &[&str]) -> Self {
        Self::launch(buckets, None)
    }

    /// Starts one that believes the tokens of this issuer.
    pub fn start_believing(buckets: &[&str], issuer: &Issuer) -> Self {
        Self::launch(buckets, Some(issuer))
    }

    fn launch(buckets: &[&str], issuer: Option<&Issuer>) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let data = scratch.path().join("data");
        for bucket in buckets {
            std::fs::create_dir_all(data.join(bucket)).expect("create a bucket");
        }
        let port = free_port();
        let mut command = Command::new(tool("minio"));
        command
            .env("MINIO_ROOT_USER", "guardian")
            .env("MINIO_ROOT_PASSWORD", "guardiansecret")
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env(
                "MINIO_KMS_SECRET_KEY",
                "store-key:Z3VhcmRpYW4gZ3VhcmRpYW4gZ3VhcmRpYW4gZ3VhcmQ=",
            )
            .args(["server", "--address", &format!("127.0.0.1:{port}")])
            .arg(&data);
        if let Some(issuer) = issuer {
            let discovery = format!("{}/.well-known/openid-configuration", issuer.url());
            command
                .env("MINIO_IDENTITY_OPENID_CONFIG_URL", discovery)
                .env("MINIO_IDENTITY_OPENID_CLIENT_ID", "sts.amazonaws.com")
                .env("MINIO_IDENTITY_OPENID_CLAIM_NAME", "policy");
        }
        let log = scratch.path().join("minio.log");
        let mut process = Process::start("minio", &mut command, &log);
        process.wait_ready(|| {
            // It says that it is ready a little before it answers who asks for buckets.
            let answer = http("GET", port, "/minio/health/ready", "");
            let url = format!("http://127.0.0.1:{port}/");
            answer.is_some_and(|answer| answer.status == 200)
                && ask(OWN_KEYS, &[], &url).status.success()
        });
        Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            data,
            _process: process,
            _scratch: scratch,
        }
    }

    /// The folder of its buckets; objects are folders there.
    pub fn data(&self) -> &std::path::Path {
        &self.data
    }

    /// Sends one request by curl, signed with the server's own keys: `&["-X", "PUT"], "/bucket?versioning"`. Gives what it prints.
    pub fn curl(&self, words: &[&str], path: &str) -> Vec<u8> {
        curl(OWN_KEYS, words, &format!("{}{path}", self.url))
    }

    /// Has a token changed for keys that live as long as it: id, secret, session token.
    pub fn session(&self, token: &str) -> [String; 3] {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("WebIdentityToken", token)
            .finish();
        let url = format!("{}/?{form}", self.url);
        // It serves a little earlier than it knows whom it believes.
        until("minio gives keys", || {
            let asked = block_on(async {
                etcdguardian::init_tls();
                let client = reqwest::Client::builder().no_proxy().build();
                let answer = client.expect("a client").post(&url).send().await.ok()?;
                answer.text().await.ok()
            });
            let answer = asked?;
            let value = |name: &str| {
                let (_, rest) = answer.split_once(&format!("<{name}>"))?;
                rest.split('<').next().map(str::to_owned)
            };
            Some([
                value("AccessKeyId")?,
                value("SecretAccessKey")?,
                value("SessionToken")?,
            ])
        })
    }
}

/// MinIO's own keys.
const OWN_KEYS: &str = "guardian:guardiansecret";

/// Sends one request by curl, signed for S3 with the keys `id:secret`; gives what it prints.
pub fn curl(keys: &str, words: &[&str], url: &str) -> Vec<u8> {
    let output = ask(keys, words, url);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{url}: {said}");
    output.stdout
}

fn ask(keys: &str, words: &[&str], url: &str) -> Output {
    Command::new("curl")
        .args(["-sSf", "--noproxy", "*", "--user", keys])
        .args(["--aws-sigv4", "aws:amz:us-east-1:s3"])
        // Newer curls say of S3 by themselves that the content is not signed.
        .args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
        .args(words)
        .arg(url)
        .output()
        .expect("run curl")
}

/// Who gives tokens, as a cluster's API server does for its pods: its keys are published where their readers look for them.
pub struct Issuer {
    server: wiremock::MockServer,
    key: ring::signature::EcdsaKeyPair,
    random: ring::rand::SystemRandom,
}

impl Issuer {
    /// Starts one.
    pub async fn start() -> Self {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
        use wiremock::matchers::path;
        use wiremock::{Mock, MockServer, ResponseTemplate};
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key is made");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).expect("a key");
        let public = key.public_key().as_ref();
        let [x, y] = [&public[1..33], &public[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let server = MockServer::start().await;
        let url = server.uri();
        for (place, says) in [
            (
                "/.well-known/openid-configuration",
                serde_json::json!({"issuer": url, "jwks_uri": format!("{url}/keys"), "token_endpoint": format!("{url}/token")}),
            ),
            (
                "/keys",
                serde_json::json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig", "x": x, "y": y}]}),
            ),
        ] {
            let answer = ResponseTemplate::new(200).set_body_json(says);
            let mock = Mock::given(path(place)).respond_with(answer);
            mock.mount(&server).await;
        }
        Self {
            server,
            key,
            random,
        }
    }

    fn url(&self) -> String {
        self.server.uri()
    }

    /// A token for somebody who may write, that ends in so many seconds.
    pub fn token(&self, seconds: i64) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let now = jiff::Timestamp::now().as_second();
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let head = part(serde_json::json!({"alg": "ES256", "kid": "1", "typ": "JWT"}));
        let claims = part(serde_json::json!({
            "iss": self.url(), "aud": "sts.amazonaws.com", "sub": "system:serviceaccount:ns:name",
            "iat": now, "exp": now + seconds, "policy": "readwrite",
        }));
        let signed = format!("{head}.{claims}");
        let signature = self.key.sign(&self.random, signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("a signature").as_ref());
        format!("{signed}.{signature}")
    }
}

/// s3rver, which takes the conditions of a write and ignores them. Access key and secret `S3RVER`, path-style, bucket `backups`.
pub struct S3rver {
    /// Its URL.
    pub url: String,
    _process: Process,
    _scratch: TempDir,
}

impl S3rver {
    /// Starts one.
    pub fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let port = free_port();
        let mut command = Command::new(tool("s3rver"));
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "--silent"])
            .args(["--no-vhost-buckets", "--configure-bucket", "backups"])
            .arg("-d")
            .arg(scratch.path());
        let log = scratch.path().join("s3rver.log");
        let process = Process::start("s3rver", &mut command, &log);
        until("s3rver listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            url: format!("http://127.0.0.1:{port}"),
            _process: process,
            _scratch: scratch,
        }
    }
}
