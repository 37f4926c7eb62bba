//! Tenants: exports of the namespaces that a selector means, as far as their service accounts may. What they may not is in `attacks`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Site, condition};
use crate::support::{Kubernetes, Process};

/// Namespaces with labels and a ConfigMap and a Secret each; team-a is the tenant.
pub fn tenants() -> Site {
    let own = ["rbac.exports=true", "rbac.objectRestores=true"];
    let site = Site::with_roles(Kubernetes::start(), &own);
    let cluster = &site.cluster;
    for (namespace, labels) in [
        ("shop", "owner=a"),
        ("bank", "owner=b"),
        ("cafe", "owner=a"),
    ] {
        cluster.kubectl(&["create", "namespace", namespace]);
        cluster.kubectl(&["label", "namespace", namespace, labels]);
    }
    cluster.kubectl(&["label", "namespace", "team-a", "owner=a", "own=yes"]);
    let all = ["team-a", "shop", "bank", "cafe"].map(kept);
    cluster.create(&json!({"apiVersion": "v1", "kind": "List", "items": all.concat()}));
    site
}

/// A ConfigMap and a Secret that say whose they are.
pub fn kept(namespace: &str) -> [Value; 2] {
    ["ConfigMap", "Secret"].map(|kind| {
        let mut object = json!({"apiVersion": "v1", "kind": kind,
            "metadata": {"name": "kept", "namespace": namespace, "labels": {"tier": "one"}}});
        let field = if kind == "Secret" {
            "stringData"
        } else {
            "data"
        };
        object[field] = json!({"of": namespace});
        object
    })
}

/// Gives the service account `default` of team-a a role in a namespace.
pub fn bind(site: &Site, role: &str, namespace: &str) {
    bind_to(site, role, namespace, "team-a:default");
}

/// Gives a service account, as `team-a:default`, a role in a namespace.
pub fn bind_to(site: &Site, role: &str, namespace: &str, account: &str) {
    let role = format!("--clusterrole={role}");
    let name = format!("b{}", uuid::Uuid::new_v4().simple());
    site.cluster.kubectl(&[
        "create",
        "rolebinding",
        &name,
        "-n",
        namespace,
        &role,
        &format!("--serviceaccount={account}"),
    ]);
}

impl Site {
    pub fn export(&self, name: &str, spec: &str) -> Value {
        let storage = self.storage(self.store.port);
        let spec = format!("executor: InProcess, storageLocation: {storage}, {spec}");
        self.backup("team-a", name, &spec);
        self.ended("team-a", name)
    }

    /// The objects in the bundle of a backup, as `resource namespace/name`.
    pub fn bundled(&self, backup: &Value) -> Vec<String> {
        let location = backup["status"]["snapshotLocation"].as_str().unwrap();
        let (_, key) = location.split_once("/backups/").unwrap();
        let file: PathBuf = self.store.file("backups", key);
        let plain = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
        let mut found = Vec::new();
        etcdguardian::export::bundle::read(plain.as_slice(), |entry| {
            found.push(format!(
                "{} {}/{}",
                entry.resource, entry.namespace, entry.name
            ));
            Ok(())
        })
        .unwrap();
        found
    }
}

