//! What is to be done about an EtcdRestore: what is refused, which members get what, and the next step. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::members::{Member, Place, compatible, etcd_version, members, static_pods, steps};
use super::seen::{Health, JobState, Seen, Source};
use super::static_pods::{Turn, manifest};
use crate::api::{EtcdRestore, EtcdRestoreSpec, Hook, RestoreStep};
use crate::operator::conditions::spec_changed;
use crate::operator::labels::REPLICAS_ANNOTATION;
use crate::operator::velero::back;

/// How long restored members may take to be healthy.
const HEALTHY_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// The step in which Velero brings the volumes.
pub const VELERO: &str = "velero";

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before anything is changed.
    Before,
    /// After the cluster is healthy.
    After,
}

impl When {
    /// What hooks are told.
    pub fn stage(self) -> &'static str {
        match self {
            Self::Before => "preRestore",
            Self::After => "postRestore",
        }
    }

    /// Their step in the status.
    pub fn step(self) -> &'static str {
        match self {
            Self::Before => "hooks before",
            Self::After => "hooks after",
        }
    }

    /// Those of a restore.
    pub fn hooks(self, spec: &EtcdRestoreSpec) -> &[Hook] {
        match self {
            Self::Before => &spec.pre_restore_hooks,
            Self::After => &spec.post_restore_hooks,
        }
    }

    /// Whether they are still to run.
    fn is_open(self, restore: &EtcdRestore) -> bool {
        let status = restore.status.as_ref();
        let mut steps = status.iter().flat_map(|status| &status.steps);
        !self.hooks(&restore.spec).is_empty()
            && !steps.any(|step| step.name == self.step() && step.state == "Done")
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Another look soon; the words say at what.
    Wait(String),
    /// It will never be done.
    Reject {
        /// CamelCase.
        reason: &'static str,
        /// Why.
        message: String,
    },
    /// The source must be looked at.
    LookAtSource,
    /// This is what will be done.
    Plan {
        /// Backups in order.
        chain: Vec<String>,
        /// The steps.
        steps: Vec<RestoreStep>,
        /// What a person should know.
        warnings: Vec<String>,
    },
    /// Hooks run.
    RunHooks(When),
    /// The members are stopped.
    Quiesce,
    /// The absent Jobs that stop or start static pods are made.
    TurnStaticPods(Turn, Vec<Member>),
    /// The members are gone: their data may be replaced.
    Quiesced,
    /// The Jobs that are absent are made.
    MakeJobs(Vec<Member>),
    /// The data is in place: the members are started.
    Start,
    /// Velero brings the volumes.
    Pair,
    /// All is well.
    Complete {
        /// Revision of the restored cluster.
        revision: i64,
        /// Its hash.
        hash: u32,
    },
    /// It failed; nothing more is done.
    Fail {
        /// CamelCase.
        reason: &'static str,
        /// What happened, and how to go back.
        message: String,
    },
}

/// Decides.
pub fn decide(seen: &Seen<'_>, now: Timestamp) -> Step {
    let status = seen.restore.status.clone().unwrap_or_default();
    if let Some(message) = spec_changed(seen.restore, status.observed_generation) {
        let message = match status.phase.as_deref() {
            None | Some("Pending" | "Planned") => message,
            _ => with_way_back(seen.restore, &message),
        };
        return Step::Fail {
            reason: "SpecInvalid",
            message,
        };
    }
    match status.phase.as_deref() {
        None | Some("Pending") => pending(seen),
        Some("Planned") if seen.restore.spec.plan || seen.own_etcd => Step::Nothing,
        Some("Planned") if When::Before.is_open(seen.restore) => Step::RunHooks(When::Before),
        Some("Planned") => Step::Quiesce,
        Some("Quiescing") => match &seen.stateful_set {
            Some(set) if running(set) > 0 => Step::Wait(format!(
                "{} of the pods of StatefulSet {} are still there",
                running(set),
                set.name_any()
            )),
            _ => turning(seen, Turn::Off).unwrap_or(Step::Quiesced),
        },
        Some("Restoring") => restoring(seen),
        Some("Validating") => validating(seen, status.start_time.unwrap_or(now), now),
        _ => Step::Nothing,
    }
}

