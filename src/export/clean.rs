//! What an object must lose before it can be applied again: what a server gave it, and what names things that are gone.

use serde_json::{Map, Value};

use super::link::note_of;

/// Fields of `metadata` that a server gives.
const SERVER_METADATA: [&str; 9] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "ownerReferences",
];
/// Labels that the Job controller gives, which must not be given by anybody else.
const JOB_LABELS: [&str; 4] = [
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
];
/// Annotations that bind a claim to a volume.
const CLAIM_ANNOTATIONS: [&str; 3] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
];
const SERVICE_ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Takes away `status` and all that prevents the object from being applied; says in words what a person may miss.
pub fn clean(object: &mut Map<String, Value>) -> Vec<String> {
    clean_but(object, false)
}

/// The same; services may keep the addresses and node ports that they had.
pub fn clean_but(object: &mut Map<String, Value>, keep_addresses: bool) -> Vec<String> {
    let mut notes = Vec::new();
    object.remove("status");
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        if let Some(Value::Array(owners)) = meta.get("ownerReferences") {
            for owner in owners {
                notes.push(format!(
                    "{}: it would be deleted with an owner that is gone",
                    note_of(owner)
                ));
            }
        }
        for field in SERVER_METADATA {
            meta.remove(field);
        }
    }
    let kind = text(object, "kind");
    let api_version = text(object, "apiVersion");
    match (api_version.as_str(), kind.as_str()) {
        ("v1", "Service") if keep_addresses => {}
        ("v1", "Service") => service(object, &mut notes),
        ("v1", "Pod") => pod(object, &mut notes),
        ("v1", "Namespace") => {
            object.remove("spec");
        }
        ("v1", "PersistentVolumeClaim") => remove_annotations(object, &CLAIM_ANNOTATIONS),
        ("v1", "PersistentVolume") => volume(object, &mut notes),
        ("v1", "Secret") => secret(object, &mut notes),
        ("batch/v1", "Job") => job(object),
        _ => {}
    }
    notes
}

fn text(object: &Map<String, Value>, field: &str) -> String {
    let value = object.get(field).and_then(Value::as_str);
    value.unwrap_or_default().to_owned()
}

fn inner<'a>(
    object: &'a mut Map<String, Value>,
    path: &[&str],
) -> Option<&'a mut Map<String, Value>> {
    let mut current = object;
    for part in path {
        current = current.get_mut(*part)?.as_object_mut()?;
    }
    Some(current)
}

fn drop_field(object: &mut Map<String, Value>, field: &str, notes: &mut Vec<String>) {
    let removed = inner(object, &["spec"]).and_then(|spec| spec.remove(field));
    if let Some(value) = removed {
        notes.push(format!("spec.{field} ({value}) is left out"));
    }
}

fn remove_annotations(object: &mut Map<String, Value>, names: &[&str]) {
    remove_words(object, &["metadata"], "annotations", names);
}

/// Takes some of an object's labels or annotations away, and the empty map with the last of them: no server keeps one, so that it
/// would differ from every object that is there.
fn remove_words(object: &mut Map<String, Value>, parent: &[&str], words: &str, names: &[&str]) {
    let Some(parent) = inner(object, parent) else {
        return;
    };
    if let Some(Value::Object(all)) = parent.get_mut(words) {
        for name in names {
            all.remove(*name);
        }
        if all.is_empty() {
            parent.remove(words);
        }
    }
}

/// A pod is placed anew, with the priority that its class has here; containers of a debugging session are not part of it.
fn pod(object: &mut Map<String, Value>, notes: &mut Vec<String>) {
    drop_field(object, "nodeName", notes);
    drop_field(object, "ephemeralContainers", notes);
    if let Some(spec) = inner(object, &["spec"]) {
        spec.remove("priority");
    }
}

/// Lets a claim find another volume than one that does not come along.
pub(super) fn unbind(object: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let removed = inner(object, &["spec"]).and_then(|spec| spec.remove("volumeName"));
    if let Some(Value::String(volume)) = removed {
        notes.push(format!(
            "its volume {volume} is not in the export: it waits for another"
        ));
    }
}

/// Addresses and node ports may belong to somebody else by now; a headless service stays one.
fn service(object: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let Some(spec) = inner(object, &["spec"]) else {
        return;
    };
    if spec.get("clusterIP").and_then(Value::as_str) != Some("None") {
        if let Some(address) = spec.remove("clusterIP") {
            notes.push(format!(
                "its address {address} is left out: the cluster gives it one"
            ));
        }
        spec.remove("clusterIPs");
    }
    spec.remove("healthCheckNodePort");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let removed = port
            .as_object_mut()
            .and_then(|port| port.remove("nodePort"));
        if let Some(number) = removed {
            notes.push(format!(
                "its node port {number} is left out: the cluster gives it one"
            ));
        }
    }
}

/// A volume is bound by the uid of its claim, which a restored claim does not have.
fn volume(object: &mut Map<String, Value>, notes: &mut Vec<String>) {
    if let Some(claim) = inner(object, &["spec", "claimRef"]) {
        claim.remove("uid");
        claim.remove("resourceVersion");
        notes.push("it waits for the claim of the same name".to_owned());
    }
    remove_annotations(object, &["pv.kubernetes.io/bound-by-controller"]);
}

/// A token is good only for the service account that it was made for; the cluster makes a new one.
fn secret(object: &mut Map<String, Value>, notes: &mut Vec<String>) {
    if text(object, "type") == "kubernetes.io/service-account-token" {
        object.remove("data");
        remove_annotations(object, &[SERVICE_ACCOUNT_UID]);
        notes.push("its token is left out: the cluster makes a new one".to_owned());
    }
}

/// The selector of a Job is made of its uid, unless somebody chose one.
fn job(object: &mut Map<String, Value>) {
    let chosen = inner(object, &["spec"])
        .and_then(|spec| spec.get("manualSelector"))
        .and_then(Value::as_bool)
        .unwrap_or_default();
    if chosen {
        return;
    }
    if let Some(spec) = inner(object, &["spec"]) {
        spec.remove("selector");
    }
    for parent in [&["metadata"][..], &["spec", "template", "metadata"]] {
        remove_words(object, parent, "labels", &JOB_LABELS);
    }
}
