//! An export through the Kubernetes API, for clusters whose etcd is out of reach: every resource is listed in pages, at one
//! resourceVersion where the server allows it, and written to a bundle as it comes.

use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, VersionMatch};
use kube::core::ObjectList;
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::Value;

use super::ExportError;
use super::bundle::{About, KindCount, Skipped, Writer};
use super::resources::{Selection, platform_of, resource_name};
use crate::cause::with_causes;

/// Objects of a page.
const PAGE: u32 = 500;
/// Kinds of larger JSON are kept in a file until they are complete, bytes.
const IN_MEMORY: usize = 4 << 20;
/// A list whose pages expire is begun anew this often.
const RESTARTS: u32 = 3;

/// How a kind was listed.
enum Listed {
    /// These objects are in the spool.
    Whole { pinned: bool, version: String },
    /// It cannot be listed, and why.
    Skipped(String),
}

/// Writes the objects of a server to a bundle.
///
/// # Errors
/// When the server cannot be reached, or the bundle cannot be written.
pub async fn export<W: Write>(
    client: &Client,
    selection: &Selection,
    out: W,
    progress: &(dyn Fn(&str, u64) + Send + Sync),
) -> Result<(W, About), ExportError> {
    let written = |source| ExportError::Bundle {
        action: "write",
        source,
    };
    let about = about(client).await?;
    let mut pin = about.resource_version.clone();
    let mut writer = Writer::new(out, about).map_err(written)?;
    let aggregated = aggregated(client).await?;
    for (resource, namespaced, listable) in discover(client).await? {
        let name = resource_name(&resource.plural, &resource.group);
        if aggregated.contains(&resource.api_version) {
            let reason = "it belongs to an aggregated API, whose data is not in the cluster's etcd";
            skip(&mut writer, &name, reason);
            continue;
        }
        if let Some(reason) = selection.refusal(&name, namespaced, listable) {
            skip(&mut writer, &name, &reason);
            continue;
        }
        let mut spool = tempfile::spooled_tempfile(IN_MEMORY);
        let listed = list(client, &resource, selection, &pin, &mut spool).await?;
        match listed {
            Listed::Skipped(reason) => skip(&mut writer, &name, &reason),
            Listed::Whole {
                mut pinned,
                version,
            } => {
                // The first kind says at which version the others are listed.
                if pin.is_empty() {
                    pinned = true;
                    pin.clone_from(&version);
                    writer.about().resource_version = version;
                }
                let count = KindCount {
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                    pinned,
                    ..KindCount::default()
                };
                writer.about().kinds.insert(name.clone(), count);
                let objects = unspool(&mut spool, |namespace, object, json| {
                    writer.add(&name, namespace, object, json)
                });
                progress(&name, objects.map_err(written)?);
            }
        }
    }
    writer.finish().map_err(written)
}

fn skip<W: Write>(writer: &mut Writer<W>, resource: &str, reason: &str) {
    writer.about().skipped.push(Skipped {
        resource: resource.to_owned(),
        reason: reason.to_owned(),
    });
}

/// What is known before anything is listed.
async fn about(client: &Client) -> Result<About, ExportError> {
    let version = client
        .apiserver_version()
        .await
        .map_err(ExportError::server("ask the server for its version"))?;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let system = namespaces
        .get_metadata("kube-system")
        .await
        .map_err(ExportError::server(
            "ask for the namespace kube-system, whose UID names the cluster",
        ))?;
    Ok(About {
        created: Some(Timestamp::now()),
        platform: platform_of(&version.git_version).to_owned(),
        server_version: version.git_version,
        cluster_uid: system.metadata.uid.unwrap_or_default(),
        cannot_hold: [
            "revisions and history: an export restores objects, not etcd",
            "objects that live in no API (leases of etcd, allocations of addresses and ports)",
            "contents of volumes: pair it with Velero",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..About::default()
    })
}

/// API versions that another server answers.
async fn aggregated(client: &Client) -> Result<Vec<String>, ExportError> {
    let resource = ApiResource {
        group: "apiregistration.k8s.io".into(),
        version: "v1".into(),
        api_version: "apiregistration.k8s.io/v1".into(),
        kind: "APIService".into(),
        plural: "apiservices".into(),
    };
    let services: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let listed = match services.list(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_not_found() => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(ExportError::server("list the APIServices")(error)),
    };
    let remote = |service: &DynamicObject| {
        let spec = service.data.get("spec")?;
        spec.get("service").filter(|value| !value.is_null())?;
        let text = |field: &str| spec.get(field).and_then(Value::as_str);
        Some(format!("{}/{}", text("group")?, text("version")?))
    };
    Ok(listed.items.iter().filter_map(remote).collect())
}

/// Every resource in its preferred version: itself, whether it has namespaces, whether it can be listed.
async fn discover(client: &Client) -> Result<Vec<(ApiResource, bool, bool)>, ExportError> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        // Before Kubernetes 1.26.
        Err(_) => Discovery::new(client.clone())
            .run()
            .await
            .map_err(ExportError::server("ask the server what it serves"))?,
    };
    let mut found: Vec<(ApiResource, bool, bool)> = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .map(|(resource, capabilities)| {
            let namespaced = capabilities.scope == Scope::Namespaced;
            let listable = capabilities.supports_operation(verbs::LIST);
            (resource, namespaced, listable)
        })
        .collect();
    found.sort_by(|(one, ..), (other, ..)| {
        (&one.group, &one.plural).cmp(&(&other.group, &other.plural))
    });
    Ok(found)
}

