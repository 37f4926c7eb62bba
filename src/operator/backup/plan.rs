//! What is to be done about an EtcdBackup: decided from the object, from what is known of its work, and from what the store says.
//! Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{
    BackupMode, DeletionPolicy, ErrorClass, EtcdBackup, EtcdBackupSpec, Executor, FieldError,
    Provider, Source,
};
use crate::engine::plan::retry_pause;
use crate::export::resources::selector_of;
use crate::kms::is_of_secret;
use crate::operator::conditions::spec_changed;
use crate::operator::labels::{CATALOGUE_ANNOTATION, FINALIZER, SCHEDULE_LABEL};
use crate::operator::report::{Finished, Outcome};
use crate::pipeline::Part;

/// Attempts at a backup that nobody else makes up for.
const ATTEMPTS: i64 = 5;
/// Attempts when the process or Job that did the work died, which says nothing about the work.
const LOST_ATTEMPTS: i64 = 3;

/// What is said of a backup that names a schedule of its own, as old manifests do.
const LEGACY_SCHEDULE: &str = "spec.schedule has no effect: the backup is made once; create an EtcdBackupSchedule for one at every slot";

/// What a person should know of a spec that is carried out.
pub fn warning(spec: &EtcdBackupSpec) -> Option<String> {
    spec.schedule.as_ref().map(|_| LEGACY_SCHEDULE.to_owned())
}

/// What is known of the work.
#[derive(Debug, Clone)]
pub enum Work {
    /// Nobody does it, as far as is known here.
    None,
    /// It waits for a slot in this process.
    Queued,
    /// It goes on.
    Going(Option<String>),
    /// It ended and said so.
    Ended(Outcome),
    /// It died without a word.
    Lost {
        /// CamelCase.
        reason: String,
        /// What is known of its end.
        message: String,
    },
}

/// What the store says of this object's backup.
#[derive(Debug, Clone)]
pub enum Stored {
    /// It was not asked.
    NotAsked,
    /// It does not answer.
    Unknown(String),
    /// Its manifest is not there.
    Absent,
    /// It is there.
    There(Box<Finished>),
}

/// What was seen of an EtcdBackup.
pub struct Seen<'a> {
    /// The object.
    pub backup: &'a EtcdBackup,
    /// Rules that it breaks.
    pub problems: Vec<FieldError>,
    /// Whether its namespace may use what is the operator's own.
    pub trusted: bool,
    /// The operator's namespace, to name it.
    pub operator_namespace: &'a str,
    /// The work.
    pub work: Work,
    /// The store.
    pub stored: Stored,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Step {
    /// Nothing until the object or its work changes.
    Nothing,
    /// Nothing until then.
    WaitUntil(Timestamp),
    /// The finalizer that a deletionPolicy of Delete needs.
    AddFinalizer,
    /// It will never be made.
    Reject {
        /// CamelCase.
        reason: &'static str,
        /// Why, and what to do.
        message: String,
    },
    /// Work begins, for the so-manieth time.
    Begin {
        /// From 1.
        attempt: i64,
    },
    /// The work is in another stage.
    Show(String),
    /// The store must say what became of the run.
    AskStore,
    /// The store must say, but does not answer.
    StoreSilent(String),
    /// It is there.
    Complete(Box<Finished>),
    /// It is there, and Velero's half is waited for.
    Pair,
    /// An attempt failed; another follows.
    RetryAt {
        /// When.
        at: Timestamp,
        /// CamelCase.
        reason: String,
        /// What happened.
        message: String,
    },
    /// It failed for good.
    Fail {
        /// CamelCase.
        reason: String,
        /// What happened.
        message: String,
    },
    /// What is stored must go before the object may.
    DeleteStored,
    /// The object may go.
    RemoveFinalizer,
}

