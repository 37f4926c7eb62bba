//! Tenants: exports of the namespaces that a selector means, and every way out of one's own namespace that is refused.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Site, condition};
use crate::support::{Kubernetes, Process, until};

/// Namespaces with labels and a ConfigMap and a Secret each; team-a is the tenant.
pub fn tenants() -> Site {
    tenants_with(&[])
}

/// The same with more values of the chart's.
pub fn tenants_with(values: &[&str]) -> Site {
    let own = ["rbac.exports=true", "rbac.objectRestores=true"];
    let site = Site::with_roles(Kubernetes::start(), &[&own[..], values].concat());
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
    for namespace in ["team-a", "shop", "bank", "cafe"] {
        for kind in ["ConfigMap", "Secret"] {
            let mut object = json!({"apiVersion": "v1", "kind": kind,
                "metadata": {"name": "kept", "namespace": namespace, "labels": {"tier": "one"}}});
            let field = if kind == "Secret" {
                "stringData"
            } else {
                "data"
            };
            object[field] = json!({"of": namespace});
            cluster.create(&object);
        }
    }
    site
}

/// Gives the service account `default` of team-a the tenant's role in a namespace.
pub fn bind(site: &Site, role: &str, namespace: &str) {
    let role = format!("--clusterrole={role}");
    let name = format!("b{}", uuid::Uuid::new_v4().simple());
    site.cluster.kubectl(&[
        "create",
        "rolebinding",
        &name,
        "-n",
        namespace,
        &role,
        "--serviceaccount=team-a:default",
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

fn refused(done: &Value, words: &[&str]) {
    assert_eq!(done["status"]["phase"], "Rejected", "{done}");
    assert_eq!(condition(done, "Succeeded"), "False/NotAllowed");
    let message = done["status"]["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
}

fn said(operator: &Process, words: &[&str]) {
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

    // A label that somebody puts on a foreign namespace moves it into the selector, and the next run into a refusal.
    site.cluster
        .kubectl(&["label", "--overwrite", "namespace", "bank", "owner=a"]);
    refused(&site.export("moved", OWNER_A), &["backup namespaces bank:"]);
    // A selector cannot be widened in an object that was approved.
    let (ok, said) = site.cluster.try_apply(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {name: own, namespace: team-a}\nspec: {backupMode: Full, storageLocation: {provider: S3, bucket: backups}, namespaceSelector: {}}\n",
    );
    assert!(!ok && said.contains("spec is immutable"), "{said}");
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
    let file = site.folder.path().join("pod.json");
    std::fs::write(&file, pod.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/pods/p/status");
    site.cluster
        .kubectl(&["replace", "--raw", &path, "-f", file.to_str().unwrap()]);
}

#[test]
fn a_tenant_gets_neither_the_whole_cluster_nor_the_operators_process() {
    let site = tenants();
    let _operator = site.operator("one", "");
    let everything = site.export("everything", "source: Proxy");
    refused(&everything, &["the objects of the whole cluster"]);
    let direct = site.export("direct", &format!("source: Direct, {OWNER_A}"));
    refused(&direct, &["the operator's configured etcd"]);
    let own = "namespaceSelector: {matchLabels: {own: 'yes'}}";
    // A hook: with no pod it would run in the operator's, and a selector finds no pod of another namespace.
    let hook = |name: &str, exec: &str| {
        let storage = site.storage(site.store.port);
        site.backup("team-a", name, &format!("executor: InProcess, storageLocation: {storage}, {own}, hooks: {{preBackup: [{{name: h, type: Exec, exec: {{{exec}, command: [cat]}}}}]}}"));
    };
    hook("no-pod", "podSelector: {}");
    let none = site.ended("team-a", "no-pod");
    assert_eq!(condition(&none, "Succeeded"), "False/SpecInvalid", "{none}");
    running_pod(&site, "bank");
    hook("foreign-pod", "podSelector: {app: bank}");
    until("the hook finds no pod", || {
        let object = site.cluster.get("etcdbackup", "team-a", "foreign-pod")?;
        let message = object["status"]["message"].as_str()?.to_owned();
        message.contains("no pod of namespace team-a").then_some(())
    });
    let pair = site.export(
        "pair",
        &format!("{own}, veleroIntegration: {{enabled: true}}"),
    );
    refused(&pair, &["Velero, which backs up with rights of its own"]);
    let other = site.export("other", &format!("{own}, serviceAccountName: 'default:x'"));
    assert_eq!(
        condition(&other, "Succeeded"),
        "False/SpecInvalid",
        "{other}"
    );
    // A Secret of another namespace: by path, and by what only the operator may name.
    for (name, secret) in [("path", "../guardian/s3"), ("own-secret", "operator:s3")] {
        let storage = site.storage(site.store.port);
        let storage = storage.replace(
            "credentialsSecret: s3",
            &format!("credentialsSecret: '{secret}'"),
        );
        site.backup(
            "team-a",
            name,
            &format!("executor: InProcess, storageLocation: {storage}, {own}"),
        );
        let status = until(name, || {
            let object = site.cluster.get("etcdbackup", "team-a", name)?;
            condition(&object, "Succeeded")
                .contains('/')
                .then_some(object)
        });
        let said = condition(&status, "Succeeded");
        assert!(
            said != "True/Completed" && status["status"]["snapshotLocation"].is_null(),
            "{status}"
        );
    }
    // A prefix that climbs out of its place in the bucket.
    let storage = site
        .storage(site.store.port)
        .replace("bucket: backups", "bucket: backups, prefix: '../other'");
    site.backup(
        "team-a",
        "prefix",
        &format!("executor: InProcess, storageLocation: {storage}, {own}"),
    );
    let climbed = site.ended("team-a", "prefix");
    assert_eq!(
        condition(&climbed, "Succeeded"),
        "False/SpecInvalid",
        "{climbed}"
    );
    assert!(site.stored().is_empty(), "nothing was stored on the way");
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
