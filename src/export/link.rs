//! Owners of imported objects: who they are in a bundle, and the references to them under their new UIDs.

use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};

use super::ExportError;
use super::apply::{FIELD_MANAGER, Server};
use super::import::{Step, apply_patiently};
use super::index::{Index, object_at};
use super::plan::Change;
use super::stored::Identity;

/// The owners that an object names, and the one that controls it.
pub(super) fn owners(
    object: &Map<String, Value>,
    namespace: &str,
) -> (Vec<Identity>, Option<Identity>) {
    let named = object
        .get("metadata")
        .and_then(|meta| meta.get("ownerReferences"))
        .and_then(Value::as_array);
    let (mut owners, mut controller) = (Vec::new(), None);
    for owner in named.into_iter().flatten() {
        let text = |field: &str| {
            let value = owner.get(field).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let identity = Identity {
            api_version: text("apiVersion"),
            kind: text("kind"),
            namespace: namespace.to_owned(),
            name: text("name"),
        };
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            controller = Some(identity.clone());
        }
        owners.push(identity);
    }
    (owners, controller)
}

/// The owner references of an object as it was, under the UIDs that the owners have now; without those that are not there.
///
/// # Errors
/// When the server cannot be asked.
pub async fn references(
    server: &Server,
    raw: &Map<String, Value>,
    namespace: &str,
) -> Result<Vec<Value>, ExportError> {
    let named = raw
        .get("metadata")
        .and_then(|meta| meta.get("ownerReferences"))
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let (owners, _) = owners(raw, namespace);
    let mut references = Vec::new();
    for (owner, mut reference) in owners.iter().zip(named) {
        let Some(uid) = server.uid_of(owner).await? else {
            continue;
        };
        if let Some(fields) = reference.as_object_mut() {
            fields.insert("uid".into(), uid.into());
        }
        references.push(reference);
    }
    Ok(references)
}

/// Owners have new UIDs: references to those that are there are set, others stay left out. So are those of an object that an import
/// that was cut off had put back already.
pub(super) async fn link_owners(
    server: &Server,
    file: &Path,
    index: &Index,
    steps: &mut [Step],
    range: Range<usize>,
) -> Result<(), ExportError> {
    let some = index.objects.iter().enumerate();
    for (at, one) in some.skip(range.start).take(range.len()) {
        let Some(step) = steps.get_mut(at) else {
            continue;
        };
        let applied = step.applied == Some(true);
        if one.owners.is_empty() || !(applied || step.change == Change::Unchanged) {
            continue;
        }
        if !applied && !lacks_our_owners(server, &one.identity).await? {
            continue;
        }
        let raw = object_at(file, one.place)?;
        let references = references(server, &raw, &one.identity.namespace).await?;
        if !references.is_empty() {
            let (mut incoming, _) = one.load(file)?;
            let mut notes = step.notes.clone();
            set_owners(&mut incoming.object, &mut notes, references);
            if let Err(problem) = apply_patiently(server, &incoming).await? {
                step.notes
                    .push(format!("its owners cannot be linked: {problem}"));
                continue;
            }
            step.notes = notes;
            if !applied {
                step.notes.push("its owners are linked".to_owned());
            }
        }
    }
    Ok(())
}

/// Sets the owners of an object that are there; that the others are left out stays said.
pub fn set_owners(
    object: &mut Map<String, Value>,
    notes: &mut Vec<String>,
    references: Vec<Value>,
) {
    for owner in &references {
        let left_out = note_of(owner);
        notes.retain(|note| !note.starts_with(&left_out));
    }
    let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(meta), false) = (meta, references.is_empty()) {
        meta.insert("ownerReferences".into(), references.into());
    }
}

/// How a note on an owner begins.
pub(super) fn note_of(owner: &Value) -> String {
    let text = |field| owner.get(field).and_then(Value::as_str).unwrap_or("?");
    format!("its owner {} {} is left out", text("kind"), text("name"))
}

/// Whether an import made an object and was cut off before it could link it.
async fn lacks_our_owners(server: &Server, identity: &Identity) -> Result<bool, ExportError> {
    let Some(meta) = server.metadata_of(identity).await? else {
        return Ok(false);
    };
    let managers = meta.managed_fields.unwrap_or_default();
    let ours = managers
        .iter()
        .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    Ok(ours && meta.owner_references.unwrap_or_default().is_empty())
}
