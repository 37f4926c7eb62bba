//! Alibaba's `ACS3-HMAC-SHA256`: the signature of a request to its services. Pure: the moment and the nonce are arguments. Written
//! from the public description "Request syntax and signature method V3"; the tests hold it to the example published there.

use std::collections::BTreeMap;

use ring::{digest, hmac};

/// What is signed of a request to the root of a service.
pub(super) struct Request<'a> {
    pub method: &'a str,
    /// The canonical query: sorted, percent-encoded.
    pub query: &'a str,
    /// `host`, `content-type` and every header whose name begins with `x-acs-`; names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// SHA-256 of the body, hexadecimal; also sent as `x-acs-content-sha256`.
    pub body_sha256: &'a str,
}

/// SHA-256, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// The value of the `Authorization` header.
pub(super) fn authorization(request: &Request<'_>, key_id: &str, key_secret: &str) -> String {
    let names: Vec<&str> = request.headers.keys().map(String::as_str).collect();
    let names = names.join(";");
    let headers: String = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let canonical = format!(
        "{}\n/\n{}\n{headers}\n{names}\n{}",
        request.method, request.query, request.body_sha256
    );
    let text = format!("ACS3-HMAC-SHA256\n{}", sha256(canonical.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, key_secret.as_bytes());
    let signature = hex::encode(hmac::sign(&key, text.as_bytes()));
    format!("ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_is_met() {
        let empty = sha256(b"");
        let headers = [
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let request = Request {
            method: "POST",
            query: "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
            headers: &headers,
            body_sha256: &empty,
        };
        let signed = authorization(&request, "YourAccessKeyId", "YourAccessKeySecret");
        assert_eq!(
            signed,
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
    }
}
