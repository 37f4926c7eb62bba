//! Hooks: commands and HTTP requests that run before and after a backup or a restore.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{HumanDuration, is_default};

/// What runs before and after a backup or a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Run in order before the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub pre_backup: Vec<Hook>,
    /// Run in order after the outcome is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub post_backup: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name in logs, status and errors.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// A command or an HTTP request.
    #[serde(rename = "type")]
    pub kind: HookKind,
    /// The command, for `Exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecHook>,
    /// The request, for `HTTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHook>,
    /// Whether a failure of the hook fails the backup.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
}

/// The kinds of hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum HookKind {
    /// A command: in a selected pod, or on this host in stand-alone mode.
    Exec,
    /// An HTTP POST.
    HTTP,
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecHook {
    /// Labels of the pod to run it in; stand-alone mode runs it on its own host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::labels")]
    pub pod_selector: BTreeMap<String, String>,
    /// Container of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub container: Option<String>,
    /// Program and arguments.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// How long it may take; 30 seconds unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
}

/// An HTTP POST of the backup's name, stage and outcome as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHook {
    /// Where to.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// How long it may take; 30 seconds unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
}

/// What a failed hook means.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum OnError {
    /// The backup fails.
    #[default]
    Fail,
    /// The backup goes on and says so.
    Continue,
}
