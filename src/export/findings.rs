//! What of a bundle another cluster may trip over: said before anything is imported. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::bundle::About;
use super::import::Step;
use super::plan::Change;
use super::stored::Identity;

/// Names that are given as examples.
const NAMED: usize = 5;

/// What of a bundle depends on the cluster that it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Nodes, which register themselves.
    pub nodes: Vec<String>,
    /// Ranges that these gave their pods.
    pub pod_ranges: BTreeSet<String>,
    /// The address of the service `default/kubernetes`, the first of the range of services.
    pub service_address: Option<String>,
    /// Volumes, whose contents are not in a bundle.
    pub volumes: Vec<String>,
    /// Objects with finalizers, which keep them until somebody removes these.
    pub finalizers: BTreeSet<String>,
    /// Services that are asked before anything is changed, as `shop/hook`, and whose silence refuses it.
    pub hooks: BTreeSet<String>,
}

/// The same of the cluster that is imported into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// As `v1.34.0`.
    pub version: String,
    /// Ranges that its nodes give their pods.
    pub pod_ranges: BTreeSet<String>,
    /// The address of its service `default/kubernetes`.
    pub service_address: Option<String>,
}

/// One thing to know before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// CamelCase.
    pub code: &'static str,
    /// Whether objects will be missing; else it is only to be known.
    pub blocks: bool,
    /// What it is, and what to do.
    pub message: String,
}

impl Facts {
    /// Notes what an object says.
    pub(super) fn look(&mut self, identity: &Identity, object: &Map<String, Value>) {
        let spec = object.get("spec");
        let text = |field: &str| spec?.get(field)?.as_str().map(str::to_owned);
        match (identity.api_version.as_str(), identity.kind.as_str()) {
            ("v1", "Node") => {
                self.nodes.push(identity.name.clone());
                self.pod_ranges.extend(text("podCIDR"));
            }
            ("v1", "PersistentVolume") => self.volumes.push(identity.name.clone()),
            ("v1", "Service")
                if identity.namespace == "default" && identity.name == "kubernetes" =>
            {
                self.service_address = text("clusterIP");
            }
            (_, "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
                let hooks = object.get("webhooks").and_then(Value::as_array);
                let strict = hooks.into_iter().flatten();
                let strict =
                    strict.filter(|hook| hook.get("failurePolicy") != Some(&"Ignore".into()));
                self.hooks
                    .extend(strict.filter_map(|hook| service_of(hook.get("clientConfig")?)));
            }
            (_, "CustomResourceDefinition") => {
                let webhook = spec.and_then(|spec| spec.get("conversion")?.get("webhook"));
                let config = webhook.and_then(|webhook| webhook.get("clientConfig"));
                self.hooks.extend(config.and_then(service_of));
            }
            _ => {}
        }
        let finalizers = object
            .get("metadata")
            .and_then(|meta| meta.get("finalizers"));
        let finalizers = finalizers.and_then(Value::as_array).into_iter().flatten();
        let foreign = finalizers.filter_map(Value::as_str);
        let foreign =
            foreign.filter(|name| name.contains('/') && !name.starts_with("kubernetes.io/"));
        self.finalizers.extend(foreign.map(str::to_owned));
    }
}

/// The service of a webhook, as `shop/hook`.
fn service_of(config: &Value) -> Option<String> {
    let service = config.get("service")?;
    let text = |field: &str| service.get(field)?.as_str();
    Some(format!("{}/{}", text("namespace")?, text("name")?))
}

