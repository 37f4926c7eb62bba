//! `restore` makes data directories of a backup or of a snapshot file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use super::CliError;
use super::args::Global;
use super::backup::RepositoryFlags;
use super::context::Context;
use super::output;
use super::restore_fit::{Asked, Fit, TargetFlags};
use super::restore_from::StoredBackups;
use super::seal_flags::UnsealFlags;
use super::snapshot_file::map;
use crate::api::{ErrorClass, RevisionPolicy};
use crate::recorder::merge::Until;
use crate::restore::chain::Chain;
use crate::restore::plan::{Plan, Request};
use crate::restore::run::Outcome;
use crate::restore::steps::next_steps;
use crate::restore::workspace::Workspace;
use crate::restore::{observe, plan, run};
use crate::snapshot;

/// Make data directories of a backup: written beside the target, proved, then moved into place.
#[derive(Debug, Args)]
pub struct Restore {
    /// A plain snapshot file, as of etcdctl snapshot save; else a backup of --from.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "backup"])]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    repository: RepositoryFlags,
    /// Which backup, by id, name or `latest`; an increment with all that it stands on. Unless given, the newest that was proved
    /// and gets to the target.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Only backups that objects of this namespace made.
    #[arg(long, value_name = "N", conflicts_with = "snapshot")]
    namespace: Option<String>,
    #[command(flatten)]
    unseal: UnsealFlags,
    /// Directory to create; with --all-members the folder of a directory each.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Name of the member.
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
    /// Members of the new cluster, as a=http://10.0.0.1:2380,b=…; this member alone unless given.
    #[arg(long, value_name = "NAME=URL,…")]
    initial_cluster: Option<String>,
    /// What the ids of cluster and members are made with; a fresh one unless given. The members of one cluster need the same.
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// Peer URLs of the member; those of --initial-cluster, else http://localhost:2380.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    initial_advertise_peer_urls: Vec<String>,
    /// A directory for every member of --initial-cluster, under --data-dir.
    #[arg(long, conflicts_with = "name")]
    all_members: bool,
    /// Last revision to restore: any from the compact revision on that the snapshot or its increments hold.
    #[arg(long, value_name = "N", conflicts_with = "to_time")]
    to_revision: Option<i64>,
    /// Last moment to restore: the last revision that was recorded by then.
    #[arg(long, value_name = "TIME")]
    to_time: Option<Timestamp>,
    /// Keep the revision as it is, also for Kubernetes.
    #[arg(long, conflicts_with = "bump_revision")]
    exact: bool,
    /// Raise the revision by so much and mark all before it compacted; a thousand million for Kubernetes unless given.
    #[arg(long, value_name = "N")]
    bump_revision: Option<u64>,
    /// Restore a file that has no digest behind it, or a wrong one.
    #[arg(long)]
    skip_hash_check: bool,
    /// Keep what is in the target as DIR.before-TIME and put the restored directory in its place.
    #[arg(long)]
    replace: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    target: TargetFlags,
    /// Do not ask before replacing.
    #[arg(long, short)]
    yes: bool,
}

/// A plan, and what to know of what it restores.
#[derive(Serialize)]
struct Planned {
    #[serde(flatten)]
    plan: Plan,
    #[serde(flatten)]
    fit: Fit,
}

