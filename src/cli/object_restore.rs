//! `object restore`: objects of a backup are tried out on the API server, the plan is shown, and then they are applied.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Map;

use super::CliError;
use super::args::Global;
use super::context::Context;
use super::object::{Selection, say_unknown};
use super::output::{self, Format};
use crate::api::ErrorClass;
use crate::export::apply::{Incoming, Server, namespace};
use crate::export::clean::clean;
use crate::export::find::Found;
use crate::export::link;
use crate::export::plan::{Change, rank};
use crate::export::stored::{Identity, Stored};
use crate::export::wire::cleared;

/// What verbs that speak to an API server log: the client logs each failed call, which is then told as the error it is.
pub const LOG: &str = "warn,kube_client=off";

/// How to reach an API server.
#[derive(Debug, Clone, Args)]
pub struct ServerFlags {
    /// Kubeconfig file; else that of KUBECONFIG or of the pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl ServerFlags {
    /// Connects.
    pub async fn connect(&self) -> Result<Server, CliError> {
        Ok(Server::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?)
    }
}

/// Put objects back into a cluster: tried out first, shown, then applied by server-side apply.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    server: ServerFlags,
    /// Put the objects into this namespace instead of their own.
    #[arg(long, value_name = "N")]
    into_namespace: Option<String>,
    /// Create namespaces that are not there.
    #[arg(long)]
    create_namespace: bool,
    /// Take fields over that somebody else manages.
    #[arg(long)]
    force_conflicts: bool,
    /// Create built-in objects from the bytes that are stored, without uid, resourceVersion and what else of their metadata a server
    /// gives: for kinds and fields that are newer than this version.
    #[arg(long, conflicts_with = "force_conflicts")]
    stored_form: bool,
    /// Print what would be done, and do nothing.
    #[arg(long, alias = "dry-run")]
    plan: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// One line of the plan, and of the report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(flatten)]
    identity: Identity,
    #[serde(flatten)]
    change: Change,
    /// What a person should know.
    notes: Vec<String>,
    /// Whether it was applied; why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    incoming: Incoming,
}

#[derive(Debug, Serialize)]
struct Report {
    server: String,
    source: String,
    items: Vec<Step>,
}

