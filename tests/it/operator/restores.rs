//! EtcdRestores: planned, carried out by Jobs, proved by the restored members; and a failure that leaves what was.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::resources::without_cel;
use super::{Site, condition};
use crate::support::{Etcd, Kubernetes, Toxiproxy, free_port, until};

pub const JOBS: &str = "operator: {jobs: {image: 'etcdguardian:test'}}";

fn of_daily(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: {name}, namespace: guardian}}\nspec: {{restoreMode: Full, backupName: daily, {spec}}}\n"
    )
}

impl Site {
    pub fn restore(&self, name: &str, spec: &str) {
        self.cluster.apply(&of_daily(name, spec));
    }

    /// Does the work of a restore's Job as a node would, and starts the member on what it made, behind the proxy `etcd`.
    pub fn carry_out(
        &self,
        name: &str,
        host: &Path,
        (data_dir, peer): (&Path, &str),
        toxics: &Toxiproxy,
    ) -> Etcd {
        let pod = self.pod_of("guardian", "EtcdRestore", &[]);
        let config = self.mounted("guardian", &pod, host);
        let (ok, said) = self.run_pod(&pod, &config);
        assert!(ok, "{said}");
        self.end_pod(
            &pod,
            &json!({ "exitCode": 0, "reason": "Completed" }),
            "Succeeded",
        );
        self.cluster
            .wait_phase("egr", "guardian", name, &["Validating"]);
        let restored = Etcd::of("3.6")
            .restored(&[(data_dir.to_owned(), peer.to_owned())])
            .start();
        let port = restored
            .endpoint()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        toxics.redirect("etcd", port);
        restored
    }

