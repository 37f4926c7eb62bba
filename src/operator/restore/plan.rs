//! What is to be done about an EtcdRestore: what is refused, which members get what, and the next step. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use crate::api::{
    EtcdRestore, EtcdRestoreSpec, FieldError, RestoreMode, RestoreStep, VersionCompatibility,
};
use crate::operator::labels::REPLICAS_ANNOTATION;
use crate::recorder::merge::Until;

/// How long restored members may take to be healthy.
const HEALTHY_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// Where a member's data lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a volume claim, mounted here.
    Claim {
        /// Its name.
        name: String,
        /// Mount path in the member's pod.
        mount: String,
    },
    /// On a node.
    Node(Option<String>),
}

/// A member that gets a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// etcd's name of it.
    pub name: String,
    /// Where the others reach it.
    pub peer_url: String,
    /// Its data directory, as etcd sees it.
    pub data_dir: String,
    /// Where that lies.
    pub place: Place,
}

/// What was seen of the source.
#[derive(Debug, Clone)]
pub enum Source {
    /// Not looked at.
    NotLooked,
    /// It cannot be had now.
    Unknown(String),
    /// It is not there, or does not lead to the target.
    Missing(String),
    /// The ids of the backups, in order, and the etcd release that wrote the first.
    Found {
        /// Backups in order.
        chain: Vec<String>,
        /// As `3.5.9`.
        version: String,
    },
}

/// How far a member's Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// There is none.
    Absent,
    /// It works.
    Going,
    /// It is done.
    Done,
    /// It failed, and why.
    Failed(String),
}

/// What the restored members say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nobody asked, or there is nobody to ask.
    NotAsked,
    /// Not all of them answer, and what is missing.
    Waiting(String),
    /// All answer the same.
    Healthy {
        /// Their newest revision.
        revision: i64,
        /// Their hash at it.
        hash: u32,
    },
    /// They answer differently.
    Differ(String),
}

