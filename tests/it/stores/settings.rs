//! What a location asks of a store beside the bytes: headers that are really sent, and only where they belong.

use std::sync::Arc;

use etcdguardian::repository::{Repository, SilentObserver};
use serde_json::json;

use super::{Place, bytes, manifest, oss_of, put};
use crate::support::{
    OssGate, Pki, Process, Versitygw, block_on, free_port, guardian_command, location,
};

/// A server that writes down what it is asked and says yes.
struct Recorder {
    server: wiremock::MockServer,
}

impl Recorder {
    async fn start() -> Self {
        use wiremock::matchers::{method, path_regex, query_param};
        use wiremock::{Mock, MockServer, ResponseTemplate};
        let server = MockServer::start().await;
        let upload = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
        let ended =
            "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
        Mock::given(method("HEAD"))
            .respond_with(ResponseTemplate::new(404))
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .and(query_param("uploadId", "u1"))
            .respond_with(ResponseTemplate::new(200).set_body_string(ended))
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .and(path_regex("snapshot"))
            .respond_with(ResponseTemplate::new(200).set_body_string(upload))
            .mount(&server)
            .await;
        Mock::given(method("PUT"))
            .respond_with(ResponseTemplate::new(200).insert_header("ETag", "\"e\""))
            .mount(&server)
            .await;
        Self { server }
    }

    /// Stores one small and one large object; gives the headers of what created them, and of a part.
    async fn store(&self, extra: serde_json::Value) -> Vec<(String, String)> {
        let mut wanted = json!({
            "provider": "S3", "bucket": "b", "region": "eu-central-1", "addressing": "Path",
            "endpoint": self.server.uri(), "credentialsSecret": "store",
        });
        for (name, value) in extra.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        let keys = [("access-key-id", "id"), ("secret-access-key", "secret")];
        let place = Place::new("S3", location(wanted), &keys, Box::new(()));
        let repository = place.open().await.unwrap();
        for size in [10, 9 << 20] {
            let body = bytes(size);
            let key = manifest(&format!("s{size}"), 1, &body).data_key;
            let mut reader = body.as_slice();
            repository
                .store_stream(&key, size as u64, "test", &mut reader, &|_| {})
                .await
                .unwrap();
        }
        let asked = self.server.received_requests().await.unwrap();
        asked
            .iter()
            .map(|request| {
                let query = request.url.query().unwrap_or_default();
                let what = match request.method.as_str() {
                    "PUT" if query.contains("partNumber") => "part",
                    "PUT" => "put",
                    "POST" if query.contains("uploads") => "begin",
                    other => other,
                };
                let headers: Vec<String> = request
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()))
                    .collect();
                (what.to_owned(), headers.join("\n"))
            })
            .collect()
    }
}

fn of<'a>(asked: &'a [(String, String)], what: &str) -> Vec<&'a str> {
    let found: Vec<&str> = asked
        .iter()
        .filter(|(kind, _)| kind == what)
        .map(|(_, headers)| headers.as_str())
        .collect();
    assert!(!found.is_empty(), "{what}: {asked:?}");
    found
}

#[test]
fn encryption_class_and_lock_are_asked_for_and_signed() {
    block_on(async {
        let recorder = Recorder::start().await;
        let asked = recorder
            .store(json!({
                "serverSideEncryption": {"type": "KMS", "kmsKeyID": "arn:aws:kms:eu-central-1:1:key/a"},
                "objectLock": {"mode": "Compliance", "retain": "30d"},
                "storageClass": "STANDARD_IA",
            }))
            .await;
        for what in ["put", "begin"] {
            for headers in of(&asked, what) {
                for expected in [
                    "x-amz-server-side-encryption: aws:kms",
                    "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-central-1:1:key/a",
                    "x-amz-storage-class: STANDARD_IA",
                    "x-amz-object-lock-mode: COMPLIANCE",
                    "x-amz-object-lock-retain-until-date: 20",
                ] {
                    assert!(headers.contains(expected), "{what}: {expected}: {headers}");
                }
                // A header that is sent and not signed is refused by S3.
                let signed = headers
                    .lines()
                    .find_map(|line| line.split_once("SignedHeaders="))
                    .unwrap()
                    .1;
                for name in [
                    "object-lock-mode",
                    "object-lock-retain-until-date",
                    "storage-class",
                ] {
                    assert!(signed.contains(name), "{name}: {signed}");
                }
            }
        }
        // S3 takes a lock only with a checksum.
        for headers in of(&asked, "put") {
            assert!(headers.contains("x-amz-checksum-sha256"), "{headers}");
        }
        for headers in of(&asked, "part") {
            assert!(!headers.contains("object-lock"), "{headers}");
        }
    });
}

