//! Restores of objects by tenants: with the rights of their service account and no more, whatever a bundle holds.

use serde_json::{Value, json};

use super::tenants::{bind, tenants};
use super::{Site, condition};

impl Site {
    /// Has an EtcdRestore of objects carried out, to its end.
    pub fn restore_objects(&self, namespace: &str, name: &str, spec: &str) -> Value {
        self.cluster.apply(&format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{restoreMode: Full, {spec}}}\n"
        ));
        let phases = ["Completed", "Failed", "Rejected", "Planned"];
        self.cluster
            .wait_phase("etcdrestore", namespace, name, &phases)
    }

    /// Whose a ConfigMap is.
    pub fn value(&self, namespace: &str, name: &str) -> Option<String> {
        let object = self.cluster.get("configmap", namespace, name)?;
        Some(object["data"]["of"].as_str()?.to_owned())
    }
}

/// What Kubernetes' own role `admin` gives once its controllers run.
pub fn writer(site: &Site) {
    site.cluster.kubectl(&[
        "create",
        "clusterrole",
        "writer",
        "--verb=get,create,patch,update",
        "--resource=configmaps,secrets,serviceaccounts,deployments.apps,rolebindings.rbac.authorization.k8s.io",
    ]);
}

const OWN: &str = "namespaceSelector: {matchLabels: {own: 'yes'}}";

#[test]
fn a_tenant_restores_its_objects_where_it_has_the_verb_and_with_its_own_rights() {
    let site = tenants();
    writer(&site);
    let operator = site.operator("one", "");
    let exported = site.export("own", OWN);
    assert_eq!(exported["status"]["phase"], "Completed", "{exported}");
    site.cluster
        .kubectl(&["delete", "configmap", "-n", "team-a", "kept"]);

    let filter = "backupName: own, namespaceFilter: [team-a], objectSelector: {resources: [configmaps], names: [kept]}";
    let refused = site.restore_objects("team-a", "no-verb", filter);
    assert_eq!(refused["status"]["phase"], "Rejected", "{refused}");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.contains(
            "system:serviceaccount:team-a:default has no right to restore namespaces team-a"
        ),
        "{message}"
    );
    assert_eq!(site.value("team-a", "kept"), None);
    bind(&site, "etcd-tenant-operator", "team-a");
    // The verb alone lets nothing be written.
    let weak = site.restore_objects("team-a", "no-rights", filter);
    assert_eq!(
        condition(&weak, "Succeeded"),
        "False/PartlyRestored",
        "{weak}"
    );
    assert!(
        weak["status"]["errors"][0]
            .as_str()
            .unwrap()
            .contains("forbidden"),
        "{weak}"
    );
    bind(&site, "writer", "team-a");
    let planned = site.restore_objects("team-a", "look", &format!("{filter}, plan: true"));
    assert_eq!(planned["status"]["phase"], "Planned", "{planned}");
    assert_eq!(site.value("team-a", "kept"), None, "a plan changes nothing");
    let done = site.restore_objects("team-a", "back", filter);
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    assert_eq!(done["status"]["restoredKeys"], 1);
    assert_eq!(site.value("team-a", "kept").as_deref(), Some("team-a"));
    let log = operator.log_text();
    assert!(
        log.contains("as default") && log.contains("rejected: system:serviceaccount"),
        "{log}"
    );
}

#[test]
fn a_full_backup_gives_a_deployment_back() {
    let site = tenants();
    writer(&site);
    let _operator = site.operator("one", "");
    let cluster = &site.cluster;
    cluster.create(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example.com/web:1"}]}}}}));
    let storage = site.storage(site.store.port);
    site.backup(
        "guardian",
        "full",
        &format!("executor: InProcess, storageLocation: {storage}"),
    );
    let full = site.ended("guardian", "full");
    assert_eq!(full["status"]["kind"], "Full", "{full}");
    cluster.kubectl(&["delete", "deployment", "-n", "shop", "web"]);
    cluster.kubectl(&["create", "serviceaccount", "-n", "guardian", "restorer"]);
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "restorer",
        "-n",
        "shop",
        "--clusterrole=writer",
        "--serviceaccount=guardian:restorer",
    ]);
    let spec = "backupName: full, namespaceFilter: [shop], objectSelector: {resources: [deployments.apps], names: [web]}, serviceAccountName: restorer";
    let done = site.restore_objects("guardian", "web", spec);
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    let web = cluster.get("deployment", "shop", "web").unwrap();
    assert_eq!(web["spec"]["replicas"], 3);
}

#[test]
fn an_export_of_what_changed_gives_back_what_was_there_then() {
    let site = tenants();
    writer(&site);
    let _operator = site.operator("one", "");
    let cluster = &site.cluster;
    let config = |name: &str, of: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "team-a"}, "data": {"of": of}})
    };
    for name in ["gone", "changed"] {
        cluster.create(&config(name, "first"));
    }
    let resources = "exportResources: {exclude: [secrets]}";
    let base = site.export("base", &format!("{OWN}, {resources}"));
    assert_eq!(base["status"]["phase"], "Completed", "{base}");
    let delete = |kind: &str, name: &str| {
        cluster.kubectl(&["delete", kind, "-n", "team-a", name]);
    };
    delete("configmap", "gone");
    delete("configmap", "changed");
    cluster.create(&config("changed", "second"));
    cluster.create(&config("created", "second"));
    let storage = site.storage(site.store.port);
    cluster.apply(&format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: more, namespace: team-a}}\nspec: {{backupMode: Incremental, executor: InProcess, storageLocation: {storage}, {OWN}, {resources}}}\n"
    ));
    let more = site.ended("team-a", "more");
    let status = &more["status"];
    assert_eq!(status["base"], base["status"]["backupID"], "{more}");
    assert_eq!(status["mode"], "Incremental", "{more}");
    let held = site.bundled(&more);
    assert!(!held.iter().any(|one| one.contains("kept")), "{held:?}");

    for name in ["changed", "created", "kept"] {
        delete("configmap", name);
    }
    delete("secret", "kept");
    for role in ["etcd-tenant-operator", "writer"] {
        bind(&site, role, "team-a");
    }
    let spec = "backupName: more, namespaceFilter: [team-a], objectSelector: {resources: [configmaps, secrets]}";
    let done = site.restore_objects("team-a", "back", spec);
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    let chain = done["status"]["resolvedChain"].as_array().unwrap();
    assert_eq!(chain.len(), 2, "{done}");
    for (name, of) in [
        ("changed", Some("second")),
        ("created", Some("second")),
        ("kept", Some("team-a")),
        ("gone", None),
    ] {
        assert_eq!(site.value("team-a", name).as_deref(), of, "{name}");
    }
    assert_eq!(cluster.get("secret", "team-a", "kept"), None);
}
