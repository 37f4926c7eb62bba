//! The bundle: Kubernetes objects as JSON files in a tar, in the layout of a Velero backup, with what is known of them at its
//! end. Written and read as a stream; names are checked, since a bundle may come from anywhere.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The form of a bundle that is whole.
pub const BUNDLE_VERSION: u32 = 1;
/// The form of one that holds changes only; a program that knows no such thing must not take it for a whole one.
const CHANGES_VERSION: u32 = 2;
const ABOUT: &str = "metadata/etcdguardian.json";
/// Velero's word for the layout.
const VELERO_VERSION: (&str, &str) = ("metadata/version", "1.1.0\n");
/// An object of etcd has at most 1.5 MiB, its JSON some more; the description of a large cluster too.
const LARGEST: u64 = 64 << 20;

/// What a bundle says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Of the form.
    pub version: u32,
    /// When the export began.
    pub created: Option<Timestamp>,
    /// As `v1.34.0`.
    pub server_version: String,
    /// EKS, GKE, ACK, AKS, k3s, RKE2 or other.
    pub platform: String,
    /// The UID of the namespace kube-system, which is the cluster's.
    pub cluster_uid: String,
    /// The resourceVersion at which all kinds were listed where the server allowed it.
    pub resource_version: String,
    /// By resource, as `deployments.apps`.
    pub kinds: BTreeMap<String, KindCount>,
    /// Resources that were left out, and why.
    pub skipped: Vec<Skipped>,
    /// What no export can hold.
    pub cannot_hold: Vec<String>,
    /// The export whose objects these change; absent when the bundle is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// By resource, the objects of the parent that are gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deleted: BTreeMap<String, Vec<Gone>>,
}

/// The export that a bundle of changes builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Its id.
    pub id: String,
    /// The resourceVersion up to which it holds everything.
    pub resource_version: String,
}

/// An object that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gone {
    /// Empty for objects of the whole cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The objects of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindCount {
    /// As `apps/v1`.
    pub api_version: String,
    /// As `Deployment`.
    pub kind: String,
    /// How many.
    pub objects: u64,
    /// SHA-256 over the files in their order, hexadecimal.
    pub sha256: String,
    /// Listed at the bundle's resourceVersion; else at one of its own.
    pub pinned: bool,
    /// In a bundle of changes: all objects of the kind are in it, and none of the parent's count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// A resource that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// As `events`.
    pub resource: String,
    /// In words.
    pub reason: String,
}

/// One object of a bundle.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As `deployments.apps`.
    pub resource: String,
    /// Empty for objects of the whole cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where its JSON begins in the tar, and how long it is.
    pub place: (u64, u64),
    /// The object.
    pub object: Map<String, Value>,
}

/// Writes a bundle.
pub struct Writer<W: Write> {
    tar: tar::Builder<W>,
    digests: BTreeMap<String, Context>,
    about: About,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(out: W, about: About) -> io::Result<Self> {
        let mut tar = tar::Builder::new(out);
        let (name, text) = VELERO_VERSION;
        append(&mut tar, name, text.as_bytes())?;
        Ok(Self {
            tar,
            digests: BTreeMap::new(),
            about,
        })
    }

    /// What is said so far; to be filled in.
    pub fn about(&mut self) -> &mut About {
        &mut self.about
    }

    /// Adds an object in JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(
        &mut self,
        resource: &str,
        namespace: &str,
        name: &str,
        json: &[u8],
    ) -> io::Result<()> {
        append(&mut self.tar, &path_of(resource, namespace, name), json)?;
        self.digests
            .entry(resource.to_owned())
            .or_insert_with(|| Context::new(&SHA256))
            .update(json);
        self.about
            .kinds
            .entry(resource.to_owned())
            .or_default()
            .objects += 1;
        Ok(())
    }

    /// Ends it with what is known of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<(W, About)> {
        self.about.version = form_of(&self.about);
        for (resource, digest) in self.digests {
            let count = self.about.kinds.entry(resource).or_default();
            count.sha256 = hex::encode(digest.finish());
        }
        let about = serde_json::to_vec_pretty(&self.about)?;
        append(&mut self.tar, ABOUT, &about)?;
        Ok((self.tar.into_inner()?, self.about))
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, bytes)
}

