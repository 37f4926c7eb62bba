//! Where the cluster's own etcd listens, as its static pods say; used where the config names no endpoint.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::context::Context;

/// Control plane nodes come and go rarely.
const EVERY: Duration = Duration::from_secs(300);
/// What kubeadm writes on its etcd pods.
const URL_ANNOTATION: &str = "kubeadm.kubernetes.io/etcd.advertise-client-urls";

/// The client URLs that pods labelled `component=etcd` advertise, else port 2379 of their nodes. Pure.
pub fn endpoints(pods: &[Pod]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for pod in pods {
        if let Some(urls) = pod.annotations().get(URL_ANNOTATION) {
            found.extend(urls.split(',').map(|url| url.trim().to_owned()));
        } else if let Some(address) = pod
            .status
            .as_ref()
            .and_then(|status| status.host_ip.clone())
        {
            let host = if address.contains(':') {
                format!("[{address}]")
            } else {
                address
            };
            found.insert(format!("https://{host}:2379"));
        }
    }
    found.into_iter().collect()
}

/// Looks for etcd pods, now and again.
pub async fn discover(context: Arc<Context>) {
    let configured = context.services.config.cluster.as_ref();
    if configured.is_some_and(|cluster| !cluster.endpoints.is_empty()) {
        return std::future::pending().await;
    }
    loop {
        look(&context).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// Looks once.
pub async fn look(context: &Context) {
    let pods: Api<Pod> = context.api("kube-system");
    match pods
        .list(&ListParams::default().labels("component=etcd"))
        .await
    {
        Ok(pods) => {
            let found = endpoints(&pods.items);
            let known = context.services.discovered.write();
            let mut known = known.unwrap_or_else(std::sync::PoisonError::into_inner);
            if *known != found {
                tracing::info!(endpoints = %found.join(","), "etcd pods say where etcd listens");
                *known = found;
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the etcd pods cannot be listed; name cluster.endpoints in the config")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pods_say_where_etcd_listens() {
        let pod = |annotations: serde_json::Value, address: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": "etcd", "annotations": annotations }, "status": { "hostIP": address },
            }))
            .unwrap()
        };
        let annotated = serde_json::json!({ URL_ANNOTATION: "https://10.0.0.2:2379" });
        let pods = [
            pod(annotated, "10.0.0.9"),
            pod(serde_json::json!({}), "10.0.0.1"),
            pod(serde_json::json!({}), "fd00::1"),
        ];
        assert_eq!(
            endpoints(&pods),
            [
                "https://10.0.0.1:2379",
                "https://10.0.0.2:2379",
                "https://[fd00::1]:2379"
            ]
        );
        assert!(endpoints(&[]).is_empty());
    }
}