#[test]
fn no_checksum_is_sent_where_none_is_needed() {
    block_on(async {
        let recorder = Recorder::start().await;
        let asked = recorder
            .store(json!({"serverSideEncryption": {"type": "AES256"}}))
            .await;
        for headers in of(&asked, "put") {
            assert!(headers.contains("x-amz-server-side-encryption: AES256"));
        }
        // Ceph, B2 and OSS refuse the newer checksums and the chunked form.
        for (what, headers) in &asked {
            for word in [
                "x-amz-checksum",
                "x-amz-sdk-checksum",
                "aws-chunked",
                "trailer",
            ] {
                assert!(!headers.contains(word), "{what}: {headers}");
            }
        }
    });
}

#[test]
fn a_locked_object_cannot_be_deleted_before_its_time() {
    let server = Versitygw::start(&[]);
    let keys = [("access-key-id", "vgw"), ("secret-access-key", "vgwsecret")];
    let wanted = json!({
        "provider": "S3", "bucket": "locked", "region": "us-east-1", "addressing": "Path",
        "endpoint": server.url, "credentialsSecret": "store",
        "objectLock": {"mode": "Compliance", "retain": "1d"},
    });
    let place = Place::new("S3", location(wanted), &keys, Box::new(()));
    block_on(async {
        create_locked_bucket(&server, "locked").await;
        let repository = place.open().await.unwrap();
        let small = put(&repository, "small", 1, b"kept").await.unwrap();
        let large = put(&repository, "large", 2, &bytes((8 << 20) + 1))
            .await
            .unwrap();
        for made in [&small, &large] {
            let locked = server_says(&server, "GET", "locked", &made.data_key, "retention=").await;
            assert!(locked.1.contains("COMPLIANCE"), "{locked:?}");
        }
        // A trial of the store stays no longer than the trial.
        assert!(repository.probe().await.unwrap().create_only);
    });
}

/// One signed request to versitygw.
async fn server_says(
    server: &Versitygw,
    method: &str,
    bucket: &str,
    key: &str,
    query: &str,
) -> (u16, String) {
    signed(server, method, &format!("{bucket}/{key}?{query}"), &[]).await
}

pub async fn create_locked_bucket(server: &Versitygw, bucket: &str) {
    let headers = [("x-amz-bucket-object-lock-enabled", "true")];
    let made = signed(server, "PUT", bucket, &headers).await;
    assert_eq!(made.0, 200, "{}", made.1);
}

