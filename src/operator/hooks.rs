//! Commands of hooks in a cluster: they run in a pod of the object's own namespace, never in the operator's.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, ListParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};
use tokio::io::AsyncReadExt;

use super::tenancy::may_exec;
use super::tenancy::plan::Account;
use crate::api::{EtcdBackupSpec, ExecHook, FieldError, Hook, HookKind, OperatorConfig};
use crate::cause::with_causes;
use crate::pipeline::fence::Fence;
use crate::pipeline::hooks::{Commands, LAST_WORDS, Told};

/// Runs commands in the pods that hooks select, and says where requests may go.
pub struct InPods {
    client: Client,
    /// Whose hooks they are, when their namespace is not trusted.
    tenant: Option<(Account, Fence)>,
}

impl InPods {
    /// For an object of a trusted namespace: with the rights of `client`.
    pub fn trusted(client: Client) -> Self {
        Self {
            client,
            tenant: None,
        }
    }

    /// For an object of another namespace: nothing is done that its service account may not do itself, and nothing is asked of what
    /// only the operator reaches.
    pub fn of_tenant(client: Client, account: Account, config: &OperatorConfig) -> Self {
        let fence = Fence {
            only: config.http_hook_hosts.clone(),
            api_servers: api_servers(),
        };
        Self {
            client,
            tenant: Some((account, fence)),
        }
    }
}

/// What runs the hooks of an object.
pub fn commands_of(
    client: &Client,
    config: &OperatorConfig,
    trusted: bool,
    account: Account,
) -> InPods {
    match trusted {
        true => InPods::trusted(client.clone()),
        false => InPods::of_tenant(client.clone(), account, config),
    }
}

/// Names and addresses of the API server, as a pod knows it and as this process reaches it.
fn api_servers() -> Vec<String> {
    let from_pod = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    servers_of(from_pod, Kubeconfig::read().ok())
}

/// The same from what a pod's environment and a kubeconfig say. Pure.
fn servers_of(from_pod: Option<String>, named: Option<Kubeconfig>) -> Vec<String> {
    let inside = ["kubernetes.default.svc", "kubernetes.default"].map(str::to_owned);
    let clusters = named.map(|config| config.clusters).unwrap_or_default();
    let urls = clusters.into_iter().filter_map(|one| one.cluster?.server);
    let hosts = urls.filter_map(|url| Some(url::Url::parse(&url).ok()?.host_str()?.to_owned()));
    from_pod.into_iter().chain(inside).chain(hosts).collect()
}

#[async_trait]
impl Commands for InPods {
    async fn run(&self, exec: &ExecHook, told: &Told) -> Result<(), String> {
        let labels: Vec<String> = exec
            .pod_selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let labels = labels.join(",");
        // Without a selector every pod would do; such a hook was refused before.
        if labels.is_empty() {
            return Err("its podSelector is empty".to_owned());
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &told.namespace);
        let found = pods.list(&ListParams::default().labels(&labels)).await;
        let found = found.map_err(|error| {
            format!(
                "the pods of namespace {} cannot be listed: {}",
                told.namespace,
                with_causes(&error)
            )
        })?;
        let Some(pod) = chosen(&found.items) else {
            return Err(format!(
                "no pod of namespace {} with the labels {labels} is running",
                told.namespace
            ));
        };
        if let Some((account, _)) = &self.tenant {
            may_exec(&self.client, account, &pod).await?;
        }
        let params = AttachParams {
            container: exec.container.clone(),
            stdout: false,
            stderr: true,
            ..AttachParams::default()
        };
        let mut process = pods
            .exec(&pod, exec.command.clone(), &params)
            .await
            .map_err(|error| refused(&pod, &error))?;
        let status = process.take_status();
        let mut words = Vec::new();
        if let Some(mut stderr) = process.stderr() {
            let mut buffer = [0; 4096];
            // Only the tail is kept, however much it says.
            while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
                words.extend_from_slice(buffer.get(..count).unwrap_or_default());
                let over = words.len().saturating_sub(LAST_WORDS);
                words.drain(..over);
            }
        }
        let ended = match status {
            Some(status) => status.await,
            None => None,
        };
        let Some(ended) = ended else {
            return Err(format!(
                "the connection to pod {pod} broke before the command ended"
            ));
        };
        if ended.status.as_deref() == Some("Success") {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&words);
        let last = words.trim().lines().next_back().unwrap_or_default();
        let message = ended.message.unwrap_or_default();
        Err(format!("in pod {pod}: {message}: {last}")
            .trim_end_matches([':', ' '])
            .to_owned())
    }

    fn fence(&self) -> Option<&Fence> {
        self.tenant.as_ref().map(|(_, fence)| fence)
    }
}

