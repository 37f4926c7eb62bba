//! Alibaba's `OSS4-HMAC-SHA256`: the signature of a native OSS request. Pure: the moment is an argument. Written from the
//! public description of "Signature Version 4" of OSS; the tests hold it to a published vector.

use std::collections::BTreeMap;

use ring::{digest, hmac};

/// What is signed of a request.
pub(super) struct Native<'a> {
    pub method: &'a str,
    /// `/bucket/key`, percent-encoded but for its slashes.
    pub resource: &'a str,
    /// The query, each name and value percent-encoded.
    pub query: Vec<(String, String)>,
    /// The headers whose names begin with `x-oss-`, and `content-type` and `content-md5` where sent; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As `cn-hangzhou`.
    pub region: &'a str,
    /// As `20231216T162057Z`; also sent as `x-oss-date`.
    pub moment: &'a str,
}

/// The value of the `Authorization` header.
pub(super) fn authorization(request: &Native<'_>, key_id: &str, key_secret: &str) -> String {
    let mut query = request.query.clone();
    query.sort();
    let query: Vec<String> = query
        .into_iter()
        .map(|(name, value)| {
            if value.is_empty() {
                name
            } else {
                format!("{name}={value}")
            }
        })
        .collect();
    let headers: String = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n\nUNSIGNED-PAYLOAD",
        request.method,
        request.resource,
        query.join("&"),
    );
    let day = request.moment.split('T').next().unwrap_or_default();
    let scope = format!("{day}/{}/oss/aliyun_v4_request", request.region);
    let hash = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
    let text = format!("OSS4-HMAC-SHA256\n{}\n{scope}\n{hash}", request.moment);
    let mut key = format!("aliyun_v4{key_secret}").into_bytes();
    for part in [day, request.region, "oss", "aliyun_v4_request"] {
        key = mac(&key, part);
    }
    let signature = hex::encode(mac(&key, &text));
    format!("OSS4-HMAC-SHA256 Credential={key_id}/{scope},Signature={signature}")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the tests of Alibaba's own SDK for Go, version 2.
    #[test]
    fn the_published_vector_is_met() {
        let pairs = [
            ("param1", "value1"),
            ("%2Bparam1", "value3"),
            ("%7Cparam1", "value4"),
            ("%2Bparam2", ""),
            ("%7Cparam2", ""),
            ("param2", ""),
        ];
        let headers = [
            ("content-type", "text/plain"),
            ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
            ("x-oss-date", "20231216T162057Z"),
            ("x-oss-head1", "value"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let request = Native {
            method: "PUT",
            resource: "/bucket/1234%2B-/123/1.txt",
            query: pairs.into_iter().map(own).collect(),
            headers: headers.into_iter().map(own).collect(),
            region: "cn-hangzhou",
            moment: "20231216T162057Z",
        };
        assert_eq!(
            authorization(&request, "ak", "sk"),
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
        );
    }
}
