//! What of the Kubernetes in a snapshot depends on the cluster that it is restored into: read once, for `restore --plan`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ExportError;
use super::decode::decode;
use super::kinds::{group_of, is_built_in};
use super::stored::{Identity, Stored};
use crate::snapshot::contents::Contents;

/// Where definitions of custom resources lie behind the prefix.
const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions/";
/// Where kubeadm keeps what it was told, behind the prefix.
const KUBEADM: &str = "configmaps/kube-system/kubeadm-config";

/// What API servers keep for themselves and serve to nobody.
const ALLOCATION: &str = "RangeAllocation";

/// Objects of one version of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindHeld {
    /// As `apps/v1`, in which they are stored.
    pub api_version: String,
    /// As `Deployment`.
    pub kind: String,
    /// How many.
    pub objects: usize,
}

impl KindHeld {
    /// Whether a definition says what they are, rather than Kubernetes itself.
    pub fn is_custom(&self) -> bool {
        !is_built_in(group_of(&self.api_version))
    }
}

/// The definition of a custom resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As `example.com`.
    pub group: String,
    /// As `Cactus`.
    pub kind: String,
    /// Versions that it knows, served or not.
    pub versions: BTreeSet<String>,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// By version and kind; those of encrypted values are not known.
    pub kinds: Vec<KindHeld>,
    /// Definitions by name, as `cacti.example.com`.
    pub definitions: BTreeMap<String, Definition>,
    /// Resources whose values the API server encrypted, by provider and name of the key, and how many values.
    pub encrypted: BTreeMap<(String, String), (usize, BTreeSet<String>)>,
    /// Nodes.
    pub nodes: Vec<String>,
    /// Versions of their kubelets, and the one that kubeadm installed.
    pub versions: BTreeSet<String>,
    /// Ranges of the addresses of services.
    pub service_ranges: BTreeSet<String>,
    /// Ranges of the addresses of pods.
    pub pod_ranges: BTreeSet<String>,
}

/// What a snapshot holds below `prefix`, as of a revision; its newest unless given.
///
/// # Errors
/// When rows cannot be read, or do not reach to the revision.
pub fn survey(bytes: &[u8], prefix: &str, revision: Option<i64>) -> Result<Held, ExportError> {
    let below = format!("{prefix}/");
    let (contents, _) = Contents::of(bytes, below.as_bytes(), revision, 0)?;
    let mut held = Held::default();
    let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in contents.rows() {
        let Ok(key) = std::str::from_utf8(row.key) else {
            continue;
        };
        let stored = Stored::of(row.value);
        let identity = stored.identity(key, prefix);
        if let Stored::Encrypted { provider, key } = &stored {
            let place = (provider.clone(), key.clone());
            let (count, resources) = held.encrypted.entry(place).or_default();
            *count += 1;
            resources.extend(identity.map(|one| one.kind));
            continue;
        }
        if let Some(Identity {
            api_version, kind, ..
        }) = identity
            && kind != ALLOCATION
        {
            *kinds.entry((api_version, kind)).or_default() += 1;
        }
        held.look(key, key.strip_prefix(&below).unwrap_or(key), &stored);
    }
    held.kinds = kinds
        .into_iter()
        .map(|((api_version, kind), objects)| KindHeld {
            api_version,
            kind,
            objects,
        })
        .collect();
    Ok(held)
}

impl Held {
    /// How much it is, in a line; nothing when it is no Kubernetes.
    pub fn words(&self) -> Option<String> {
        let objects: usize = self.kinds.iter().map(|one| one.objects).sum();
        let kinds: BTreeSet<(&str, &str)> = self
            .kinds
            .iter()
            .map(|one| (group_of(&one.api_version), one.kind.as_str()))
            .collect();
        let groups: BTreeSet<&str> = kinds.iter().map(|(group, _)| *group).collect();
        let named: Vec<&str> = groups.into_iter().filter(|one| !one.is_empty()).collect();
        (objects > 0).then(|| {
            format!(
                "{objects} objects of {} kinds, of the API groups core, {}",
                kinds.len(),
                named.join(", ")
            )
        })
    }

    /// Notes what one object says; `rest` is its key behind the prefix.
    fn look(&mut self, key: &str, rest: &str, stored: &Stored<'_>) {
        let node = rest.strip_prefix("minions/");
        let definition = rest.strip_prefix(DEFINITIONS);
        let of_services = rest == "ranges/serviceips" || rest.starts_with("servicecidrs/");
        self.nodes.extend(node.map(str::to_owned));
        if node.is_none() && definition.is_none() && !of_services && rest != KUBEADM {
            return;
        }
        let Ok(decoded) = decode(key, stored) else {
            return;
        };
        let object = Value::Object(decoded.object);
        let text = |pointer: &str| Some(object.pointer(pointer)?.as_str()?.to_owned());
        if let Some(name) = definition {
            let read = definition_of(&object);
            let read = read.map(|definition| (name.to_owned(), definition));
            self.definitions.extend(read);
        } else if of_services {
            // An allocation before Kubernetes 1.33, a ServiceCIDR since.
            let cidrs = object.pointer("/spec/cidrs").and_then(Value::as_array);
            let all = cidrs.into_iter().flatten().chain(object.get("range"));
            let all = all.filter_map(Value::as_str).map(str::to_owned);
            self.service_ranges.extend(all);
        } else if node.is_some() {
            self.pod_ranges.extend(text("/spec/podCIDR"));
            let kubelet = text("/status/nodeInfo/kubeletVersion");
            self.versions.extend(kubelet.filter(|it| !it.is_empty()));
        } else {
            let words = text("/data/ClusterConfiguration").unwrap_or_default();
            self.kubeadm(&words);
        }
    }

    /// What kubeadm was told: the version, and the ranges that no node has of a plugin that gives them itself.
    fn kubeadm(&mut self, words: &str) {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct ClusterConfiguration {
            kubernetes_version: Option<String>,
            networking: Networking,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Networking {
            pod_subnet: Option<String>,
            service_subnet: Option<String>,
        }
        let Ok(told) = serde_saphyr::from_str::<ClusterConfiguration>(words) else {
            return;
        };
        let ranges = |subnets: Option<String>| -> Vec<String> {
            let subnets = subnets.unwrap_or_default();
            let all = subnets.split(',').map(str::trim);
            all.filter(|one| !one.is_empty())
                .map(str::to_owned)
                .collect()
        };
        self.versions.extend(told.kubernetes_version);
        self.pod_ranges.extend(ranges(told.networking.pod_subnet));
        self.service_ranges
            .extend(ranges(told.networking.service_subnet));
    }
}

fn definition_of(object: &Value) -> Option<Definition> {
    let text = |pointer: &str| Some(object.pointer(pointer)?.as_str()?.to_owned());
    let listed = object.pointer("/spec/versions").and_then(Value::as_array);
    let named = listed.into_iter().flatten();
    let named = named.filter_map(|version| Some(version.get("name")?.as_str()?.to_owned()));
    Some(Definition {
        group: text("/spec/group")?,
        kind: text("/spec/names/kind")?,
        // The single version of `apiextensions.k8s.io/v1beta1`.
        versions: named.chain(text("/spec/version")).collect(),
    })
}
