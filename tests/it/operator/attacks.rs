//! The attacks of docs/explanation/security.md, a test each, against one operator with the chart's rights: what a tenant tries with the
//! objects that it may create. Each has namespaces of its own, so that the tests can share the cluster.

mod hooks;
mod page;
mod prometheus;
mod restores;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

use self::prometheus::Asked;
use super::tenants::{bind_to, kept, refused};
use super::velero::install;
use super::{Site, condition};
use crate::support::{Kubernetes, Process, until};

/// A cluster with all that the chart can switch on, and its operator.
struct Attacked {
    operator: Process,
    prometheus: Asked,
    site: Site,
}

/// The one that runs, shared by the tests that run at the same time; it ends with the last of them.
fn attacked() -> Arc<Attacked> {
    static SHARED: Mutex<Weak<Attacked>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = shared.upgrade() {
        return there;
    }
    let values = [
        "rbac.exports=true",
        "rbac.objectRestores=true",
        "operator.execHooks=true",
        "velero.integration.enabled=true",
    ];
    let site = Site::with_roles(Kubernetes::start(), &[]);
    install(&site);
    site.cluster.apply(&super::roles(&values));
    super::tenant_restores::writer(&site);
    let prometheus = Asked::start();
    let secret = [
        "create",
        "secret",
        "generic",
        "prometheus",
        "-n",
        "guardian",
    ];
    let token = ["--from-literal=token=of-the-operator"];
    site.cluster.kubectl(&[&secret[..], &token].concat());
    let config = format!(
        "operator: {{jobs: {{image: 'example.com/etcdguardian:1'}}, trustedNamespaces: [team-a]}}\nprometheus: {{url: '{}', credentialsSecret: prometheus}}",
        prometheus.url
    );
    let operator = site.operator("one", &config);
    let made = Arc::new(Attacked {
        operator,
        prometheus,
        site,
    });
    *shared = Arc::downgrade(&made);
    made
}

/// A tenant with a namespace, a store and objects of its own, and another's namespace beside it.
struct Tenant {
    shared: Arc<Attacked>,
    /// Its namespace, with the label `of` of that value.
    me: String,
    /// The namespace of somebody else, without labels.
    other: String,
}

impl Tenant {
    fn new(me: &str) -> Self {
        let shared = attacked();
        let (me, other) = (me.to_owned(), format!("{me}-other"));
        let mut items = Vec::new();
        for (namespace, labels) in [(&me, json!({ "of": me })), (&other, json!({}))] {
            items.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}));
            items.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": namespace},
                "stringData": {"access-key-id": "vgw", "secret-access-key": "vgwsecret"}}));
            items.extend(kept(namespace));
        }
        let all = json!({"apiVersion": "v1", "kind": "List", "items": items});
        shared.site.cluster.create(&all);
        Self { shared, me, other }
    }

    fn site(&self) -> &Site {
        &self.shared.site
    }

    /// Brings a namespace under the tenant's selector.
    fn label(&self, namespace: &str) {
        let label = format!("of={}", self.me);
        let words = ["label", "namespace", namespace, &label];
        self.site().cluster.kubectl(&words);
    }

    /// What selects the namespaces with its label.
    fn selector(&self) -> String {
        format!("namespaceSelector: {{matchLabels: {{of: {}}}}}", self.me)
    }

    fn bind(&self, role: &str, namespace: &str) {
        bind_to(
            self.site(),
            role,
            namespace,
            &format!("{}:default", self.me),
        );
    }

    /// The storageLocation of its store; all of it lies below the tenant's name.
    fn storage(&self) -> String {
        let bucket = format!("bucket: backups, prefix: {}", self.me);
        let storage = self.site().storage(self.site().store.port);
        storage.replace("bucket: backups", &bucket)
    }

    /// Has an EtcdBackup carried out as it is written.
    fn back_up_as(&self, name: &str, spec: &str) -> Value {
        let spec = format!("executor: InProcess, {spec}");
        self.site().backup(&self.me, name, &spec);
        self.site().ended(&self.me, name)
    }

    /// The same to its own store.
    fn back_up(&self, name: &str, spec: &str) -> Value {
        let storage = self.storage();
        self.back_up_as(name, &format!("storageLocation: {storage}, {spec}"))
    }

    fn restore(&self, name: &str, spec: &str) -> Value {
        self.site().restore_objects(&self.me, name, spec)
    }

    /// How many backups lie in its store.
    fn stored(&self) -> usize {
        let all = self.site().stored().into_iter();
        all.filter(|manifest| manifest["namespace"] == self.me.as_str())
            .count()
    }

    /// What was refused is told by the object and by the audit log, and left nothing behind.
    fn is_refused(&self, done: &Value, words: &[&str]) {
        refused(done, words);
        let name = done["metadata"]["name"].as_str().unwrap();
        let words = ["audit", &self.me, name, "rejected"];
        until("the audit line", || {
            let log = self.shared.operator.log_text();
            let mut lines = log.lines();
            lines
                .any(|line| words.iter().all(|word| line.contains(word)))
                .then_some(())
        });
        assert!(done["status"]["snapshotLocation"].is_null(), "{done}");
    }
}