impl Restore {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, CliError> {
        let context = Context::load(global, "warn")?;
        let mut verb = self;
        let asked = verb.target.ask().await?;
        let (file, name, workspace) = match &verb.snapshot {
            Some(file) => (file.clone(), file.display().to_string(), None),
            None => {
                let until = match (verb.to_revision, verb.to_time) {
                    (Some(revision), _) => Until::Revision(revision),
                    (None, Some(time)) => Until::Time(time),
                    (None, None) => Until::End,
                };
                let mut from =
                    StoredBackups::open(&verb.repository, verb.backup.as_deref(), &context).await?;
                if let Some(namespace) = &verb.namespace {
                    from = from.of_namespace(namespace)?;
                }
                let chain = from.chain(until)?;
                if verb.plan {
                    let (notes, fit) = verb.survey(&from, &chain, &context, asked).await?;
                    from.show(global, &chain, notes, fit)?;
                    return Ok(ExitCode::SUCCESS);
                }
                let unsealer = verb.unseal.unsealer(&context).await?;
                let data_dir = std::path::absolute(&verb.data_dir)?;
                let target = observe::target(&data_dir)?;
                let workspace = Workspace::take(&data_dir, target.mount_point)?;
                let fetched = from.fetch(&chain, &unsealer, &workspace).await?;
                verb.to_revision = fetched.to_revision;
                verb.to_time = None;
                (fetched.file, fetched.name, Some(workspace))
            }
        };
        let global = global.clone();
        // Signals must be heard while files are written.
        tokio::task::spawn_blocking(move || verb.restore(&global, &file, &name, workspace, asked))
            .await
            .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?
    }

    /// What of the Kubernetes in a stored chain the new cluster must fit: all of the chain is fetched into a scratch folder for it.
    async fn survey(
        &self,
        from: &StoredBackups,
        chain: &Chain<'_>,
        context: &Context,
        asked: Option<Asked>,
    ) -> Result<(Vec<String>, Fit), CliError> {
        let etcd = Some(chain.base.etcd_version.as_str()).filter(|version| !version.is_empty());
        let scratch = tempfile::Builder::new().prefix("etcdguardian-").tempdir()?;
        let workspace = Workspace::take(&scratch.path().join("plan"), false)?;
        let fetched = match self.unseal.unsealer(context).await {
            Ok(unsealer) => from.fetch(chain, &unsealer, &workspace).await,
            Err(error) => Err(error),
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            // A plan of the chain alone needs no key.
            Err(error) if error.class == ErrorClass::Credentials => {
                let note = format!("the objects in it were not looked at: {error}");
                return Ok((vec![note], Fit::unseen(etcd)));
            }
            Err(error) => return Err(error),
        };
        let mapped = map(&fetched.file)?;
        let fit = Fit::of(mapped.bytes(), fetched.to_revision, etcd, asked.as_ref())?;
        Ok((Vec::new(), fit))
    }