/// Decides.
pub fn decide(seen: &Seen<'_>, now: Timestamp) -> Step {
    let backup = seen.backup;
    let status = backup.status.clone().unwrap_or_default();
    let finalized = backup.finalizers().iter().any(|name| name == FINALIZER);
    if backup.metadata.deletion_timestamp.is_some() {
        return match (finalized, backup.spec.deletion_policy) {
            (false, _) => Step::Nothing,
            // What it is about to store must go too.
            (true, _) if matches!(seen.work, Work::Queued | Work::Going(_)) => Step::Nothing,
            (true, DeletionPolicy::Delete) if status.run_id.is_some() => Step::DeleteStored,
            (true, _) => Step::RemoveFinalizer,
        };
    }
    match status.phase.as_deref() {
        Some("Completed" | "Failed" | "Rejected") => Step::Nothing,
        Some("Running" | "Verifying") => going(seen, now),
        Some("TriggeringVelero") => Step::Pair,
        _ if !finalized && backup.spec.deletion_policy == DeletionPolicy::Delete => {
            Step::AddFinalizer
        }
        _ => pending(seen, now),
    }
}

fn pending(seen: &Seen<'_>, now: Timestamp) -> Step {
    let status = seen.backup.status.clone().unwrap_or_default();
    let changed = spec_changed(seen.backup, status.observed_generation);
    if !seen.problems.is_empty() || changed.is_some() {
        let problems = seen.problems.iter().map(ToString::to_string);
        let problems: Vec<String> = problems.chain(changed).collect();
        return Step::Reject {
            reason: "SpecInvalid",
            message: problems.join("; "),
        };
    }
    if let (false, Some(what)) = (seen.trusted, own_things(&seen.backup.spec)) {
        return Step::Reject {
            reason: "NotAllowed",
            message: not_allowed(
                &seen.backup.namespace().unwrap_or_default(),
                seen.operator_namespace,
                &what,
            ),
        };
    }
    if let Some(id) = seen.backup.annotations().get(CATALOGUE_ANNOTATION) {
        return match &seen.stored {
            Stored::NotAsked => Step::AskStore,
            Stored::Unknown(error) => Step::StoreSilent(error.clone()),
            Stored::There(finished) => Step::Complete(finished.clone()),
            Stored::Absent => Step::Fail {
                reason: "NotFound".to_owned(),
                message: format!("the store holds no backup {id}: delete this object"),
            },
        };
    }
    match (&seen.work, status.next_attempt_time) {
        (Work::Queued, _) => Step::Nothing,
        (_, Some(at)) if at > now => Step::WaitUntil(at),
        _ => Step::Begin {
            attempt: status.attempts.unwrap_or(0).saturating_add(1),
        },
    }
}

fn going(seen: &Seen<'_>, now: Timestamp) -> Step {
    match &seen.work {
        Work::Going(Some(stage)) => Step::Show(stage.clone()),
        Work::Going(None) | Work::Queued => Step::Nothing,
        Work::Ended(Outcome::Completed(finished)) => Step::Complete(finished.clone()),
        Work::Ended(Outcome::Rejected { message }) => Step::Reject {
            reason: "NotAllowed",
            message: message.clone(),
        },
        Work::Ended(Outcome::Failed { reason, message }) => {
            failed(seen, reason, message.clone(), false, now)
        }
        // The manifest is the commit point: whoever died after writing it has made a backup.
        Work::None | Work::Lost { .. } => match &seen.stored {
            Stored::NotAsked => Step::AskStore,
            Stored::Unknown(error) => Step::StoreSilent(error.clone()),
            Stored::There(finished) => Step::Complete(finished.clone()),
            Stored::Absent => match &seen.work {
                Work::Lost { reason, message } => failed(seen, reason, message.clone(), true, now),
                _ => {
                    let message = "the operator that did the work ended in the middle of it; nothing of the run is in the store";
                    failed(seen, "RunInterrupted", message.to_owned(), true, now)
                }
            },
        },
    }
}

fn failed(seen: &Seen<'_>, reason: &str, message: String, lost: bool, now: Timestamp) -> Step {
    let attempts = seen
        .backup
        .status
        .as_ref()
        .and_then(|status| status.attempts);
    let attempts = attempts.unwrap_or(1);
    let scheduled = seen.backup.labels().contains_key(SCHEDULE_LABEL);
    let class = ErrorClass::from_reason(reason);
    let most = match class {
        // No other answer is to be expected of the same words.
        ErrorClass::Usage | ErrorClass::Refused => 1,
        _ if lost => LOST_ATTEMPTS,
        // Its schedule makes another, with the pauses of the schedule.
        _ if scheduled => 1,
        _ => ATTEMPTS,
    };
    let reason = reason.to_owned();
    if attempts >= most {
        return Step::Fail { reason, message };
    }
    let pause = if lost {
        SignedDuration::ZERO
    } else {
        retry_pause(u32::try_from(attempts).unwrap_or(u32::MAX))
    };
    Step::RetryAt {
        at: now.checked_add(pause).unwrap_or(now),
        reason,
        message,
    }
}