    /// What the kubelet would mount for a restore's pod: its config, which is returned, and the Secret as files, all below `host`.
    pub fn mounted(&self, namespace: &str, pod: &Value, host: &Path) -> PathBuf {
        let map = pod["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|volume| volume["configMap"]["name"].as_str())
            .unwrap()
            .to_owned();
        let map = self.cluster.get("configmap", namespace, &map).unwrap();
        let secrets = host.join("secrets/s3");
        std::fs::create_dir_all(&secrets).unwrap();
        std::fs::write(secrets.join("access-key-id"), "vgw").unwrap();
        std::fs::write(secrets.join("secret-access-key"), "vgwsecret").unwrap();
        let text = map["data"]["guardian.yaml"].as_str().unwrap();
        assert!(!text.contains("vgwsecret"));
        let config = host.join("guardian.yaml");
        std::fs::write(
            &config,
            text.replace(
                "/etc/etcdguardian/secrets",
                host.join("secrets").to_str().unwrap(),
            ),
        )
        .unwrap();
        config
    }

    fn backed_up(&self) {
        let spec = format!(
            "executor: InProcess, storageLocation: {}",
            self.storage(self.store.port)
        );
        self.backup("guardian", "daily", &spec);
        assert_eq!(
            self.ended("guardian", "daily")["status"]["phase"],
            "Completed"
        );
    }
}

#[test]
fn a_data_directory_is_restored_by_a_job_and_proved_by_the_member_that_runs_on_it() {
    let site = Site::new(Kubernetes::with_controllers());
    let _operator = site.operator("one", JOBS);
    site.cluster.etcd.ctl(&["put", "precious", "kept"]);
    site.backed_up();
    let host = tempfile::tempdir().unwrap();
    let data_dir = host.path().join("data");
    std::fs::create_dir_all(data_dir.join("member")).unwrap();
    std::fs::write(data_dir.join("member/old"), "old").unwrap();
    let toxics = Toxiproxy::start();
    let endpoint = toxics.proxy("etcd", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    let cluster = format!(
        "etcdCluster: {{endpoints: ['http://127.0.0.1:{endpoint}'], members: [{{name: m0, peerURL: '{peer}', dataDir: {}}}]}}",
        data_dir.display()
    );
    site.restore("dry", &format!("plan: true, {cluster}"));
    let planned = site
        .cluster
        .wait_phase("egr", "guardian", "dry", &["Planned"]);
    let steps: Vec<&str> = planned["status"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps,
        ["resolve", "quiesce", "restore m0", "start", "validate"]
    );
    assert_eq!(
        planned["status"]["resolvedChain"].as_array().unwrap().len(),
        1
    );
    assert!(
        site.cluster.list("jobs", "guardian").is_empty(),
        "a plan does nothing"
    );

    site.restore("real", &cluster);
    let restored = site.carry_out("real", host.path(), (&data_dir, &peer), &toxics);
    let done = site
        .cluster
        .wait_phase("egr", "guardian", "real", &["Completed", "Failed"]);
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    for kind in [
        "SourceResolved",
        "DataRestored",
        "ClusterHealthy",
        "Succeeded",
    ] {
        assert!(
            condition(&done, kind).starts_with("True/"),
            "{kind}: {done}"
        );
    }
    assert_eq!(
        restored
            .ctl(&["get", "precious", "--print-value-only"])
            .trim(),
        "kept"
    );
    let kept: Vec<String> = std::fs::read_dir(host.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("data.before-"))
        .collect();
    assert_eq!(kept.len(), 1, "the old data is kept");
    assert!(host.path().join(&kept[0]).join("member/old").exists());
    for reason in ["RestorePlanned", "DataRestored", "RestoreCompleted"] {
        site.wait_event("guardian", "real", reason);
    }
}

#[test]
fn a_stateful_set_is_stopped_first_and_a_failure_says_how_to_go_back() {
    let site = Site::new(Kubernetes::with_controllers());
    let _operator = site.operator("one", JOBS);
    site.backed_up();
    site.cluster.apply("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: etcd, namespace: guardian}\nspec:\n  serviceName: peers\n  replicas: 2\n  podManagementPolicy: Parallel\n  selector: {matchLabels: {app: etcd}}\n  template:\n    metadata: {labels: {app: etcd}}\n    spec: {terminationGracePeriodSeconds: 0, containers: [{name: etcd, image: 'registry/etcd:v3.6.1', volumeMounts: [{name: data, mountPath: /data}]}]}\n  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]\n");
    until("the pods are there", || {
        let set = site.cluster.get("statefulset", "guardian", "etcd")?;
        (set["status"]["replicas"] == 2).then_some(())
    });
    site.restore(
        "into-set",
        "etcdCluster: {statefulSet: {name: etcd}, dataDir: /data/etcd}",
    );
    let pod = site.pod_of("guardian", "EtcdRestore", &[]);
    let set = site.cluster.get("statefulset", "guardian", "etcd").unwrap();
    assert_eq!(set["spec"]["replicas"], 0, "stopped before a Job works");
    assert_eq!(
        set["metadata"]["annotations"]["etcdguardian.io/replicas-before-restore"],
        "2"
    );
    assert_eq!(
        site.cluster.list("jobs", "guardian").len(),
        2,
        "a Job a member"
    );
    let claims: Vec<&str> = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
        .collect();
    assert!(claims[0].starts_with("data-etcd-"), "{claims:?}");
    let args: Vec<&str> = pod["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|arg| arg.as_str())
        .collect();
    let cluster = args[args
        .iter()
        .position(|arg| *arg == "--initial-cluster")
        .unwrap()
        + 1];
    assert_eq!(
        cluster,
        "etcd-0=http://etcd-0.peers.guardian.svc:2380,etcd-1=http://etcd-1.peers.guardian.svc:2380"
    );
    site.end_pod(
        &pod,
        &json!({ "exitCode": 1, "reason": "Error", "message": "no space left" }),
        "Failed",
    );
    let failed = site
        .cluster
        .wait_phase("egr", "guardian", "into-set", &["Failed"]);
    let message = failed["status"]["message"].as_str().unwrap();
    for part in [
        "no space left",
        "the old data is kept",
        "To go back",
        "StatefulSet etcd back",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(
        site.cluster.get("statefulset", "guardian", "etcd").unwrap()["spec"]["replicas"],
        0,
        "nothing is started on half a restore"
    );
}

#[test]
fn a_restore_that_cannot_be_is_refused_before_anything_is_touched() {
    let site = Site::new(Kubernetes::start());
    let _operator = site.operator("one", JOBS);
    site.restore("no-backup", "etcdCluster: {dataDir: /data}");
    let failed = site
        .cluster
        .wait_phase("egr", "guardian", "no-backup", &["Failed"]);
    assert_eq!(
        condition(&failed, "Succeeded"),
        "False/NotFound",
        "{failed}"
    );
    site.restore("no-cluster", "quiesceCluster: true");
    let failed = site
        .cluster
        .wait_phase("egr", "guardian", "no-cluster", &["Failed"]);
    assert_eq!(
        condition(&failed, "Succeeded"),
        "False/SpecInvalid",
        "{failed}"
    );
}

#[test]
fn a_restore_that_was_changed_is_given_up_where_the_api_server_allows_the_change() {
    let site = Site::new(Kubernetes::start());
    without_cel(&site.cluster);
    let _operator = site.operator("one", JOBS);
    site.backed_up();
    let planned = |folder: &str| format!("plan: true, etcdCluster: {{dataDir: {folder}}}");
    site.restore("dry", &planned("/var/lib/etcd"));
    site.cluster
        .wait_phase("egr", "guardian", "dry", &["Planned"]);
    until("the API server has forgotten the rules", || {
        let elsewhere = of_daily("dry", &planned("/elsewhere"));
        site.cluster.try_apply(&elsewhere).0.then_some(())
    });
    let failed = site
        .cluster
        .wait_phase("egr", "guardian", "dry", &["Failed"]);
    assert_eq!(condition(&failed, "Succeeded"), "False/SpecInvalid");
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec: is immutable: create a new EtcdRestore"),
        "{message}"
    );
}
