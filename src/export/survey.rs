//! What of the Kubernetes in a snapshot the cluster that it is restored into must fit: said by `restore --plan`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ExportError;
use super::decode::decode;
use super::stored::Stored;
use crate::snapshot::contents::Contents;

/// Names that are given as examples.
const NAMED: usize = 5;

/// Sentences on a snapshot's Kubernetes objects below `prefix`, as of a revision; none when it holds no Kubernetes.
///
/// # Errors
/// When rows cannot be read, or do not reach to the revision.
pub fn survey(
    bytes: &[u8],
    prefix: &str,
    revision: Option<i64>,
) -> Result<Vec<String>, ExportError> {
    let below = format!("{prefix}/");
    let (contents, _) = Contents::of(bytes, below.as_bytes(), revision, 0)?;
    let mut encrypted: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut unstable: BTreeMap<String, usize> = BTreeMap::new();
    let (mut nodes, mut ranges) = (Vec::new(), BTreeSet::new());
    let (mut pod_ranges, mut kubelets) = (BTreeSet::new(), BTreeSet::new());
    for row in contents.rows() {
        let Ok(key) = std::str::from_utf8(row.key) else {
            continue;
        };
        let stored = Stored::of(row.value);
        if let Stored::Encrypted { provider, key } = &stored {
            *encrypted
                .entry((provider.clone(), key.clone()))
                .or_default() += 1;
            continue;
        }
        // Custom resources are stored as their definition, in the same snapshot, says.
        if let Stored::Protobuf(envelope) = &stored {
            let version = envelope.api_version;
            if version.contains("alpha") || version.contains("beta") {
                *unstable
                    .entry(format!("{version} {}", envelope.kind))
                    .or_default() += 1;
            }
        }
        if let Some(name) = key
            .strip_prefix(&below)
            .and_then(|rest| rest.strip_prefix("minions/"))
        {
            nodes.push(name.to_owned());
            let (range, kubelet) = of_node(key, &stored);
            pod_ranges.extend(range);
            kubelets.extend(kubelet);
        }
        let rest = key.strip_prefix(&below).unwrap_or(key);
        ranges.extend(service_ranges(rest, &stored));
    }
    let mut notes = Vec::new();
    for ((provider, key), count) in encrypted {
        notes.push(format!(
            "{count} values are encrypted at rest by the API server (provider {provider}, key '{key}'): its EncryptionConfiguration must have that key"
        ));
    }
    for range in ranges {
        notes.push(format!(
            "services have addresses of {range}: the API server needs the same --service-cluster-ip-range"
        ));
    }
    if !nodes.is_empty() {
        notes.push(format!(
            "{} nodes are in it ({}): delete the objects of those that are gone",
            nodes.len(),
            some(nodes.iter())
        ));
    }
    if !kubelets.is_empty() {
        notes.push(format!(
            "their kubelets were of Kubernetes {}: take an API server of that version; one more than three minor versions newer serves such kubelets no more, and an older one may not read what is stored",
            some(kubelets.iter())
        ));
    }
    if !pod_ranges.is_empty() {
        notes.push(format!(
            "pods had addresses of {}: the controller manager's --cluster-cidr and the network plugin must have these",
            some(pod_ranges.iter())
        ));
    }
    for (kind, count) in unstable {
        notes.push(format!(
            "{count} objects are stored as {kind}: a Kubernetes that does not serve that version any more cannot read them"
        ));
    }
    Ok(notes)
}

fn some<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let count = names.len();
    let shown: Vec<&str> = names.take(NAMED).map(String::as_str).collect();
    match count.checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// The range that a node gave its pods, and the version of its kubelet.
fn of_node(key: &str, stored: &Stored<'_>) -> (Option<String>, Option<String>) {
    let Ok(decoded) = decode(key, stored) else {
        return (None, None);
    };
    let object = Value::Object(decoded.object);
    let text = |pointer: &str| Some(object.pointer(pointer)?.as_str()?.to_owned());
    (
        text("/spec/podCIDR"),
        text("/status/nodeInfo/kubeletVersion").filter(|version| !version.is_empty()),
    )
}

/// The ranges of services that an object says: of an allocation before Kubernetes 1.33, of a ServiceCIDR since.
fn service_ranges(key: &str, stored: &Stored<'_>) -> Vec<String> {
    if key != "ranges/serviceips" && !key.starts_with("servicecidrs/") {
        return Vec::new();
    }
    let Ok(decoded) = decode(key, stored) else {
        return Vec::new();
    };
    let object = Value::Object(decoded.object);
    let cidrs = object.pointer("/spec/cidrs").and_then(Value::as_array);
    let all = cidrs.into_iter().flatten().chain(object.get("range"));
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}
