//! The grammar of keys in the bucket: what lies where, and which names are ours. Pure. Everything else is left alone.

use std::fmt;

use jiff::Timestamp;

use super::manifest::ManifestError;
use super::{Kind, Manifest};
use crate::api::Compression;
use crate::seal::Seal;

/// Longest id: a time, a dash and a Kubernetes name of 253 characters.
const MAX_ID_LENGTH: usize = 280;

/// Where in its cluster's folder a backup lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A whole snapshot: `full/<id>/`.
    Full { id: String },
    /// The events of a revision range: `incr/<base>/<first>-<last>`.
    Increment { base: String, first: i64, last: i64 },
    /// Objects of the Kubernetes API: `export/<id>/`.
    Export { id: String },
}

/// Which of a backup's two objects a key names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The commit point.
    Manifest,
    /// The bytes; the endings say how they are compressed and sealed.
    Data { zstd: bool, age: bool },
}

/// A key below the prefix that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// etcd's cluster id, 16 hexadecimal digits.
    pub cluster: String,
    /// Which backup.
    pub place: Place,
    /// Which of its objects.
    pub role: Role,
}

impl Key {
    /// Reads a key below the prefix; `None` when it is not exactly one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [cluster, "v1", kind, folder, file] = parts[..] else {
            return None;
        };
        if !is_cluster_id(cluster) || !is_id(folder) {
            return None;
        }
        let id = folder.to_owned();
        let (place, role) = match kind {
            "full" => (
                Place::Full { id },
                role_of(file, "manifest.json", "snapshot.db")?,
            ),
            "export" => (
                Place::Export { id },
                role_of(file, "manifest.json", "bundle.tar")?,
            ),
            "incr" => {
                let (range, ending) = file.split_once('.')?;
                let (first, last) = range.split_once('-')?;
                let (first, last) = (revision(first)?, revision(last)?);
                let role = role_of(ending, "json", "seg")?;
                (
                    Place::Increment {
                        base: id,
                        first,
                        last,
                    },
                    role,
                )
            }
            _ => return None,
        };
        let key = Self {
            cluster: cluster.to_owned(),
            place,
            role,
        };
        // Only the spelling that we write is ours: no leading zeros, no second name for one object.
        (key.to_string() == text).then_some(key)
    }

    /// The key of a manifest's own object, from what it says of itself.
    ///
    /// # Errors
    /// When what it says could not be a key of ours.
    pub fn of_manifest(manifest: &Manifest) -> Result<Self, ManifestError> {
        let id = manifest.id.clone();
        let place = match manifest.kind {
            Kind::Full => Place::Full { id },
            Kind::Export => Place::Export { id },
            Kind::Increment => Place::Increment {
                base: manifest
                    .chain
                    .as_ref()
                    .map(|chain| chain.base.clone())
                    .unwrap_or_default(),
                first: manifest.start_revision.unwrap_or_default(),
                last: manifest.revision,
            },
        };
        let key = Self {
            cluster: manifest.cluster_id.clone(),
            place,
            role: Role::Manifest,
        };
        Self::parse(&key.to_string()).ok_or_else(|| ManifestError::Name {
            id: manifest.id.chars().take(80).collect(),
        })
    }

    /// The key of the data object of a full backup.
    pub fn full_data(cluster: &str, id: &str, compression: Compression, seal: &Seal) -> Self {
        Self {
            cluster: cluster.to_owned(),
            place: Place::Full { id: id.to_owned() },
            role: Role::Data {
                zstd: compression == Compression::Zstd,
                age: !seal.method.is_empty(),
            },
        }
    }

    /// The key of the data object of an export.
    pub fn export_data(cluster: &str, id: &str, compression: Compression, seal: &Seal) -> Self {
        Self {
            place: Place::Export { id: id.to_owned() },
            ..Self::full_data(cluster, id, compression, seal)
        }
    }

    /// The manifest beside this object.
    #[must_use]
    pub fn manifest(&self) -> Self {
        Self {
            role: Role::Manifest,
            ..self.clone()
        }
    }

    /// The id that the backup has in its manifest.
    pub fn id(&self) -> String {
        match &self.place {
            Place::Full { id } | Place::Export { id } => id.clone(),
            Place::Increment { base, first, last } => increment_id(base, *first, *last),
        }
    }

    /// The id of the full backup or export that its chain stands on.
    pub fn base(&self) -> &str {
        match &self.place {
            Place::Full { id } | Place::Export { id } => id,
            Place::Increment { base, .. } => base,
        }
    }

    /// The kind of backup.
    pub fn kind(&self) -> Kind {
        match self.place {
            Place::Full { .. } => Kind::Full,
            Place::Increment { .. } => Kind::Increment,
            Place::Export { .. } => Kind::Export,
        }
    }

    /// Whether two keys belong to one backup.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.place == other.place
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster,
            place,
            role,
        } = self;
        match place {
            Place::Full { id } => write!(f, "{cluster}/v1/full/{id}/")?,
            Place::Export { id } => write!(f, "{cluster}/v1/export/{id}/")?,
            Place::Increment { base, first, last } => {
                write!(f, "{cluster}/v1/incr/{base}/{first}-{last}.")?;
            }
        }
        match (role, place) {
            (Role::Manifest, Place::Increment { .. }) => f.write_str("json"),
            (Role::Manifest, _) => f.write_str("manifest.json"),
            (Role::Data { zstd, age }, place) => {
                f.write_str(match place {
                    Place::Full { .. } => "snapshot.db",
                    Place::Export { .. } => "bundle.tar",
                    Place::Increment { .. } => "seg",
                })?;
                f.write_str(if *zstd { ".zst" } else { "" })?;
                f.write_str(if *age { ".age" } else { "" })
            }
        }
    }
}

