//! What an import does with a bundle, in order: read it once for an index, try every object out, apply those that are wanted.
//! The bundle lies in a plain file; one object at a time is in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::ExportError;
use super::apply::{Incoming, Server};
use super::index::{Index, Indexed};
use super::link::link_owners;
use super::plan::{Change, MAY_REFUSE, rank};
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

/// Carries the steps out, rank by rank, and links owners; what may refuse all others (webhooks, policies) comes after that.
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
    let (mut from, mut done) = (0, 0);
    let last = steps.partition_point(|step| rank(&step.identity) < MAY_REFUSE);
    while from < steps.len() {
        if from == last {
            link_owners(server, file, index, steps, 0..last).await?;
        }
        let here = steps.get(from).map_or(0, |step| rank(&step.identity));
        let count = steps
            .iter()
            .skip(from)
            .take_while(|step| rank(&step.identity) == here)
            .count();
        apply_some(
            server,
            file,
            index,
            steps,
            existing,
            from..from + count,
            &mut |_| {
                done += 1;
                progress(done);
            },
        )
        .await?;
        from += count;
    }
    let first = if last == steps.len() { 0 } else { last };
    link_owners(server, file, index, steps, first..steps.len()).await
}

/// The wanted ones of some steps, several at once.
async fn apply_some(
    server: &Server,
    file: &Path,
    index: &Index,
    steps: &mut [Step],
    existing: Existing,
    range: Range<usize>,
    done: &mut (dyn FnMut(usize) + Send),
) -> Result<(), ExportError> {
    let batch = steps.iter().enumerate().skip(range.start).take(range.len());
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
        done(at);
    }
    Ok(())
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