/// Whether it was rejected for a right, with these words.
pub fn refused(done: &Value, words: &[&str]) {
    assert_eq!(done["status"]["phase"], "Rejected", "{done}");
    assert_eq!(condition(done, "Succeeded"), "False/NotAllowed");
    let message = done["status"]["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
}

/// Whether the operator's audit log has a line with these words.
pub fn said(operator: &Process, words: &[&str]) {
    let log = operator.log_text();
    let line = log
        .lines()
        .find(|line| line.contains("audit") && words.iter().all(|word| line.contains(word)));
    assert!(line.is_some(), "{words:?}: {log}");
}

const OWNER_A: &str = "namespaceSelector: {matchLabels: {owner: a}}";

#[test]
fn a_tenant_exports_what_its_service_account_may_and_nothing_else() {
    let site = tenants();
    let operator = site.operator("one", "");
    let own = site.export("own", "namespaceSelector: {matchLabels: {own: 'yes'}}");
    assert_eq!(own["status"]["phase"], "Completed", "{own}");
    assert_eq!(own["status"]["kind"], "Export");
    assert_eq!(own["status"]["validationResult"]["level"], "Verified");
    let held = site.bundled(&own);
    for object in [
        "configmaps team-a/kept",
        "secrets team-a/kept",
        "namespaces /team-a",
    ] {
        assert!(held.iter().any(|one| one == object), "{object}: {held:?}");
    }
    assert!(
        !held
            .iter()
            .any(|one| one.contains("shop") || one.contains("/bank")),
        "{held:?}"
    );

    // The selector means shop and cafe too: each right that is missing is named.
    let none = site.export("none", OWNER_A);
    refused(
        &none,
        &[
            "system:serviceaccount:team-a:default",
            "backup namespaces cafe, shop",
        ],
    );
    site.wait_event("team-a", "none", "NotAllowed");
    said(&operator, &["none", "rejected", "cafe, shop"]);
    bind(&site, "etcd-tenant-operator", "shop");
    let half = site.export("half", OWNER_A);
    refused(&half, &["backup namespaces cafe:"]);
    bind(&site, "etcd-tenant-operator", "cafe");
    let all = site.export("all", OWNER_A);
    let held = site.bundled(&all);
    for place in ["team-a", "shop", "cafe"] {
        assert!(held.contains(&format!("secrets {place}/kept")), "{held:?}");
    }
    assert!(!held.iter().any(|one| one.contains("bank")), "{held:?}");
}

/// A pod that runs, as far as its status says: there is no kubelet.
pub fn running_pod(site: &Site, namespace: &str) {
    site.cluster
        .kubectl(&["create", "serviceaccount", "default", "-n", namespace]);
    site.cluster.create(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace, "labels": {"app": namespace}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "example.com/c:1"}]}}));
    let mut pod = site.cluster.get("pod", namespace, "p").unwrap();
    pod["status"]["phase"] = "Running".into();
    let file = site.folder.path().join(format!("pod-{namespace}.json"));
    std::fs::write(&file, pod.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/pods/p/status");
    site.cluster
        .kubectl(&["replace", "--raw", &path, "-f", file.to_str().unwrap()]);
}

#[test]
fn the_operators_own_namespace_exports_the_whole_cluster_or_some_of_it_from_etcd() {
    let site = tenants();
    let _operator = site.operator("one", "");
    let storage = site.storage(site.store.port);
    let spec = format!("executor: InProcess, storageLocation: {storage}");
    site.backup(
        "guardian",
        "all",
        &format!("{spec}, source: Proxy, retentionPolicy: {{maxBackups: 1}}"),
    );
    let all = site.ended("guardian", "all");
    assert_eq!(all["status"]["kind"], "Export", "{all}");
    assert!(site.bundled(&all).contains(&"secrets bank/kept".to_owned()));
    site.backup(
        "guardian",
        "named",
        &format!("{spec}, source: Proxy, exportResources: {{include: [configmaps, leases.coordination.k8s.io]}}, retentionPolicy: {{maxBackups: 1}}"),
    );
    let named = site.ended("guardian", "named");
    let held = site.bundled(&named);
    for resource in ["configmaps ", "leases.coordination.k8s.io "] {
        assert!(held.iter().any(|one| one.starts_with(resource)), "{held:?}");
    }
    assert!(
        !held.iter().any(|one| one.starts_with("secrets")),
        "{held:?}"
    );
    site.backup(
        "guardian",
        "some",
        &format!("{spec}, {OWNER_A}, retentionPolicy: {{maxBackups: 1}}"),
    );
    let some = site.ended("guardian", "some");
    assert_eq!(some["status"]["phase"], "Completed", "{some}");
    let held = site.bundled(&some);
    assert!(held.contains(&"secrets shop/kept".to_owned()), "{held:?}");
    assert!(!held.iter().any(|one| one.contains("bank")), "{held:?}");
    assert_eq!(
        site.stored().len(),
        1,
        "retention counts exports as backups"
    );
}