/// Lists a kind into the spool, anew when its pages expire on the way.
async fn list(
    client: &Client,
    resource: &ApiResource,
    selection: &Selection,
    pin: &str,
    spool: &mut tempfile::SpooledTempFile,
) -> Result<Listed, ExportError> {
    let mut pinned = !pin.is_empty();
    let mut restarts = 0;
    loop {
        spool
            .rewind()
            .and_then(|()| spool.set_len(0))
            .map_err(|source| ExportError::Bundle {
                action: "write",
                source,
            })?;
        let mut version = String::new();
        let mut token: Option<String> = None;
        let failed = loop {
            let mut params = ListParams::default().limit(PAGE);
            match &token {
                Some(token) => params = params.continue_token(token),
                None if pinned => params = params.at(pin).matching(VersionMatch::Exact),
                None => {}
            }
            let page = match page(client, resource, &params).await {
                Ok(page) => page,
                Err(error) => break Some(error),
            };
            version = page.metadata.resource_version.unwrap_or_default();
            for object in page.items {
                let namespace = object.metadata.namespace.clone().unwrap_or_default();
                if selection.takes_object(&object, &namespace) {
                    enspool(spool, resource, object, &namespace).map_err(|source| {
                        ExportError::Bundle {
                            action: "write",
                            source,
                        }
                    })?;
                }
            }
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                break None;
            }
        };
        let Some(error) = failed else {
            return Ok(Listed::Whole { pinned, version });
        };
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                return Ok(Listed::Skipped(format!("not allowed: {}", status.message)));
            }
            kube::Error::Api(status) if [404, 405].contains(&status.code) => {
                return Ok(Listed::Skipped(format!("not listable: {}", status.message)));
            }
            // The pinned version is too old, too new for this server's cache, or of another store.
            kube::Error::Api(status) if pinned && [400, 410, 504].contains(&status.code) => {
                pinned = false;
            }
            kube::Error::Api(status) if status.code == 410 && restarts < RESTARTS => {
                restarts += 1;
            }
            error => {
                let kind = &resource.kind;
                return Err(ExportError::server(format!("list {kind}"))(error));
            }
        }
    }
}

/// One page; a server that is busy is asked again, later and later.
async fn page(
    client: &Client,
    resource: &ApiResource,
    params: &ListParams,
) -> Result<ObjectList<DynamicObject>, kube::Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let busy = |error: &kube::Error| match error {
        kube::Error::Api(status) => [429, 500, 503].contains(&status.code),
        _ => false,
    };
    let ask = || async { api.list(params).await };
    ask.retry(
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_times(6)
            .with_jitter(),
    )
    .when(busy)
    .notify(|error, pause| {
        tracing::debug!(pause = ?pause, "the server is busy: {}", with_causes(error));
    })
    .await
}

/// Appends one object: three lengths, namespace, name, JSON.
fn enspool(
    spool: &mut tempfile::SpooledTempFile,
    resource: &ApiResource,
    object: DynamicObject,
    namespace: &str,
) -> std::io::Result<()> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut value = serde_json::to_value(object)?;
    // Items of a list do not say their type.
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".into(), resource.api_version.clone().into());
        fields.insert("kind".into(), resource.kind.clone().into());
    }
    let json = serde_json::to_vec(&value)?;
    for part in [namespace.as_bytes(), name.as_bytes(), &json] {
        let length = u32::try_from(part.len()).map_err(std::io::Error::other)?;
        spool.write_all(&length.to_le_bytes())?;
        spool.write_all(part)?;
    }
    Ok(())
}

/// Shows each object of the spool: namespace, name, JSON. How many there were.
fn unspool(
    spool: &mut tempfile::SpooledTempFile,
    mut show: impl FnMut(&str, &str, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<u64> {
    let end = spool.stream_position()?;
    spool.seek(SeekFrom::Start(0))?;
    let mut reader = std::io::BufReader::new(spool);
    let (mut objects, mut at) = (0, 0);
    while at < end {
        let mut parts: [Vec<u8>; 3] = Default::default();
        for part in &mut parts {
            let mut length = [0; 4];
            reader.read_exact(&mut length)?;
            *part = vec![0; u32::from_le_bytes(length) as usize];
            reader.read_exact(part)?;
            at += 4 + part.len() as u64;
        }
        let [namespace, name, json] = &parts;
        let text = |bytes| std::str::from_utf8(bytes).map_err(std::io::Error::other);
        show(text(namespace)?, text(name)?, json)?;
        objects += 1;
    }
    Ok(objects)
}
