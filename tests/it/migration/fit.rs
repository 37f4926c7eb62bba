//! What `restore --plan` and `import --dry-run` say before anything is changed: of the backup alone, and beside a real API server.

use std::collections::BTreeMap;
use std::path::Path;

use etcdguardian::export::removed;
use serde_json::{Value, json};

use crate::support::{Kubernetes, Ran, guardian, until};

/// The messages of a report's findings by their codes, and whether objects will be missing.
fn findings(report: &Value) -> BTreeMap<String, Vec<(bool, String)>> {
    let mut found: BTreeMap<String, Vec<(bool, String)>> = BTreeMap::new();
    for one in report["findings"].as_array().unwrap() {
        let text = |field: &str| one[field].as_str().unwrap().to_owned();
        let blocks = one["blocks"].as_bool().unwrap();
        let of = found.entry(text("code")).or_default();
        of.push((blocks, text("message")));
    }
    found
}

fn node(cluster: &Kubernetes, name: &str, range: &str, kubelet: &str) {
    cluster.create(
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": range}}),
    );
    let status = json!({"status": {"nodeInfo": {"kubeletVersion": kubelet}}}).to_string();
    let words = ["patch", "node", name, "--subresource=status"];
    cluster.kubectl(&[&words[..], &["--type=merge", "-p", &status]].concat());
}

fn cactus(cluster: &Kubernetes) {
    cluster.create(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "cacti.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Cactus", "plural": "cacti", "singular": "cactus"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}));
    let cactus = json!({"apiVersion": "example.com/v1", "kind": "Cactus", "metadata": {"name": "saguaro", "namespace": "team-a"}});
    until("the new kind is served", || {
        cluster.try_create(&cactus).0.then_some(())
    });
}

/// Objects as API servers of long ago left them, and such whose definition, or its version, has gone meanwhile.
fn plant(cluster: &Kubernetes) {
    for (key, version, kind) in [
        (
            "poddisruptionbudgets/team-a/old",
            "policy/v1beta1",
            "PodDisruptionBudget",
        ),
        (
            "podsecuritypolicy/old",
            "policy/v1beta1",
            "PodSecurityPolicy",
        ),
        (
            "example.com/cacti/team-a/old",
            "example.com/v1alpha1",
            "Cactus",
        ),
        (
            "gone.example.com/ghosts/old",
            "gone.example.com/v1",
            "Ghost",
        ),
    ] {
        let object =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": "old", "uid": "u"}});
        let key = format!("/registry/{key}");
        cluster.etcd.ctl(&["put", &key, &object.to_string()]);
    }
}

/// A cluster with something of everything that another one may trip over.
fn old(folder: &Path) -> Kubernetes {
    let file = folder.join("encryption.yaml");
    std::fs::write(
        &file,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}\n",
    )
    .unwrap();
    let cluster = Kubernetes::with_flags(&[
        &format!("--encryption-provider-config={}", file.display()),
        "--service-cluster-ip-range=10.97.0.0/24",
    ]);
    cluster.create(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "team-a"}}));
    node(&cluster, "old-node", "10.96.0.0/25", "v1.33.2");
    cluster.create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "data": {"ClusterConfiguration": "kubernetesVersion: v1.33.1\nnetworking: {podSubnet: '10.98.0.0/16', serviceSubnet: 10.97.0.0/24}\n"}}));
    cactus(&cluster);
    cluster
}