impl Restore {
    pub(super) async fn run(
        &self,
        global: &Global,
        context: &Context,
    ) -> Result<ExitCode, CliError> {
        let selection = &self.selection;
        if selection.name.is_none() && selection.kind.is_none() && selection.namespace.is_none() {
            return Err(CliError::new(
                ErrorClass::Usage,
                "name an object, or choose some with --kind or --namespace; to restore all of etcd use 'etcdguardian restore'",
            ));
        }
        let opened = selection.source.open(context).await?;
        let mut candidates = self.incoming(&opened)?;
        candidates.sort_by_key(|(one, ..)| rank(&one.identity));
        let server = self.server.connect().await?;
        let mut incoming = Vec::new();
        for (mut one, mut notes, raw) in candidates {
            if self.into_namespace.is_none() {
                let owners = link::references(&server, &raw, &one.identity.namespace).await?;
                link::set_owners(&mut one.object, &mut notes, owners);
            }
            incoming.push((one, notes));
        }
        let items = self.plan(&server, incoming).await?;
        let mut report = Report {
            server: server.url().to_owned(),
            source: opened.name.clone(),
            items,
        };
        let act = |step: &Step| !matches!(step.change, Change::Unchanged | Change::Refused { .. });
        if self.plan {
            output::print(global.output, &report, plan_words)?;
            return Ok(ExitCode::SUCCESS);
        }
        if global.output == Format::Table {
            output::say(plan_words(&report));
        }
        let refused = report.items.iter().any(|step| {
            matches!(
                step.change,
                Change::Refused { .. } | Change::NotServed { .. }
            )
        });
        if report.items.iter().any(act) {
            output::confirm("apply it?", self.yes)?;
        }
        let mut failed = refused;
        for step in report.items.iter_mut().filter(|step| act(step)) {
            let applied = server.apply(&step.incoming, self.force_conflicts).await?;
            step.applied = Some(applied.is_ok());
            step.error = applied.err();
            failed |= step.error.is_some();
        }
        output::print(global.output, &report, report_words)?;
        if failed {
            return Err(CliError::new(
                ErrorClass::Refused,
                "not every object was applied: see above",
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The objects as they are applied, each with what a person should know.
    fn incoming(&self, opened: &super::object_source::Opened) -> Result<Vec<Candidate>, CliError> {
        let mut all = Vec::new();
        for found in &self.selection.find(opened)?.objects {
            if self.stored_form {
                all.push(self.as_stored(found)?);
                continue;
            }
            let decoded = found.decode()?;
            say_unknown(found, &decoded.unknown);
            let raw = decoded.object;
            let mut object = raw.clone();
            let mut notes = clean(&mut object);
            if !decoded.unknown.is_empty() {
                notes.push(format!(
                    "fields that this version does not know are lost: {}",
                    decoded.unknown.join(", ")
                ));
            }
            let mut identity = found.identity.clone();
            if let (Some(into), false) = (&self.into_namespace, identity.namespace.is_empty()) {
                identity.namespace.clone_from(into);
                if let Some(meta) = object.get_mut("metadata").and_then(|m| m.as_object_mut()) {
                    meta.insert("namespace".into(), into.clone().into());
                }
            }
            let incoming = Incoming {
                identity,
                object,
                strict: false,
                stored: None,
            };
            all.push((incoming, notes, raw));
        }
        Ok(all)
    }

    /// An object in its stored form.
    fn as_stored(&self, found: &Found<'_>) -> Result<Candidate, CliError> {
        let Stored::Protobuf(envelope) = &found.stored else {
            let words = format!(
                "{} is not stored in protocol buffers: leave --stored-form out",
                found.identity
            );
            return Err(CliError::new(ErrorClass::Usage, words));
        };
        let into = self.into_namespace.as_deref();
        let stored = cleared(envelope, into).map_err(|problem| {
            CliError::new(
                ErrorClass::VerificationFailed,
                format!("{} is broken: {problem}", found.identity),
            )
        })?;
        let mut identity = found.identity.clone();
        if let (Some(into), false) = (into, identity.namespace.is_empty()) {
            into.clone_into(&mut identity.namespace);
        }
        let note =
            "as it is stored: without owners, and with the addresses, ports and nodes that it had";
        let incoming = Incoming {
            identity,
            object: Map::new(),
            strict: false,
            stored: Some(stored),
        };
        Ok((incoming, vec![note.to_owned()], Map::new()))
    }

    async fn plan(
        &self,
        server: &Server,
        incoming: Vec<(Incoming, Vec<String>)>,
    ) -> Result<Vec<Step>, CliError> {
        let comes = |name: &str| {
            incoming
                .iter()
                .any(|(one, _)| one.identity.kind == "Namespace" && one.identity.name == name)
        };
        let mut missing = BTreeSet::new();
        let namespaces: BTreeSet<&str> = incoming
            .iter()
            .map(|(one, _)| one.identity.namespace.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        for name in namespaces {
            if !server.has_namespace(name).await? {
                missing.insert(name.to_owned());
            }
        }
        let mut steps = Vec::new();
        for name in &missing {
            if self.create_namespace && !comes(name) {
                steps.push(step(namespace(name), Change::Create, Vec::new()));
            }
        }
        let created: BTreeSet<String> = missing
            .iter()
            .filter(|name| self.create_namespace || comes(name))
            .cloned()
            .collect();
        for (one, notes) in incoming {
            let place = &one.identity.namespace;
            let change = if created.contains(place) {
                Change::Untried
            } else if missing.contains(place) {
                Change::Refused {
                    reason: format!(
                        "the namespace '{place}' is not there: add --create-namespace, or --into-namespace N"
                    ),
                }
            } else {
                server.try_out(&one, self.force_conflicts).await?
            };
            steps.push(step(one, change, notes));
        }
        Ok(steps)
    }
}

/// An object as it is applied, what a person should know, and the object as it was.
type Candidate = (Incoming, Vec<String>, Map<String, serde_json::Value>);

fn step(incoming: Incoming, change: Change, notes: Vec<String>) -> Step {
    Step {
        identity: incoming.identity.clone(),
        change,
        notes,
        applied: None,
        error: None,
        incoming,
    }
}

fn plan_words(report: &Report) -> String {
    let mut text = format!("{} → {}\n", report.source, report.server);
    for step in &report.items {
        let words = match &step.change {
            Change::Create => "create".to_owned(),
            Change::Update { fields } => format!("update: {}", fields.join(", ")),
            Change::Unchanged => "unchanged".to_owned(),
            Change::Untried => "create, in a new namespace".to_owned(),
            Change::Refused { reason } | Change::NotServed { reason } => {
                format!("refused: {reason}")
            }
        };
        text.push_str(&format!("{}   {words}\n", step.identity));
        for note in &step.notes {
            text.push_str(&format!("    {note}\n"));
        }
    }
    text
}

fn report_words(report: &Report) -> String {
    let mut text = String::new();
    for step in &report.items {
        let words = match (&step.error, step.applied, &step.change) {
            (Some(error), _, _) => format!("failed: {error}"),
            (None, Some(true), _) => "restored".to_owned(),
            (None, _, Change::Refused { .. } | Change::NotServed { .. }) => {
                "not restored".to_owned()
            }
            (None, _, _) => "unchanged".to_owned(),
        };
        text.push_str(&format!("{}   {words}\n", step.identity));
    }
    text
}
