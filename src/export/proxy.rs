//! An export through the Kubernetes API, for clusters whose etcd is out of reach: every resource is listed in pages, several kinds at
//! once, at one resourceVersion where the server allows it, and written to a bundle as it comes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::Value;

use super::ExportError;
use super::bundle::{About, KindCount, Skipped, Writer};
use super::direct::Named;
use super::kinds::group_of;
use super::list::{Kind, Listed, list, page};
use super::resources::{Selection, platform_of, resource_name};

/// Kinds that are listed at once: enough to hide the server's answers behind each other, few enough for its fairness.
const AT_ONCE: usize = 6;

/// Writes the objects of a server to a bundle. Kinds on their way lie in `scratch`, or where temporary files lie.
///
/// # Errors
/// When the server cannot be reached, or the bundle cannot be written.
pub async fn export<W: Write>(
    client: &Client,
    selection: &Selection,
    out: W,
    scratch: Option<&Path>,
    progress: &(dyn Fn(&str, u64) + Send + Sync),
) -> Result<(W, About), ExportError> {
    let written = |source| ExportError::Bundle {
        action: "write",
        source,
    };
    let about = about(client).await?;
    let pin = about.resource_version.clone();
    let mut writer = Writer::new(out, about).map_err(written)?;
    let wanted = wanted(client, selection, &mut writer).await?;
    let pin = pin.as_str();
    let mut listed = stream::iter(wanted)
        .map(|(name, kind)| async move {
            let listed = list(client, &kind, &selection.namespaces, pin, scratch).await;
            (name, kind, listed)
        })
        .buffered(AT_ONCE);
    while let Some((name, kind, listed)) = listed.next().await {
        match listed? {
            Listed::Skipped(reason) => skip(&mut writer, &name, &reason),
            Listed::Whole { spool, pinned } => {
                let count = KindCount {
                    api_version: kind.resource.api_version,
                    kind: kind.resource.kind,
                    pinned,
                    ..KindCount::default()
                };
                writer.about().kinds.insert(name.clone(), count);
                let objects = spool
                    .show(|namespace, object, json| writer.add(&name, namespace, object, json));
                progress(&name, objects.map_err(written)?);
            }
        }
    }
    drop(listed);
    writer.finish().map_err(written)
}

/// The kinds that are exported, under the names of their resources; others are noted as left out.
pub(super) async fn wanted<W: Write>(
    client: &Client,
    selection: &Selection,
    writer: &mut Writer<W>,
) -> Result<Vec<(String, Kind)>, ExportError> {
    let aggregated = aggregated(client).await?;
    let stored = stored_versions(client).await?;
    let mut wanted = Vec::new();
    let found = discover(client).await?;
    for version in &aggregated {
        // Of one whose server is down nothing is discovered.
        let group = group_of(version);
        if !found.iter().any(|kind| kind.resource.group == group) {
            let reason = "it is an aggregated API, whose server does not say what it serves";
            skip(writer, &format!("*.{group}"), reason);
        }
    }
    for mut kind in found {
        let name = resource_name(&kind.resource.plural, &kind.resource.group);
        if let Some(version) = stored.get(&name) {
            kind.resource.version.clone_from(version);
            kind.resource.api_version = format!("{}/{version}", kind.resource.group);
        }
        let refusal = if aggregated.contains(&kind.resource.api_version) {
            let reason = "it belongs to an aggregated API, whose data is not in the cluster's etcd";
            Some(reason.to_owned())
        } else {
            selection.refusal(&name, kind.namespaced, kind.listable)
        };
        match refusal {
            Some(reason) => skip(writer, &name, &reason),
            None => wanted.push((name, kind)),
        }
    }
    Ok(wanted)
}

pub(super) fn skip<W: Write>(writer: &mut Writer<W>, resource: &str, reason: &str) {
    writer.about().skipped.push(Skipped {
        resource: resource.to_owned(),
        reason: reason.to_owned(),
    });
}

