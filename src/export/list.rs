//! One kind, listed in pages through the Kubernetes API into a spool: at the pinned resourceVersion where the server allows it, as fast
//! as the server's priority and fairness lets us, anew when the pages expire on the way.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams, VersionMatch};
use kube::core::{Request, Resource};
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::SpooledTempFile;

use super::ExportError;
use crate::cause::with_causes;
use crate::repository::retry_after;

/// Objects of a page.
const PAGE: u32 = 500;
/// Kinds of larger JSON are kept in a file until they are written, bytes; times the kinds that are listed at once.
const IN_MEMORY: usize = 1 << 20;
/// A list whose pages expire is begun anew this often.
const RESTARTS: u32 = 3;
/// A busy server is asked again this often, with the pauses that it names, else with doubling ones.
const PATIENCE: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A resource of the server.
#[derive(Debug, Clone)]
pub struct Kind {
    /// What it is and where it is served.
    pub resource: ApiResource,
    /// Whether its objects have namespaces.
    pub namespaced: bool,
    /// Whether it can be listed.
    pub listable: bool,
}

/// How a kind was listed.
pub enum Listed {
    /// These objects are in the spool.
    Whole {
        /// The objects.
        spool: Spool,
        /// Whether all of them are as of the pinned version.
        pinned: bool,
    },
    /// It cannot be listed, and why.
    Skipped(String),
}

/// A page as the server sends it: the objects stay what they are.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Where the list stands.
    #[serde(default)]
    pub metadata: PageMeta,
    #[serde(default)]
    items: Vec<Map<String, Value>>,
}

/// Where a list stands.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PageMeta {
    /// The version that it is of.
    pub resource_version: String,
    /// The rest of it.
    #[serde(rename = "continue")]
    pub token: String,
}

/// Lists a kind: of the whole cluster, or of these namespaces alone, which are all that is ever asked for then.
///
/// # Errors
/// When the server cannot be reached, or the spool cannot be written.
pub async fn list(
    client: &Client,
    kind: &Kind,
    namespaces: &[String],
    pin: &str,
    scratch: Option<&Path>,
) -> Result<Listed, ExportError> {
    let mut spool = Spool::new(scratch);
    let mut pinned = true;
    if namespaces.is_empty() {
        match part(client, kind, None, None, pin, &mut spool).await? {
            Ok(at_pin) => pinned = at_pin,
            Err(reason) => return Ok(Listed::Skipped(reason)),
        }
        return Ok(Listed::Whole { spool, pinned });
    }
    for namespace in namespaces {
        let (place, named) = match kind.namespaced {
            true => (Some(namespace.as_str()), None),
            // The namespaces themselves.
            false => (None, Some(namespace.as_str())),
        };
        match part(client, kind, place, named, pin, &mut spool).await? {
            Ok(at_pin) => pinned &= at_pin,
            Err(reason) => return Ok(Listed::Skipped(reason)),
        }
    }
    Ok(Listed::Whole { spool, pinned })
}

/// One list, to its last page; whether it is as of the pin, or why it cannot be had.
async fn part(
    client: &Client,
    kind: &Kind,
    namespace: Option<&str>,
    name: Option<&str>,
    pin: &str,
    spool: &mut Spool,
) -> Result<Result<bool, String>, ExportError> {
    let written = |source| ExportError::Bundle {
        action: "write",
        source,
    };
    let begun = spool.end;
    let mut pinned = !pin.is_empty();
    let mut restarts = 0;
    loop {
        spool.cut(begun).map_err(written)?;
        let mut token = String::new();
        let failed = loop {
            let mut params = ListParams::default().limit(PAGE);
            if let Some(name) = name {
                params = params.fields(&format!("metadata.name={name}"));
            }
            if !token.is_empty() {
                params = params.continue_token(&token);
            } else if pinned {
                params = params.at(pin).matching(VersionMatch::Exact);
            }
            let page = match page(client, &kind.resource, namespace, &params).await {
                Ok(page) => page,
                Err(error) => break error,
            };
            for object in page.items {
                spool.add(&kind.resource, object).map_err(written)?;
            }
            token = page.metadata.token;
            if token.is_empty() {
                return Ok(Ok(pinned));
            }
        };
        match failed {
            kube::Error::Api(status) if status.is_forbidden() => {
                return Ok(Err(format!("not allowed: {}", status.message)));
            }
            kube::Error::Api(status) if [404, 405].contains(&status.code) => {
                return Ok(Err(format!("not listable: {}", status.message)));
            }
            // The pinned version is too old, too new for this server's cache, or of another store.
            kube::Error::Api(status) if pinned && [400, 410, 504].contains(&status.code) => {
                pinned = false;
            }
            kube::Error::Api(status) if status.code == 410 && restarts < RESTARTS => {
                restarts += 1;
            }
            error => {
                let words = format!("list {}", kind.resource.kind);
                return Err(ExportError::server(words)(error));
            }
        }
    }
}

