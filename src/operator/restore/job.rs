//! The Job that puts a member's restored data directory into its volume. It runs in the object's own namespace, where the volume
//! claims and the Secrets are, and needs no right in the API server. Pure.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, HostPathVolumeSource,
    PersistentVolumeClaimVolumeSource, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::members::{Member, Place, parent};
use super::seen::JobState;
use crate::api::{
    Addressing, EtcdRestore, JobConfig, RestoreMode, RevisionPolicy, StorageLocation,
};
use crate::operator::job::{KEPT_SECONDS, container_security, end_of_pod, pod_spec};
use crate::operator::labels::{MANAGED_BY, OWNER_KIND_LABEL, OWNER_NAME, OWNER_NAMESPACE};
use crate::restore::plan::DEFAULT_BUMP;

/// A restore of a large database onto a slow volume.
const DEADLINE: i64 = 6 * 3600;
const CONFIG_FOLDER: &str = "/etc/etcdguardian/config";
const SECRETS_FOLDER: &str = "/etc/etcdguardian/secrets";

/// What the Jobs of one restore share.
pub struct Plan<'a> {
    /// The object.
    pub restore: &'a EtcdRestore,
    /// The operator's wishes for Jobs.
    pub config: &'a JobConfig,
    /// Where the backup lies.
    pub location: &'a StorageLocation,
    /// Secret that opens it.
    pub encryption_secret: Option<&'a str>,
    /// Id of the last backup of the chain.
    pub backup: &'a str,
    /// Revision of that backup, for a restore of it alone.
    pub revision: i64,
    /// Every member.
    pub members: &'a [Member],
    /// The restored cluster's token.
    pub token: &'a str,
}

/// The words of `--initial-cluster`.
pub fn initial_cluster(members: &[Member]) -> String {
    let pairs: Vec<String> = members
        .iter()
        .map(|member| format!("{}={}", member.name, member.peer_url))
        .collect();
    pairs.join(",")
}

/// The name of a member's Job.
pub fn job_name(restore: &EtcdRestore, member: &Member) -> String {
    named_for("restore", restore, member)
}

/// The name of the Job that does something to a member.
pub(super) fn named_for(what: &str, restore: &EtcdRestore, member: &Member) -> String {
    let hash = crc32c::crc32c(member.name.as_bytes());
    format!("eg-{what}-{}-{hash:08x}", restore.uid().unwrap_or_default())
}

/// The config that the Jobs of a restore read: where the backup is, and nothing of the operator's.
pub fn config_map(plan: &Plan<'_>) -> ConfigMap {
    let config = json!({
        "apiVersion": "etcdguardian.io/v1alpha1", "kind": "EtcdGuardianConfig",
        "store": plan.location, "secretsDir": SECRETS_FOLDER,
    });
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_name(plan.restore)),
            namespace: plan.restore.namespace(),
            owner_references: Some(plan.restore.owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        data: Some([("guardian.yaml".to_owned(), config.to_string())].into()),
        ..ConfigMap::default()
    }
}

fn config_name(restore: &EtcdRestore) -> String {
    format!("eg-restore-{}", restore.uid().unwrap_or_default())
}

