//! Manifests as bytes: written in one form, and believed only when nothing in them could lead out of their own folder. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::{Key, Role};
use super::{Kind, Manifest};
use crate::api::{Compression, ErrorClass};

/// The layout that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// A manifest is a few kilobytes; a larger object is not one.
pub const MAX_MANIFEST_BYTES: u64 = 1024 * 1024;
/// No store holds an object this large, and no etcd a database: 64 TiB.
const MAX_SIZE: u64 = 64 << 40;
/// No name of Kubernetes, no version and no sentence of ours is longer.
const MAX_TEXT: usize = 4096;
/// More than any version of this program names.
const MAX_SHARES: usize = 256;

/// What an export was asked to hold, so that another can go on where it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportScope {
    /// SHA-256 of the selection of resources and namespaces, hexadecimal.
    pub selection: String,
    /// The resources, as `deployments.apps`, and the API version in which each was listed.
    pub kinds: BTreeMap<String, String>,
}

impl Manifest {
    /// Whether a key is needed to read it.
    pub fn is_sealed(&self) -> bool {
        !self.seal.method.is_empty()
    }

    /// Whether it holds changes only, and another backup is needed to read it.
    pub fn is_part(&self) -> bool {
        self.kind == Kind::Increment || self.chain.is_some()
    }
}

/// Why a manifest is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is too large to be one.
    #[error("it has {size} bytes, more than any manifest")]
    TooLarge { size: u64 },
    /// It is not the JSON of a manifest.
    #[error("it is not a manifest")]
    Json(#[source] serde_path_to_error::Error<serde_json::Error>),
    /// A newer program wrote it.
    #[error(
        "its format version is {version}, and this program knows {FORMAT_VERSION}: use a newer etcdguardian"
    )]
    Version { version: u32 },
    /// It could not have a place in a repository.
    #[error("its id '{id}', cluster id or revisions are not those of a backup")]
    Name { id: String },
    /// It lies where another backup's manifest belongs.
    #[error("it says that it belongs at {said}")]
    Elsewhere { said: String },
    /// Its data would lie outside its own folder, or under another form of name.
    #[error("its data key '{data_key}' is not {expected}")]
    DataKey { data_key: String, expected: String },
    /// A field cannot be true.
    #[error("its {field} cannot be true")]
    Field { field: &'static str },
    /// It cannot be written as JSON.
    #[error("it cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

impl ManifestError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::VerificationFailed
    }
}

/// The bytes of a manifest, checked as a reader will check them.
///
/// # Errors
/// When a reader would not believe it.
pub fn encode(manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    check(manifest)?;
    // Whoever may read a sealed backup's manifest is not to learn what kinds of objects are in it.
    let open;
    let written = if manifest.is_sealed() && !manifest.shares.is_empty() {
        open = Manifest {
            shares: Vec::new(),
            ..manifest.clone()
        };
        &open
    } else {
        manifest
    };
    let mut bytes = serde_json::to_vec_pretty(written).map_err(ManifestError::Encode)?;
    bytes.push(b'\n');
    let size = bytes.len() as u64;
    if size > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge { size });
    }
    Ok(bytes)
}

/// Reads the manifest that lies under `key`.
///
/// # Errors
/// When it is not one, or cannot be the one of that key.
pub fn decode(key: &Key, bytes: &[u8]) -> Result<Manifest, ManifestError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u32,
    }
    let size = bytes.len() as u64;
    if size > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge { size });
    }
    let json = &mut serde_json::Deserializer::from_slice(bytes);
    let Version { format_version } =
        serde_path_to_error::deserialize(json).map_err(ManifestError::Json)?;
    if format_version != FORMAT_VERSION {
        return Err(ManifestError::Version {
            version: format_version,
        });
    }
    let json = &mut serde_json::Deserializer::from_slice(bytes);
    let manifest: Manifest = serde_path_to_error::deserialize(json).map_err(ManifestError::Json)?;
    let own = check(&manifest)?;
    if own != *key {
        return Err(ManifestError::Elsewhere {
            said: own.to_string(),
        });
    }
    Ok(manifest)
}

