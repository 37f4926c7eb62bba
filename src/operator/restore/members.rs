//! The members of a restored cluster and what is done to each, which releases fit each other, and the steps as people read them. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::plan::{VELERO, When};
use crate::api::{EtcdRestoreSpec, RestoreStep, VersionCompatibility};
use crate::operator::labels::REPLICAS_ANNOTATION;

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

/// The members of the restored cluster: as named, else those of the StatefulSet, else one in `dataDir`.
pub fn members(spec: &EtcdRestoreSpec, set: Option<&StatefulSet>) -> Result<Vec<Member>, String> {
    let cluster = spec.etcd_cluster.clone().unwrap_or_default();
    if !cluster.members.is_empty() {
        return cluster
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| {
                let data_dir = member.data_dir.clone().or_else(|| cluster.data_dir.clone());
                let data_dir = data_dir.ok_or_else(|| {
                    format!("spec.etcdCluster.members[{index}].dataDir: is needed, here or as etcdCluster.dataDir")
                })?;
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

/// The members whose static pods are stopped and started by Jobs on their nodes.
pub fn static_pods(spec: &EtcdRestoreSpec, members: Vec<Member>) -> Vec<Member> {
    let cluster = spec.etcd_cluster.as_ref();
    let by_set = cluster.is_some_and(|cluster| cluster.stateful_set.is_some());
    let mut members = members;
    members.retain(|member| {
        spec.quiesce_cluster && !by_set && matches!(member.place, Place::Node(Some(_)))
    });
    members
}

/// The folder around a path.
pub fn parent(data_dir: &str) -> String {
    match data_dir.trim_end_matches('/').rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent.to_owned(),
        _ => "/".to_owned(),
    }
}

/// The release in the image tag of the StatefulSet's etcd; of other containers only where none is called etcd.
pub fn etcd_version(set: &StatefulSet) -> Option<String> {
    let containers = &set.spec.template.spec.as_ref()?.containers;
    let images = |named: bool| {
        let some = containers.iter().filter(move |one| {
            let image = one.image.as_deref().unwrap_or_default();
            let name = image.rsplit('/').next().unwrap_or_default();
            !named || one.name.contains("etcd") || name.contains("etcd")
        });
        some.filter_map(|one| one.image.as_deref())
    };
    let version = |image: &str| {
        let (tagged, _) = image.split_once('@').unwrap_or((image, ""));
        let (_, tag) = tagged.rsplit_once(':')?;
        let version = tag.trim_start_matches('v');
        minor(version).map(|_| version.to_owned())
    };
    if images(true).next().is_some() {
        return images(true).find_map(version);
    }
    images(false).find_map(version)
}

fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether etcd of release `to` reads data of release `from`: the same minor or a newer one, or older by one (whose storage
/// is the same since 3.4, and which etcd itself refuses at the start where it is not); a release that cannot be told is refused.
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
            to.filter(|to| minor(to).is_some())
                .unwrap_or("a release that its image does not tell")
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
    let on_nodes = static_pods(spec, members.to_vec());
    let nodes = || {
        let nodes = on_nodes.iter().filter_map(|member| match &member.place {
            Place::Node(node) => node.as_deref(),
            Place::Claim { .. } => None,
        });
        nodes.collect::<Vec<_>>().join(", ")
    };
    let mut steps = vec![step(
        "resolve".to_owned(),
        "Done",
        "the backup and all that it stands on are in the store",
    )];
    let with_hooks = |when: When| {
        let hooks = when.hooks(spec);
        let names: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
        (!hooks.is_empty()).then(|| step(when.step().to_owned(), "Pending", &names.join(", ")))
    };
    steps.extend(with_hooks(When::Before));
    steps.push(match set {
        Some(set) if stops => step(
            "quiesce".to_owned(),
            "Pending",
            &format!("scale StatefulSet {} to 0", set.name),
        ),
        None if !on_nodes.is_empty() => step(
            "quiesce".to_owned(),
            "Pending",
            &format!("move the static pod's manifest aside on {}", nodes()),
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
        None if !on_nodes.is_empty() => step(
            "start".to_owned(),
            "Pending",
            &format!("move the static pod's manifest back on {}", nodes()),
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
    let pairs = spec.velero_integration.as_ref();
    if pairs.is_some_and(|velero| velero.enabled) {
        let words = "Velero restores the volumes of the backup's pair";
        steps.push(step(VELERO.to_owned(), "Pending", words));
    }
    steps.extend(with_hooks(When::After));
    steps
}
