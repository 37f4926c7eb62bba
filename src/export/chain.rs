//! An export and the changes that follow on it, merged into one whole bundle: the newest word on each object.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use super::ExportError;
use super::bundle::{self, About, Writer};

/// Merges plain bundles, the whole one first, into a new file; each is proved on the way. Only names of what changed are in memory.
///
/// # Errors
/// When one is broken or does not follow on the one before it, or the file cannot be written.
pub fn merge(bundles: &[PathBuf], to: File) -> Result<About, ExportError> {
    let read = |source| ExportError::Bundle {
        action: "read",
        source,
    };
    let written = |source| ExportError::Bundle {
        action: "write",
        source,
    };
    let mut abouts = Vec::with_capacity(bundles.len());
    for file in bundles {
        abouts.push(bundle::read(open(file).map_err(read)?, |_| Ok(())).map_err(read)?);
    }
    follows(&abouts)
        .map_err(|problem| read(io::Error::new(io::ErrorKind::InvalidData, problem)))?;
    let Some(newest) = abouts.last() else {
        return Err(read(io::ErrorKind::NotFound.into()));
    };
    let mut about = newest.clone();
    about.parent = None;
    about.deleted.clear();
    for kind in about.kinds.values_mut() {
        kind.objects = 0;
        kind.sha256.clear();
        kind.whole = false;
    }
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, to), about).map_err(written)?;
    // What older bundles say no more: of whole resources, and of single objects.
    let mut closed: BTreeSet<String> = BTreeSet::new();
    let mut said: BTreeSet<(String, String, String)> = BTreeSet::new();
    for (at, (file, about)) in bundles.iter().zip(&abouts).enumerate().rev() {
        let mut here = BTreeSet::new();
        bundle::read(open(file).map_err(read)?, |entry| {
            if !newest.kinds.contains_key(&entry.resource) || closed.contains(&entry.resource) {
                return Ok(());
            }
            let object = (entry.resource, entry.namespace, entry.name);
            if said.contains(&object) {
                return Ok(());
            }
            let json = serde_json::to_vec(&entry.object)?;
            writer.add(&object.0, &object.1, &object.2, &json)?;
            if at > 0 {
                here.insert(object);
            }
            Ok(())
        })
        .map_err(read)?;
        said.extend(here);
        for (resource, gone) in &about.deleted {
            let gone = gone.iter().map(|one| {
                let (namespace, name) = (one.namespace.clone(), one.name.clone());
                (resource.clone(), namespace, name)
            });
            said.extend(gone);
        }
        let whole = about.kinds.iter().filter(|(_, kind)| kind.whole);
        closed.extend(whole.map(|(resource, _)| resource.clone()));
        // A resource that this bundle does not know was not there: what is older is of another life of it.
        let known = newest.kinds.keys();
        closed.extend(
            known
                .filter(|resource| !about.kinds.contains_key(*resource))
                .cloned(),
        );
    }
    let (out, about) = writer.finish().map_err(written)?;
    out.into_inner()
        .map_err(|error| written(error.into_error()))?
        .sync_all()
        .map_err(written)?;
    Ok(about)
}

fn open(file: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 20, File::open(file)?))
}

