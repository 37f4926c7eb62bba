//! What a store says no with, and what it says nothing with: another region, a token that ends in mid-upload, a connection that is
//! half open.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcdguardian::api::ErrorClass;
use etcdguardian::repository::RepositoryError;
use serde_json::json;
use wiremock::matchers::{method, query_param, query_param_contains};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Place, bytes, put};
use crate::support::{Toxiproxy, Versitygw, block_on, guardian_command, location};

fn at(server: &MockServer) -> Place {
    let wanted = json!({
        "provider": "S3", "bucket": "backups", "region": "us-east-1", "addressing": "Path",
        "endpoint": server.uri(), "credentialsSecret": "store",
    });
    let keys = [
        ("access-key-id", "temporary"),
        ("secret-access-key", "secret"),
        ("session-token", "of-an-hour"),
    ];
    Place::new("S3", location(wanted), &keys, Box::new(()))
}

fn refusal(status: u16, code: &str, more: &str) -> ResponseTemplate {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code>{more}</Error>");
    ResponseTemplate::new(status).set_body_raw(body, "application/xml")
}

#[test]
fn a_bucket_of_another_region_is_named_with_its_region() {
    let malformed = "<Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region>";
    for (answer, named) in [
        (refusal(301, "PermanentRedirect", ""), None),
        (
            refusal(400, "AuthorizationHeaderMalformed", malformed),
            Some("eu-central-1"),
        ),
    ] {
        block_on(async {
            let server = MockServer::start().await;
            Mock::given(wiremock::matchers::any())
                .respond_with(answer)
                .mount(&server)
                .await;
            let repository = at(&server).open().await.unwrap();
            let error = repository.catalog(None).await.unwrap_err();
            let RepositoryError::Region { region, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(region.as_deref(), named);
            assert_eq!(error.class(), ErrorClass::Usage);
            assert!(error.to_string().contains("correct the region"), "{error}");
        });
    }
}

#[test]
fn a_server_of_another_region_is_named_with_its_region() {
    let flags = ["--region", "eu-central-1"];
    let server = Versitygw::start_as(&["backups"], "vgw", "vgwsecret", &flags);
    let of_region = |region: &str| {
        let wanted = json!({
            "provider": "S3", "bucket": "backups", "region": region, "addressing": "Path",
            "endpoint": server.url, "credentialsSecret": "store",
        });
        let keys = [("access-key-id", "vgw"), ("secret-access-key", "vgwsecret")];
        Place::new("S3", location(wanted), &keys, Box::new(()))
    };
    block_on(async {
        let wrong = of_region("us-east-1").open().await.unwrap();
        for error in [
            wrong.catalog(None).await.unwrap_err(),
            put(&wrong, "x", 1, b"x").await.unwrap_err(),
        ] {
            let RepositoryError::Region { region, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(region.as_deref(), Some("eu-central-1"));
        }
        let right = of_region("eu-central-1").open().await.unwrap();
        put(&right, "x", 1, b"x").await.unwrap();
    });
}

#[test]
fn a_store_that_names_a_pause_gets_it() {
    block_on(async {
        let server = MockServer::start().await;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        Mock::given(method("GET"))
            .respond_with(move |_: &wiremock::Request| {
                let mut seen = seen.lock().unwrap();
                seen.push(Instant::now());
                if seen.len() == 1 {
                    return refusal(503, "SlowDown", "").insert_header("Retry-After", "3");
                }
                let none = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
                ResponseTemplate::new(200).set_body_raw(none, "application/xml")
            })
            .mount(&server)
            .await;
        let repository = at(&server).open().await.unwrap();
        let catalog = repository.catalog(None).await.unwrap();
        assert!(catalog.backups.is_empty());
        let asked = asked.lock().unwrap();
        // By itself it would come back after some tenths of a second.
        assert!(asked[1] - asked[0] >= Duration::from_secs(3), "{asked:?}");
    });
}

#[test]
fn a_token_that_ends_in_mid_upload_is_wrong_credentials_and_the_upload_is_aborted() {
    block_on(async {
        let server = MockServer::start().await;
        let begun = "<InitiateMultipartUploadResult><Bucket>backups</Bucket><Key>k</Key><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
        Mock::given(method("POST"))
            .and(query_param_contains("uploads", ""))
            .respond_with(ResponseTemplate::new(200).set_body_raw(begun, "application/xml"))
            .mount(&server)
            .await;
        Mock::given(method("PUT"))
            .and(query_param("partNumber", "1"))
            .respond_with(ResponseTemplate::new(200).insert_header("etag", "\"1\""))
            .mount(&server)
            .await;
        Mock::given(method("PUT"))
            .respond_with(refusal(
                400,
                "ExpiredToken",
                "<Message>The provided token has expired.</Message>",
            ))
            .mount(&server)
            .await;
        Mock::given(method("DELETE"))
            .respond_with(ResponseTemplate::new(204))
            .mount(&server)
            .await;
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(404))
            .mount(&server)
            .await;
        let repository = at(&server).open().await.unwrap();
        let error = put(&repository, "x", 1, &bytes(40 << 20))
            .await
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Credentials, "{error:?}");
        assert_eq!(error.class().exit_code(), 12);
        let requests = server.received_requests().await.unwrap();
        let aborted = requests.iter().any(|request| {
            let query = request.url.query().unwrap_or_default();
            request.method.as_str() == "DELETE" && query.contains("uploadId=u1")
        });
        assert!(aborted, "the upload is aborted");
        let words = format!("{error:?} {error}");
        assert!(!words.contains("of-an-hour"), "{words}");
    });
}

#[test]
fn a_store_that_says_nothing_is_given_up_and_works_again_afterwards() {
    let store = Versitygw::start(&["backups"]);
    let toxiproxy = Toxiproxy::start();
    let port = toxiproxy.proxy("s3", store.port);
    let url =
        format!("s3://backups?region=us-east-1&addressing=Path&endpoint=http://127.0.0.1:{port}");
    let list = || {
        let mut command = guardian_command();
        command
            .args(["backup", "list", "--from", &url])
            .env("AWS_ACCESS_KEY_ID", "vgw")
            .env("AWS_SECRET_ACCESS_KEY", "vgwsecret")
            .env("NO_PROXY", "127.0.0.1")
            .env("ETCDGUARDIAN_STORE_SILENCE", "1s");
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), words)
    };
    let (code, words) = list();
    assert_eq!(code, Some(0), "{words}");
    // Connections are taken, and nothing ever comes back.
    toxiproxy.toxic("s3", "timeout", r#"{"timeout":0}"#);
    let (code, words) = list();
    assert_eq!(code, Some(10), "{words}");
    assert!(words.contains("check the endpoint"), "{words}");
    toxiproxy.heal();
    let (code, words) = list();
    assert_eq!(code, Some(0), "{words}");
}