#[test]
fn what_another_server_does_not_serve_is_named_before_a_restore_and_an_import() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let old = old(folder.path());
    let exports = format!("file://{}", place("exports"));
    let old_config = old.admin().display().to_string();
    guardian(&["export", "--to", &exports, "--kubeconfig", &old_config]).ok();
    plant(&old);
    let (snapshot, data) = (place("snapshot.db"), place("data"));
    let endpoint = old.etcd.endpoint();
    guardian(&["snapshot", "save", &snapshot, "--endpoints", &endpoint]).ok();
    let plan = |more: &[&str]| -> Ran {
        let words = [
            "restore",
            "--snapshot",
            &snapshot,
            "--data-dir",
            &data,
            "--plan",
        ];
        guardian(&[&words[..], more].concat())
    };

    // Of the backup alone.
    let alone = plan(&["-o", "json"]).json();
    let kinds = alone["kinds"].as_array().unwrap();
    let held = |version: &str, kind: &str| {
        let mut all = kinds.iter();
        let found = all.find(|one| one["apiVersion"] == version && one["kind"] == kind);
        found.map_or(0, |one| one["objects"].as_u64().unwrap())
    };
    assert_eq!(held("example.com/v1", "Cactus"), 1, "{kinds:?}");
    assert_eq!(held("policy/v1beta1", "PodSecurityPolicy"), 1, "{kinds:?}");
    assert!(held("v1", "Namespace") >= 6, "{kinds:?}");
    let found = findings(&alone);
    let said = |code: &str, words: &[&str]| {
        let all = found
            .get(code)
            .unwrap_or_else(|| panic!("{code}: {found:#?}"));
        let text = format!("{all:?}");
        for word in words {
            assert!(text.contains(word), "{code}, {word}: {text}");
        }
    };
    said("EtcdVersion", &["3.6"]);
    said("KubernetesVersion", &["v1.33.1", "v1.33.2"]);
    said("EncryptedAtRest", &["1 values (secrets)", "aescbc", "key1"]);
    said("ServiceRange", &["10.97.0.0/24"]);
    said("PodRange", &["10.96.0.0/25", "10.98.0.0/16"]);
    said("NodesLeftBehind", &["old-node"]);
    said(
        "VersionRemoved",
        &["PodDisruptionBudget", "PodSecurityPolicy", "from 1.25 on"],
    );
    said("NoDefinition", &["gone.example.com/v1 Ghost"]);
    said("VersionNotDefined", &["example.com/v1alpha1 Cactus"]);
    let text = plan(&[]).ok();
    for words in [
        "of the API groups core, ",
        "note: EncryptedAtRest: ",
        "missing: NoDefinition: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }

    // Beside the server that it is of: nothing of its own is foreign to it.
    let own = findings(&plan(&["-o", "json", "--kubeconfig", &old_config]).json());
    let codes: Vec<&str> = own.keys().map(String::as_str).collect();
    let planted = [
        "EncryptedAtRest",
        "EtcdVersion",
        "KindNotServed",
        "NoDefinition",
        "VersionDiffers",
        "VersionNotDefined",
        "VersionNotServed",
    ];
    assert_eq!(codes, planted, "{own:#?}");
    let one = |code: &str| {
        assert_eq!(own[code].len(), 1, "only what was planted: {own:#?}");
        own[code][0].clone()
    };
    let (blocks, message) = one("KindNotServed");
    assert!(
        blocks && message.contains("policy/v1beta1 PodSecurityPolicy"),
        "{message}"
    );
    let (blocks, message) = one("VersionNotServed");
    assert!(
        !blocks && message.contains("serves as policy/v1 only"),
        "{message}"
    );
    drop(old);

    let new = Kubernetes::with_flags(&["--runtime-config=api/all=true"]);
    node(&new, "new-node", "10.244.0.0/24", "v1.34.0");
    let config = new.admin().display().to_string();
    let other = plan(&["-o", "json", "--kubeconfig", &config]).json();
    let found = findings(&other);
    for (code, word) in [
        ("DefinitionMissing", "cacti.example.com"),
        ("ServiceRangeDiffers", "10.96.0.0/24"),
        ("PodRangeDiffers", "10.244.0.0/24"),
        ("RangesClash", "10.96.0.0/25"),
        ("NodesLeftBehind", "old-node"),
    ] {
        let text = format!("{:?}", found.get(code));
        assert!(text.contains(word), "{code}, {word}: {found:#?}");
    }
    assert!(!Path::new(&data).exists(), "a plan writes nothing");
    let broken = plan(&["--kubeconfig", &place("nowhere")]).code(2);
    assert!(broken.stderr.contains("kubeconfig"), "{}", broken.stderr);

    // The same of an import; what is encrypted came out readable, and etcd's own version is of no matter there.
    let words = ["import", "--dry-run", "--from", &exports, "-o", "json"];
    let report = guardian(&[&words[..], &["--kubeconfig", &config]].concat()).json();
    let found = findings(&report);
    for (code, word) in [
        ("DefinitionMissing", "cacti.example.com"),
        ("ServiceRangeDiffers", "10.97.0.0/24"),
        ("PodRangeDiffers", "10.244.0.0/24"),
        ("RangesClash", "10.96.0.0/25"),
        ("NodesLeftBehind", "old-node"),
    ] {
        let text = format!("{:?}", found.get(code));
        assert!(text.contains(word), "{code}, {word}: {found:#?}");
    }
    served_no_more(&new);
}

/// Our table of what is gone, beside a server on which all is switched on that it has.
fn served_no_more(cluster: &Kubernetes) {
    let mut served: BTreeMap<&str, String> = BTreeMap::new();
    let mut still = 0;
    for (version, kind, since) in removed::all() {
        let listed = served.entry(version).or_insert_with(|| {
            let (_, answer, _) =
                cluster.try_kubectl(&["get", "--raw", &format!("/apis/{version}")]);
            answer
        });
        let is_served = listed.contains(&format!("\"kind\":\"{kind}\""));
        assert!(
            since > 34 || !is_served,
            "{version} {kind} is served, and said to be gone since 1.{since}"
        );
        still += usize::from(is_served);
    }
    assert!(still >= 5, "{still}: some of what will go is still served");
}

#[test]
fn a_stored_chain_says_what_the_new_cluster_must_fit() {
    let (cluster, store) = (Kubernetes::start(), tempfile::tempdir().unwrap());
    let (url, endpoint) = (
        format!("file://{}", store.path().display()),
        cluster.etcd.endpoint(),
    );
    let create = |name: &str, mode: &str| {
        let words = ["backup", "create", name, "--mode", mode];
        guardian(&[&words[..], &["--endpoints", &endpoint, "--to", &url]].concat()).ok()
    };
    create("full", "full");
    node(&cluster, "old-node", "10.77.0.0/24", "v1.33.2");
    create("later", "incremental");
    let target = store.path().join("data").display().to_string();
    let words = ["restore", "--from", &url, "--data-dir", &target, "--plan"];
    let plan = guardian(&[&words[..], &["-o", "json"]].concat()).json();
    assert_eq!(plan["increments"].as_array().unwrap().len(), 1, "{plan}");
    let found = findings(&plan);
    for (code, word) in [
        ("ServiceRange", "10.96.0.0/24"),
        ("NodesLeftBehind", "old-node"),
        ("PodRange", "10.77.0.0/24"),
        ("KubernetesVersion", "v1.33.2"),
        ("EtcdVersion", "etcd 3.6"),
    ] {
        let text = format!("{:?}", found.get(code));
        assert!(text.contains(word), "{code}, {word}: {found:#?}");
    }
    let config = cluster.admin().display().to_string();
    let beside = guardian(&[&words[..], &["-o", "json", "--kubeconfig", &config]].concat());
    let found = findings(&beside.json());
    let codes: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(codes, ["EtcdVersion", "VersionDiffers"], "{found:#?}");
    assert!(!store.path().join("data").exists());
}
