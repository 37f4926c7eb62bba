//! The part of the config file that concerns the operator alone: its namespace, its lease, whom it trusts, its Jobs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HumanDuration;

/// What concerns the operator alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorConfig {
    /// Namespace that the operator runs in; `$POD_NAMESPACE`, else the kubeconfig's, unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Further namespaces whose resources may use what is the operator's own: the `cluster` of this file and the etcd that was
    /// found, its cloud identity, directories. Its own namespace always may.
    pub trusted_namespaces: Vec<String>,
    /// Hosts, as `hooks.example.com`, that HTTP hooks of namespaces that are not trusted may call, and then no others. Unless set, all
    /// but this machine, link-local addresses, cloud metadata and the API server.
    pub http_hook_hosts: Vec<String>,
    /// Which of several replicas works.
    pub leader_election: LeaderElectionConfig,
    /// Backups and restores that run at once, in Jobs and in the process together.
    pub concurrency: usize,
    /// EtcdBackup objects of a schedule that are kept, newest first; the store may hold more.
    pub history_limit: usize,
    /// The Jobs that work runs in.
    pub jobs: JobConfig,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            namespace: None,
            trusted_namespaces: Vec::new(),
            http_hook_hosts: Vec::new(),
            leader_election: LeaderElectionConfig::default(),
            concurrency: 4,
            history_limit: 20,
            jobs: JobConfig::default(),
        }
    }
}

/// Which of several replicas works: the one that holds a Lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElectionConfig {
    /// Off only where there is certainly one replica.
    pub enabled: bool,
    /// Name of the Lease in the operator's namespace.
    pub lease_name: String,
    /// A leader that has not been heard of for this long is replaced.
    pub lease_duration: HumanDuration,
    /// A leader that could not renew for this long ends; shorter than leaseDuration.
    pub renew_deadline: HumanDuration,
    /// Pause between tries.
    pub retry_period: HumanDuration,
}

impl Default for LeaderElectionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            lease_name: "etcdguardian".to_owned(),
            lease_duration: HumanDuration::from_secs(15),
            renew_deadline: HumanDuration::from_secs(10),
            retry_period: HumanDuration::from_secs(2),
        }
    }
}

/// The Jobs that work runs in. Without an image, work runs in the operator's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobConfig {
    /// The image, the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the image is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Secrets for the image's registry.
    pub image_pull_secrets: Vec<String>,
    /// Service account of the Jobs in the operator's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// ConfigMap with this config under the key `guardian.yaml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// Requests and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Most that a Job's scratch volume may hold, as `20Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_size: Option<String>,
    /// Labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// Nodes that they may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that they tolerate.
    pub tolerations: Vec<Toleration>,
    /// Where they would rather run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Their priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Whether they use the node's network, to reach an etcd on its loopback.
    pub host_network: bool,
}