fn refused(pod: &str, error: &kube::Error) -> String {
    let words = with_causes(error);
    if words.contains("403") || words.to_lowercase().contains("forbidden") {
        return format!(
            "the operator may not run commands in pod {pod}: set operator.execHooks in the chart's values ({words})"
        );
    }
    format!("no command can be run in pod {pod}: {words}")
}

/// The first pod by name that runs, one that is ready before one that is not. Pure.
pub fn chosen(pods: &[Pod]) -> Option<String> {
    let state = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let ready = conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        (status.phase.as_deref() == Some("Running")).then_some(ready)
    };
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| Some((!state(pod)?, pod.name_any())))
        .min()
        .map(|(_, name)| name)
}

/// Commands that name no pod: they would run in the operator's own. Pure.
pub fn without_pod(hooks: &[Hook], path: &str) -> Vec<FieldError> {
    let nowhere = |hook: &&Hook| {
        hook.kind == HookKind::Exec
            && hook
                .exec
                .as_ref()
                .is_none_or(|exec| exec.pod_selector.is_empty())
    };
    hooks
        .iter()
        .filter(nowhere)
        .map(|hook| FieldError {
            path: format!("{path}[{}].exec.podSelector", hook.name),
            message: "is needed: in a cluster a command runs in a pod of this namespace".to_owned(),
        })
        .collect()
}

/// The same for a backup's hooks. Pure.
pub fn backup_hooks(spec: &EtcdBackupSpec, path: &str) -> Vec<FieldError> {
    let hooks = spec.hooks.clone().unwrap_or_default();
    let mut found = without_pod(&hooks.pre_backup, &format!("{path}.hooks.preBackup"));
    found.extend(without_pod(
        &hooks.post_backup,
        &format!("{path}.hooks.postBackup"),
    ));
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn no_hook_of_a_tenant_reaches_the_api_server() {
        let config: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{"name": "c", "cluster": {"server": "https://203.0.113.7:6443"}}],
        }))
        .unwrap();
        let mut api_servers = servers_of(Some("203.0.113.1".to_owned()), Some(config));
        // Here nobody knows the names.
        api_servers.retain(|one| one.parse::<std::net::IpAddr>().is_ok());
        let fence = Fence {
            only: Vec::new(),
            api_servers,
        };
        for (url, allowed) in [
            ("https://203.0.113.1/", false),
            ("https://203.0.113.7:6443/", false),
            ("http://[::ffff:203.0.113.7]/", false),
            ("http://203.0.113.8/", true),
        ] {
            let url = url::Url::parse(url).unwrap();
            let admitted = fence.admit(&url.host().unwrap(), 443).await;
            assert_eq!(admitted.is_ok(), allowed, "{url}: {admitted:?}");
            assert!(allowed || admitted.unwrap_err().contains("is the API server"));
        }
    }

    #[test]
    fn a_ready_pod_is_chosen_before_one_that_is_not() {
        let pod = |name: &str, phase: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": name },
                "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap()
        };
        let pods = [
            pod("a", "Pending", "False"),
            pod("b", "Running", "False"),
            pod("d", "Running", "True"),
            pod("c", "Running", "True"),
        ];
        assert_eq!(chosen(&pods).as_deref(), Some("c"));
        assert_eq!(chosen(&pods[..2]).as_deref(), Some("b"));
        assert_eq!(chosen(&pods[..1]), None);
    }

    #[test]
    fn a_command_without_a_pod_is_refused() {
        let hook = |selector: serde_json::Value| -> Hook {
            serde_json::from_value(json!({
                "name": "flush", "type": "Exec", "exec": { "podSelector": selector, "command": ["true"] },
            }))
            .unwrap()
        };
        let wrong = without_pod(&[hook(json!({}))], "spec.preRestoreHooks");
        assert_eq!(
            wrong[0].path,
            "spec.preRestoreHooks[flush].exec.podSelector"
        );
        assert!(without_pod(&[hook(json!({ "app": "etcd" }))], "spec").is_empty());
    }
}