/// What a person should know before an import.
pub fn findings(about: &About, facts: &Facts, steps: &[Step], target: &Target) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut push = |code, blocks, message: String| {
        found.push(Finding {
            code,
            blocks,
            message,
        });
    };
    if let (Some(from), Some(to)) = (minor(&about.server_version), minor(&target.version))
        && from != to
    {
        let (from, to) = (&about.server_version, &target.version);
        push(
            "VersionDiffers",
            false,
            format!(
                "the export is of Kubernetes {from} and this server is {to}: versions that it does not serve are named below"
            ),
        );
    }
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for step in steps {
        if matches!(step.change, Change::NotServed { .. }) {
            let identity = &step.identity;
            let kind = format!("{} {}", identity.api_version, identity.kind);
            missing.entry(kind).or_default().push(identity.name.clone());
        }
    }
    for (kind, names) in missing {
        push(
            "KindNotServed",
            true,
            format!(
                "{kind} is served in no version, and its definition is not in the export: {} objects cannot be imported ({})",
                names.len(),
                some(&names)
            ),
        );
    }
    if !facts.nodes.is_empty() {
        push(
            "NodesLeftBehind",
            false,
            format!(
                "{} nodes stay behind ({}): nodes register themselves; labels and taints that were set by hand must be set again",
                facts.nodes.len(),
                some(&facts.nodes)
            ),
        );
    }
    if let (Some(from), Some(to)) = (&facts.service_address, &target.service_address)
        && from != to
    {
        push(
            "ServiceRangeDiffers",
            false,
            format!(
                "services had addresses around {from} and here around {to}: they get new ones, and whatever has an old one written down must change"
            ),
        );
    }
    if !facts.pod_ranges.is_empty() && facts.pod_ranges.is_disjoint(&target.pod_ranges) {
        let ranges = |ranges: &BTreeSet<String>| {
            let all: Vec<String> = ranges.iter().cloned().collect();
            if all.is_empty() {
                "no range yet".to_owned()
            } else {
                some(&all)
            }
        };
        push(
            "PodRangeDiffers",
            false,
            format!(
                "pods had addresses of {} and here nodes have {}: look at network policies and firewalls that name ranges",
                ranges(&facts.pod_ranges),
                ranges(&target.pod_ranges)
            ),
        );
    }
    if !facts.volumes.is_empty() {
        push(
            "VolumesAreEmpty",
            false,
            format!(
                "{} persistent volumes come without their contents ({}): restore these with Velero, or leave the volumes out",
                facts.volumes.len(),
                some(&facts.volumes)
            ),
        );
    }
    if !facts.finalizers.is_empty() {
        let all: Vec<String> = facts.finalizers.iter().cloned().collect();
        push(
            "ForeignFinalizers",
            false,
            format!(
                "objects wait for {} before they can be deleted: have those controllers here too",
                some(&all)
            ),
        );
    }
    if !facts.hooks.is_empty() {
        let all: Vec<String> = facts.hooks.iter().cloned().collect();
        push(
            "WebhooksWait",
            false,
            format!(
                "webhooks come last; until the services {} answer, the server refuses what these watch: see that their pods run first",
                some(&all)
            ),
        );
    }
    let refused: Vec<String> = about
        .skipped
        .iter()
        .filter(|one| one.reason.starts_with("not allowed"))
        .map(|one| one.resource.clone())
        .collect();
    if !refused.is_empty() {
        push(
            "ExportIncomplete",
            true,
            format!(
                "the export lacks {}, which whoever made it was not allowed to list",
                some(&refused)
            ),
        );
    }
    found
}

/// `1.34` of `v1.34.0`, as numbers.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

fn some(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn identity(api_version: &str, kind: &str, namespace: &str, name: &str) -> Identity {
        Identity {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn what_another_cluster_trips_over_is_said_before() {
        let mut facts = Facts::default();
        let mut look =
            |identity: Identity, object: Value| facts.look(&identity, object.as_object().unwrap());
        look(
            identity("v1", "Node", "", "n1"),
            json!({"spec": {"podCIDR": "10.1.0.0/24"}}),
        );
        look(
            identity("v1", "Service", "default", "kubernetes"),
            json!({"spec": {"clusterIP": "10.96.0.1"}}),
        );
        look(
            identity("v1", "PersistentVolume", "", "pv"),
            json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection", "csi.example.com/x"]}}),
        );
        let about = About {
            server_version: "v1.30.4-eks-1".to_owned(),
            ..About::default()
        };
        let step = Step {
            identity: identity("policy/v1beta1", "PodSecurityPolicy", "", "restricted"),
            change: Change::NotServed {
                reason: String::new(),
            },
            notes: Vec::new(),
            applied: None,
            error: None,
        };
        let target = Target {
            version: "v1.34.1".to_owned(),
            service_address: Some("172.20.0.1".to_owned()),
            ..Target::default()
        };
        let found = findings(&about, &facts, &[step], &target);
        let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
        let expected = [
            "VersionDiffers",
            "KindNotServed",
            "NodesLeftBehind",
            "ServiceRangeDiffers",
            "PodRangeDiffers",
            "VolumesAreEmpty",
            "ForeignFinalizers",
        ];
        assert_eq!(codes, expected, "{found:?}");
        assert!(
            found[1].blocks && found[1].message.contains("restricted"),
            "{found:?}"
        );
        assert!(
            found[6].message.contains("csi.example.com/x")
                && !found[6].message.contains("pv-protection")
        );
        let same = Target {
            version: "v1.30.1".to_owned(),
            ..Target::default()
        };
        assert!(findings(&about, &Facts::default(), &[], &same).is_empty());
    }
}