/// Whether the words of the object were refused before anything was done.
fn invalid(done: &Value, words: &str) {
    assert_eq!(condition(done, "Succeeded"), "False/SpecInvalid", "{done}");
    let message = done["status"]["message"].as_str().unwrap();
    assert!(message.contains(words), "{words}: {message}");
}

#[test]
fn a_selector_is_not_widened_after_approval() {
    let tenant = Tenant::new("widened");
    let done = tenant.back_up("own", &tenant.selector());
    assert_eq!(done["status"]["phase"], "Completed", "{done}");
    let wider = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackup\nmetadata: {{name: own, namespace: {}}}\nspec: {{backupMode: Full, executor: InProcess, storageLocation: {}, namespaceSelector: {{}}}}\n",
        tenant.me,
        tenant.storage()
    );
    let (ok, said) = tenant.site().cluster.try_apply(&wider);
    assert!(!ok && said.contains("spec is immutable"), "{said}");
}

#[test]
fn a_label_on_a_foreign_namespace_brings_its_objects_to_nobody() {
    let tenant = Tenant::new("labelled");
    let before = tenant.back_up("before", &tenant.selector());
    assert_eq!(before["status"]["phase"], "Completed", "{before}");
    let held = tenant.site().bundled(&before);
    assert!(
        held.contains(&format!("secrets {}/kept", tenant.me)),
        "{held:?}"
    );
    tenant.label(&tenant.other);
    let after = tenant.back_up("after", &tenant.selector());
    tenant.is_refused(
        &after,
        &[
            "system:serviceaccount:labelled:default",
            "backup namespaces labelled-other:",
        ],
    );
    assert_eq!(tenant.stored(), 1);
}

#[test]
fn the_whole_cluster_is_not_exported_for_a_tenant() {
    let tenant = Tenant::new("whole");
    let done = tenant.back_up("everything", "source: Proxy");
    tenant.is_refused(&done, &["the objects of the whole cluster"]);
    assert_eq!(tenant.stored(), 0);
}

#[test]
fn the_operators_etcd_is_not_read_for_a_tenant() {
    let tenant = Tenant::new("direct");
    for (name, spec) in [
        ("all", "source: Direct".to_owned()),
        ("found", "source: Auto".to_owned()),
        ("some", format!("source: Direct, {}", tenant.selector())),
    ] {
        let done = tenant.back_up(name, &spec);
        tenant.is_refused(&done, &["the operator's configured etcd"]);
    }
    assert_eq!(tenant.stored(), 0);
}

#[test]
fn the_operators_directories_and_cloud_identity_are_not_used_for_a_tenant() {
    let tenant = Tenant::new("identity");
    let local = "storageLocation: {provider: Local, bucket: /tmp/etcdguardian-attack}";
    let of_cloud = tenant.storage().replace(", credentialsSecret: s3", "");
    let of_cloud = format!("storageLocation: {of_cloud}");
    let with_key = format!(
        "storageLocation: {}, encryption: {{enabled: true, kmsKeyID: 'arn:aws:kms:eu-central-1:1:key/of-the-operator'}}",
        tenant.storage()
    );
    for (name, storage, word) in [
        ("directory", local, "a directory of the operator"),
        ("bucket", &of_cloud, "the operator's cloud identity"),
        (
            "key",
            &with_key,
            "the operator's cloud identity (encryption",
        ),
    ] {
        let done = tenant.back_up_as(name, &format!("{storage}, {}", tenant.selector()));
        tenant.is_refused(&done, &[word]);
    }
    assert!(!std::path::Path::new("/tmp/etcdguardian-attack").exists());
}

#[test]
fn a_service_account_of_another_namespace_is_not_acted_as() {
    let tenant = Tenant::new("account");
    // It may back its namespace up, and a name of ours can only be one of ours.
    let cluster = &tenant.site().cluster;
    cluster.kubectl(&["create", "serviceaccount", "saver", "-n", &tenant.other]);
    let theirs = format!("{}:saver", tenant.other);
    bind_to(
        tenant.site(),
        "etcd-tenant-operator",
        &tenant.other,
        &theirs,
    );
    tenant.label(&tenant.other);
    let named = tenant.back_up(
        "named",
        &format!("{}, serviceAccountName: saver", tenant.selector()),
    );
    tenant.is_refused(&named, &["system:serviceaccount:account:saver"]);
    let joined = tenant.back_up(
        "joined",
        &format!("{}, serviceAccountName: '{theirs}'", tenant.selector()),
    );
    invalid(&joined, "no name of a service account of this namespace");
    assert_eq!(tenant.stored(), 0);
}

