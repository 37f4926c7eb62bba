//! What is left for a person to do after a restore, as words to copy.

use super::plan::{Plan, PlannedMember};
use crate::api::RevisionPolicy;

/// The command line that starts a restored member.
pub fn start_command(plan: &Plan, member: &PlannedMember) -> String {
    let peers = member.peer_urls.join(",");
    let clients: Vec<String> = member
        .peer_urls
        .iter()
        .map(|url| {
            url.rsplit_once(':')
                .map_or_else(|| url.clone(), |(host, _)| format!("{host}:2379"))
        })
        .collect();
    let clients = clients.join(",");
    format!(
        "etcd --name {} --data-dir {} --initial-cluster {} --initial-cluster-token {} --initial-advertise-peer-urls {peers} --listen-peer-urls {peers} --listen-client-urls {clients} --advertise-client-urls {clients}",
        member.name,
        member.data_dir.display(),
        plan.initial_cluster,
        plan.cluster_token,
    )
}

/// What is left to do after the files are there.
pub fn next_steps(plan: &Plan) -> Vec<String> {
    let mut steps = Vec::new();
    if plan.members.len() < plan.cluster.members.len() {
        let missing: Vec<&str> = plan
            .cluster
            .members
            .iter()
            .map(|member| member.name.as_str())
            .filter(|name| plan.members.iter().all(|planned| planned.name != *name))
            .collect();
        steps.push(format!(
            "restore the other members ({}) from the same backup with --initial-cluster-token {}, or all at once with --all-members",
            missing.join(", "),
            plan.cluster_token
        ));
    }
    steps.push("stop every member of the old cluster before one of the new starts".into());
    for member in &plan.members {
        steps.push(format!(
            "start {}: {}",
            member.name,
            start_command(plan, member)
        ));
    }
    if plan.revisions.policy == RevisionPolicy::BumpAndCompact {
        steps.push(
            "then restart kube-apiserver, kube-controller-manager, kube-scheduler and every kubelet, operator and controller that keeps a watch"
                .into(),
        );
    }
    steps
}