/// Checks what a manifest says of itself and gives its own key.
///
/// # Errors
/// Names the first thing that cannot be.
pub fn check(manifest: &Manifest) -> Result<Key, ManifestError> {
    if manifest.format_version != FORMAT_VERSION {
        return Err(ManifestError::Version {
            version: manifest.format_version,
        });
    }
    let own = Key::of_manifest(manifest)?;
    if own.id() != manifest.id {
        return Err(ManifestError::Name {
            id: short(&manifest.id),
        });
    }
    let role = Role::Data {
        zstd: manifest.compression == Compression::Zstd,
        age: manifest.is_sealed(),
    };
    let expected = Key {
        role,
        ..own.clone()
    }
    .to_string();
    if manifest.data_key != expected {
        return Err(ManifestError::DataKey {
            data_key: short(&manifest.data_key),
            expected,
        });
    }
    let field = |ok: bool, field: &'static str| {
        if ok {
            Ok(())
        } else {
            Err(ManifestError::Field { field })
        }
    };
    field(
        manifest.stored_size > 0 && manifest.stored_size <= MAX_SIZE,
        "storedSize",
    )?;
    field(
        manifest.raw_size > 0 && manifest.raw_size <= MAX_SIZE,
        "rawSize",
    )?;
    field(is_sha256(&manifest.stored_sha256), "storedSha256")?;
    field(is_sha256(&manifest.plain_sha256), "plainSha256")?;
    field(manifest.revision >= 0, "revision")?;
    field(manifest.compact_revision >= -1, "compactRevision")?;
    if manifest.kind == Kind::Increment {
        let chain = manifest
            .chain
            .as_ref()
            .ok_or(ManifestError::Field { field: "chain" })?;
        field(is_sha256(&chain.parent_sha256), "chain.parentSha256")?;
        let first = manifest.start_revision.unwrap_or(-1);
        field((0..=manifest.revision).contains(&first), "startRevision")?;
    }
    if manifest.kind == Kind::Export
        && let Some(chain) = &manifest.chain
    {
        field(is_sha256(&chain.parent_sha256), "chain.parentSha256")?;
        field(chain.base != manifest.id, "chain.base")?;
    }
    check_texts(manifest)?;
    Ok(own)
}

/// What is printed on terminals must hold no control characters, and nothing may be absurdly long.
fn check_texts(manifest: &Manifest) -> Result<(), ManifestError> {
    let texts = [
        ("clusterName", manifest.cluster_name.as_str()),
        ("memberId", &manifest.member_id),
        ("etcdVersion", &manifest.etcd_version),
        ("backupName", &manifest.backup_name),
        ("namespace", &manifest.namespace),
        ("schedule", manifest.schedule.as_deref().unwrap_or_default()),
        ("runId", &manifest.run_id),
        ("traceId", manifest.trace_id.as_deref().unwrap_or_default()),
        ("toolVersion", &manifest.tool_version),
        ("seal.method", &manifest.seal.method),
    ];
    if manifest.shares.len() > MAX_SHARES {
        return Err(ManifestError::Field { field: "shares" });
    }
    let shares = manifest.shares.iter();
    let export = manifest.export.iter().flat_map(|export| {
        let kinds = export.kinds.iter();
        let kinds = kinds.flat_map(|(resource, version)| [resource, version]);
        kinds.chain([&export.selection])
    });
    let checks = manifest
        .checks
        .iter()
        .flat_map(|check| [&check.name, &check.message]);
    let printed = texts
        .into_iter()
        .chain(checks.map(|text| ("checks", text.as_str())))
        .chain(shares.map(|share| ("shares", share.prefix.as_str())))
        .chain(export.map(|text| ("export", text.as_str())))
        .chain(
            manifest
                .seal
                .recipients
                .iter()
                .map(|text| ("seal.recipients", text.as_str())),
        )
        .chain(manifest.seal.kms.iter().flat_map(|wrapped| {
            let bound = wrapped
                .context
                .iter()
                .flat_map(|(name, value)| [name, value]);
            [&wrapped.key_id, &wrapped.wrapped]
                .into_iter()
                .chain(bound)
                .map(|text| ("seal.kms", text.as_str()))
        }));
    for (field, text) in printed {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(ManifestError::Field { field });
        }
    }
    Ok(())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn short(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(120)
        .collect()
}