/// A member's Job.
pub fn job_of(plan: &Plan<'_>, member: &Member) -> Job {
    let mut volumes = vec![Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_name(plan.restore),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }];
    let mut mounts = vec![mount("config", CONFIG_FOLDER, true)];
    let secrets = [
        plan.location.credentials_secret.as_deref(),
        plan.encryption_secret,
    ];
    for (index, secret) in secrets.into_iter().flatten().enumerate() {
        let name = format!("secret-{index}");
        mounts.push(mount(&name, &format!("{SECRETS_FOLDER}/{secret}"), true));
        volumes.push(Volume {
            name,
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    let (data, path, node) = volume(member);
    volumes.push(data);
    mounts.push(mount("data", &path, false));
    let work = Work {
        name: job_name(plan.restore, member),
        args: arguments(plan, member),
        volumes,
        mounts,
        node,
        deadline: DEADLINE,
        token: plan.location.credentials_secret.is_none(),
    };
    work.job(plan.restore, plan.config)
}

/// What a Job does to a member, on its volume or its node.
pub(super) struct Work {
    /// The Job's name.
    pub name: String,
    /// Words after `etcdguardian`.
    pub args: Vec<String>,
    /// Volumes of its pod.
    pub volumes: Vec<Volume>,
    /// Where they are.
    pub mounts: Vec<VolumeMount>,
    /// The node that it must run on.
    pub node: Option<String>,
    /// Seconds that it may take.
    pub deadline: i64,
    /// Whether it gets the token of its service account.
    pub token: bool,
}

impl Work {
    /// The Job.
    pub fn job(self, owner: &EtcdRestore, config: &JobConfig) -> Job {
        let mut container_rights = container_security();
        // etcd's data belongs to whoever runs etcd; only root may make files theirs.
        container_rights.capabilities = Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: Some(
                ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        });
        let container = Container {
            name: "restore".to_owned(),
            image: config.image.clone(),
            image_pull_policy: config.image_pull_policy.clone(),
            args: Some(self.args),
            resources: config.resources.clone(),
            volume_mounts: Some(self.mounts),
            security_context: Some(container_rights),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        };
        let mut pod = pod_spec(config, container, self.volumes);
        pod.service_account_name = None;
        pod.automount_service_account_token = Some(self.token);
        pod.node_name = self.node;
        if let Some(security) = &mut pod.security_context {
            security.run_as_non_root = Some(false);
            security.run_as_user = Some(0);
            security.run_as_group = Some(0);
            security.fs_group = None;
        }
        let mut metadata = ObjectMeta {
            name: Some(self.name),
            namespace: owner.namespace(),
            owner_references: Some(owner.owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        };
        let labels = [
            (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
            (OWNER_KIND_LABEL.to_owned(), "EtcdRestore".to_owned()),
        ];
        metadata.labels = Some(labels.clone().into());
        metadata.annotations = Some(
            [
                (
                    OWNER_NAMESPACE.to_owned(),
                    owner.namespace().unwrap_or_default(),
                ),
                (OWNER_NAME.to_owned(), owner.name_any()),
            ]
            .into(),
        );
        Job {
            metadata,
            spec: Some(JobSpec {
                // A restore that failed says why, and nothing is tried a second time unasked.
                backoff_limit: Some(0),
                active_deadline_seconds: Some(self.deadline),
                ttl_seconds_after_finished: Some(KEPT_SECONDS * 24),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(labels.into()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(pod),
                },
                ..JobSpec::default()
            }),
            ..Job::default()
        }
    }
}

fn volume(member: &Member) -> (Volume, String, Option<String>) {
    match &member.place {
        Place::Claim { name, mount } => {
            let claim = PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                ..PersistentVolumeClaimVolumeSource::default()
            };
            let volume = Volume {
                name: "data".to_owned(),
                persistent_volume_claim: Some(claim),
                ..Volume::default()
            };
            (volume, mount.clone(), None)
        }
        Place::Node(node) => {
            // The folder around the data directory, so that the old one can be kept beside the new one.
            let around = parent(&member.data_dir);
            let volume = host_folder("data", &around, "DirectoryOrCreate");
            (volume, around, node.clone())
        }
    }
}

/// A folder of the node.
pub(super) fn host_folder(name: &str, path: &str, kind: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: path.to_owned(),
            type_: Some(kind.to_owned()),
        }),
        ..Volume::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn arguments(plan: &Plan<'_>, member: &Member) -> Vec<String> {
    let spec = &plan.restore.spec;
    let config = format!("{CONFIG_FOLDER}/guardian.yaml");
    let words = initial_cluster(plan.members);
    let namespace = plan.restore.namespace().unwrap_or_default();
    let mut args: Vec<String> = [
        "restore",
        "--config",
        &config,
        "--backup",
        plan.backup,
        // As the plan: what another namespace put into the same store is no part of the chain.
        "--namespace",
        &namespace,
        "--data-dir",
        &member.data_dir,
        "--name",
        &member.name,
        "--initial-cluster",
        &words,
        "--initial-cluster-token",
        plan.token,
        "--replace",
        "--yes",
        "--no-progress",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut more = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    match (spec.restore_mode, spec.target_revision, spec.target_time) {
        (RestoreMode::PointInTime, Some(revision), _) => {
            more("--to-revision", revision.to_string())
        }
        (RestoreMode::PointInTime, None, Some(time)) => more("--to-time", time.to_string()),
        (RestoreMode::Full, ..) => more("--to-revision", plan.revision.to_string()),
        _ => {}
    }
    if let Some(secret) = plan.encryption_secret {
        more("--encryption-secret", secret.to_owned());
    }
    match spec.revision_policy {
        Some(RevisionPolicy::Exact) => args.push("--exact".to_owned()),
        Some(RevisionPolicy::BumpAndCompact) => more("--bump-revision", DEFAULT_BUMP.to_string()),
        None => {}
    }
    args
}

/// The same work by hand, for an etcd whose stop stops the API server and everything that would start it again.
pub fn runbook(plan: &Plan<'_>) -> String {
    let mut lines = vec![
        "The API server lives on this etcd: nobody is left to carry this out while it is stopped. By hand, with etcdguardian and the store's credentials on every control plane node:".to_owned(),
        "1. on every node: mkdir -p /etc/kubernetes/stopped && mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/stopped/".to_owned(),
    ];
    for (index, member) in plan.members.iter().enumerate() {
        let place = match &member.place {
            Place::Node(Some(node)) => format!("on node {node}"),
            _ => format!("where {} runs", member.name),
        };
        // Without the Job's own config file.
        let words = arguments(plan, member).split_off(3).join(" ");
        lines.push(format!(
            "{}. {place}: etcdguardian restore --from {} {words}",
            index + 2,
            from_words(plan.location)
        ));
    }
    let next = plan.members.len() + 2;
    lines.push(format!(
        "{next}. when all are done, on every node: mv /etc/kubernetes/stopped/etcd.yaml /etc/kubernetes/stopped/kube-apiserver.yaml /etc/kubernetes/manifests/"
    ));
    lines.push(format!("{}. kubectl get --raw /readyz", next + 1));
    lines.push("To go back: step 1, on every node move DATA_DIR.before-TIME back to DATA_DIR, and the last two steps.".to_owned());
    lines.join("\n")
}

/// A store as `--from` takes it.
fn from_words(location: &StorageLocation) -> String {
    let addressing = location.addressing.map(|addressing| match addressing {
        Addressing::Path => "path",
        Addressing::VirtualHosted => "virtual",
    });
    let parameters = [
        ("region", location.region.as_deref()),
        ("endpoint", location.endpoint.as_deref()),
        ("addressing", addressing),
    ];
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("'{location}?{}'", query.finish())
}

/// What a Job's state says of its work; `pods` are asked when it failed.
pub fn state(job: Option<&Job>, pods: &[k8s_openapi::api::core::v1::Pod]) -> JobState {
    let Some(job) = job else {
        return JobState::Absent;
    };
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ended = conditions.filter(|condition| condition.status == "True");
    match ended.find(|condition| matches!(condition.type_.as_str(), "Failed" | "Complete")) {
        None => JobState::Going,
        Some(condition) if condition.type_ == "Complete" => JobState::Done,
        Some(condition) => {
            let said = pods.iter().find_map(end_of_pod).map(|(_, message)| message);
            let message = said
                .or_else(|| condition.message.clone())
                .unwrap_or_default();
            JobState::Failed(format!("Job {} failed: {message}", job.name_any()))
        }
    }
}
