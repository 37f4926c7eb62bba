//! Which objects of a snapshot somebody asks for: those that are there at a revision, or those that were deleted by then.

use super::ExportError;
use super::bundle;
use super::decode::{Decoded, decode};
use super::kinds::{CustomNames, DEFINITIONS, WantedKind};
use super::stored::{Identity, Stored};
use crate::snapshot::contents::{self, Contents};
use crate::snapshot::mvcc::KeyValue;

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the API server keeps its objects, as `/registry`.
    pub prefix: String,
    /// Only objects of this namespace.
    pub namespace: Option<String>,
    /// Only objects of this kind.
    pub kind: Option<WantedKind>,
    /// Only objects of this name.
    pub name: Option<String>,
    /// As of this revision; the newest when absent.
    pub revision: Option<i64>,
    /// Those that were deleted, as they last were, instead of those that are there.
    pub deleted: bool,
}

/// An object that was found.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// Its key in etcd.
    pub key: String,
    /// Which object it is.
    pub identity: Identity,
    /// Its value.
    pub stored: Stored<'a>,
    /// The revision that last changed it.
    pub mod_revision: i64,
    /// Bytes of its key and value.
    pub size: u64,
    /// The revision that deleted it.
    pub deleted_at: Option<i64>,
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Search<'a> {
    /// In the order of their keys; several of a name only of several kinds or namespaces.
    pub objects: Vec<Found<'a>>,
    /// Keys that hold no object, and why.
    pub others: Vec<String>,
}

impl Found<'_> {
    /// Decodes it.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(&self) -> Result<Decoded, ExportError> {
        let decoded = decode(&self.key, &self.stored)?;
        Ok(Decoded {
            object: with_resource_version(decoded.object, self.mod_revision),
            ..decoded
        })
    }
}

/// What the API server adds when it answers: the revision, which is not stored in the value.
pub(super) fn with_resource_version(
    mut object: serde_json::Map<String, serde_json::Value>,
    revision: i64,
) -> serde_json::Map<String, serde_json::Value> {
    if let Some(serde_json::Value::Object(meta)) = object.get_mut("metadata") {
        meta.insert("resourceVersion".into(), revision.to_string().into());
    }
    object
}

/// Finds objects in the snapshot `bytes`.
///
/// # Errors
/// When rows cannot be read, or do not reach to the revision.
pub fn find<'a>(bytes: &'a [u8], wanted: &Wanted) -> Result<Search<'a>, ExportError> {
    let prefix = format!("{}/", wanted.prefix.trim_end_matches('/'));
    let (live, _) = Contents::of(bytes, prefix.as_bytes(), wanted.revision, 0)?;
    let definitions = format!("{}{DEFINITIONS}", wanted.prefix.trim_end_matches('/'));
    let custom: Vec<CustomNames> = live
        .rows()
        .filter(|row| row.key.starts_with(definitions.as_bytes()))
        .filter_map(|row| CustomNames::of(row.value))
        .collect();
    let mut search = Search::default();
    if !wanted.deleted {
        for row in live.rows() {
            search.look(&row, None, wanted, &prefix, &custom);
        }
        return Ok(search);
    }
    for (row, deleted_at) in contents::deleted(bytes, prefix.as_bytes(), wanted.revision)? {
        search.look(&row, Some(deleted_at), wanted, &prefix, &custom);
    }
    Ok(search)
}

/// Finds objects in the plain bundle `bytes` of an export, which is proved on the way. A bundle has one moment and no history.
///
/// # Errors
/// When the bundle is broken, or not what it says.
pub fn find_in_bundle<'a>(bytes: &'a [u8], wanted: &Wanted) -> Result<Search<'a>, ExportError> {
    let read = |source| ExportError::Bundle {
        action: "read",
        source,
    };
    let differs =
        |wanted: &Option<String>, is: &str| wanted.as_deref().is_some_and(|one| one != is);
    let mut custom = Vec::new();
    let mut search = Search::default();
    bundle::read(bytes, |entry| {
        let (start, length) = entry.place;
        let value = usize::try_from(start)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(start, length)| bytes.get(start..start.checked_add(length)?));
        let Some(value) = value else {
            return Ok(());
        };
        if entry.resource == "customresourcedefinitions.apiextensions.k8s.io" {
            custom.extend(CustomNames::of(value));
        }
        let skip = wanted.deleted
            || differs(&wanted.name, &entry.name)
            || differs(&wanted.namespace, &entry.namespace);
        let stored = Stored::Json(value);
        let key = format!("{}/{}/{}", entry.resource, entry.namespace, entry.name);
        if let (false, Some(identity)) = (skip, stored.identity(&key, "")) {
            let version = entry.object.get("metadata");
            let version =
                version.and_then(|meta| meta.get("resourceVersion")?.as_str()?.parse().ok());
            search.objects.push(Found {
                key,
                identity,
                stored,
                mod_revision: version.unwrap_or_default(),
                size: length,
                deleted_at: None,
            });
        }
        Ok(())
    })
    .map_err(read)?;
    if let Some(kind) = &wanted.kind {
        search
            .objects
            .retain(|found| kind.matches(&found.identity, &custom));
    }
    Ok(search)
}

impl<'a> Search<'a> {
    fn look(
        &mut self,
        row: &KeyValue<'a>,
        deleted_at: Option<i64>,
        wanted: &Wanted,
        prefix: &str,
        custom: &[CustomNames],
    ) {
        let Ok(key) = std::str::from_utf8(row.key) else {
            return;
        };
        // Keys end in the namespace and the name: most values need not be looked into.
        let mut parts = key.rsplit('/');
        let (name, namespace) = (parts.next(), parts.next());
        if wanted.name.is_some() && name != wanted.name.as_deref() {
            return;
        }
        if wanted.namespace.is_some() && namespace != wanted.namespace.as_deref() {
            return;
        }
        let stored = Stored::of(row.value);
        let Some(identity) = stored.identity(key, prefix) else {
            let problem = match stored {
                Stored::Other(problem) => problem,
                _ => "it does not say which object it is",
            };
            self.others.push(format!("{key}: {problem}"));
            return;
        };
        let namespace_differs = wanted
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != identity.namespace);
        let kind_differs = wanted
            .kind
            .as_ref()
            .is_some_and(|kind| !kind.matches(&identity, custom));
        if namespace_differs || kind_differs {
            return;
        }
        self.objects.push(Found {
            key: key.to_owned(),
            identity,
            stored,
            mod_revision: row.mod_revision,
            size: contents::size(row),
            deleted_at,
        });
    }
}
