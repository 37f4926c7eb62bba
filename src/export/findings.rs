//! What of a bundle another cluster may trip over: said before anything is imported. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::fit::coming;
use super::import::Step;
use super::index::Index;
use super::plan::Change;
use super::ranges::{self, Ranges};
use super::stored::Identity;
use super::target::Target;

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
    /// Ranges of the addresses of services, where the cluster says them (since Kubernetes 1.33).
    pub service_ranges: BTreeSet<String>,
    /// Volumes, whose contents are not in a bundle.
    pub volumes: Vec<String>,
    /// Objects with finalizers, which keep them until somebody removes these.
    pub finalizers: BTreeSet<String>,
    /// Services that are asked before anything is changed, as `shop/hook`, and whose silence refuses it.
    pub hooks: BTreeSet<String>,
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
            (_, "ServiceCIDR") => {
                let cidrs = spec.and_then(|spec| spec.get("cidrs")?.as_array());
                let all = cidrs.into_iter().flatten().filter_map(Value::as_str);
                self.service_ranges.extend(all.map(str::to_owned));
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
pub fn findings(index: &Index, steps: &[Step], target: &Target) -> Vec<Finding> {
    let (about, facts) = (&index.about, &index.facts);
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
    let mut converted: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (one, step) in index.objects.iter().zip(steps) {
        let (from, to) = (&one.identity.api_version, &step.identity.api_version);
        if from != to {
            let from = format!("{from} {}", one.identity.kind);
            *converted.entry((from, to.clone())).or_default() += 1;
        }
    }
    for ((from, to), count) in converted {
        push(
            "VersionNotServed",
            false,
            format!(
                "{count} objects are of {from}, which this server does not serve: they are applied as {to}, with strict checking of their fields"
            ),
        );
    }
    let new = steps.iter().filter(|step| {
        step.identity.kind == "CustomResourceDefinition"
            && matches!(step.change, Change::Create | Change::Untried)
    });
    let new: BTreeSet<String> = new.map(|step| step.identity.name.clone()).collect();
    if !new.is_empty() {
        push("DefinitionMissing", false, coming(&new, "export"));
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
    if let Some((from, to)) = services_differ(facts, target) {
        push(
            "ServiceRangeDiffers",
            false,
            format!(
                "services had addresses {from} and here {to}: they get new ones, and whatever has an old one written down must change"
            ),
        );
    }
    if !facts.pod_ranges.is_empty() && facts.pod_ranges.is_disjoint(&target.pod_ranges) {
        push(
            "PodRangeDiffers",
            false,
            format!(
                "pods had addresses of {} and here nodes have {}: look at network policies and firewalls that name ranges",
                ranges::words(&facts.pod_ranges),
                ranges::words(&target.pod_ranges)
            ),
        );
    }
    let of = |services, pods| Ranges { services, pods };
    if let Some(clash) = ranges::clash(
        of(&facts.service_ranges, &facts.pod_ranges),
        of(&target.service_ranges, &target.pod_ranges),
    ) {
        push(clash.code, clash.blocks, clash.message);
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

/// Where services had their addresses and where they get them, when that is not the same: the ranges, else the first addresses.
fn services_differ(facts: &Facts, target: &Target) -> Option<(String, String)> {
    let (from, to) = (&facts.service_ranges, &target.service_ranges);
    if !from.is_empty() && !to.is_empty() {
        let words = |ranges| format!("of {}", some(ranges));
        return from.is_disjoint(to).then(|| (words(from), words(to)));
    }
    let (from, to) = (
        facts.service_address.as_ref()?,
        target.service_address.as_ref()?,
    );
    (from != to).then(|| (format!("around {from}"), format!("around {to}")))
}

/// `1.34` of `v1.34.0`, as numbers.
pub(super) fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

/// The first few names, and how many more there are.
pub(super) fn some<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let all: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let shown: Vec<&str> = all.iter().copied().take(NAMED).collect();
    match all.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::bundle::About;
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
        look(
            identity("networking.k8s.io/v1", "ServiceCIDR", "", "kubernetes"),
            json!({"spec": {"cidrs": ["10.96.0.0/12"]}}),
        );
        let about = About {
            server_version: "v1.30.4-eks-1".to_owned(),
            ..About::default()
        };
        let index = |about, facts| Index {
            about,
            facts,
            objects: Vec::new(),
            left: Vec::new(),
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
        let mut definition = step.clone();
        definition.identity = identity(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "",
            "d",
        );
        definition.change = Change::Create;
        let target = Target {
            version: "v1.34.1".to_owned(),
            service_address: Some("172.20.0.1".to_owned()),
            pod_ranges: BTreeSet::from(["10.97.0.0/16".to_owned()]),
            ..Target::default()
        };
        let found = findings(&index(about, facts), &[step, definition], &target);
        let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
        let expected = [
            "VersionDiffers",
            "DefinitionMissing",
            "KindNotServed",
            "NodesLeftBehind",
            "ServiceRangeDiffers",
            "PodRangeDiffers",
            "RangesClash",
            "VolumesAreEmpty",
            "ForeignFinalizers",
        ];
        assert_eq!(codes, expected, "{found:?}");
        assert!(
            found[2].blocks && found[2].message.contains("restricted"),
            "{found:?}"
        );
        assert!(
            found[8].message.contains("csi.example.com/x")
                && !found[8].message.contains("pv-protection")
        );
        let same = Target {
            version: "v1.30.1".to_owned(),
            ..Target::default()
        };
        let about = About {
            server_version: "v1.30.4-eks-1".to_owned(),
            ..About::default()
        };
        let none = index(about, Facts::default());
        assert!(findings(&none, &[], &same).is_empty());
    }
}
