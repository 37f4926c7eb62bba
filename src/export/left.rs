//! Objects of a bundle that an import leaves out: what a cluster or an owner makes itself, and what is over. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::kinds::group_of;
use super::stored::Identity;

/// An object that is not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Which it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Why, in words.
    pub reason: &'static str,
}

const MADE_AGAIN: &str = "its owner makes it again";

impl LeftOut {
    /// An object that a controller makes again.
    pub(super) fn made_again(identity: Identity) -> Self {
        Self {
            identity,
            reason: MADE_AGAIN,
        }
    }

    /// Whether a controller makes it again.
    pub fn is_made_again(&self) -> bool {
        self.reason == MADE_AGAIN
    }
}

/// Why an object stays out whatever else the bundle holds; nothing when it is imported.
pub(super) fn reason(identity: &Identity, object: &Map<String, Value>) -> Option<&'static str> {
    let meta = object.get("metadata");
    if meta.is_some_and(|meta| meta.get("deletionTimestamp").is_some()) {
        return Some("it was being deleted");
    }
    if is_of_the_cluster(identity, meta) {
        return Some("every cluster makes its own");
    }
    is_over(identity, object).then_some("it had ended, and would run again")
}

/// Whether a controller of Kubernetes makes the object again once `owner`, which controls it, is there. What other controllers own may
/// hold what only it knows, such as a generated password: that is imported.
pub(super) fn is_made_again(identity: &Identity, owner: &Identity) -> bool {
    match identity.kind.as_str() {
        "Pod" | "ControllerRevision" => true,
        "ReplicaSet" => owner.kind == "Deployment",
        "Job" => owner.kind == "CronJob",
        _ => false,
    }
}

/// What each API server and its controllers write themselves, and keep as they want it.
fn is_of_the_cluster(identity: &Identity, meta: Option<&Value>) -> bool {
    let has = |field: &str, name: &str| {
        let value = meta.and_then(|meta| meta.get(field)?.get(name)?.as_str());
        value.is_some_and(|value| value != "false")
    };
    let group = group_of(&identity.api_version);
    let (namespace, name) = (identity.namespace.as_str(), identity.name.as_str());
    match (group, identity.kind.as_str()) {
        // Nodes register themselves.
        ("", "Node") => true,
        ("", "Service") => (namespace, name) == ("default", "kubernetes"),
        ("", "ConfigMap") => {
            name == "kube-root-ca.crt"
                || (namespace, name) == ("kube-system", "extension-apiserver-authentication")
                || (namespace, name) == ("kube-public", "cluster-info")
        }
        ("apiregistration.k8s.io", "APIService") => {
            has("labels", "kube-aggregator.kubernetes.io/automanaged")
        }
        ("networking.k8s.io", "ServiceCIDR") => name == "kubernetes",
        // Until somebody sets these to false, the server brings its own roles and limits back.
        ("rbac.authorization.k8s.io", _) => {
            has("annotations", "rbac.authorization.kubernetes.io/autoupdate")
        }
        ("flowcontrol.apiserver.k8s.io", _) => {
            has("annotations", "apf.kubernetes.io/autoupdate-spec")
        }
        _ => false,
    }
}

fn is_over(identity: &Identity, object: &Map<String, Value>) -> bool {
    let status = |field: &str| object.get("status").and_then(|status| status.get(field));
    match (group_of(&identity.api_version), identity.kind.as_str()) {
        ("", "Pod") => {
            let phase = status("phase").and_then(Value::as_str);
            matches!(phase, Some("Succeeded" | "Failed"))
        }
        ("batch", "Job") => {
            let conditions = status("conditions").and_then(Value::as_array);
            conditions.into_iter().flatten().any(|condition| {
                let text = |field: &str| condition.get(field).and_then(Value::as_str);
                matches!(text("type"), Some("Complete" | "Failed"))
                    && text("status") == Some("True")
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn of(object: &Value) -> Option<&'static str> {
        let text = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let identity = Identity {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        };
        reason(&identity, object.as_object().unwrap())
    }

    #[test]
    fn what_a_cluster_makes_itself_and_what_is_over_stays_out() {
        let left = [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": "shop"}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.apps",
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "view",
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
                "status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Succeeded"}}),
        ];
        for object in left {
            assert!(of(&object).is_some(), "{object}");
        }
        let kept = [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "shop"}}),
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.weather.example.com"}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "view",
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
                "status": {"conditions": [{"type": "Suspended", "status": "True"}]}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Running"}}),
        ];
        for object in kept {
            assert_eq!(of(&object), None, "{object}");
        }
    }
}
