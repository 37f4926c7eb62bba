//! What `doctor` tries of Kubernetes: whether the API server answers, and whether the operator may do all that it must.

use super::doctor::Examined;
use crate::api::{ErrorClass, EtcdGuardianConfig};
use crate::cause::with_causes;
use crate::operator::{namespace_of, rights};

/// Nothing where there is no Kubernetes to ask: outside a pod, without `KUBECONFIG`.
pub async fn examine(config: &EtcdGuardianConfig) -> Vec<Examined> {
    let asked = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if !asked {
        return Vec::new();
    }
    let unreachable = |message: String| {
        Examined::failed(
            "kubernetes",
            ErrorClass::Failed,
            format!("the API server cannot be asked: {message}"),
            "look at the address and the credentials: kubectl auth whoami",
        )
    };
    let client = match kube::Client::try_default().await {
        Ok(client) => client,
        Err(error) => return vec![unreachable(with_causes(&error))],
    };
    let home = namespace_of(config, &client);
    vec![match rights::missing(&client, &home).await {
        Err(error) => unreachable(with_causes(&error)),
        Ok(missing) if missing.is_empty() => Examined::good(
            "kubernetes rights",
            format!(
                "all {} that the operator needs, its own namespace being {home}",
                rights::count()
            ),
        ),
        Ok(missing) => Examined::failed(
            "kubernetes rights",
            ErrorClass::Credentials,
            format!("this user may not {}", missing.join(", nor ")),
            "install the chart with rbac.create=true, or bind its ClusterRole and its Role to the operator's service account",
        ),
    }]
}