/// Whether each goes on where the one before it ended.
fn follows(abouts: &[About]) -> Result<(), String> {
    let mut before: Option<&About> = None;
    for about in abouts {
        match (before, &about.parent) {
            (None, None) => {}
            (None, Some(parent)) => {
                return Err(format!(
                    "it holds only what changed since export {}",
                    parent.id
                ));
            }
            (Some(_), None) => return Err("a whole export follows on another".to_owned()),
            (Some(before), Some(parent)) => {
                if before.resource_version != parent.resource_version
                    || before.cluster_uid != about.cluster_uid
                {
                    return Err(format!(
                        "it goes on from resourceVersion {}, and the export before it ends at {}",
                        parent.resource_version, before.resource_version
                    ));
                }
            }
        }
        before = Some(about);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::super::bundle::{Gone, KindCount, Parent};
    use super::*;

    /// A bundle of ConfigMaps and, with a second resource, of Secrets; name and value of each.
    fn bundle(
        folder: &Path,
        version: &str,
        parent: Option<&str>,
        objects: &[(&str, &str, &str)],
        gone: &[&str],
        whole: &[&str],
    ) -> PathBuf {
        let file = folder.join(version);
        let about = About {
            resource_version: version.to_owned(),
            parent: parent.map(|parent| Parent {
                id: "p".to_owned(),
                resource_version: parent.to_owned(),
            }),
            ..About::default()
        };
        let mut writer = Writer::new(File::create(&file).unwrap(), about).unwrap();
        for resource in ["configmaps", "secrets"] {
            if version == "40" && resource == "secrets" {
                continue;
            }
            let whole = whole.contains(&resource);
            let count = KindCount {
                whole,
                ..KindCount::default()
            };
            writer.about().kinds.insert(resource.to_owned(), count);
        }
        let gone = gone.iter().map(|name| Gone {
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
        });
        let gone: Vec<Gone> = gone.collect();
        if !gone.is_empty() {
            writer.about().deleted.insert("configmaps".to_owned(), gone);
        }
        for (resource, name, value) in objects {
            let object = json!({"metadata": {"namespace": "shop", "name": name}, "value": value});
            writer
                .add(resource, "shop", name, object.to_string().as_bytes())
                .unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn merged(folder: &Path, bundles: &[PathBuf]) -> Result<Vec<String>, ExportError> {
        let to = folder.join("merged");
        let about = merge(bundles, File::create(&to).unwrap())?;
        assert_eq!(about.parent, None);
        let mut found = Vec::new();
        bundle::read(File::open(&to).unwrap(), |entry| {
            let value = entry.object.get("value").and_then(Value::as_str);
            found.push(format!(
                "{}/{}={}",
                entry.resource,
                entry.name,
                value.unwrap()
            ));
            Ok(())
        })
        .unwrap();
        found.sort();
        Ok(found)
    }

    #[test]
    fn the_newest_word_on_each_object_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let chain = [
            bundle(
                at,
                "10",
                None,
                &[
                    ("configmaps", "a", "1"),
                    ("configmaps", "b", "1"),
                    ("configmaps", "c", "1"),
                    ("secrets", "s", "1"),
                ],
                &[],
                &[],
            ),
            bundle(
                at,
                "20",
                Some("10"),
                &[("configmaps", "a", "2"), ("configmaps", "d", "2")],
                &["b"],
                &[],
            ),
            bundle(
                at,
                "30",
                Some("20"),
                &[("configmaps", "b", "3"), ("secrets", "t", "3")],
                &["d"],
                &["secrets"],
            ),
        ];
        let whole = [
            "configmaps/a=1",
            "configmaps/b=1",
            "configmaps/c=1",
            "secrets/s=1",
        ];
        assert_eq!(merged(at, &chain[..1]).unwrap(), whole);
        let second = [
            "configmaps/a=2",
            "configmaps/c=1",
            "configmaps/d=2",
            "secrets/s=1",
        ];
        assert_eq!(merged(at, &chain[..2]).unwrap(), second);
        let third = [
            "configmaps/a=2",
            "configmaps/b=3",
            "configmaps/c=1",
            "secrets/t=3",
        ];
        assert_eq!(merged(at, &chain).unwrap(), third);
        // A resource that was away for a while begins anew; one that is away now is not there.
        let away = bundle(at, "40", Some("30"), &[], &[], &[]);
        let back = bundle(
            at,
            "50",
            Some("40"),
            &[("secrets", "u", "5")],
            &[],
            &["secrets"],
        );
        let chain: Vec<PathBuf> = chain.into_iter().chain([away, back]).collect();
        assert!(
            !merged(at, &chain[..4])
                .unwrap()
                .iter()
                .any(|one| one.starts_with("secrets"))
        );
        assert_eq!(merged(at, &chain).unwrap()[3..], ["secrets/u=5"]);
    }

    #[test]
    fn a_chain_with_a_hole_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let base = bundle(at, "10", None, &[("configmaps", "a", "1")], &[], &[]);
        let late = bundle(at, "30", Some("20"), &[], &["a"], &[]);
        let words = |bundles: &[PathBuf]| {
            let error = merged(at, bundles).unwrap_err();
            crate::cause::with_causes(&error)
        };
        assert!(words(&[base.clone(), late.clone()]).contains("goes on from resourceVersion 20"));
        assert!(words(&[late]).contains("only what changed"));
        assert!(words(&[base.clone(), base]).contains("whole export follows"));
    }
}