async fn signed(
    server: &Versitygw,
    method: &str,
    path: &str,
    extra: &[(&'static str, &'static str)],
) -> (u16, String) {
    use object_store::aws::{AwsAuthorizer, AwsCredential};
    use object_store::client::{HttpRequest, HttpRequestBody};
    etcdguardian::init_tls();
    let credential = AwsCredential {
        key_id: "vgw".to_owned(),
        secret_key: "vgwsecret".to_owned(),
        token: None,
    };
    let url = format!("{}/{path}", server.url);
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = url.parse().unwrap();
    for (name, value) in extra {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    AwsAuthorizer::new(&credential, "s3", "us-east-1")
        .try_authorize(&mut request, None)
        .unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = client
        .request(request.method().clone(), &url)
        .headers(request.headers().clone())
        .send()
        .await
        .unwrap();
    (sent.status().as_u16(), sent.text().await.unwrap())
}

#[test]
fn oss_is_asked_only_for_what_it_documents() {
    let gate = OssGate::start(&["backups"]);
    let mut place = oss_of(gate);
    let mut wanted = serde_json::to_value(&place.location).unwrap();
    wanted["serverSideEncryption"] = json!({"type": "KMS", "kmsKeyID": "k-1"});
    wanted["storageClass"] = json!("IA");
    place.location = location(wanted);
    block_on(async {
        let repository = place.open().await.unwrap();
        put(&repository, "small", 1, b"x").await.unwrap();
        put(&repository, "large", 2, &bytes((8 << 20) + 1))
            .await
            .unwrap();
    });
    let gate: &OssGate = place.server();
    let asked = gate.requests();
    let native: Vec<_> = asked
        .iter()
        .filter(|request| request["host"] == "backups.oss-cn-test.aliyuncs.com")
        .collect();
    // Both manifests and the small object; the large one goes in parts, which nothing can make create-only.
    assert_eq!(native.len(), 3, "{native:?}");
    for request in native {
        let headers = &request["headers"];
        assert_eq!(headers["x-oss-forbid-overwrite"], "true");
        assert_eq!(headers["x-oss-server-side-encryption"], "KMS");
        assert_eq!(headers["x-oss-server-side-encryption-key-id"], "k-1");
        assert_eq!(headers["x-oss-storage-class"], "IA");
    }
    for request in &asked {
        let host = request["host"].as_str().unwrap();
        assert!(host.starts_with("backups."), "path addressing: {request}");
        let headers = request["headers"].as_object().unwrap();
        let foreign = headers
            .keys()
            .find(|name| name.starts_with("x-amz-checksum") || *name == "if-none-match");
        assert_eq!(foreign, None, "{request}");
    }
}

#[test]
fn a_private_authority_is_believed_when_the_secret_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::create(&folder.path().join("pki"));
    let data = folder.path().join("data/backups");
    std::fs::create_dir_all(&data).unwrap();
    let port = free_port();
    let mut server = Process::start(
        "versitygw",
        std::process::Command::new(crate::support::tool("versitygw"))
            .args(["--port", &format!("127.0.0.1:{port}"), "--quiet"])
            .args(["--access", "vgw", "--secret", "vgwsecret"])
            .arg("--cert")
            .arg(&pki.server_cert)
            .arg("--key")
            .arg(&pki.server_key)
            .arg("posix")
            .arg(folder.path().join("data")),
        &folder.path().join("versitygw.log"),
    );
    server.wait_ready(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let wanted = json!({
        "provider": "S3", "bucket": "backups", "region": "us-east-1", "addressing": "Path",
        "endpoint": format!("https://127.0.0.1:{port}"), "credentialsSecret": "store",
    });
    let authority = std::fs::read_to_string(&pki.ca).unwrap();
    let keys = [
        ("access-key-id", "vgw"),
        ("secret-access-key", "vgwsecret"),
        ("ca.crt", authority.as_str()),
    ];
    let place = Place::new("S3", location(wanted), &keys, Box::new(folder));
    block_on(async {
        let repository = place.open().await.unwrap();
        put(&repository, "x", 1, b"x").await.unwrap();
        place.write(&[("ca.crt", "nonsense")]);
        let broken = place.open().await.err().unwrap().to_string();
        assert!(broken.contains("ca.crt"), "{broken}");
    });
}

#[test]
fn a_store_that_ignores_conditions_is_found_out() {
    block_on(async {
        let store = Arc::new(super::faults::Careless::default());
        let place = super::directory();
        let repository = Repository::over(store, &place.location, Arc::new(SilentObserver));
        assert!(!repository.probe().await.unwrap().create_only);
    });
}

#[test]
fn without_an_endpoint_of_its_own_a_bucket_is_sought_where_the_environment_says() {
    let server = Versitygw::start(&["backups"]);
    let output = guardian_command()
        .envs([
            ("AWS_ENDPOINT_URL", server.url.as_str()),
            ("AWS_ACCESS_KEY_ID", "vgw"),
            ("AWS_SECRET_ACCESS_KEY", "vgwsecret"),
        ])
        .args(["backup", "list", "--from", "s3://backups/p"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("holds no backup yet"), "{said}");
}
