//! What an import does with a bundle, in order: read it once for an index, try every object out, apply those that are wanted.
//! The bundle lies in a plain file; one object at a time is in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::ExportError;
use super::apply::{Incoming, Server};
use super::bundle::{self, About};
use super::clean::clean;
use super::findings::Facts;
use super::link::{link_owners, owners};
use super::plan::{Change, rank};
use super::stored::Identity;

/// Objects of one rank that are on their way at once.
const AT_ONCE: usize = 8;
/// How long a definition may take to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(500);

/// What becomes of an object that is there already and differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is.
    Skip,
    /// It gets the fields of the bundle.
    Update,
    /// Nothing at all is imported.
    Fail,
}

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
}

/// What is known of a bundle without its objects.
pub struct Index {
    /// What it says of itself.
    pub about: About,
    /// What of it another cluster may trip over.
    pub facts: Facts,
    /// In the order in which they are applied.
    pub objects: Vec<Indexed>,
    /// Objects that their owners make again, and that are not applied.
    pub made_again: Vec<Identity>,
}

/// One object of the plan, and what became of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// What applying it would do.
    #[serde(flatten)]
    pub change: Change,
    /// What a person should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether it was applied; absent when it was not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<bool>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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
        facts.look(&identity, &entry.object);
        let labels = entry
            .object
            .get("metadata")
            .and_then(|meta| meta.get("labels"));
        let one = Indexed {
            identity,
            resource: entry.resource,
            labels: labels
                .and_then(|labels| serde_json::from_value(labels.clone()).ok())
                .unwrap_or_default(),
            place: entry.place,
            owners,
            controller,
        };
        if wanted(&one) {
            objects.push(one);
        }
        Ok(())
    })
    .map_err(read)?;
    let there: BTreeSet<Identity> = objects.iter().map(|one| one.identity.clone()).collect();
    let (made_again, mut objects): (Vec<Indexed>, Vec<Indexed>) =
        objects.into_iter().partition(|one| {
            let owner = one.controller.as_ref();
            // Nodes register themselves; a namespaced object may be owned by one of the whole cluster.
            one.resource == "nodes"
                || owner.is_some_and(|owner| {
                    there.contains(owner) || there.contains(&of_cluster(owner))
                })
        });
    objects.sort_by_key(|one| rank(&one.identity));
    Ok(Index {
        about,
        facts,
        objects,
        made_again: made_again.into_iter().map(|one| one.identity).collect(),
    })
}

fn of_cluster(identity: &Identity) -> Identity {
    Identity {
        namespace: String::new(),
        ..identity.clone()
    }
}