/// `resources/<resource.group>/namespaces/<namespace>/<name>.json`, or `…/cluster/<name>.json`.
fn path_of(resource: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("resources/{resource}/cluster/{name}.json")
    } else {
        format!("resources/{resource}/namespaces/{namespace}/{name}.json")
    }
}

/// Reads a bundle to its end, shows each object, and compares counts and digests with what the bundle says of itself.
///
/// # Errors
/// When it is broken, has names that no object has, or is not what it says.
pub fn read<R: Read>(
    bundle: R,
    mut show: impl FnMut(Entry) -> io::Result<()>,
) -> io::Result<About> {
    let broken = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let mut counted: BTreeMap<String, (u64, Context)> = BTreeMap::new();
    let mut about: Option<About> = None;
    let mut archive = tar::Archive::new(bundle);
    for file in archive.entries()? {
        let mut file = file?;
        let path = String::from_utf8(file.path_bytes().into_owned())
            .map_err(|_| broken("a name in the bundle is not UTF-8".to_owned()))?;
        if !file.header().entry_type().is_file() {
            return Err(broken(format!("{path} is a link or no file at all")));
        }
        if file.size() > LARGEST {
            return Err(broken(format!("{path} is too large for an object")));
        }
        let place = (file.raw_file_position(), file.size());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if path == ABOUT {
            about = Some(serde_json::from_slice(&bytes)?);
            continue;
        }
        if path == VELERO_VERSION.0 {
            continue;
        }
        let (resource, namespace, name) =
            parts_of(&path).ok_or_else(|| broken(format!("{path} is no name of an object")))?;
        let object: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| broken(format!("{path} is no object: {error}")))?;
        let said = |field: &str| {
            let value = object.get("metadata").and_then(|meta| meta.get(field));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        if said("name") != name || said("namespace") != namespace {
            return Err(broken(format!(
                "{path} holds another object than its name says"
            )));
        }
        let count = counted
            .entry(resource.to_owned())
            .or_insert_with(|| (0, Context::new(&SHA256)));
        count.0 += 1;
        count.1.update(&bytes);
        show(Entry {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            place,
            object,
        })?;
    }
    let about = about.ok_or_else(|| {
        broken(format!(
            "{ABOUT} is missing: the bundle is cut off, or not of etcdguardian"
        ))
    })?;
    if about.version != form_of(&about) {
        return Err(broken(format!(
            "its form is {}, and this program knows {BUNDLE_VERSION} and {CHANGES_VERSION}: use a newer etcdguardian",
            about.version
        )));
    }
    for (resource, said) in about.kinds.iter().filter(|(_, said)| said.objects > 0) {
        let (count, digest) = counted
            .remove(resource)
            .map_or((0, String::new()), |(count, digest)| {
                (count, hex::encode(digest.finish()))
            });
        if (count, digest.as_str()) != (said.objects, said.sha256.as_str()) {
            return Err(broken(format!(
                "it holds {count} objects of {resource} and says {}, or their content differs",
                said.objects
            )));
        }
    }
    if let Some((resource, _)) = counted.pop_first() {
        return Err(broken(format!(
            "it holds objects of {resource} that it says nothing of"
        )));
    }
    Ok(about)
}

fn form_of(about: &About) -> u32 {
    match about.parent {
        None => BUNDLE_VERSION,
        Some(_) => CHANGES_VERSION,
    }
}