/// One page; a server that is busy is asked again after the time that it names.
///
/// # Errors
/// What the server says, or why it does not.
pub async fn page(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    params: &ListParams,
) -> Result<Page, kube::Error> {
    let path = DynamicObject::url_path(resource, namespace);
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    loop {
        let request = Request::new(&path)
            .list(params)
            .map_err(kube::Error::BuildRequest)?;
        let answer = client.send(request.map(kube::client::Body::from)).await?;
        let (code, named) = (answer.status().as_u16(), retry_after(answer.headers()));
        let body = answer.into_body().collect_bytes().await?;
        if (200..300).contains(&code) {
            return serde_json::from_slice(&body).map_err(kube::Error::SerdeError);
        }
        tries += 1;
        if ![429, 500, 503].contains(&code) || tries > PATIENCE {
            return Err(refusal(code, &body));
        }
        let wait = named.unwrap_or(pause).min(LONGEST_PAUSE);
        tracing::debug!(code, pause = ?wait, kind = resource.kind, "the server is busy");
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A refusal, in the server's words where it has some.
fn refusal(code: u16, body: &[u8]) -> kube::Error {
    let status = serde_json::from_slice(body).unwrap_or_else(|error| {
        let words = String::from_utf8_lossy(body);
        tracing::debug!("an answer that is no Status: {}", with_causes(&error));
        kube::core::Status::failure(words.trim(), "Failed").with_code(code)
    });
    kube::Error::Api(Box::new(status))
}

/// The objects of a kind on their way, in a file when there are many.
pub struct Spool {
    file: SpooledTempFile,
    /// Bytes in it.
    end: u64,
}

impl Spool {
    pub(super) fn new(scratch: Option<&Path>) -> Self {
        let file = match scratch {
            Some(folder) => tempfile::spooled_tempfile_in(IN_MEMORY, folder),
            None => tempfile::spooled_tempfile(IN_MEMORY),
        };
        Self { file, end: 0 }
    }

    /// Takes everything behind `end` away.
    fn cut(&mut self, end: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(end))?;
        self.file.set_len(end)?;
        self.end = end;
        Ok(())
    }

    /// Appends one object: three lengths, namespace, name, JSON.
    pub(super) fn add(
        &mut self,
        resource: &ApiResource,
        mut object: Map<String, Value>,
    ) -> io::Result<()> {
        let text = |field: &str| {
            let meta = object.get("metadata").and_then(|meta| meta.get(field));
            let text = meta.and_then(Value::as_str).unwrap_or_default();
            text.to_owned()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        // Items of a list do not say their type.
        object.insert("apiVersion".into(), resource.api_version.clone().into());
        object.insert("kind".into(), resource.kind.clone().into());
        let json = serde_json::to_vec(&object)?;
        for part in [namespace.as_bytes(), name.as_bytes(), &json] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            self.file.write_all(&length.to_le_bytes())?;
            self.file.write_all(part)?;
            self.end += 4 + u64::from(length);
        }
        Ok(())
    }

    /// Shows each object: namespace, name, JSON. How many there were.
    ///
    /// # Errors
    /// When the spool cannot be read, or what `show` says.
    pub fn show(
        mut self,
        mut show: impl FnMut(&str, &str, &[u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut reader = io::BufReader::with_capacity(1 << 16, self.file);
        let (mut objects, mut at) = (0, 0);
        while at < self.end {
            let mut parts: [Vec<u8>; 3] = Default::default();
            for part in &mut parts {
                let mut length = [0; 4];
                reader.read_exact(&mut length)?;
                *part = vec![0; u32::from_le_bytes(length) as usize];
                reader.read_exact(part)?;
                at += 4 + part.len() as u64;
            }
            let [namespace, name, json] = &parts;
            let text = |bytes| std::str::from_utf8(bytes).map_err(io::Error::other);
            show(text(namespace)?, text(name)?, json)?;
            objects += 1;
        }
        Ok(objects)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_spool_that_is_cut_shows_what_was_before() {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
        let object = |name: &str| {
            let value = serde_json::json!({"metadata": {"namespace": "shop", "name": name}});
            value.as_object().unwrap().clone()
        };
        let mut spool = Spool::new(None);
        spool.add(&resource, object("a")).unwrap();
        let end = spool.end;
        spool.add(&resource, object("lost")).unwrap();
        spool.cut(end).unwrap();
        spool.add(&resource, object("b")).unwrap();
        let mut seen = Vec::new();
        let count = spool.show(|namespace, name, json| {
            let object: Value = serde_json::from_slice(json)?;
            assert_eq!(object["kind"], "ConfigMap");
            seen.push(format!("{namespace}/{name}"));
            Ok(())
        });
        assert_eq!(
            (count.unwrap(), seen.as_slice()),
            (2, &["shop/a".to_owned(), "shop/b".to_owned()][..])
        );
    }

    #[test]
    fn a_refusal_keeps_the_servers_words() {
        let kube::Error::Api(status) = refusal(429, b"Too many requests") else {
            unreachable!();
        };
        assert_eq!(
            (status.code, status.message.as_str()),
            (429, "Too many requests")
        );
    }
}