#[test]
fn a_secret_of_another_namespace_is_not_read() {
    let tenant = Tenant::new("secrets");
    for (name, secret) in [
        ("path", "../secrets-other/s3"),
        ("below", "s3/../../guardian/s3"),
        ("own", "operator:s3"),
        ("file", "/run/secrets/s3"),
    ] {
        let storage = tenant.storage();
        let storage = storage.replace(
            "credentialsSecret: s3",
            &format!("credentialsSecret: '{secret}'"),
        );
        let spec = format!("storageLocation: {storage}, {}", tenant.selector());
        let done = tenant.back_up_as(name, &spec);
        invalid(&done, "no name of a Secret of this namespace");
    }
    let sealed = "encryption: {enabled: true, encryptionSecret: 'operator:age'}";
    let done = tenant.back_up("sealed", &format!("{}, {sealed}", tenant.selector()));
    invalid(&done, "encryption.encryptionSecret");
    let spec = "backupName: b, namespaceFilter: [secrets]";
    let done = tenant.restore("opened", &format!("{spec}, {sealed}"));
    invalid(&done, "encryption.encryptionSecret");
    assert_eq!(tenant.stored(), 0);
}

#[test]
fn a_secret_of_the_operator_is_not_told_to_a_tenants_prometheus() {
    let tenant = Tenant::new("told");
    let cluster = &tenant.site().cluster;
    cluster.apply(&format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: curious, namespace: told}}\nspec:\n  schedule: '@yearly'\n  aiOptimization: {{enabled: true, prometheus: {{url: 'http://127.0.0.1:9', credentialsSecret: 'operator:etcd-root'}}}}\n  backupTemplate: {{spec: {{backupMode: Full, storageLocation: {}, {}}}}}\n",
        tenant.storage(),
        tenant.selector()
    ));
    let message = until("the schedule is refused", || {
        let schedule = cluster.get("egs", "told", "curious")?;
        let ready = condition(&schedule, "Ready") == "False/SpecInvalid";
        ready.then(|| schedule["status"]["conditions"].to_string())
    });
    assert!(
        message.contains("aiOptimization.prometheus.credentialsSecret"),
        "{message}"
    );
}

#[test]
fn a_prefix_does_not_climb_out_of_its_place_in_the_bucket() {
    let tenant = Tenant::new("climbed");
    for (name, prefix) in [
        ("up", "../climbed-other"),
        ("inside", "climbed/../../climbed-other"),
        ("back", "climbed\\\\..\\\\climbed-other"),
    ] {
        let storage = tenant.storage();
        let storage = storage.replace("prefix: climbed", &format!("prefix: \"{prefix}\""));
        let spec = format!("storageLocation: {storage}, {}", tenant.selector());
        invalid(&tenant.back_up_as(name, &spec), "prefix");
    }
    assert_eq!(tenant.stored(), 0);
}

#[test]
fn a_tenant_gets_no_velero_backup() {
    let tenant = Tenant::new("paired");
    let pair = "veleroIntegration: {enabled: true, backupName: paired, template: {includedNamespaces: ['*']}}";
    let done = tenant.back_up("pair", &format!("{}, {pair}", tenant.selector()));
    tenant.is_refused(&done, &["Velero, which backs up with rights of its own"]);
    let cluster = &tenant.site().cluster;
    assert_eq!(cluster.get("backup.velero.io", "velero", "paired"), None);
}

#[test]
fn a_velero_backup_of_somebody_else_is_left_alone() {
    let tenant = Tenant::new("squatted");
    let cluster = &tenant.site().cluster;
    cluster.apply("apiVersion: velero.io/v1\nkind: Backup\nmetadata: {name: squatted, namespace: velero}\nspec: {}\n");
    let storage = tenant.storage();
    let pair = "veleroIntegration: {enabled: true, backupName: squatted}";
    let spec = format!("executor: InProcess, storageLocation: {storage}, {pair}");
    tenant.site().backup("guardian", "squatted", &spec);
    let done = tenant.site().ended("guardian", "squatted");
    assert_eq!(
        condition(&done, "VeleroBackup"),
        "False/VeleroNameTaken",
        "{done}"
    );
    let there = cluster.get("backup.velero.io", "velero", "squatted");
    let there = there.unwrap();
    assert!(there["metadata"]["labels"].is_null(), "{there}");
}