fn running(set: &StatefulSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn pending(seen: &Seen<'_>) -> Step {
    let spec = &seen.restore.spec;
    if !seen.problems.is_empty() {
        let problems: Vec<String> = seen.problems.iter().map(ToString::to_string).collect();
        let message = problems.join("; ");
        return Step::Reject {
            reason: "SpecInvalid",
            message,
        };
    }
    if !seen.jobs {
        let message =
            "a restore works in Jobs: set operator.jobs.image in the operator's config".to_owned();
        return Step::Reject {
            reason: "Refused",
            message,
        };
    }
    let members = match members(spec, seen.stateful_set.as_ref()) {
        Ok(members) => members,
        Err(message) => {
            return Step::Reject {
                reason: "SpecInvalid",
                message,
            };
        }
    };
    if !seen.trusted
        && members
            .iter()
            .any(|member| matches!(member.place, Place::Node(_)))
    {
        let message = "only trusted namespaces may write to the folders of nodes: name a claimName for each member, or have this namespace added to operator.trustedNamespaces".to_owned();
        return Step::Reject {
            reason: "NotAllowed",
            message,
        };
    }
    if !seen.trusted && back::asked(seen.restore) {
        let message = "only trusted namespaces have Velero restore with rights of its own (veleroIntegration)".to_owned();
        return Step::Reject {
            reason: "NotAllowed",
            message,
        };
    }
    match &seen.source {
        Source::NotLooked => Step::LookAtSource,
        Source::Unknown(error) => Step::Wait(format!("the backup cannot be looked up: {error}")),
        Source::Missing(message) => Step::Fail {
            reason: "NotFound",
            message: message.clone(),
        },
        Source::Found { chain, version } => {
            let target = seen.stateful_set.as_ref();
            let target = target.map(|set| etcd_version(set).unwrap_or_default());
            match compatible(
                version,
                target.as_deref(),
                spec.version_compatibility.as_ref(),
            ) {
                Err(message) => Step::Reject {
                    reason: "VersionMismatch",
                    message,
                },
                Ok(warning) => Step::Plan {
                    chain: chain.clone(),
                    steps: steps(spec, &members),
                    warnings: warning.into_iter().collect(),
                },
            }
        }
    }
}

fn restoring(seen: &Seen<'_>) -> Step {
    let members = match members(&seen.restore.spec, seen.stateful_set.as_ref()) {
        Ok(members) => members,
        Err(message) => {
            return Step::Fail {
                reason: "SpecInvalid",
                message: with_way_back(seen.restore, &message),
            };
        }
    };
    match progress(members, &seen.states) {
        Progress::Failed(why) => Step::Fail {
            reason: "RestoreFailed",
            message: with_way_back(seen.restore, &why),
        },
        Progress::Absent(members) => Step::MakeJobs(members),
        Progress::Going => Step::Wait("the Jobs work".to_owned()),
        Progress::Done => Step::Start,
    }
}

/// How far Jobs are, one a member.
enum Progress {
    Failed(String),
    Absent(Vec<Member>),
    Going,
    Done,
}

fn progress(members: Vec<Member>, states: &[JobState]) -> Progress {
    let failed = states.iter().find_map(|state| match state {
        JobState::Failed(why) => Some(why.clone()),
        _ => None,
    });
    if let Some(why) = failed {
        return Progress::Failed(why);
    }
    let absent: Vec<Member> = members
        .into_iter()
        .zip(states)
        .filter(|(_, state)| **state == JobState::Absent)
        .map(|(member, _)| member)
        .collect();
    if !absent.is_empty() {
        Progress::Absent(absent)
    } else if states.iter().all(|state| *state == JobState::Done) {
        Progress::Done
    } else {
        Progress::Going
    }
}

/// What is still to be done to stop or start the members that run as static pods; nothing when all are.
fn turning(seen: &Seen<'_>, turn: Turn) -> Option<Step> {
    let spec = &seen.restore.spec;
    let members = members(spec, seen.stateful_set.as_ref()).unwrap_or_default();
    let (reason, doing) = match turn {
        Turn::Off => ("QuiesceFailed", "the static pods are being stopped"),
        Turn::On => ("StartFailed", "the static pods are being started"),
    };
    match progress(static_pods(spec, members), &seen.turns) {
        Progress::Failed(why) => Some(Step::Fail {
            reason,
            message: with_way_back(seen.restore, &why),
        }),
        Progress::Absent(members) => Some(Step::TurnStaticPods(turn, members)),
        Progress::Going => Some(Step::Wait(doing.to_owned())),
        Progress::Done => None,
    }
}

fn validating(seen: &Seen<'_>, started: Timestamp, now: Timestamp) -> Step {
    if let Some(step) = turning(seen, Turn::On) {
        return step;
    }
    let waiting = match &seen.health {
        Health::Healthy { .. } if pair_is_open(seen.restore) => return Step::Pair,
        Health::Healthy { .. } if When::After.is_open(seen.restore) => {
            return Step::RunHooks(When::After);
        }
        Health::Healthy { revision, hash } => {
            return Step::Complete {
                revision: *revision,
                hash: *hash,
            };
        }
        Health::Differ(message) => {
            return Step::Fail {
                reason: "VerificationFailed",
                message: with_way_back(seen.restore, message),
            };
        }
        Health::Waiting(message) => message.clone(),
        Health::NotAsked => "no endpoints are named: nobody can be asked".to_owned(),
    };
    // What is started by hand takes as long as it takes.
    let by_us = seen.stateful_set.is_some() || !seen.turns.is_empty();
    let by_hand = !by_us || !seen.restore.spec.quiesce_cluster;
    if !by_hand && now.duration_since(started) > HEALTHY_WITHIN {
        let message = format!("the restored members are not healthy: {waiting}");
        return Step::Fail {
            reason: "Unhealthy",
            message: with_way_back(seen.restore, &message),
        };
    }
    Step::Wait(waiting)
}

/// Whether Velero is still to bring the volumes.
fn pair_is_open(restore: &EtcdRestore) -> bool {
    let ended = |step: &&RestoreStep| {
        step.name == VELERO && matches!(step.state.as_str(), "Done" | "Failed")
    };
    let mut steps = restore.status.iter().flat_map(|status| &status.steps);
    back::asked(restore) && !steps.any(|step| ended(&step))
}

/// A failure, and how to go back to what was.
pub fn with_way_back(restore: &EtcdRestore, message: &str) -> String {
    let cluster = restore.spec.etcd_cluster.clone().unwrap_or_default();
    let on_nodes = !static_pods(
        &restore.spec,
        members(&restore.spec, None).unwrap_or_default(),
    )
    .is_empty();
    let start = match &cluster.stateful_set {
        Some(set) => format!(
            "; then scale StatefulSet {} back to what its annotation {REPLICAS_ANNOTATION} says",
            set.name
        ),
        None if on_nodes => {
            let (manifest, aside) = manifest(Some(&cluster));
            format!("; then, on each node, mv {aside} {manifest}")
        }
        None => "; then start etcd".to_owned(),
    };
    format!(
        "{message} -- the old data is kept: a member whose Job is done has it in DATA_DIR.before-TIME (or DATA_DIR/before-TIME in the root of a volume), the others in its place. To go back: stop the members, move it back to DATA_DIR{start}"
    )
}
