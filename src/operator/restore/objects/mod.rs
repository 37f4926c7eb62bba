//! Restores of objects (namespaceFilter, objectSelector): out of any backup, through the API, with the rights of the service account that
//! the EtcdRestore names and no more. Doing it again does no harm, so an operator that dies on the way begins anew.

pub mod plan;

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use self::plan::{Wanted, count, failures, left_out, summary};
use super::status::Draft;
use super::{LOOK, observe, rules as whole, scope, write};
use crate::api::{EtcdRestore, EtcdRestoreStatus};
use crate::cause::with_causes;
use crate::export::apply::Server;
use crate::export::direct;
use crate::export::import::{self, Existing, Step};
use crate::export::index::{Index, index_of};
use crate::export::resources::Selection;
use crate::operator::context::{Context, audit};
use crate::operator::tenancy::plan::{Account, RESTORE, account_problem};
use crate::operator::tenancy::{Refused, allowed};
use crate::recorder::merge::Until;
use crate::repository::{Kind, Manifest};
use crate::restore::bundle::fetch_export;
use crate::restore::workspace::Workspace;
use crate::restore::{chain, fetch};
use crate::seal::Unsealer;
use crate::verify::Mapped;

/// Objects that are named in the status when they could not be restored.
const NAMED: usize = 50;

