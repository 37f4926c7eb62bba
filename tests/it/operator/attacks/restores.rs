//! Restores as weapons: other tenants' bundles, bundles that hold more than they should, and namespaces of others.

use serde_json::{Value, json};

use super::Tenant;
use crate::operator::condition;
use crate::support::{Etcd, until};

impl Tenant {
    /// May write into its own namespace, and restore there.
    fn writes(&self) {
        self.bind("etcd-tenant-operator", &self.me);
        self.bind("writer", &self.me);
    }

    fn not_allowed(&self, done: &Value, word: &str) {
        assert_eq!(condition(done, "Succeeded"), "False/NotAllowed", "{done}");
        assert_eq!(done["status"]["phase"], "Rejected", "{done}");
        let message = done["status"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{word}: {message}");
    }

    fn finds_nothing(&self, done: &Value, word: &str) {
        assert_eq!(condition(done, "Succeeded"), "False/NotFound", "{done}");
        let message = done["status"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{word}: {message}");
    }

    fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let words = ["delete", kind, "-n", namespace, name];
        self.site().cluster.kubectl(&words);
    }
}

#[test]
fn another_tenants_bundle_is_not_found() {
    let (victim, thief) = (Tenant::new("victim"), Tenant::new("thief"));
    let done = victim.back_up("own", &victim.selector());
    let location = done["status"]["snapshotLocation"].as_str().unwrap();
    let id = done["status"]["backupID"].as_str().unwrap();
    thief.writes();
    let stolen = thief.restore(
        "stolen",
        &format!("snapshotLocation: '{location}', namespaceFilter: [thief]"),
    );
    thief.finds_nothing(&stolen, "no completed EtcdBackup of namespace thief is");
    // An object that claims to have made it, with keys of the same store.
    let (storage, selector) = (victim.storage(), victim.selector());
    thief.site().cluster.apply(&format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: claimed, namespace: thief, annotations: {{etcdguardian.io/catalogue-id: '{id}'}}}}\nspec: {{backupMode: Full, executor: InProcess, storageLocation: {storage}, {selector}}}\n"
    ));
    let claimed = thief.site().ended("thief", "claimed");
    assert_eq!(
        condition(&claimed, "Succeeded"),
        "False/NotFound",
        "{claimed}"
    );
    assert!(claimed["status"]["snapshotLocation"].is_null(), "{claimed}");
    // And one whose status says so, whoever wrote that.
    let status = json!({"status": {"phase": "Completed", "backupID": id, "etcdRevision": 1, "snapshotLocation": location}});
    let words = ["patch", "egb", "-n", "thief", "claimed", "--type=merge"];
    let patch = ["--subresource=status", "-p", &status.to_string()];
    let cluster = &thief.site().cluster;
    cluster.kubectl(&[&words[..], &patch].concat());
    let forged = thief.restore("forged", "backupName: claimed, namespaceFilter: [thief]");
    thief.finds_nothing(&forged, "of namespace thief");
}

#[test]
fn a_bundle_gives_nobody_rights_that_the_tenant_has_not() {
    let tenant = Tenant::new("granted");
    // A binding that gives the tenant everything, in its own namespace and thus in its export.
    let cluster = &tenant.site().cluster;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "evil", "namespace": tenant.me},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": tenant.me}]});
    cluster.create(&binding);
    let done = tenant.back_up("own", &tenant.selector());
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    tenant.delete("rolebinding", &tenant.me, "evil");
    tenant.delete("configmap", &tenant.me, "kept");
    tenant.writes();
    let all = tenant.restore("all", "backupName: own, namespaceFilter: [granted]");
    assert_eq!(
        condition(&all, "Succeeded"),
        "False/PartlyRestored",
        "{all}"
    );
    let errors = all["status"]["errors"].to_string();
    assert!(
        errors.contains("RoleBinding") && errors.contains("attempting to grant"),
        "{errors}"
    );
    assert_eq!(cluster.get("rolebinding", &tenant.me, "evil"), None);
    let back = tenant.site().value(&tenant.me, "kept");
    assert_eq!(back.as_deref(), Some("granted"), "the rest is back");
}

#[test]
fn nothing_is_restored_into_a_namespace_without_the_right() {
    let tenant = Tenant::new("into");
    tenant.label(&tenant.other);
    tenant.bind("etcd-tenant-operator", &tenant.other);
    let done = tenant.back_up("both", &tenant.selector());
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    tenant.writes();
    // It could write there, were it asked for nothing but its rights on the objects.
    tenant.bind("writer", &tenant.other);
    let cluster = &tenant.site().cluster;
    let named = ["get", "rolebinding", "-n", &tenant.other, "-o", "name"];
    for binding in cluster.kubectl(&named).lines() {
        let role = [
            "get",
            binding,
            "-n",
            &tenant.other,
            "-o",
            "jsonpath={.roleRef.name}",
        ];
        if cluster.kubectl(&role) == "etcd-tenant-operator" {
            cluster.kubectl(&["delete", binding, "-n", &tenant.other]);
        }
    }
    tenant.delete("configmap", &tenant.other, "kept");
    let foreign = tenant.restore(
        "foreign",
        "backupName: both, namespaceFilter: [into, into-other]",
    );
    tenant.not_allowed(&foreign, "restore namespaces into-other:");
    assert_eq!(tenant.site().value(&tenant.other, "kept"), None);
}