/// Which part of an attempt is made in the operator's process; `None` when a Job makes all of it. Where a watch stands, it stands in the
/// operator, which therefore makes the increments itself; what is heavy it leaves to Jobs.
pub fn made_here(spec: &EtcdBackupSpec, has_jobs: bool, watch_stands: bool) -> Option<Part> {
    if spec.executor == Executor::InProcess || !has_jobs {
        return Some(Part::Whole);
    }
    let of_etcd = spec.source != Source::Proxy && spec.namespace_selector.is_none();
    let increment = spec.backup_mode == BackupMode::Incremental && of_etcd;
    (increment && watch_stands).then_some(Part::Increment)
}

/// Whether an object still waits for a run.
pub fn awaits(backup: &EtcdBackup, run_id: &str) -> bool {
    backup.status.as_ref().is_some_and(|status| {
        status.run_id.as_deref() == Some(run_id)
            && matches!(status.phase.as_deref(), Some("Running" | "Verifying"))
    })
}

/// What of the operator's own a backup would use.
pub fn own_things(spec: &EtcdBackupSpec) -> Option<String> {
    let all = spec.namespace_selector.is_none();
    match (spec.source, spec.etcd_endpoints.is_empty()) {
        (Source::Proxy, _) if all => {
            return Some(
                "the objects of the whole cluster (no namespaceSelector is named)".to_owned(),
            );
        }
        // A tenant's Auto without an etcd of its own is an export through the API.
        (Source::Auto, true) if !all => {}
        (Source::Auto | Source::Direct, true) => {
            return Some("the operator's configured etcd (no etcdEndpoints are named)".to_owned());
        }
        _ => {}
    }
    let velero = spec.velero_integration.as_ref();
    if velero.is_some_and(|velero| velero.enabled) {
        return Some(
            "Velero, which backs up with rights of its own (veleroIntegration)".to_owned(),
        );
    }
    let key = spec.encryption.as_ref().filter(|one| one.enabled);
    let key = key.and_then(|one| one.kms_key_id.as_deref());
    if key.is_some_and(|key| !is_of_secret(&spec.storage_location, key)) {
        return Some(
            "the operator's cloud identity (encryption.kmsKeyID is not of the cloud of the storageLocation's credentialsSecret)".to_owned(),
        );
    }
    let replicas = spec.replicate_to.iter();
    let stores = replicas.map(|replica| &replica.storage_location);
    for location in std::iter::once(&spec.storage_location).chain(stores) {
        if location.provider == Provider::Local {
            return Some("a directory of the operator (provider Local)".to_owned());
        }
        if location.credentials_secret.is_none() {
            return Some(format!(
                "the operator's cloud identity (the storageLocation {location} names no credentialsSecret)"
            ));
        }
    }
    None
}

/// Why a namespace may not, and what can be done.
pub fn not_allowed(namespace: &str, operator_namespace: &str, what: &str) -> String {
    format!(
        "namespace {namespace} may not use {what}: name its own, or create the object in namespace {operator_namespace}, or have {namespace} added to operator.trustedNamespaces"
    )
}

/// What is really asked for, for events and the audit log.
pub fn scope(spec: &EtcdBackupSpec) -> String {
    let what = match spec.backup_mode {
        BackupMode::Full => "full",
        BackupMode::Incremental => "incremental",
    };
    let of = match (&spec.namespace_selector, spec.source) {
        (Some(selector), _) => {
            let words = selector_of(selector).map(|selector| selector.to_string());
            let words = words.unwrap_or_default();
            format!(
                " of the namespaces that are {words}, as {}",
                spec.service_account_name
            )
        }
        (None, Source::Proxy) => " of the objects of the whole cluster".to_owned(),
        (None, _) => String::new(),
    };
    format!("{what} backup{of} to {}", spec.storage_location)
}
