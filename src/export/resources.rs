//! Which resources an export takes, and what kind of cluster it speaks to. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use ring::digest::{SHA256, digest};

use crate::api::NamespaceSelector;

/// Left out unless asked for: what others derive, or what is of no use in another life.
pub const LEFT_OUT: [&str; 15] = [
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "componentstatuses",
    "csistoragecapacities.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "ipaddresses.networking.k8s.io",
    "storageversions.internal.apiserver.k8s.io",
    "leasecandidates.coordination.k8s.io",
    "certificatesigningrequests.certificates.k8s.io",
    // Deeds of ours: put back, they would be done again.
    "etcdbackups.etcdguardian.io",
    "etcdrestores.etcdguardian.io",
];

/// What is exported.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Resources to leave out, as `events` or `widgets.example.com`.
    pub exclude: Vec<String>,
    /// Only these resources; all when empty.
    pub include: Vec<String>,
    /// Resources that are left out unless they are named, and taken besides all others.
    pub add: Vec<String>,
    /// Only objects of these namespaces, and the namespaces themselves; all when empty.
    pub namespaces: Vec<String>,
}

impl Selection {
    /// Why a resource is left out; nothing when it is taken.
    pub fn refusal(&self, resource: &str, namespaced: bool, listable: bool) -> Option<String> {
        let named = |list: &[String]| list.iter().any(|name| name == resource);
        if !self.include.is_empty() {
            if !named(&self.include) {
                return Some("not asked for".to_owned());
            }
        } else if named(&self.exclude) {
            return Some("excluded".to_owned());
        } else if LEFT_OUT.contains(&resource) && !named(&self.add) {
            return Some("derived: left out unless asked for with --include or --add".to_owned());
        }
        if !self.namespaces.is_empty() && !namespaced && resource != "namespaces" {
            return Some("of the whole cluster, and only namespaces are asked for".to_owned());
        }
        (!listable).then(|| "not listable".to_owned())
    }
}

impl Selection {
    /// SHA-256 of what is asked for, hexadecimal, whatever the order of the names.
    pub fn digest(&self) -> String {
        let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
        let mut asked = vec![&self.exclude, &self.include, &self.namespaces];
        // So that an export of before goes on.
        asked.extend(Some(&self.add).filter(|add| !add.is_empty()));
        let asked: Vec<_> = asked.into_iter().map(|names| sorted(names)).collect();
        let text = serde_json::json!(asked).to_string();
        hex::encode(digest(&SHA256, text.as_bytes()))
    }
}

/// What Kubernetes makes of a selector of namespaces.
///
/// # Errors
/// In words, when an expression is none.
pub fn selector_of(selector: &NamespaceSelector) -> Result<Selector, String> {
    let selector = LabelSelector {
        match_labels: Some(selector.match_labels.clone()),
        match_expressions: Some(selector.match_expressions.clone()),
    };
    Selector::try_from(selector).map_err(|error| format!("namespaceSelector: {error}"))
}

/// A resource as people write it: `deployments.apps`, `pods`.
pub fn resource_name(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// Whose Kubernetes a version is.
pub fn platform_of(git_version: &str) -> &'static str {
    const MARKS: [(&str, &str); 6] = [
        ("-eks-", "EKS"),
        ("-gke.", "GKE"),
        ("-aliyun", "ACK"),
        ("+k3s", "k3s"),
        ("+rke2", "RKE2"),
        ("-aks", "AKS"),
    ];
    let found = MARKS.iter().find(|(mark, _)| git_version.contains(mark));
    found.map_or("other", |(_, platform)| platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_kinds_are_left_out_unless_asked_for() {
        let all = Selection::default();
        assert_eq!(all.refusal("configmaps", true, true), None);
        assert!(all.refusal("events", true, true).is_some());
        assert!(
            all.refusal("tokenreviews.authentication.k8s.io", false, false)
                .is_some()
        );
        let some = Selection {
            include: vec!["events".to_owned()],
            ..Selection::default()
        };
        assert_eq!(some.refusal("events", true, true), None);
        assert!(some.refusal("configmaps", true, true).is_some());
        let more = Selection {
            add: vec!["events".to_owned()],
            ..Selection::default()
        };
        assert_eq!(more.refusal("events", true, true), None);
        assert_eq!(more.refusal("configmaps", true, true), None);
        assert!(more.refusal("endpoints", true, true).is_some());
        assert_ne!(more.digest(), all.digest());
        let tenant = Selection {
            namespaces: vec!["shop".to_owned()],
            ..Selection::default()
        };
        assert!(tenant.refusal("nodes", false, true).is_some());
        assert_eq!(tenant.refusal("namespaces", false, true), None);
        assert_eq!(platform_of("v1.30.4-eks-a737599"), "EKS");
        assert_eq!(platform_of("v1.31.1-aliyun.1"), "ACK");
        assert_eq!(platform_of("v1.34.0"), "other");
    }
}