/// What no export holds.
pub const CANNOT_HOLD: [&str; 3] = [
    "revisions and history: an export restores objects, not etcd",
    "objects that live in no API (leases of etcd, allocations of addresses and ports)",
    "contents of volumes: pair it with Velero",
];

/// What is known before anything is listed.
///
/// # Errors
/// When the server cannot be reached, or the cluster cannot be told from others.
pub async fn about(client: &Client) -> Result<About, ExportError> {
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
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
    let created = Timestamp::now();
    let first = page(client, &resource, None, &ListParams::default().limit(1)).await;
    let first = match first {
        Ok(first) => first.metadata.resource_version,
        // Whoever may not list namespaces lists each kind as of when it is asked.
        Err(kube::Error::Api(status)) if status.is_forbidden() => String::new(),
        Err(error) => return Err(ExportError::server("list the namespaces")(error)),
    };
    Ok(About {
        created: Some(created),
        resource_version: first,
        platform: platform_of(&version.git_version).to_owned(),
        server_version: version.git_version,
        cluster_uid: system.metadata.uid.unwrap_or_default(),
        cannot_hold: CANNOT_HOLD.map(str::to_owned).to_vec(),
        ..About::default()
    })
}

/// The namespaces of a server.
///
/// # Errors
/// When they cannot be listed.
pub async fn namespaces(client: &Client) -> Result<Vec<Named>, ExportError> {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let listed = api
        .list_metadata(&ListParams::default())
        .await
        .map_err(ExportError::server("list the namespaces"))?;
    let named = listed.items.into_iter().map(|one| Named {
        name: one.metadata.name.unwrap_or_default(),
        labels: one.metadata.labels.unwrap_or_default(),
        uid: one.metadata.uid.unwrap_or_default(),
    });
    Ok(named.collect())
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

/// The version in which each custom resource is stored, where it is served. Another one may lack fields, and may need a webhook to be
/// converted to and back.
async fn stored_versions(client: &Client) -> Result<BTreeMap<String, String>, ExportError> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let listed = match definitions.list(&ListParams::default()).await {
        Ok(listed) => listed.items,
        // Whoever may not see the definitions exports what the server prefers.
        Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_not_found() => {
            Vec::new()
        }
        Err(error) => return Err(ExportError::server("list the definitions")(error)),
    };
    let stored = listed.into_iter().filter_map(|definition| {
        let spec = definition.spec;
        let mut versions = spec.versions.into_iter();
        let stored = versions.find(|version| version.storage && version.served)?;
        Some((resource_name(&spec.names.plural, &spec.group), stored.name))
    });
    Ok(stored.collect())
}

/// Every resource in its most stable version, those too that are not in their group's preferred one: itself, whether it has namespaces, whether it can be listed.
async fn discover(client: &Client) -> Result<Vec<Kind>, ExportError> {
    let discovery = discovery(client).await?;
    let mut found: Vec<Kind> = discovery
        .groups()
        .flat_map(|group| group.resources_by_stability())
        .map(|(resource, capabilities)| Kind {
            namespaced: capabilities.scope == Scope::Namespaced,
            listable: capabilities.supports_operation(verbs::LIST),
            resource,
        })
        .collect();
    found.sort_by(|one, other| {
        let key = |kind: &Kind| (kind.resource.group.clone(), kind.resource.plural.clone());
        key(one).cmp(&key(other))
    });
    Ok(found)
}

/// Every version in which each kind is served, by group and kind; the most stable one first.
pub(super) async fn served(
    client: &Client,
) -> Result<BTreeMap<(String, String), Vec<String>>, ExportError> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for group in discovery(client).await?.groups() {
        for version in group.versions() {
            for (resource, _) in group.versioned_resources(version) {
                let kind = found.entry((resource.group, resource.kind)).or_default();
                kind.push(resource.version);
            }
        }
    }
    Ok(found)
}

/// What a server says that it serves.
async fn discovery(client: &Client) -> Result<Discovery, ExportError> {
    match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => Ok(discovery),
        // Before Kubernetes 1.26.
        Err(_) => Discovery::new(client.clone())
            .run()
            .await
            .map_err(ExportError::server("ask the server what it serves")),
    }
}
