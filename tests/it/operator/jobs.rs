//! Work in Jobs: made, reported, and repeated when one dies. There is no kubelet here, so the tests run the Jobs' commands themselves.

use std::path::Path;

use serde_json::{Value, json};

use super::{Site, condition};
use crate::support::{Kubernetes, guardian_command, until};

pub const JOBS: &str = "operator: {jobs: {image: 'etcdguardian:test', serviceAccountName: etcdguardian, resources: {limits: {memory: 1Gi}}, nodeSelector: {kubernetes.io/os: linux}}}";

impl Site {
    /// Waits for the pod of a Job of this kind that is not done yet; the pod.
    pub fn pod_of(&self, namespace: &str, kind: &str, but_not: &[String]) -> Value {
        until(&format!("a pod for an {kind}"), || {
            let pods = self.cluster.list("pods", namespace);
            pods.into_iter().find(|pod| {
                pod["metadata"]["labels"]["etcdguardian.io/owner-kind"] == kind
                    && pod["status"]["phase"] == "Pending"
                    && !but_not.contains(&pod["metadata"]["name"].as_str().unwrap().to_owned())
            })
        })
    }

    /// Runs a pod's command as a node would, with this config in place of the mounted one; whether it ended well, and what it said.
    pub fn run_pod(&self, pod: &Value, config: &Path) -> (bool, String) {
        let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        let mut args: Vec<String> = args
            .iter()
            .map(|arg| arg.as_str().unwrap().to_owned())
            .collect();
        match args.iter().position(|arg| arg == "--config") {
            Some(index) => args[index + 1] = config.display().to_string(),
            None => args.extend(["--config".to_owned(), config.display().to_string()]),
        }
        let output = guardian_command()
            .args(&args)
            .env("KUBECONFIG", self.cluster.operator())
            .env(
                "POD_NAMESPACE",
                pod["metadata"]["namespace"].as_str().unwrap(),
            )
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Says of a pod that it ended, as a kubelet would.
    pub fn end_pod(&self, pod: &Value, state: &Value, phase: &str) {
        let (namespace, name) = (
            pod["metadata"]["namespace"].as_str().unwrap(),
            pod["metadata"]["name"].as_str().unwrap(),
        );
        let mut fresh = self.cluster.get("pod", namespace, name).unwrap();
        let container = &pod["spec"]["containers"][0];
        fresh["status"]["phase"] = json!(phase);
        fresh["status"]["containerStatuses"] = json!([{
            "name": container["name"], "image": "etcdguardian:test", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": state },
        }]);
        let file = self.folder.path().join("pod.json");
        std::fs::write(&file, fresh.to_string()).unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        self.cluster
            .kubectl(&["replace", "--raw", &path, "-f", file.to_str().unwrap()]);
    }
}

#[test]
fn a_job_makes_the_backup_and_a_dead_one_is_followed_by_another() {
    let site = Site::new(Kubernetes::with_controllers());
    let _operator = site.operator("one", JOBS);
    let config = site.config("job", JOBS);
    site.backup(
        "team-a",
        "refused",
        &format!("storageLocation: {}", site.storage(site.store.port)),
    );
    site.backup(
        "guardian",
        "daily",
        &format!("storageLocation: {}", site.storage(site.store.port)),
    );
    let pod = site.pod_of("guardian", "EtcdBackup", &[]);
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "etcdguardian");
    assert_eq!(spec["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"],
        true
    );
    assert_eq!(
        spec["containers"][0]["resources"]["limits"]["memory"],
        "1Gi"
    );
    let running = site
        .cluster
        .wait_phase("etcdbackup", "guardian", "daily", &["Running"]);
    let job = running["status"]["job"].as_str().unwrap().to_owned();
    assert!(job.starts_with("guardian/eg-backup-"), "{job}");

    // The first is killed for its memory; the operator makes another by itself.
    let killed = json!({ "exitCode": 137, "reason": "OOMKilled" });
    site.end_pod(&pod, &killed, "Failed");
    let first = pod["metadata"]["name"].as_str().unwrap().to_owned();
    let second = site.pod_of("guardian", "EtcdBackup", &[first]);
    site.wait_event("guardian", "daily", "OOMKilled");
    let (ok, said) = site.run_pod(&second, &config);
    assert!(ok, "{said}");
    let done = site.ended("guardian", "daily");
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    assert_eq!(done["status"]["attempts"], 2);
    assert_eq!(done["status"]["validationResult"]["level"], "Consistent");
    assert_eq!(site.stored().len(), 1);
    assert_eq!(
        site.ended("team-a", "refused")["status"]["phase"],
        "Rejected"
    );

    // A Job that comes too late does nothing.
    let (ok, said) = site.run_pod(&pod, &config);
    assert!(!ok && said.contains("does not wait for this"), "{said}");
    assert_eq!(site.stored().len(), 1);
}

#[test]
fn a_job_that_keeps_dying_ends_in_failure_with_its_reason() {
    let site = Site::new(Kubernetes::with_controllers());
    let _operator = site.operator("one", JOBS);
    site.backup(
        "guardian",
        "doomed",
        &format!("storageLocation: {}", site.storage(site.store.port)),
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        let pod = site.pod_of("guardian", "EtcdBackup", &seen);
        seen.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
        site.end_pod(
            &pod,
            &json!({ "exitCode": 137, "reason": "OOMKilled" }),
            "Failed",
        );
    }
    let failed = site.ended("guardian", "doomed");
    assert_eq!(
        condition(&failed, "Succeeded"),
        "False/OOMKilled",
        "{failed}"
    );
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("died without a report") && message.contains("-- next:"),
        "{message}"
    );
}
