//! What is asked of the cluster that objects or a snapshot go to, before anything is changed there.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};

use super::ExportError;
use super::apply::Server;
use super::proxy::served;

/// What of a cluster an import or a restore may trip over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// As `v1.34.0`.
    pub version: String,
    /// Its nodes.
    pub nodes: BTreeSet<String>,
    /// Ranges that these give their pods.
    pub pod_ranges: BTreeSet<String>,
    /// The address of its service `default/kubernetes`, the first of the range of services.
    pub service_address: Option<String>,
    /// Ranges of the addresses of services; none where it is not known (before Kubernetes 1.33).
    pub service_ranges: BTreeSet<String>,
}

/// What an API server serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Versions by group and kind, as `("apps", "Deployment")`; the most stable one first.
    pub versions: BTreeMap<(String, String), Vec<String>>,
    /// Names of its definitions, as `cacti.example.com`; nothing when they may not be listed.
    pub definitions: Option<BTreeSet<String>>,
}

impl Server {
    /// What of the cluster an import or a restore may trip over; what may not be asked is left open.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn target(&self) -> Result<Target, ExportError> {
        let client = self.client();
        let version = client.apiserver_version().await;
        let version = version.map_err(ExportError::server("ask the server for its version"))?;
        let services: Api<Service> = Api::namespaced(client.clone(), "default");
        let service = services.get_opt("kubernetes").await.ok().flatten();
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list(&ListParams::default()).await;
        let nodes = nodes.map(|list| list.items).unwrap_or_default();
        let ranges: Api<ServiceCIDR> = Api::all(client);
        let ranges = ranges.list(&ListParams::default()).await;
        let ranges = ranges.map(|list| list.items).unwrap_or_default();
        Ok(Target {
            version: version.git_version,
            service_address: service.and_then(|service| service.spec?.cluster_ip),
            nodes: nodes
                .iter()
                .filter_map(|node| node.metadata.name.clone())
                .collect(),
            pod_ranges: nodes
                .into_iter()
                .filter_map(|node| node.spec?.pod_cidr)
                .collect(),
            service_ranges: ranges
                .into_iter()
                .filter_map(|range| range.spec?.cidrs)
                .flatten()
                .collect(),
        })
    }

    /// Every kind that it serves, in every version.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn served(&self) -> Result<Served, ExportError> {
        let client = self.client();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let definitions = match definitions.list_metadata(&ListParams::default()).await {
            Ok(listed) => Some(listed.items),
            Err(kube::Error::Api(status)) if status.is_forbidden() => None,
            Err(error) => return Err(ExportError::server("list the definitions")(error)),
        };
        let names = |items: Vec<kube::core::PartialObjectMeta<CustomResourceDefinition>>| {
            let all = items.into_iter();
            all.filter_map(|one| one.metadata.name).collect()
        };
        Ok(Served {
            versions: served(&client).await?,
            definitions: definitions.map(names),
        })
    }
}
