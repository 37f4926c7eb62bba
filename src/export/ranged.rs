//! The objects of some namespaces straight out of a running etcd, by the prefixes under which their API server keeps them, all as of one
//! revision; nothing else of the database is read.

use std::io::Write;

use jiff::Timestamp;

use super::ExportError;
use super::bundle::About;
use super::direct::{Named, Taken, about, named};
use super::resources::Selection;
use crate::etcd::Pinned;
use crate::snapshot::mvcc::KeyValue;

/// Objects of a page: an object has at most 1.5 MiB.
const PAGE: i64 = 100;

/// The namespaces that etcd holds.
///
/// # Errors
/// When etcd does not answer, or a namespace cannot be decoded.
pub async fn namespaces(etcd: &mut Pinned<'_>, prefix: &str) -> Result<Vec<Named>, ExportError> {
    let mut found = Vec::new();
    let range = below(&format!("{prefix}/namespaces/"));
    each(etcd, range, |row| {
        found.push(named(row)?);
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Writes the objects of the selected ones of `all` namespaces, and these namespaces, to a bundle.
///
/// # Errors
/// As [`super::direct::export`], and when etcd does not answer.
pub async fn export<W: Write>(
    etcd: &mut Pinned<'_>,
    all: &[Named],
    prefix: &str,
    selection: &Selection,
    created: Timestamp,
    out: W,
) -> Result<(W, About), ExportError> {
    let root = format!("{prefix}/");
    let about = about(all, etcd.revision, created, &etcd.member.version);
    let mut taken = Taken::new(out, about, &root, selection)?;
    for folder in folders(etcd, &root).await? {
        for namespace in &selection.namespaces {
            let range = match folder == "namespaces/" {
                true => {
                    let key = format!("{root}{folder}{namespace}");
                    (key.clone().into_bytes(), after(key.into_bytes()))
                }
                false => below(&format!("{root}{folder}{namespace}/")),
            };
            each(etcd, range, |row| taken.take(row)).await?;
        }
    }
    taken.finish()
}

/// The folders of all resources below the root, with their slashes, as `configmaps/`: each is found by one key in it.
async fn folders(etcd: &mut Pinned<'_>, root: &str) -> Result<Vec<String>, ExportError> {
    let (mut from, end) = below(root);
    let mut found = Vec::new();
    loop {
        let (keys, _) = etcd.page((&from, &end), 1, true).await?;
        let Some(key) = keys.first() else {
            return Ok(found);
        };
        let text = std::str::from_utf8(key.key()).ok();
        let folder = text
            .and_then(|text| text.strip_prefix(root))
            .and_then(folder_of);
        from = match folder {
            Some(folder) => {
                found.push(folder.to_owned());
                below(&format!("{root}{folder}")).1
            }
            None => after(key.key().to_vec()),
        };
    }
}

/// The folder of the resource that a key below the root is of: `configmaps/`, `example.com/ferns/`, `services/specs/`.
fn folder_of(key: &str) -> Option<&str> {
    let (first, rest) = key.split_once('/')?;
    // The group of a custom kind has a dot, and no built-in resource has one; only services are two resources in one folder.
    let length = match first.contains('.') || first == "services" {
        false => first.len() + 1,
        true => first.len() + 1 + rest.find('/')? + 1,
    };
    key.get(..length)
}

/// All keys that begin with a folder, whose last letter is a slash.
fn below(folder: &str) -> (Vec<u8>, Vec<u8>) {
    let from = folder.as_bytes().to_vec();
    let mut end = from.clone();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (from, end)
}

/// The smallest key after this one.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// Shows each row of a range.
async fn each(
    etcd: &mut Pinned<'_>,
    (mut from, end): (Vec<u8>, Vec<u8>),
    mut show: impl FnMut(&KeyValue<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    loop {
        let (rows, more) = etcd.page((&from, &end), PAGE, false).await?;
        for row in &rows {
            show(&KeyValue {
                key: row.key(),
                create_revision: row.create_revision(),
                mod_revision: row.mod_revision(),
                version: row.version(),
                value: row.value(),
                lease: row.lease(),
            })?;
        }
        match rows.last() {
            Some(last) if more => from = after(last.key().to_vec()),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_in_which_folder_its_resource_lies() {
        for (key, folder) in [
            ("configmaps/shop/a", Some("configmaps/")),
            ("minions/node", Some("minions/")),
            ("services/specs/shop/web", Some("services/specs/")),
            ("services/endpoints/shop/web", Some("services/endpoints/")),
            ("example.com/ferns/shop/one", Some("example.com/ferns/")),
            (
                "apiregistration.k8s.io/apiservices/v1.apps",
                Some("apiregistration.k8s.io/apiservices/"),
            ),
            ("health", None),
            ("example.com/odd", None),
        ] {
            assert_eq!(folder_of(key), folder, "{key}");
        }
        assert_eq!(
            below("/registry/secrets/a/"),
            (
                b"/registry/secrets/a/".to_vec(),
                b"/registry/secrets/a0".to_vec()
            )
        );
    }
}