/// The id of a full backup: the moment it was taken, in UTC, and its revision. To the nanosecond, as two schedules of an
/// idle cluster meet at every full hour with the same revision.
pub fn full_id(created: Timestamp, revision: i64) -> String {
    format!("{}-{revision}", created.strftime("%Y%m%dT%H%M%S%.fZ"))
}

/// The id of an increment: its base and its revisions.
pub fn increment_id(base: &str, first: i64, last: i64) -> String {
    format!("{base}.{first}-{last}")
}

/// Whether this is a cluster's folder: 16 lower-case hexadecimal digits.
pub fn is_cluster_id(text: &str) -> bool {
    text.len() == 16
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this can be the id of a backup, and with it the name of a folder.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= MAX_ID_LENGTH
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(plain)
        && !text.contains("..")
}

fn revision(text: &str) -> Option<i64> {
    text.parse().ok().filter(|revision| *revision >= 0)
}

fn role_of(file: &str, manifest: &str, data: &str) -> Option<Role> {
    if file == manifest {
        return Some(Role::Manifest);
    }
    match file.strip_prefix(data)? {
        "" => Some(Role::Data {
            zstd: false,
            age: false,
        }),
        ".zst" => Some(Role::Data {
            zstd: true,
            age: false,
        }),
        ".age" => Some(Role::Data {
            zstd: false,
            age: true,
        }),
        ".zst.age" => Some(Role::Data {
            zstd: true,
            age: true,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const CLUSTER: &str = "cdf818194e3a8c32";

    #[test]
    fn keys_are_read_as_they_are_written() {
        for (key, id, kind) in [
            (
                "full/20261125T032300Z-17/manifest.json",
                "20261125T032300Z-17",
                Kind::Full,
            ),
            (
                "full/20261125T032300Z-17/snapshot.db",
                "20261125T032300Z-17",
                Kind::Full,
            ),
            (
                "full/20261125T032300Z-17/snapshot.db.zst.age",
                "20261125T032300Z-17",
                Kind::Full,
            ),
            (
                "export/20261125T032300Z-team.a/bundle.tar.age",
                "20261125T032300Z-team.a",
                Kind::Export,
            ),
            (
                "incr/20261125T032300Z-17/18-90.json",
                "20261125T032300Z-17.18-90",
                Kind::Increment,
            ),
            (
                "incr/20261125T032300Z-17/18-90.seg.zst",
                "20261125T032300Z-17.18-90",
                Kind::Increment,
            ),
        ] {
            let text = format!("{CLUSTER}/v1/{key}");
            let parsed = Key::parse(&text).unwrap();
            assert_eq!(
                (parsed.to_string(), parsed.id(), parsed.kind()),
                (text, id.to_owned(), kind)
            );
        }
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for key in [
            "",
            "full/x/manifest.json",
            "CDF818194E3A8C32/v1/full/x/manifest.json",
            "cdf818194e3a8c32/v2/full/x/manifest.json",
            "cdf818194e3a8c32/v1/full/../manifest.json",
            "cdf818194e3a8c32/v1/full/./manifest.json",
            "cdf818194e3a8c32/v1/full//manifest.json",
            "cdf818194e3a8c32/v1/full/a..b/manifest.json",
            "cdf818194e3a8c32/v1/full/-x/manifest.json",
            "cdf818194e3a8c32/v1/full/x y/manifest.json",
            "cdf818194e3a8c32/v1/full/x/manifest.json.bak",
            "cdf818194e3a8c32/v1/full/x/snapshot.db.zst.age.part",
            "cdf818194e3a8c32/v1/full/x/snapshot.db.age.zst",
            "cdf818194e3a8c32/v1/full/x/deep/snapshot.db",
            "/cdf818194e3a8c32/v1/full/x/snapshot.db",
            "cdf818194e3a8c32/v1/incr/x/018-90.seg",
            "cdf818194e3a8c32/v1/incr/x/-1-90.seg",
            "cdf818194e3a8c32/v1/incr/x/+1-90.seg",
            "cdf818194e3a8c32/v1/incr/x/1.seg",
            "cdf818194e3a8c32/v1/other/x/manifest.json",
            "cdf818194e3a8c32/v1/lock",
            "cdf818194e3a8c32/v1/epoch",
            "cdf818194e3a8c32/v1/pin/x/0123.1.json",
        ] {
            assert_eq!(Key::parse(key), None, "{key}");
        }
        let long = format!(
            "{CLUSTER}/v1/full/{}/manifest.json",
            "x".repeat(MAX_ID_LENGTH + 1)
        );
        assert_eq!(Key::parse(&long), None);
    }

    #[test]
    fn an_id_says_when_and_what() {
        let taken: Timestamp = "2026-11-25T03:23:02Z".parse().unwrap();
        assert_eq!(full_id(taken, 42), "20261125T032302Z-42");
        let later = taken + jiff::SignedDuration::from_nanos(25);
        assert_eq!(full_id(later, 42), "20261125T032302.000000025Z-42");
        assert!(is_id(&full_id(later, 42)));
        assert_eq!(
            increment_id("20261125T032302Z-42", 43, 50),
            "20261125T032302Z-42.43-50"
        );
    }

    proptest! {
        #[test]
        fn a_key_that_parses_stays_in_its_folder(text in "[a-f0-9./\\-]{0,40}|cdf818194e3a8c32/v1/(full|incr|export)/[ -~]{0,30}") {
            if let Some(key) = Key::parse(&text) {
                prop_assert_eq!(key.to_string(), text.clone());
                prop_assert!(!text.split('/').any(|part| part.is_empty() || part == "." || part == ".."));
                let manifest = Key::parse(&key.manifest().to_string()).unwrap();
                prop_assert!(manifest.is_beside(&key));
            }
        }
    }
}
