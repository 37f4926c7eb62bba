//! The objects of some namespaces out of a snapshot of etcd, in the same bundle as an export through the API: what a tenant's backup
//! is where etcd can be reached.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ExportError;
use super::bundle::{About, KindCount, Writer};
use super::decode::decode;
use super::find::with_resource_version;
use super::kinds::{group_of, plural};
use super::proxy::CANNOT_HOLD;
use super::resources::{Selection, resource_name};
use super::stored::{Identity, Stored};
use crate::snapshot::contents::Contents;
use crate::snapshot::mvcc::KeyValue;

/// Where kube-apiserver keeps its objects unless it is told otherwise.
pub const PREFIX: &str = "/registry";
const SYSTEM: &str = "kube-system";

/// A namespace as etcd holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its UID.
    pub uid: String,
}

/// The namespaces that a snapshot holds at its newest revision.
///
/// # Errors
/// When rows cannot be read, or a namespace cannot be decoded.
pub fn namespaces(bytes: &[u8], prefix: &str) -> Result<Vec<Named>, ExportError> {
    let below = format!("{prefix}/namespaces/");
    let (contents, _) = Contents::of(bytes, below.as_bytes(), None, 0)?;
    contents.rows().map(|row| named(&row)).collect()
}

/// The namespace in a row of etcd.
pub(super) fn named(row: &KeyValue<'_>) -> Result<Named, ExportError> {
    let key = String::from_utf8_lossy(row.key);
    let object = decode(&key, &Stored::of(row.value))?.object;
    let meta = object.get("metadata");
    let text = |field: &str| {
        let value = meta.and_then(|meta| meta.get(field));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let labels = meta.and_then(|meta| meta.get("labels"));
    let labels = labels.and_then(|labels| serde_json::from_value(labels.clone()).ok());
    Ok(Named {
        name: text("name"),
        labels: labels.unwrap_or_default(),
        uid: text("uid"),
    })
}

/// Writes the objects of the selected namespaces and these namespaces, or all objects where none are selected, as of a revision of the
/// snapshot: its newest unless given.
///
/// # Errors
/// When rows cannot be read, the bundle cannot be written, or a value is encrypted by the API server or of a kind that is not known:
/// an export that lacks what was asked for is none.
pub fn export<W: Write>(
    bytes: &[u8],
    prefix: &str,
    selection: &Selection,
    (created, revision, etcd_version): (Timestamp, Option<i64>, &str),
    out: W,
) -> Result<(W, About), ExportError> {
    let all = namespaces(bytes, prefix)?;
    let newest = crate::snapshot::revisions(bytes)?.0;
    let about = about(&all, revision.unwrap_or(newest), created, etcd_version);
    let below = format!("{prefix}/");
    let mut taken = Taken::new(out, about, &below, selection)?;
    let (contents, _) = Contents::of(bytes, below.as_bytes(), revision, 0)?;
    for row in contents.rows() {
        taken.take(&row)?;
    }
    taken.finish()
}

/// What is known before any object is read.
pub(super) fn about(all: &[Named], revision: i64, created: Timestamp, version: &str) -> About {
    let system = all.iter().find(|one| one.name == SYSTEM);
    About {
        created: Some(created),
        server_version: format!("as stored in etcd {version}"),
        platform: "other".to_owned(),
        cluster_uid: system.map(|one| one.uid.clone()).unwrap_or_default(),
        resource_version: revision.to_string(),
        cannot_hold: CANNOT_HOLD.map(str::to_owned).to_vec(),
        ..About::default()
    }
}

/// Rows of etcd on their way into a bundle.
pub(super) struct Taken<'a, W: Write> {
    writer: Writer<W>,
    /// The prefix of all objects, with its slash.
    below: &'a str,
    selection: &'a Selection,
}

fn written(source: std::io::Error) -> ExportError {
    let action = "write";
    ExportError::Bundle { action, source }
}

impl<'a, W: Write> Taken<'a, W> {
    pub fn new(
        out: W,
        about: About,
        below: &'a str,
        selection: &'a Selection,
    ) -> Result<Self, ExportError> {
        Ok(Self {
            writer: Writer::new(out, about).map_err(written)?,
            below,
            selection,
        })
    }

    /// Adds the object in a row when it is one that is asked for.
    pub fn take(&mut self, row: &KeyValue<'_>) -> Result<(), ExportError> {
        let (selection, below) = (self.selection, self.below);
        let Some((key, identity)) = identity_of(row, below) else {
            return Ok(());
        };
        let resource = resource_of(&identity, key, below, &Stored::of(row.value));
        let is_namespace = resource == "namespaces";
        let place = if is_namespace {
            &identity.name
        } else {
            &identity.namespace
        };
        let wanted = selection.namespaces.is_empty() || selection.namespaces.contains(place);
        let namespaced = !identity.namespace.is_empty();
        if !wanted || selection.refusal(&resource, namespaced, true).is_some() {
            return Ok(());
        }
        let decoded = decode(key, &Stored::of(row.value))?;
        if !decoded.unknown.is_empty() {
            self.writer.about().cannot_hold.push(format!(
                "fields of {identity} that this version of etcdguardian does not know: {}",
                decoded.unknown.join(", ")
            ));
        }
        let object: Map<String, Value> = with_resource_version(decoded.object, row.mod_revision);
        let json = serde_json::to_vec(&object).map_err(|error| written(error.into()))?;
        let count = self.writer.about().kinds.entry(resource.clone());
        count.or_insert_with(|| KindCount {
            api_version: identity.api_version.clone(),
            kind: identity.kind.clone(),
            pinned: true,
            ..KindCount::default()
        });
        let (namespace, name) = (&identity.namespace, &identity.name);
        let added = self.writer.add(&resource, namespace, name, &json);
        added.map_err(written)
    }

    /// Ends the bundle.
    pub fn finish(self) -> Result<(W, About), ExportError> {
        self.writer.finish().map_err(written)
    }
}

fn identity_of<'a>(row: &KeyValue<'a>, below: &str) -> Option<(&'a str, Identity)> {
    let key = std::str::from_utf8(row.key).ok()?;
    Some((key, Stored::of(row.value).identity(key, below)?))
}

/// The resource of an object: of custom ones the key says it, built-in ones are named as Kubernetes forms plurals.
fn resource_of(identity: &Identity, key: &str, below: &str, stored: &Stored<'_>) -> String {
    let group = group_of(&identity.api_version);
    let parts: Vec<&str> = key.strip_prefix(below).unwrap_or(key).split('/').collect();
    match (stored, parts.as_slice()) {
        (Stored::Json(_) | Stored::Cbor(_), [first, resource, ..]) if *first == group => {
            resource_name(resource, group)
        }
        // Of an encrypted one nothing but its key is known.
        (Stored::Encrypted { .. }, _) => resource_name(&identity.kind, &identity.api_version),
        _ => resource_name(&plural(&identity.kind.to_lowercase()), group),
    }
}