impl Indexed {
    /// The object as it is applied, with what a person should know.
    pub(super) fn load(&self, file: &Path) -> Result<(Incoming, Vec<String>), ExportError> {
        let mut object = object_at(file, self.place)?;
        let notes = clean(&mut object);
        Ok((
            Incoming {
                identity: self.identity.clone(),
                object,
                strict: false,
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

/// Tries every object out; changes nothing.
///
/// # Errors
/// When the server cannot be reached, or the bundle cannot be read.
pub async fn plan(server: &Server, file: &Path, index: &Index) -> Result<Vec<Step>, ExportError> {
    let named = |kind: &str| -> BTreeSet<&str> {
        let all = index.objects.iter().map(|one| &one.identity);
        all.filter(|identity| identity.kind == kind)
            .map(|identity| identity.name.as_str())
            .collect()
    };
    let (namespaces, definitions) = (named("Namespace"), named("CustomResourceDefinition"));
    let mut missing: BTreeMap<&str, bool> = BTreeMap::new();
    for one in &index.objects {
        let place = one.identity.namespace.as_str();
        if !place.is_empty() && !missing.contains_key(place) {
            missing.insert(place, !server.has_namespace(place).await?);
        }
    }
    let here = Here {
        namespaces,
        definitions,
        missing,
    };
    let here = &here;
    // By number: a closure that takes a reference could not be sent between threads.
    let mut tried = stream::iter(0..index.objects.len())
        .map(|at| async move {
            match index.objects.get(at) {
                Some(one) => here.try_out(server, file, one).await.map(Some),
                None => Ok(None),
            }
        })
        .buffered(AT_ONCE);
    let mut steps = Vec::with_capacity(index.objects.len());
    while let Some(step) = tried.next().await {
        steps.extend(step?);
    }
    Ok(steps)
}

/// What is there and what comes, as far as trying objects out depends on it.
struct Here<'a> {
    /// Namespaces of the bundle.
    namespaces: BTreeSet<&'a str>,
    /// Definitions of the bundle.
    definitions: BTreeSet<&'a str>,
    /// Namespaces that objects need, and whether they are missing.
    missing: BTreeMap<&'a str, bool>,
}

impl Here<'_> {
    async fn try_out(
        &self,
        server: &Server,
        file: &Path,
        one: &Indexed,
    ) -> Result<Step, ExportError> {
        let place = one.identity.namespace.as_str();
        let group = super::kinds::group_of(&one.identity.api_version);
        let mut definitions = self.definitions.iter();
        let defined_here =
            definitions.any(|name| name.split_once('.').is_some_and(|(_, of)| of == group));
        let no_namespace = self.missing.get(place).copied().unwrap_or_default();
        let (mut incoming, mut notes) = one.load(file)?;
        let change = if no_namespace && self.namespaces.contains(place) {
            Change::Untried
        } else if no_namespace {
            Change::Refused {
                reason: format!("its namespace '{place}' is neither there nor in the bundle"),
            }
        } else {
            match server.try_out(&incoming, true).await? {
                // It may be served once its definition is applied.
                Change::NotServed { .. } if defined_here => Change::Untried,
                change @ Change::NotServed { .. } => {
                    match server.in_served_version(&incoming).await? {
                        Some(other) => {
                            notes.push(converted(&incoming.identity, &other.identity));
                            incoming = other;
                            server.try_out(&incoming, true).await?
                        }
                        None => change,
                    }
                }
                change => change,
            }
        };
        Ok(Step {
            identity: incoming.identity,
            change,
            notes,
            applied: None,
            error: None,
        })
    }
}

/// Whether a step is to be carried out.
pub fn acts(step: &Step, existing: Existing) -> bool {
    match step.change {
        Change::Create | Change::Untried => true,
        Change::Update { .. } => existing == Existing::Update,
        Change::Unchanged | Change::Refused { .. } | Change::NotServed { .. } => false,
    }
}

/// Carries the steps out, rank by rank, and links owners that were applied too.
///
/// # Errors
/// When the server cannot be reached any more; what was applied stays, and a second run goes on from there.
pub async fn apply(
    server: &Server,
    file: &Path,
    index: &Index,
    steps: &mut [Step],
    existing: Existing,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), ExportError> {
    let mut from = 0;
    let mut done = 0;
    while from < steps.len() {
        let here = steps.get(from).map_or(0, |step| rank(&step.identity));
        let count = steps
            .iter()
            .skip(from)
            .take_while(|step| rank(&step.identity) == here)
            .count();
        let batch = steps.iter().enumerate().skip(from).take(count);
        let wanted: Vec<(usize, Indexed)> = batch
            .filter(|(_, step)| acts(step, existing))
            .filter_map(|(at, _)| Some((at, index.objects.get(at)?.clone())))
            .collect();
        let mut results = stream::iter(wanted)
            .map(|(at, one)| async move {
                let (incoming, _) = one.load(file)?;
                Ok::<_, ExportError>((at, apply_patiently(server, &incoming).await?))
            })
            .buffer_unordered(AT_ONCE);
        while let Some(result) = results.next().await {
            let (at, outcome) = result?;
            if let Some(step) = steps.get_mut(at) {
                step.applied = Some(outcome.is_ok());
                step.error = outcome.err();
            }
            done += 1;
            progress(done);
        }
        drop(results);
        from += count;
    }
    link_owners(server, file, index, steps).await
}

fn converted(from: &Identity, to: &Identity) -> String {
    format!(
        "it was stored as {} and is applied as {}, whose fields the server checks",
        from.api_version, to.api_version
    )
}

/// A kind whose definition was just applied is served a moment later; one of a version that is not served any more is applied in
/// another.
pub(super) async fn apply_patiently(
    server: &Server,
    incoming: &Incoming,
) -> Result<Result<(), String>, ExportError> {
    let deadline = Instant::now() + SERVED_WITHIN;
    loop {
        let served = server.serves(&incoming.identity).await?;
        if !served && let Some(other) = server.in_served_version(incoming).await? {
            return server.apply(&other, true).await;
        }
        if served || Instant::now() >= deadline {
            return server.apply(incoming, true).await;
        }
        sleep(RETRY).await;
    }
}
