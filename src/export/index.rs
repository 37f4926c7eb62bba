//! What a bundle holds, read once: which objects, in which order they are applied, and which of them are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Map, Value};

use super::ExportError;
use super::apply::Incoming;
use super::bundle::{self, About};
use super::clean::{clean_but, unbind};
use super::findings::Facts;
use super::left::{self, LeftOut};
use super::link::owners;
use super::plan::rank;
use super::stored::Identity;

/// Where an object lies in the bundle.
#[derive(Debug, Clone)]
pub struct Indexed {
    /// Which it is.
    pub identity: Identity,
    /// As `deployments.apps`.
    pub resource: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    pub(super) place: (u64, u64),
    pub(super) owners: Vec<Identity>,
    controller: Option<Identity>,
    /// Why it stays out, as far as it alone says so.
    left: Option<&'static str>,
    /// The volume that a claim is bound to.
    volume: Option<String>,
    /// Whether a service keeps its addresses and node ports.
    keeps_addresses: bool,
}

/// What is known of a bundle without its objects.
pub struct Index {
    /// What it says of itself.
    pub about: About,
    /// What of it another cluster may trip over.
    pub facts: Facts,
    /// In the order in which they are applied.
    pub objects: Vec<Indexed>,
    /// Objects that are not applied.
    pub left: Vec<LeftOut>,
}

/// Reads a plain bundle to its end, proves it, and orders what it holds.
///
/// # Errors
/// When it is broken, or not what it says.
pub fn index(file: &Path) -> Result<Index, ExportError> {
    index_of(file, |_| true)
}

/// As [`index`], of the objects that are wanted.
///
/// # Errors
/// As [`index`].
pub fn index_of(file: &Path, wanted: impl Fn(&Indexed) -> bool) -> Result<Index, ExportError> {
    let read = |source| ExportError::Bundle {
        action: "read",
        source,
    };
    let mut objects: Vec<Indexed> = Vec::new();
    let mut facts = Facts::default();
    let reader = BufReader::with_capacity(1 << 20, File::open(file).map_err(read)?);
    let about = bundle::read(reader, |entry| {
        let one = Indexed::of(&entry);
        facts.look(&one.identity, &entry.object);
        if wanted(&one) {
            objects.push(one);
        }
        Ok(())
    })
    .map_err(read)?;
    Ok(Index::ordered(about, facts, objects))
}

impl Index {
    /// Lets services keep the addresses and node ports that they had.
    pub fn keep_addresses(&mut self) {
        for one in &mut self.objects {
            one.keeps_addresses = true;
        }
    }

    fn ordered(about: About, facts: Facts, objects: Vec<Indexed>) -> Self {
        let there: BTreeSet<Identity> = objects.iter().map(|one| one.identity.clone()).collect();
        let mut index = Self {
            about,
            facts,
            objects: Vec::with_capacity(objects.len()),
            left: Vec::new(),
        };
        for mut one in objects {
            let made_again = one.controller.as_ref().is_some_and(|owner| {
                // A namespaced object may be owned by one of the whole cluster.
                (there.contains(owner) || there.contains(&of_cluster(owner)))
                    && left::is_made_again(&one.identity, owner)
            });
            if let Some(reason) = one.left {
                let identity = one.identity;
                index.left.push(LeftOut { identity, reason });
                continue;
            }
            if made_again {
                index.left.push(LeftOut::made_again(one.identity));
                continue;
            }
            // A volume that comes along stays bound.
            let comes = one.volume.as_ref().is_some_and(|name| {
                there.contains(&Identity {
                    api_version: "v1".to_owned(),
                    kind: "PersistentVolume".to_owned(),
                    namespace: String::new(),
                    name: name.clone(),
                })
            });
            if comes {
                one.volume = None;
            }
            index.objects.push(one);
        }
        index.objects.sort_by_key(|one| rank(&one.identity));
        index
    }
}

fn of_cluster(identity: &Identity) -> Identity {
    Identity {
        namespace: String::new(),
        ..identity.clone()
    }
}

impl Indexed {
    fn of(entry: &bundle::Entry) -> Self {
        let text = |field: &str| {
            let value = entry.object.get(field).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let identity = Identity {
            api_version: text("apiVersion"),
            kind: text("kind"),
            namespace: entry.namespace.clone(),
            name: entry.name.clone(),
        };
        let (owners, controller) = owners(&entry.object, &entry.namespace);
        let meta = entry.object.get("metadata");
        let labels = meta.and_then(|meta| meta.get("labels"));
        let volume = entry.object.get("spec");
        let volume = volume.and_then(|spec| spec.get("volumeName")?.as_str());
        let is_claim = identity.api_version == "v1" && identity.kind == "PersistentVolumeClaim";
        Self {
            left: left::reason(&identity, &entry.object),
            volume: volume.filter(|_| is_claim).map(str::to_owned),
            identity,
            resource: entry.resource.clone(),
            labels: labels
                .and_then(|labels| serde_json::from_value(labels.clone()).ok())
                .unwrap_or_default(),
            place: entry.place,
            owners,
            controller,
            keeps_addresses: false,
        }
    }

    /// The object as it is applied, with what a person should know.
    pub(super) fn load(&self, file: &Path) -> Result<(Incoming, Vec<String>), ExportError> {
        let mut object = object_at(file, self.place)?;
        let mut notes = clean_but(&mut object, self.keeps_addresses);
        if self.volume.is_some() {
            unbind(&mut object, &mut notes);
        }
        Ok((
            Incoming {
                identity: self.identity.clone(),
                object,
                strict: false,
                stored: None,
            },
            notes,
        ))
    }
}

pub(super) fn object_at(
    file: &Path,
    (start, length): (u64, u64),
) -> Result<Map<String, Value>, ExportError> {
    let read = || -> std::io::Result<Map<String, Value>> {
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    read().map_err(|source| ExportError::Bundle {
        action: "read",
        source,
    })
}
