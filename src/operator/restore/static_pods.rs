//! Members that run as static pods: the Jobs on their nodes that move a manifest aside, so that the kubelet stops the pod, and back. Pure.

use k8s_openapi::api::batch::v1::Job;

use super::job::{Work, host_folder, mount, named_for};
use super::members::{Member, Place, parent};
use crate::api::{EtcdRestore, JobConfig, RestoreCluster};

/// Where kubeadm and most others keep etcd's.
pub const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// A pod's grace period, an image that is pulled first, and some.
const DEADLINE: i64 = 900;

/// What is done to a static pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Its manifest is moved aside.
    Off,
    /// It is moved back.
    On,
}

impl Turn {
    /// As in the names of Jobs and the verbs of the image.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "stop",
            Self::On => "start",
        }
    }

    /// The step of the status that it belongs to.
    pub fn step(self) -> &'static str {
        match self {
            Self::Off => "quiesce",
            Self::On => "start",
        }
    }
}

/// The manifest, and where it lies while the pod is stopped: beside the folder that the kubelet reads, never in it.
pub fn manifest(cluster: Option<&RestoreCluster>) -> (String, String) {
    let named = cluster.and_then(|cluster| cluster.static_pod_manifest.as_deref());
    let manifest = named.unwrap_or(MANIFEST).to_owned();
    let file = manifest.rsplit('/').next().unwrap_or_default();
    let aside = format!("{}/etcdguardian-stopped/{file}", folder(&manifest));
    (manifest, aside)
}

/// The folder around the kubelet's.
fn folder(manifest: &str) -> String {
    parent(&parent(manifest))
}

/// The name of a member's Job.
pub fn job_name(turn: Turn, restore: &EtcdRestore, member: &Member) -> String {
    named_for(turn.word(), restore, member)
}

/// A member's Job.
pub fn job_of(turn: Turn, restore: &EtcdRestore, config: &JobConfig, member: &Member) -> Job {
    let (manifest, aside) = manifest(restore.spec.etcd_cluster.as_ref());
    let node = match &member.place {
        Place::Node(node) => node.clone(),
        Place::Claim { .. } => None,
    };
    let around = folder(&manifest);
    let mut volumes = vec![host_folder("manifests", &around, "Directory")];
    let mut mounts = vec![mount("manifests", &around, false)];
    let mut args = vec![
        "job".to_owned(),
        format!("{}-static-pod", turn.word()),
        "--manifest".to_owned(),
        manifest,
        "--aside".to_owned(),
        aside,
    ];
    if turn == Turn::Off {
        // Read only, to see when etcd is gone from it.
        let data = parent(&member.data_dir);
        volumes.push(host_folder("data", &data, "DirectoryOrCreate"));
        mounts.push(mount("data", &data, true));
        args.extend(["--data-dir".to_owned(), member.data_dir.clone()]);
    }
    let work = Work {
        name: job_name(turn, restore, member),
        args,
        volumes,
        mounts,
        node,
        deadline: DEADLINE,
        token: false,
    };
    work.job(restore, config)
}