/// Why it goes no further.
enum Stop {
    /// For good: reason and message.
    Rejected(&'static str, String),
    /// For good, though it was begun.
    Failed(&'static str, String),
    /// Until the next look.
    Later(String),
}

/// One look, which does all of it.
pub async fn look(context: &Arc<Context>, restore: &EtcdRestore) -> Result<Action, kube::Error> {
    let now = Timestamp::now();
    let mut draft = Draft::of(restore, now);
    let planned = draft.status.phase.as_deref() == Some("Planned");
    if restore.spec.plan && planned {
        return Ok(Action::await_change());
    }
    let mut done = match carry_out(context, restore).await {
        Ok(done) => done,
        Err(Stop::Later(message)) => {
            draft.message(&message);
            write(context, restore, &draft).await?;
            return Ok(Action::requeue(LOOK * 10));
        }
        Err(Stop::Rejected(reason, message)) => {
            draft.fail(reason, &message);
            draft.status.phase = Some("Rejected".to_owned());
            return end(
                context,
                restore,
                &draft,
                &format!("rejected: {message}"),
                Some((reason, &message)),
            )
            .await;
        }
        Err(Stop::Failed(reason, message)) => {
            draft.fail(reason, &message);
            return end(context, restore, &draft, "failed", Some((reason, &message))).await;
        }
    };
    draft.status.resolved_chain = std::mem::take(&mut done.chain);
    draft.say(
        "SourceResolved",
        Some(true),
        "Found",
        &draft.status.resolved_chain.join(", "),
    );
    draft.status.start_time.get_or_insert(now);
    draft.status.steps = summary(&done.steps);
    let failures = failures(&done.steps);
    draft.status.errors = failures.iter().take(NAMED).cloned().collect();
    let mut words = count(&done.steps, restore.spec.plan);
    for more in [&done.left, &done.pair].into_iter().flatten() {
        words = format!("{words}; {more}");
    }
    if restore.spec.plan {
        draft.phase("Planned", &words);
        return end(context, restore, &draft, "planned", None).await;
    }
    let applied = done.steps.iter().filter(|step| step.applied == Some(true));
    draft.status.restored_keys = i64::try_from(applied.count()).ok();
    draft.status.completion_time = Some(Timestamp::now());
    if let Some(first) = failures.first() {
        let message = format!(
            "{words}; {} were not restored, such as {first}",
            failures.len()
        );
        draft.status.phase = Some("Failed".to_owned());
        draft.say("Succeeded", Some(false), "PartlyRestored", &message);
        draft.message(&message);
        return end(
            context,
            restore,
            &draft,
            "failed",
            Some(("PartlyRestored", &message)),
        )
        .await;
    }
    draft.status.phase = Some("Completed".to_owned());
    draft.say("DataRestored", Some(true), "Applied", &words);
    draft.say("Succeeded", Some(true), "Completed", &words);
    draft.message(&words);
    let took = Timestamp::now().duration_since(now).unsigned_abs();
    context.services.metrics.restore_ended("Objects", took);
    end(context, restore, &draft, "completed", None).await
}

/// Writes the end, an audit line and an event.
async fn end(
    context: &Context,
    restore: &EtcdRestore,
    draft: &Draft<EtcdRestoreStatus>,
    outcome: &str,
    trouble: Option<(&str, &str)>,
) -> Result<Action, kube::Error> {
    write(context, restore, draft).await?;
    let spec = &restore.spec;
    let what = format!(
        "{} of objects of namespaces [{}] as {}",
        scope(restore),
        spec.namespace_filter.join(", "),
        spec.service_account_name
    );
    audit(restore, "restore", &what, outcome);
    let note = draft.status.message.clone().unwrap_or_default();
    let (warning, reason, note) = match trouble {
        Some((reason, message)) => (true, reason, message),
        None if spec.plan => (false, "RestorePlanned", note.as_str()),
        None => (false, "RestoreCompleted", note.as_str()),
    };
    context
        .event(restore, warning, reason, "Restore", note)
        .await;
    Ok(Action::await_change())
}

/// What was planned and done.
struct Done {
    chain: Vec<String>,
    steps: Vec<Step>,
    /// A word on Velero's half, when there is one.
    pair: Option<String>,
    /// What was left out, and why.
    left: Option<String>,
}

async fn carry_out(context: &Context, restore: &EtcdRestore) -> Result<Done, Stop> {
    let spec = &restore.spec;
    let namespace = restore.namespace().unwrap_or_default();
    let account = Account {
        namespace: namespace.clone(),
        name: spec.service_account_name.clone(),
    };
    let mut problems = whole::problems(spec);
    problems.extend(account_problem("spec.serviceAccountName", &account.name));
    if !problems.is_empty() {
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Stop::Rejected("SpecInvalid", words.join("; ")));
    }
    let trusted = context.services.trust.covers(&namespace);
    if !trusted && spec.namespace_filter.is_empty() {
        let message = "only trusted namespaces restore objects of the whole cluster: name namespaces in namespaceFilter";
        return Err(Stop::Rejected("NotAllowed", message.to_owned()));
    }
    if !trusted {
        let asked: Vec<&str> = spec.namespace_filter.iter().map(String::as_str).collect();
        match allowed(&context.client, &account, RESTORE, &asked).await {
            Ok(()) => {}
            Err(Refused::NotAllowed(message)) => return Err(Stop::Rejected("NotAllowed", message)),
            Err(Refused::Unknown(message)) => return Err(Stop::Later(message)),
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix("etcdguardian-objects-")
        .tempdir_in(context.services.state.scratch())
        .or_else(|_| tempfile::tempdir())
        .map_err(|error| Stop::Later(format!("the scratch folder cannot be used: {error}")))?;
    let file = scratch.path().join("bundle.tar");
    let source = fetch_bundle(context, restore, scratch.path(), &file).await?;
    let (reading, wanted) = (file.clone(), Wanted::of(spec, trusted));
    let index = tokio::task::spawn_blocking(move || index_of(&reading, |one| wanted.takes(one)))
        .await
        .map_err(|error| Stop::Later(error.to_string()))?
        .map_err(|error| Stop::Failed("VerificationFailed", with_causes(&error)))?;
    if index.objects.is_empty() && index.left.is_empty() {
        let message = "the backup holds no object that is asked for: see `etcdguardian object ls`";
        return Err(Stop::Failed("NotFound", message.to_owned()));
    }
    let server = Server::acting_as(&account.user()).await;
    let server = server.map_err(|error| Stop::Later(with_causes(&error)))?;
    let steps = apply(&server, &file, &index, spec.plan).await;
    let steps = steps.map_err(|error| Stop::Later(with_causes(&error)))?;
    Ok(Done {
        chain: source.chain,
        steps,
        pair: source.pair,
        left: left_out(&index.left),
    })
}

async fn apply(
    server: &Server,
    file: &Path,
    index: &Index,
    only_plan: bool,
) -> Result<Vec<Step>, crate::export::ExportError> {
    let mut steps = import::plan(server, file, index).await?;
    if !only_plan {
        import::apply(server, file, index, &mut steps, Existing::Update, &|_| {}).await?;
    }
    Ok(steps)
}

/// What was fetched.
struct Source {
    chain: Vec<String>,
    pair: Option<String>,
}

/// The objects as a plain bundle in `file`: an export as it is, else taken out of the chain that leads to the target.
async fn fetch_bundle(
    context: &Context,
    restore: &EtcdRestore,
    scratch: &Path,
    file: &Path,
) -> Result<Source, Stop> {
    let namespace = restore.namespace().unwrap_or_default();
    // Only what objects of this namespace made can be named: another tenant's backup is not found.
    let Some(stored) = observe::stored(context, restore).await else {
        let spec = &restore.spec;
        let named = spec
            .backup_name
            .as_deref()
            .or(spec.snapshot_location.as_deref());
        let message = format!(
            "no completed EtcdBackup of namespace {namespace} is {}: see kubectl -n {namespace} get etcdbackups",
            named.unwrap_or_default()
        );
        return Err(Stop::Failed("NotFound", message));
    };
    let silent = |error: &dyn std::error::Error| {
        Stop::Later(format!("the store does not answer: {}", with_causes(error)))
    };
    let repository = context
        .services
        .repository(&stored.backup.spec, &namespace)
        .await;
    let repository = repository.map_err(|error| silent(&error))?;
    let catalog = repository
        .catalog(None)
        .await
        .map_err(|error| silent(&error))?;
    let own = |manifest: &&Manifest| manifest.id == stored.id && manifest.namespace == namespace;
    let Some(named) = catalog.backups.iter().find(own) else {
        let message = format!(
            "the store no longer holds backup {} of namespace {namespace}",
            stored.id
        );
        return Err(Stop::Failed("NotFound", message));
    };
    let encryption = restore
        .spec
        .encryption
        .as_ref()
        .or(stored.encryption.as_ref());
    let unsealer =
        Unsealer::resolve(encryption, &namespace, context.services.secrets.as_ref()).await;
    let unsealer = unsealer.map_err(|error| Stop::Later(with_causes(&error)))?;
    let broken = |error: &dyn std::error::Error| {
        Stop::Failed(
            "VerificationFailed",
            format!("backup {}: {}", named.id, with_causes(error)),
        )
    };
    let pair = crate::operator::velero::pair_of(&stored.backup);
    // Nothing of another namespace is read, whatever a manifest says that it builds on.
    let same: Vec<Manifest> = catalog
        .backups
        .iter()
        .filter(|one| one.cluster_id == named.cluster_id && one.namespace == namespace)
        .cloned()
        .collect();
    if named.kind == Kind::Export {
        let chain = fetch_export(&repository, &same, named, &unsealer, file)
            .await
            .map_err(|error| broken(&error))?;
        return Ok(Source { chain, pair });
    }
    let until = whole::until(&restore.spec).unwrap_or(Until::Revision(named.revision));
    let chain = chain::resolve(&same, Some(named), until)
        .map_err(|problem| Stop::Failed("NotFound", problem))?;
    let workspace =
        Workspace::take(&scratch.join("data"), false).map_err(|error| broken(&error))?;
    let fetched = fetch::fetch(&repository, &chain, &unsealer, &workspace).await;
    let fetched = fetched.map_err(|error| broken(&error))?;
    let selector = restore.spec.object_selector.as_ref();
    let selection = Selection {
        namespaces: restore.spec.namespace_filter.clone(),
        add: selector
            .map(|one| one.resources.clone())
            .unwrap_or_default(),
        ..Selection::default()
    };
    let (from, to) = (fetched.file.clone(), file.to_owned());
    let moment = (
        named.created,
        fetched.to_revision,
        named.etcd_version.clone(),
    );
    tokio::task::spawn_blocking(move || bundle_of(&from, &to, &selection, moment))
        .await
        .map_err(|error| Stop::Later(error.to_string()))?
        .map_err(|message| Stop::Failed("VerificationFailed", message))?;
    let all = std::iter::once(chain.base).chain(chain.increments.iter().copied());
    let chain = all.map(|backup| backup.id.clone()).collect();
    drop(workspace);
    Ok(Source { chain, pair })
}

fn bundle_of(
    snapshot: &Path,
    to: &Path,
    selection: &Selection,
    (created, revision, version): (Timestamp, Option<i64>, String),
) -> Result<(), String> {
    let mapped = Mapped::open(snapshot).map_err(|error| error.to_string())?;
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    let out = BufWriter::with_capacity(1 << 20, file.map_err(|error| error.to_string())?);
    let moment = (created, revision, version.as_str());
    let made = direct::export(mapped.bytes(), direct::PREFIX, selection, moment, out);
    let (out, _) = made.map_err(|error| with_causes(&error))?;
    out.into_inner().map_err(|error| error.to_string())?;
    Ok(())
}