    fn restore(
        &self,
        global: &Global,
        file: &Path,
        source_name: &str,
        workspace: Option<Workspace>,
        asked: Option<Asked>,
    ) -> Result<ExitCode, CliError> {
        if let Some(time) = self.to_time {
            return Err(CliError::new(
                ErrorClass::Refused,
                format!(
                    "{source_name} does not say which revision was the last at {}: it has no marks of time; use --to-revision N, or an older backup",
                    output::moment(time)
                ),
            ));
        }
        let mapped = map(file)?;
        let data_dir = std::path::absolute(&self.data_dir)?;
        let source = observe::source(mapped.bytes())?;
        let target = observe::target(&data_dir)?;
        let plan = plan::plan(
            &self.request(source_name, data_dir),
            &source,
            &target,
            Timestamp::now(),
        )?;
        if self.plan {
            let at = Some(plan.revisions.kept_to);
            let etcd = snapshot::storage_version(mapped.bytes())?;
            let fit = Fit::of(mapped.bytes(), at, etcd.as_deref(), asked.as_ref())?;
            let planned = Planned { plan, fit };
            output::print(global.output, &planned, |planned| {
                let (plan, fit) = (&planned.plan, &planned.fit);
                let mut text = plan_fields(plan, fit.holds());
                list(&mut text, "note", &plan.notes);
                text.push_str(&fit.words());
                list(&mut text, "then", &next_steps(plan));
                text
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        if plan.keep_old_as.is_some() {
            output::say(plan_words(&plan));
            output::confirm("replace it?", self.yes)?;
        }
        let workspace = match workspace {
            Some(workspace) => workspace,
            None => Workspace::take(&plan.data_dir, target.mount_point)?,
        };
        let outcome = with_progress(global, mapped.bytes().len() as u64, |progress| {
            run::restore(&plan, &workspace, mapped.bytes(), progress)
        })?;
        output::print(global.output, &outcome, outcome_words)?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self, source_name: &str, data_dir: PathBuf) -> Request {
        Request {
            source_name: source_name.to_owned(),
            data_dir,
            name: self.name.clone(),
            initial_cluster: self.initial_cluster.clone(),
            token: self
                .initial_cluster_token
                .clone()
                .unwrap_or_else(|| format!("etcdguardian-{}", uuid::Uuid::new_v4().simple())),
            advertise: self.initial_advertise_peer_urls.clone(),
            all_members: self.all_members,
            to_revision: self.to_revision,
            policy: self.exact.then_some(RevisionPolicy::Exact),
            bump: self.bump_revision,
            skip_hash_check: self.skip_hash_check,
            replace: self.replace,
        }
    }
}

/// Runs `work` under a bar of the bytes that it says it wrote, when stderr is a terminal.
fn with_progress<T>(
    global: &Global,
    total: u64,
    work: impl FnOnce(&(dyn Fn(u64) + Sync)) -> T,
) -> T {
    let bar = ProgressBar::new(total);
    if global.no_progress {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) =
        ProgressStyle::with_template("restoring {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let result = work(&|count| bar.inc(count));
    bar.finish_and_clear();
    result
}

fn policy_words(policy: RevisionPolicy, reason: &str) -> String {
    match policy {
        RevisionPolicy::Exact => format!("kept exactly: {reason}"),
        RevisionPolicy::BumpAndCompact => format!("raised and marked compacted: {reason}"),
    }
}

fn plan_words(plan: &Plan) -> String {
    let mut text = plan_fields(plan, None);
    list(&mut text, "note", &plan.notes);
    list(&mut text, "then", &next_steps(plan));
    text
}

fn plan_fields(plan: &Plan, holds: Option<(&'static str, String)>) -> String {
    let revisions = &plan.revisions;
    let mut pairs = vec![
        ("snapshot", plan.source.clone()),
        (
            "revision",
            format!(
                "{} (the snapshot ends at {}); etcd goes on from {}",
                revisions.kept_to, plan.snapshot_revision, revisions.starts_at
            ),
        ),
        ("", policy_words(revisions.policy, &revisions.reason)),
        (
            "cluster",
            format!("{} (token {})", plan.cluster_id, plan.cluster_token),
        ),
    ];
    for member in &plan.members {
        pairs.push((
            "member",
            format!(
                "{} {} at {} in {}",
                member.name,
                member.id,
                member.peer_urls.join(","),
                member.data_dir.display()
            ),
        ));
    }
    if let Some(old) = &plan.keep_old_as {
        pairs.push((
            "replaces",
            format!("{}, kept as {}", plan.data_dir.display(), old.display()),
        ));
    }
    pairs.push(("needs", output::bytes(plan.needed_bytes)));
    pairs.extend(holds);
    output::fields(&pairs)
}

fn outcome_words(outcome: &Outcome) -> String {
    let revisions = &outcome.revisions;
    let mut pairs = vec![
        (
            "restored",
            format!("revision {}, {} keys", outcome.revision, outcome.keys),
        ),
        (
            "revision",
            policy_words(revisions.policy, &revisions.reason),
        ),
        (
            "hash",
            format!(
                "{} (HashKV at revision {}, compacted: {}), read back and equal",
                outcome.hash,
                outcome.revision,
                output::compacted(outcome.compact_revision)
            ),
        ),
        (
            "cluster",
            format!("{} (token {})", outcome.cluster_id, outcome.cluster_token),
        ),
    ];
    for member in &outcome.members {
        pairs.push((
            "member",
            format!("{} in {}", member.name, member.data_dir.display()),
        ));
    }
    if let Some(old) = &outcome.old_kept_as {
        pairs.push(("old data", format!("kept in {}", old.display())));
    }
    let mut text = output::fields(&pairs);
    list(&mut text, "note", &outcome.notes);
    list(&mut text, "next", &outcome.next_steps);
    text
}

fn list(text: &mut String, label: &str, lines: &[String]) {
    for line in lines {
        let _ = writeln!(text, "{label}: {line}");
    }
}
