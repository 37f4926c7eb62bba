//! Restores of objects by tenants: with the rights of their service account and no more, whatever a bundle holds.

use serde_json::{Value, json};

use super::tenants::{bind, tenants};
use super::{Site, condition};

impl Site {
    fn restore_objects(&self, namespace: &str, name: &str, spec: &str) -> Value {
        self.cluster.apply(&format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{restoreMode: Full, {spec}}}\n"
        ));
        let phases = ["Completed", "Failed", "Rejected", "Planned"];
        self.cluster
            .wait_phase("etcdrestore", namespace, name, &phases)
    }

    fn value(&self, namespace: &str, name: &str) -> Option<String> {
        let object = self.cluster.get("configmap", namespace, name)?;
        Some(object["data"]["of"].as_str()?.to_owned())
    }
}

/// What Kubernetes' own role `admin` gives once its controllers run.
fn writer(site: &Site) {
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
    // A binding that gives the tenant everything, in its own namespace and thus in its export.
    bind(&site, "cluster-admin", "team-a");
    let exported = site.export("own", OWN);
    assert_eq!(exported["status"]["phase"], "Completed", "{exported}");
    let bindings = site.cluster.list("rolebinding", "team-a");
    let evil = bindings[0]["metadata"]["name"].as_str().unwrap().to_owned();
    site.cluster
        .kubectl(&["delete", "rolebinding", "-n", "team-a", &evil]);
    let delete = || {
        site.cluster
            .kubectl(&["delete", "configmap", "-n", "team-a", "kept"])
    };
    delete();

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

    // The whole of it: the API server itself refuses the binding that the tenant has no right to give.
    delete();
    let all = site.restore_objects(
        "team-a",
        "all",
        "backupName: own, namespaceFilter: [team-a]",
    );
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
    assert_eq!(site.cluster.get("rolebinding", "team-a", &evil), None);
    assert_eq!(
        site.value("team-a", "kept").as_deref(),
        Some("team-a"),
        "the rest is back"
    );

    // Into a foreign namespace, and of the whole cluster.
    let foreign = site.restore_objects(
        "team-a",
        "foreign",
        "backupName: own, namespaceFilter: [team-a, bank]",
    );
    assert!(
        foreign["status"]["message"]
            .as_str()
            .unwrap()
            .contains("restore namespaces bank:"),
        "{foreign}"
    );
    let wide = site.restore_objects(
        "team-a",
        "wide",
        "backupName: own, objectSelector: {resources: [configmaps]}",
    );
    assert_eq!(condition(&wide, "Succeeded"), "False/NotAllowed", "{wide}");
}

#[test]
fn another_tenants_bundle_is_not_found_and_a_full_backup_gives_a_deployment_back() {
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
    let location = full["status"]["snapshotLocation"].as_str().unwrap();
    bind(&site, "etcd-tenant-operator", "team-a");
    let stolen = site.restore_objects(
        "team-a",
        "stolen",
        &format!("snapshotLocation: '{location}', namespaceFilter: [team-a]"),
    );
    assert_eq!(
        condition(&stolen, "Succeeded"),
        "False/NotFound",
        "{stolen}"
    );

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