/// What was seen of a restore.
pub struct Seen<'a> {
    /// The object.
    pub restore: &'a EtcdRestore,
    /// Rules that it breaks.
    pub problems: Vec<FieldError>,
    /// Whether its namespace may use nodes' folders.
    pub trusted: bool,
    /// Whether Jobs can be made.
    pub jobs: bool,
    /// The backup.
    pub source: Source,
    /// The StatefulSet, where one is named and there.
    pub stateful_set: Option<StatefulSet>,
    /// The Jobs, one a member.
    pub states: Vec<JobState>,
    /// The restored members.
    pub health: Health,
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
    /// The members are stopped.
    Quiesce,
    /// The members are gone: their data may be replaced.
    Quiesced,
    /// The Jobs that are absent are made.
    MakeJobs(Vec<Member>),
    /// The data is in place: the members are started.
    Start,
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
    match status.phase.as_deref() {
        None | Some("Pending") => pending(seen),
        Some("Planned") if seen.restore.spec.plan => Step::Nothing,
        Some("Planned") => Step::Quiesce,
        Some("Quiescing") => match &seen.stateful_set {
            Some(set) if running(set) > 0 => Step::Wait(format!(
                "{} of the pods of StatefulSet {} are still there",
                running(set),
                set.name_any()
            )),
            _ => Step::Quiesced,
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
    if let Some(message) = not_there_yet(spec) {
        return Step::Reject {
            reason: "Refused",
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
    match &seen.source {
        Source::NotLooked => Step::LookAtSource,
        Source::Unknown(error) => Step::Wait(format!("the backup cannot be looked up: {error}")),
        Source::Missing(message) => Step::Fail {
            reason: "NotFound",
            message: message.clone(),
        },
        Source::Found { chain, version } => {
            let target = seen.stateful_set.as_ref().and_then(etcd_version);
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

/// What the resource can say and the operator cannot do yet.
fn not_there_yet(spec: &EtcdRestoreSpec) -> Option<String> {
    let what = match () {
        () if !spec.namespace_filter.is_empty() || spec.object_selector.is_some() => {
            "namespaceFilter and objectSelector (a restore of single objects)"
        }
        () if !spec.pre_restore_hooks.is_empty() || !spec.post_restore_hooks.is_empty() => {
            "hooks of a restore"
        }
        () => return None,
    };
    Some(format!("{what} are not there yet: take them out"))
}

/// Rules that the schema cannot say, repeated for servers without CEL.
pub fn problems(spec: &EtcdRestoreSpec) -> Vec<FieldError> {
    let mut found = Vec::new();
    let mut push = |path: &str, message: &str| {
        found.push(FieldError {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    };
    if spec.backup_name.is_some() == spec.snapshot_location.is_some() {
        push(
            "spec",
            "exactly one of backupName and snapshotLocation is needed",
        );
    }
    let targets =
        usize::from(spec.target_revision.is_some()) + usize::from(spec.target_time.is_some());
    if spec.restore_mode == RestoreMode::PointInTime && targets != 1 {
        push(
            "spec.restoreMode",
            "PointInTime needs exactly one of targetRevision and targetTime",
        );
    }
    if spec.etcd_cluster.is_none() && spec.namespace_filter.is_empty() {
        push(
            "spec.etcdCluster",
            "is needed: statefulSet, or members with their data directories",
        );
    }
    found
}

/// The last revision or moment that is wanted; `None` for the end of the named backup itself.
pub fn until(spec: &EtcdRestoreSpec) -> Option<Until> {
    match (spec.restore_mode, spec.target_revision, spec.target_time) {
        (RestoreMode::PointInTime, Some(revision), _) => Some(Until::Revision(revision)),
        (RestoreMode::PointInTime, None, Some(time)) => Some(Until::Time(time)),
        (RestoreMode::Incremental, ..) => Some(Until::End),
        _ => None,
    }
}

/// The members of the restored cluster: as named, else those of the StatefulSet, else one in `dataDir`.
pub fn members(spec: &EtcdRestoreSpec, set: Option<&StatefulSet>) -> Result<Vec<Member>, String> {
    let cluster = spec.etcd_cluster.clone().unwrap_or_default();
    if !cluster.members.is_empty() {
        return cluster
            .members
            .iter()
            .map(|member| {
                let data_dir = member.data_dir.clone().or_else(|| cluster.data_dir.clone());
                let data_dir =
                    data_dir.ok_or_else(|| format!("member {} has no dataDir", member.name))?;
                let place = match &member.claim_name {
                    Some(name) => Place::Claim {
                        name: name.clone(),
                        mount: parent(&data_dir),
                    },
                    None => Place::Node(member.node_name.clone()),
                };
                Ok(Member {
                    name: member.name.clone(),
                    peer_url: member.peer_url.clone(),
                    data_dir,
                    place,
                })
            })
            .collect();
    }
    if let Some(named) = &cluster.stateful_set {
        let set =
            set.ok_or_else(|| format!("there is no StatefulSet {} in this namespace", named.name))?;
        return set_members(set, cluster.data_dir.as_deref());
    }
    match cluster.data_dir {
        Some(_) if cluster.endpoints.len() > 1 => Err(
            "spec.etcdCluster.members is needed for several endpoints: name, peerURL and nodeName or claimName of each".to_owned(),
        ),
        Some(data_dir) => Ok(vec![Member {
            name: "default".to_owned(),
            peer_url: "http://localhost:2380".to_owned(),
            data_dir,
            place: Place::Node(None),
        }]),
        None => Err("spec.etcdCluster names neither statefulSet, members nor dataDir".to_owned()),
    }
}

fn set_members(set: &StatefulSet, data_dir: Option<&str>) -> Result<Vec<Member>, String> {
    let name = set.name_any();
    let spec = &set.spec;
    let claims = spec.volume_claim_templates.iter().flatten();
    let template = claims
        .clone()
        .next()
        .and_then(|claim| claim.metadata.name.clone())
        .ok_or_else(|| {
            format!("StatefulSet {name} has no volumeClaimTemplates: name the members")
        })?;
    let containers = spec.template.spec.iter().flat_map(|pod| &pod.containers);
    let mut mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let mount = mounts
        .find(|mount| mount.name == template)
        .ok_or_else(|| format!("no container of StatefulSet {name} mounts the claim {template}"))?
        .mount_path
        .clone();
    let service = spec.service_name.clone().unwrap_or_else(|| name.clone());
    let namespace = set.namespace().unwrap_or_default();
    Ok((0..wanted_replicas(set))
        .map(|index| Member {
            name: format!("{name}-{index}"),
            peer_url: format!("http://{name}-{index}.{service}.{namespace}.svc:2380"),
            data_dir: data_dir.unwrap_or(&mount).to_owned(),
            place: Place::Claim {
                name: format!("{template}-{name}-{index}"),
                mount: mount.clone(),
            },
        })
        .collect())
}

/// The replicas before the members were stopped.
pub fn wanted_replicas(set: &StatefulSet) -> i32 {
    let remembered = set.annotations().get(REPLICAS_ANNOTATION);
    remembered
        .and_then(|text| text.parse().ok())
        .or(set.spec.replicas)
        .unwrap_or(1)
}

fn parent(data_dir: &str) -> String {
    match data_dir.trim_end_matches('/').rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent.to_owned(),
        _ => "/".to_owned(),
    }
}

/// The release in the image tag of the StatefulSet's etcd.
fn etcd_version(set: &StatefulSet) -> Option<String> {
    let containers = set.spec.template.spec.as_ref()?.containers.iter();
    containers
        .filter_map(|container| container.image.as_deref()?.rsplit_once(':'))
        .find_map(|(_, tag)| {
            let version = tag.trim_start_matches('v');
            minor(version).map(|_| version.to_owned())
        })
}

fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether etcd of release `to` reads data of release `from`: the same minor, or newer by one, or older by one (whose storage
/// is the same since 3.4, and which etcd itself refuses at the start where it is not).
pub fn compatible(
    from: &str,
    to: Option<&str>,
    wishes: Option<&VersionCompatibility>,
) -> Result<Option<String>, String> {
    let (check, allow) = wishes.map_or((true, false), |wishes| {
        (wishes.check, wishes.allow_mismatch)
    });
    if !check {
        return Ok(None);
    }
    let verdict = match (minor(from), to.and_then(minor)) {
        // Without a StatefulSet nothing says which release will run: whoever starts it by hand sees to that.
        _ if to.is_none() => {
            return Ok(Some(format!(
                "the backup is of etcd {from}: start that minor release, or the next"
            )));
        }
        (Some((major, from)), Some((other, to))) if major == other && to + 1 >= from => None,
        _ => Some(format!(
            "the backup is of etcd {from}, and the StatefulSet runs {}: use that minor release or a newer one, or set versionCompatibility.allowMismatch",
            to.unwrap_or("an unknown release")
        )),
    };
    match verdict {
        Some(message) if !allow => Err(message),
        verdict => Ok(verdict),
    }
}

/// The steps as the status shows them from the beginning.
pub fn steps(spec: &EtcdRestoreSpec, members: &[Member]) -> Vec<RestoreStep> {
    let step = |name: String, state: &str, message: &str| RestoreStep {
        name,
        state: state.to_owned(),
        message: message.to_owned(),
    };
    let set = spec
        .etcd_cluster
        .as_ref()
        .and_then(|cluster| cluster.stateful_set.as_ref());
    let stops = set.is_some() && spec.quiesce_cluster;
    let mut steps = vec![step(
        "resolve".to_owned(),
        "Done",
        "the backup and all that it stands on are in the store",
    )];
    steps.push(match set {
        Some(set) if stops => step(
            "quiesce".to_owned(),
            "Pending",
            &format!("scale StatefulSet {} to 0", set.name),
        ),
        _ => step(
            "quiesce".to_owned(),
            "Skipped",
            "nothing names what runs the members: stop etcd by hand before the data is replaced",
        ),
    });
    for member in members {
        let place = match &member.place {
            Place::Claim { name, .. } => format!("{} in claim {name}", member.data_dir),
            Place::Node(Some(node)) => format!("{} on node {node}", member.data_dir),
            Place::Node(None) => member.data_dir.clone(),
        };
        steps.push(step(format!("restore {}", member.name), "Pending", &place));
    }
    steps.push(match set {
        Some(set) if stops => step(
            "start".to_owned(),
            "Pending",
            &format!("scale StatefulSet {} back", set.name),
        ),
        _ => step(
            "start".to_owned(),
            "Skipped",
            "start etcd by hand on the new data directories",
        ),
    });
    steps.push(step(
        "validate".to_owned(),
        "Pending",
        "every member answers with the same hash",
    ));
    steps
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
    let failed: Vec<&String> = seen
        .states
        .iter()
        .filter_map(|state| match state {
            JobState::Failed(why) => Some(why),
            _ => None,
        })
        .collect();
    if let Some(why) = failed.first() {
        return Step::Fail {
            reason: "RestoreFailed",
            message: with_way_back(seen.restore, why),
        };
    }
    let absent: Vec<Member> = members
        .into_iter()
        .zip(&seen.states)
        .filter(|(_, state)| **state == JobState::Absent)
        .map(|(member, _)| member)
        .collect();
    if !absent.is_empty() {
        Step::MakeJobs(absent)
    } else if seen.states.iter().all(|state| *state == JobState::Done) {
        Step::Start
    } else {
        Step::Wait("the Jobs work".to_owned())
    }
}

fn validating(seen: &Seen<'_>, started: Timestamp, now: Timestamp) -> Step {
    let waiting = match &seen.health {
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
    let by_hand = seen.stateful_set.is_none() || !seen.restore.spec.quiesce_cluster;
    if !by_hand && now.duration_since(started) > HEALTHY_WITHIN {
        let message = format!("the restored members are not healthy: {waiting}");
        return Step::Fail {
            reason: "Unhealthy",
            message: with_way_back(seen.restore, &message),
        };
    }
    Step::Wait(waiting)
}

/// A failure, and how to go back to what was.
pub fn with_way_back(restore: &EtcdRestore, message: &str) -> String {
    let cluster = restore.spec.etcd_cluster.clone().unwrap_or_default();
    let set = cluster.stateful_set.map(|set| set.name);
    let start = match &set {
        Some(set) => format!(
            "; then scale StatefulSet {set} back to what its annotation {REPLICAS_ANNOTATION} says"
        ),
        None => "; then start etcd".to_owned(),
    };
    format!(
        "{message} -- the old data is kept: a member whose Job is done has it in DATA_DIR.before-TIME (or DATA_DIR/before-TIME in the root of a volume), the others in its place. To go back: stop the members, move it back to DATA_DIR{start}"
    )
}
