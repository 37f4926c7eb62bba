//! What an EtcdRestore must say to be carried out, and the point that it names. Pure.

use crate::api::{EtcdRestoreSpec, FieldError, RestoreMode, encryption_problem};
use crate::operator::hooks::without_pod;
use crate::operator::secrets::foreign_names_of_restore;
use crate::recorder::merge::Until;

/// Rules that the schema cannot say, repeated for servers without CEL.
pub fn problems(spec: &EtcdRestoreSpec) -> Vec<FieldError> {
    let mut found = Vec::new();
    let mut push = |path: &str, message: &str| {
        found.push(FieldError {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    };
    if spec.backup_name.is_some() == spec.snapshot_location.is_some() {
        push(
            "spec",
            "exactly one of backupName and snapshotLocation is needed",
        );
    }
    let targets =
        usize::from(spec.target_revision.is_some()) + usize::from(spec.target_time.is_some());
    if spec.restore_mode == RestoreMode::PointInTime && targets != 1 {
        push(
            "spec.restoreMode",
            "PointInTime needs exactly one of targetRevision and targetTime",
        );
    }
    for (path, given) in [
        ("spec.targetRevision", spec.target_revision.is_some()),
        ("spec.targetTime", spec.target_time.is_some()),
    ] {
        if given && spec.restore_mode != RestoreMode::PointInTime {
            push(
                path,
                "goes with restoreMode PointInTime: set restoreMode: PointInTime, or leave it out",
            );
        }
    }
    let members = spec.etcd_cluster.iter().flat_map(|one| &one.members);
    for (index, member) in members.enumerate() {
        let at = |field: &str| format!("spec.etcdCluster.members[{index}].{field}");
        if member.node_name.is_some() && member.pod_name.is_some() {
            push(
                &at("podName"),
                "does not go with nodeName: leave out one of the two",
            );
        }
        if member.pod_name.is_some() && member.claim_name.is_none() {
            push(
                &at("podName"),
                "goes with claimName, the volume in which its data lies; for a folder of a node name nodeName",
            );
        }
    }
    found.extend(encryption_problem("spec", spec.encryption.as_ref()));
    found.extend(foreign_names_of_restore(spec));
    for (hooks, path) in [
        (&spec.pre_restore_hooks, "spec.preRestoreHooks"),
        (&spec.post_restore_hooks, "spec.postRestoreHooks"),
    ] {
        found.extend(without_pod(hooks, path));
    }
    let mut push = |path: &str, message: &str| {
        found.push(FieldError {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    };
    let manifest = spec
        .etcd_cluster
        .as_ref()
        .and_then(|cluster| cluster.static_pod_manifest.as_deref());
    // The folder around the kubelet's must be another one than the root.
    if manifest.is_some_and(|path| !is_file_path(path)) {
        push(
            "spec.etcdCluster.staticPodManifest",
            "must be the absolute path of a file in a folder below another, as /etc/kubernetes/manifests/etcd.yaml",
        );
    }
    let of_objects = !spec.namespace_filter.is_empty() || spec.object_selector.is_some();
    let pairs = spec.velero_integration.as_ref();
    if of_objects && pairs.is_some_and(|velero| velero.enabled) {
        push(
            "spec.veleroIntegration",
            "goes with a restore of etcd: for single objects run the command that the restore's message names",
        );
    }
    if spec.etcd_cluster.is_none() && !of_objects {
        push(
            "spec.etcdCluster",
            "is needed: statefulSet, or members with their data directories",
        );
    }
    found
}

/// Whether this is `/FOLDER/FOLDER/FILE` at least, without a way up.
fn is_file_path(path: &str) -> bool {
    let parts: Vec<&str> = path
        .strip_prefix('/')
        .unwrap_or_default()
        .split('/')
        .collect();
    parts.len() >= 3 && parts.iter().all(|part| !["", ".", ".."].contains(part))
}

/// The last revision or moment that is wanted; `None` for the end of the named backup itself.
pub fn until(spec: &EtcdRestoreSpec) -> Option<Until> {
    match (spec.restore_mode, spec.target_revision, spec.target_time) {
        (RestoreMode::PointInTime, Some(revision), _) => Some(Until::Revision(revision)),
        (RestoreMode::PointInTime, None, Some(time)) => Some(Until::Time(time)),
        (RestoreMode::Incremental, ..) => Some(Until::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INTO: &str = "etcdCluster: {statefulSet: {name: etcd}}";

    fn said(spec: &str) -> String {
        let spec: EtcdRestoreSpec =
            serde_saphyr::from_str(&format!("{{backupName: b, {spec}}}")).unwrap();
        let words: Vec<String> = problems(&spec).iter().map(ToString::to_string).collect();
        words.join("; ")
    }

    #[test]
    fn a_target_goes_with_a_restore_to_a_point_in_time_alone() {
        for mode in ["Full", "Incremental"] {
            for (target, path) in [
                ("targetRevision: 7", "spec.targetRevision: "),
                ("targetTime: '2026-11-20T09:00:00Z'", "spec.targetTime: "),
            ] {
                let said = said(&format!("restoreMode: {mode}, {target}, {INTO}"));
                assert!(said.starts_with(path), "{mode} {target}: {said}");
                assert!(said.contains("set restoreMode: PointInTime"), "{said}");
            }
            assert_eq!(said(&format!("restoreMode: {mode}, {INTO}")), "");
        }
        let point = |target: &str| said(&format!("restoreMode: PointInTime, {target}{INTO}"));
        assert_eq!(point("targetRevision: 7, "), "");
        assert!(point("").starts_with("spec.restoreMode: PointInTime needs"));
    }

    #[test]
    fn a_member_is_on_one_node_or_in_one_volume() {
        for (place, wanted) in [
            ("nodeName: n, dataDir: /d", ""),
            ("claimName: c, podName: p, dataDir: /d", ""),
            (
                "nodeName: n, podName: p, dataDir: /d",
                "spec.etcdCluster.members[1].podName: does not go with nodeName",
            ),
            (
                "podName: p, dataDir: /d",
                "spec.etcdCluster.members[1].podName: goes with claimName",
            ),
            ("dataDir: /d", ""),
        ] {
            let good = "{name: a, peerURL: 'http://a:2380', claimName: c, dataDir: /d}";
            let spec = format!(
                "restoreMode: Full, etcdCluster: {{members: [{good}, {{name: b, peerURL: 'http://b:2380', {place}}}]}}"
            );
            let said = said(&spec);
            assert!(said.starts_with(wanted), "{place}: {said}");
            assert_eq!(said.is_empty(), wanted.is_empty(), "{place}: {said}");
        }
    }
}