/// Resource, namespace and name of a path; nothing when it is not exactly one that [`Writer`] makes.
fn parts_of(path: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = path.split('/').collect();
    let (resource, namespace, file) = match parts.as_slice() {
        ["resources", resource, "cluster", file] => (*resource, "", *file),
        ["resources", resource, "namespaces", namespace, file] if !namespace.is_empty() => {
            (*resource, *namespace, *file)
        }
        _ => return None,
    };
    let name = file.strip_suffix(".json")?;
    let fits = |text: &str| {
        !text.is_empty() && text != "." && text != ".." && !text.contains(char::is_control)
    };
    (fits(resource) && fits(name) && (namespace.is_empty() || fits(namespace)))
        .then_some((resource, namespace, name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn bundle(objects: &[(&str, &str, &str, Value)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), About::default()).unwrap();
        for (resource, namespace, name, object) in objects {
            writer
                .add(resource, namespace, name, object.to_string().as_bytes())
                .unwrap();
        }
        writer.finish().unwrap().0
    }

    fn config(namespace: &str, name: &str) -> Value {
        json!({"kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}})
    }

    #[test]
    fn what_was_written_is_read_in_order() {
        let role = json!({"metadata": {"name": "system:x"}});
        let bytes = bundle(&[
            (
                "clusterroles.rbac.authorization.k8s.io",
                "",
                "system:x",
                role,
            ),
            ("configmaps", "shop", "a", config("shop", "a")),
            (
                "configmaps",
                "shop",
                &"n".repeat(250),
                config("shop", &"n".repeat(250)),
            ),
        ]);
        let mut seen = Vec::new();
        let about = read(bytes.as_slice(), |entry| {
            let (start, length) = entry.place;
            let text = &bytes[start as usize..(start + length) as usize];
            let object: Map<String, Value> = serde_json::from_slice(text)?;
            assert_eq!(object, entry.object);
            seen.push(entry.name);
            Ok(())
        });
        assert_eq!(about.unwrap().kinds["configmaps"].objects, 2);
        assert_eq!(seen.len(), 3);
    }

    fn refused(bytes: &[u8]) -> String {
        read(bytes, |_| Ok(())).unwrap_err().to_string()
    }

    #[test]
    fn a_changed_or_cut_bundle_is_refused() {
        let good = bundle(&[("configmaps", "shop", "a", config("shop", "a"))]);
        let text = String::from_utf8_lossy(&good).replace("ConfigMap", "ConfigMaP");
        assert!(refused(text.as_bytes()).contains("content differs"));
        assert!(refused(&good[..2048]).contains("cut off"));
    }

    #[test]
    fn a_name_that_leads_elsewhere_in_a_bundle_is_refused() {
        for (namespace, name) in [("shop", ".."), ("..", "a"), ("shop", "a/b")] {
            let bytes = {
                let mut writer = Writer::new(Vec::new(), About::default()).unwrap();
                let mut header = tar::Header::new_gnu();
                header.set_size(2);
                let path = path_of("configmaps", namespace, name);
                // Written by hand, since the crate itself refuses such names.
                header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
                header.set_cksum();
                writer.tar.append(&header, &b"{}"[..]).unwrap();
                writer.finish().unwrap().0
            };
            assert!(refused(&bytes).contains("no name of an object"), "{name}");
        }
    }

    #[test]
    fn an_object_under_anothers_name_in_a_bundle_is_refused() {
        let other = bundle(&[("configmaps", "shop", "a", config("other", "a"))]);
        assert!(refused(&other).contains("another object"));
    }

    #[test]
    fn a_link_in_a_bundle_is_refused() {
        for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
            let mut writer = Writer::new(Vec::new(), About::default()).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            let place = path_of("configmaps", "shop", "a");
            let link = writer.tar.append_link(&mut header, place, "/etc/shadow");
            link.unwrap();
            let bytes = writer.finish().unwrap().0;
            assert!(refused(&bytes).contains("is a link"), "{kind:?}");
        }
    }
}
