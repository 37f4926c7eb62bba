//! Who may see the page: whoever knows the token, as a bearer token or as the password of basic authentication.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

/// The file with the token; none when everybody may look.
pub type TokenFile = Option<Arc<PathBuf>>;

/// Lets a request through that brings the token. The file is read anew each time: a rotated token needs no restart, and
/// one that cannot be read opens nothing.
pub async fn guard(State(file): State<TokenFile>, request: Request, next: Next) -> Response {
    let Some(file) = file else {
        return next.run(request).await;
    };
    let token = match tokio::fs::read_to_string(file.as_path()).await {
        Ok(token) if !token.trim().is_empty() => token,
        outcome => {
            let error = outcome.err().map(|error| error.to_string());
            tracing::error!(file = %file.display(), error, "the file of serve.tokenFile holds no token: nobody is let in");
            let words = "the token file cannot be read: see the log\n";
            return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
        }
    };
    if is_known(request.headers(), token.trim()) {
        return next.run(request).await;
    }
    let mut refused = (
        StatusCode::UNAUTHORIZED,
        "say the token of serve.tokenFile, as a bearer token or as the password\n",
    )
        .into_response();
    refused.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"etcdguardian\", charset=\"UTF-8\""),
    );
    refused
}

fn is_known(headers: &HeaderMap, token: &str) -> bool {
    let Some((scheme, said)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.trim().split_once(' '))
    else {
        return false;
    };
    let said = said.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return same(said.as_bytes(), token);
    }
    scheme.eq_ignore_ascii_case("basic")
        && STANDARD.decode(said).is_ok_and(|pair| {
            let colon = pair.iter().position(|byte| *byte == b':');
            // The name before the colon does not matter.
            let password = colon.and_then(|at| pair.get(at + 1..));
            password.is_some_and(|password| same(password, token))
        })
}

/// Compared by digest: how long it takes says nothing about the token.
fn same(said: &[u8], token: &str) -> bool {
    digest(&SHA256, said).as_ref() == digest(&SHA256, token.as_bytes()).as_ref()
}
