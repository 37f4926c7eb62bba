//! In which order objects are put back, and what putting one back would change: decided from what a dry run answered.

use serde::Serialize;
use serde_json::Value;

use super::kinds::group_of;
use super::stored::Identity;

/// Fields whose change is nobody's wish.
const SERVERS_OWN: [&str; 4] = ["managedFields", "resourceVersion", "generation", "uid"];
/// Changed fields that are named.
const NAMED: usize = 8;

/// What putting an object back would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "action")]
pub enum Change {
    /// It is not there.
    Create,
    /// It is there and differs, in these fields.
    #[serde(rename_all = "camelCase")]
    Update {
        /// As `spec.replicas`.
        fields: Vec<String>,
    },
    /// It is there as it would be.
    Unchanged,
    /// Its namespace is not there yet, so nothing could be tried.
    Untried,
    /// The server does not know its kind.
    #[serde(rename_all = "camelCase")]
    NotServed {
        /// In words.
        reason: String,
    },
    /// The server would not take it.
    Refused {
        /// In the server's words.
        reason: String,
    },
}

/// The first rank of those that may refuse all others once they are there.
pub const MAY_REFUSE: u8 = 9;

/// What must be there before what: definitions, namespaces, rights, storage, configuration, workloads, custom resources, and
/// last what may refuse all others.
pub fn rank(identity: &Identity) -> u8 {
    let group = group_of(&identity.api_version);
    match identity.kind.as_str() {
        "CustomResourceDefinition" => 0,
        "Namespace" => 1,
        "ServiceAccount" | "Role" | "ClusterRole" => 2,
        "RoleBinding" | "ClusterRoleBinding" | "PriorityClass" | "RuntimeClass"
        | "IngressClass" => 3,
        "StorageClass" | "PersistentVolume" | "CSIDriver" => 4,
        "PersistentVolumeClaim" | "ConfigMap" | "Secret" | "LimitRange" | "ResourceQuota" => 5,
        "MutatingWebhookConfiguration"
        | "ValidatingWebhookConfiguration"
        | "ValidatingAdmissionPolicy"
        | "ValidatingAdmissionPolicyBinding"
        | "MutatingAdmissionPolicy"
        | "MutatingAdmissionPolicyBinding" => MAY_REFUSE,
        "APIService" => 8,
        _ if group.is_empty() || !group.contains('.') || group.ends_with(".k8s.io") => 6,
        _ => 7,
    }
}

/// Whether an object that is there says all that `wanted` says. Then nothing need be tried out, which a webhook could refuse.
pub fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            let is = live.get(name).unwrap_or(&Value::Null);
            holds(is, wanted)
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live.iter().zip(wanted).all(|(live, one)| holds(live, one))
        }
        (live, wanted) => live == wanted,
    }
}

/// What an update would change: `live` against what the server answered to a dry run.
pub fn compare(live: Option<&Value>, answered: &Value) -> Change {
    let Some(live) = live else {
        return Change::Create;
    };
    let mut fields = Vec::new();
    differences(live, answered, "", &mut fields);
    if fields.is_empty() {
        return Change::Unchanged;
    }
    if fields.len() > NAMED {
        let more = fields.len() - NAMED;
        fields.truncate(NAMED);
        fields.push(format!("and {more} more"));
    }
    Change::Update { fields }
}

fn differences(one: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                if path == "metadata" && SERVERS_OWN.contains(&name.as_str()) {
                    continue;
                }
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let null = Value::Null;
                let (one, other) = (one.get(name), other.get(name));
                differences(one.unwrap_or(&null), other.unwrap_or(&null), &inner, found);
            }
        }
        (one, other) if one != other => found.push(path.to_owned()),
        _ => {}
    }
}