#[test]
fn a_bundle_reaches_nothing_outside_the_filter() {
    let tenant = Tenant::new("filtered");
    tenant.label(&tenant.other);
    tenant.bind("etcd-tenant-operator", &tenant.other);
    tenant.bind("writer", &tenant.other);
    let done = tenant.back_up("both", &tenant.selector());
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    tenant.writes();
    for namespace in [&tenant.me, &tenant.other] {
        tenant.delete("configmap", namespace, "kept");
    }
    let spec = "backupName: both, namespaceFilter: [filtered], objectSelector: {resources: [configmaps], names: [kept]}";
    let done = tenant.restore("own", spec);
    assert_eq!(done["status"]["restoredKeys"], 1, "{done}");
    let there = |namespace: &str| tenant.site().value(namespace, "kept");
    assert_eq!(there(&tenant.me).as_deref(), Some("filtered"));
    assert_eq!(there(&tenant.other), None, "it was in the bundle");
}

#[test]
fn the_whole_clusters_objects_are_not_restored_for_a_tenant() {
    let tenant = Tenant::new("wide");
    let done = tenant.back_up("own", &tenant.selector());
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    tenant.writes();
    let spec = "backupName: own, objectSelector: {resources: [configmaps]}";
    let wide = tenant.restore("wide", spec);
    tenant.not_allowed(
        &wide,
        "only trusted namespaces restore objects of the whole cluster",
    );
}

#[test]
fn a_tenant_writes_to_no_nodes_folder() {
    let tenant = Tenant::new("folders");
    let spec = "backupName: b, etcdCluster: {members: [{name: m, peerURL: 'http://127.0.0.1:2380', nodeName: node-1, dataDir: /var/lib/etcd}]}";
    let done = tenant.restore("node", spec);
    tenant.not_allowed(
        &done,
        "only trusted namespaces may write to the folders of nodes",
    );
}

#[test]
fn an_increment_of_another_namespace_continues_no_chain() {
    let tenant = Tenant::new("chained");
    let (site, etcd) = (tenant.site(), Etcd::start("3.6"));
    let from = format!("source: Direct, etcdEndpoints: ['{}']", etcd.endpoint());
    etcd.ctl(&["put", "mine", "1"]);
    let base = tenant.back_up("base", &from);
    assert_eq!(base["status"]["phase"], "Completed", "{base}");
    etcd.ctl(&["put", "mine", "2"]);
    let storage = tenant.storage();
    site.cluster.apply(&format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: more, namespace: chained}}\nspec: {{backupMode: Incremental, executor: InProcess, {from}, storageLocation: {storage}}}\n"
    ));
    let more = site.ended("chained", "more");
    let status = &more["status"];
    assert_eq!(status["base"], base["status"]["backupID"], "{more}");

    let host = tempfile::tempdir().unwrap();
    let data_dir = host.path().join("data");
    let member = format!(
        "{{name: m, peerURL: 'http://127.0.0.1:2380', claimName: c, dataDir: {}}}",
        data_dir.display()
    );
    let revision = &status["etcdRevision"];
    site.cluster.apply(&format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: back, namespace: chained}}\nspec: {{restoreMode: PointInTime, targetRevision: {revision}, backupName: base, etcdCluster: {{members: [{member}]}}}}\n"
    ));
    let job = until("the restore's Job", || {
        site.cluster.list("jobs", "chained").pop()
    });
    let mut pod = job["spec"]["template"].clone();
    pod["metadata"]["namespace"] = "chained".into();
    let config = site.mounted("chained", &pod, host.path());

    // Behind the plan, what continues the chain becomes another's, who writes to the same bucket.
    let location = status["snapshotLocation"].as_str().unwrap();
    let (_, key) = location.split_once("/backups/").unwrap();
    let manifest = site.store.file("backups", key).with_extension("");
    let manifest = manifest.with_extension("json");
    let own = std::fs::read_to_string(&manifest).unwrap();
    let foreign = own.replace("\"chained\"", "\"chained-other\"");
    assert_ne!(own, foreign);
    std::fs::write(&manifest, foreign).unwrap();
    let (ok, said) = site.run_pod(&pod, &config);
    assert!(!ok && said.contains("is not covered"), "{said}");
    assert!(!data_dir.exists(), "{said}");
    std::fs::write(&manifest, own).unwrap();
    let (ok, said) = site.run_pod(&pod, &config);
    assert!(ok && data_dir.join("member").exists(), "{said}");
}
