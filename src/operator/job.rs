//! Kubernetes Jobs that do work: what a Job looks like, what its state says of the work, and word from inside it. The Job and
//! its report live in the operator's namespace, where only the operator may write.

mod state;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, LocalObjectReference, ObjectFieldSelector, Pod, PodSecurityContext, PodSpec,
    PodTemplateSpec, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};

pub use self::state::{end_of_pod, verdict};
use super::backup::plan::Work;
use super::context::Context;
use super::labels::{MANAGED_BY, OWNER_KIND_LABEL, OWNER_NAME, OWNER_NAMESPACE};
use super::work::Handed;
use crate::api::{EtcdBackup, JobConfig};
use crate::engine::ResourceName;

/// The user of the image.
const USER: i64 = 65532;
/// A Job may take so many seconds beyond the work's own deadline, to pull the image and to clean up.
const BEYOND_DEADLINE: i64 = 300;
/// A finished Job and its log stay this long.
pub const KEPT_SECONDS: i32 = 3600;
/// The key of a report in its ConfigMap.
pub const REPORT_KEY: &str = "report.json";
/// Where the config is mounted.
const CONFIG_FOLDER: &str = "/etc/etcdguardian/config";

/// What a Job is for.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// Kind of the object, as `EtcdBackup`.
    pub kind: &'static str,
    /// The object.
    pub owner: ResourceName,
    /// Its uid.
    pub uid: String,
    /// The run.
    pub run_id: String,
    /// From 1.
    pub attempt: i64,
    /// Seconds that the work may take.
    pub deadline: i64,
    /// What else the Job is told.
    pub handed: Handed,
}

impl Purpose {
    /// An attempt at a backup.
    pub fn backup(backup: &EtcdBackup, run_id: &str, attempt: i64) -> Self {
        Self {
            kind: "EtcdBackup",
            owner: ResourceName::of(backup),
            uid: backup.uid().unwrap_or_default(),
            run_id: run_id.to_owned(),
            attempt,
            deadline: backup.spec.active_deadline_seconds,
            handed: Handed::default(),
        }
    }

    /// The Job's name: the same for the same attempt, whoever asks.
    pub fn job_name(&self) -> String {
        format!("eg-backup-{}-{}", self.uid, self.attempt)
    }

    /// `namespace/name` of the Job, as the object's status has it.
    pub fn job_in(&self, namespace: &str) -> String {
        format!("{namespace}/{}", self.job_name())
    }
}

/// The Job of an attempt.
pub fn job_of(purpose: &Purpose, config: &JobConfig, discovered: &[String]) -> Job {
    let mut labels = config.labels.clone();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels.insert(OWNER_KIND_LABEL.to_owned(), purpose.kind.to_owned());
    let mut args: Vec<String> = vec![
        "job".to_owned(),
        "backup".to_owned(),
        purpose.owner.to_string(),
    ];
    args.extend(["--run-id".to_owned(), purpose.run_id.clone()]);
    args.extend(["--job".to_owned(), purpose.job_name()]);
    if purpose.handed != Handed::default() {
        let handed = serde_json::to_string(&purpose.handed).unwrap_or_default();
        args.extend(["--handed".to_owned(), handed]);
    }
    for endpoint in discovered {
        args.extend(["--discovered".to_owned(), endpoint.clone()]);
    }
    let mut volumes = vec![Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: config.scratch_size.clone().map(Quantity),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }];
    let mut mounts = vec![mount("scratch", "/tmp")];
    if let Some(name) = &config.config_map {
        args.extend([
            "--config".to_owned(),
            format!("{CONFIG_FOLDER}/guardian.yaml"),
        ]);
        volumes.push(Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.push(mount("config", CONFIG_FOLDER));
    }
    let container = Container {
        name: "backup".to_owned(),
        image: config.image.clone(),
        image_pull_policy: config.image_pull_policy.clone(),
        args: Some(args),
        env: Some(vec![EnvVar {
            name: "POD_NAMESPACE".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.namespace".to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        resources: config.resources.clone(),
        volume_mounts: Some(mounts),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    let pod = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some(config.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(config, container, volumes)),
    };
    Job {
        metadata: ObjectMeta {
            name: Some(purpose.job_name()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                (OWNER_NAMESPACE.to_owned(), purpose.owner.namespace.clone()),
                (OWNER_NAME.to_owned(), purpose.owner.name.clone()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            // The operator decides about another attempt; it knows more than the Job controller.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(purpose.deadline.saturating_add(BEYOND_DEADLINE)),
            ttl_seconds_after_finished: Some(KEPT_SECONDS),
            template: pod,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// A pod of a Job, with the placement of the config.
pub fn pod_spec(config: &JobConfig, container: Container, volumes: Vec<Volume>) -> PodSpec {
    let secrets = config.image_pull_secrets.iter();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: config.service_account_name.clone(),
        // The account itself gives its token to nobody who does not ask.
        automount_service_account_token: Some(true),
        image_pull_secrets: Some(
            secrets
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        node_selector: Some(config.node_selector.clone()),
        tolerations: Some(config.tolerations.clone()),
        affinity: config.affinity.clone(),
        priority_class_name: config.priority_class_name.clone(),
        host_network: Some(config.host_network),
        dns_policy: config
            .host_network
            .then(|| "ClusterFirstWithHostNet".to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// No rights beyond those of its user.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (name == "config").then_some(true),
        ..VolumeMount::default()
    }
}

/// Creates the Job of an attempt; one that is there already is the same attempt's.
///
/// # Errors
/// When the API server refuses.
pub async fn create(context: &Context, purpose: &Purpose) -> Result<(), kube::Error> {
    let discovered = context.services.discovered.read();
    let discovered = discovered
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    let job = job_of(purpose, &context.config.jobs, &discovered);
    let api: Api<Job> = context.api(&context.namespace);
    match api.create(&PostParams::default(), &job).await {
        Err(error) if !super::lease::is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Looks at a Job.
///
/// # Errors
/// When the API server does not answer.
pub async fn look(context: &Context, name: &str, run_id: &str) -> Result<Work, kube::Error> {
    let jobs: Api<Job> = context.api(&context.namespace);
    let reports: Api<ConfigMap> = context.api(&context.namespace);
    // The report is read after the Job: a Job that ended has written its report before.
    let job = jobs.get_opt(name).await?;
    let report = reports.get_opt(name).await?;
    let report = report
        .and_then(|report| report.data?.remove(REPORT_KEY))
        .and_then(|text| serde_json::from_str(&text).ok());
    let work = verdict(job.as_ref(), report, run_id, &[]);
    let (Work::Lost { .. }, Some(job)) = (&work, &job) else {
        return Ok(work);
    };
    let pods: Api<Pod> = context.api(&context.namespace);
    let params = ListParams::default().labels(&format!("job-name={name}"));
    let pods = pods.list(&params).await?.items;
    Ok(verdict(Some(job), None, run_id, &pods))
}

/// The Jobs and reports that the operator watches.
pub fn watched() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
}

/// The object of a kind that a Job or report is for.
pub fn owner_of<K: ResourceExt>(object: &K, kind: &str) -> Option<ResourceName> {
    let annotations = object.annotations();
    (object.labels().get(OWNER_KIND_LABEL).map(String::as_str) == Some(kind)).then_some(())?;
    Some(ResourceName {
        namespace: annotations.get(OWNER_NAMESPACE)?.clone(),
        name: annotations.get(OWNER_NAME)?.clone(),
    })
}
