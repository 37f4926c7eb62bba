//! Exports that hold only what changed: made by watching a real kube-apiserver, read back with what they build on, promoted to whole ones
//! when the server has forgotten all of it; by hand and on a schedule.

mod many;
mod some;

use std::time::Duration;

use serde_json::{Value, json};

use crate::run::Site;
use crate::support::{Etcd, Kubernetes, Ran, guardian, guardian_command, until, until_within};

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": {"v": value}})
}

fn definition(plural: &str, kind: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

/// Defines a kind, and makes an object of it.
fn plant(cluster: &Kubernetes, plural: &str, kind: &str) {
    cluster.create(&definition(plural, kind));
    let object = json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "one", "namespace": "shop"}, "spec": {"of": kind}});
    until("the new kind is served", || {
        cluster.try_create(&object).0.then_some(())
    });
}

fn fill(cluster: &Kubernetes) {
    cluster.kubectl(&["create", "namespace", "shop"]);
    let objects: Vec<Value> = (0..50)
        .map(|index| config_map(&format!("c{index}"), "old"))
        .collect();
    cluster.create(&json!({"apiVersion": "v1", "kind": "List", "items": objects}));
    plant(cluster, "ferns", "Fern");
}

/// A cluster's store, and the verbs on them.
struct Taken {
    cluster: Kubernetes,
    store: tempfile::TempDir,
}

impl Taken {
    fn of(cluster: Kubernetes) -> Self {
        fill(&cluster);
        Self {
            cluster,
            store: tempfile::tempdir().unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("file://{}", self.store.path().display())
    }

    /// The command that takes an export of the cluster.
    fn words(&self, name: &str, mode: &str) -> Vec<String> {
        let (url, kubeconfig) = (self.url(), self.cluster.admin().display().to_string());
        [
            "backup",
            "create",
            name,
            "--source",
            "proxy",
            "--mode",
            mode,
            "--to",
            &url,
            "--kubeconfig",
            &kubeconfig,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn create(&self, name: &str, mode: &str) -> (Value, String) {
        let words = self.words(name, mode);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = guardian(&[words.as_slice(), &["-o", "json"]].concat()).code(0);
        let said = ran.stderr.clone();
        (ran.json(), said)
    }

    fn from(&self, words: &[&str]) -> Ran {
        guardian(&[words, &["--from", &self.url()]].concat())
    }

    /// What two backups do not have in common.
    fn differs(&self, one: &str, other: &str) -> Vec<Value> {
        let said = self
            .from(&["object", "diff", one, other, "-o", "json"])
            .json();
        said["items"].as_array().unwrap().clone()
    }

    fn set(&self, name: &str, value: &str) {
        let patch = json!({"data": {"v": value}}).to_string();
        self.cluster.merge("configmap", "shop", name, &patch);
    }

    fn delete(&self, kind: &str, name: &str) {
        self.cluster.kubectl(&["delete", kind, "-n", "shop", name]);
    }
}

#[test]
fn what_changed_is_exported_alone_and_read_back_with_what_it_builds_on() {
    let taken = Taken::of(Kubernetes::start());
    let cluster = &taken.cluster;
    let (first, said) = taken.create("first", "incremental");
    assert_eq!(first["base"], Value::Null, "{first}");
    assert!(
        said.contains("BackupPromotedToFull: there is no verified export to continue"),
        "{said}"
    );

    taken.set("c1", "new");
    taken.delete("configmap", "c2");
    taken.delete("configmap", "c3");
    cluster.create(&config_map("c3", "again"));
    cluster.create(&config_map("fresh", "1"));
    cluster.create(&config_map("brief", "1"));
    taken.delete("configmap", "brief");
    taken.delete("crd", "ferns.example.com");
    plant(cluster, "mosses", "Moss");
    let (second, said) = taken.create("second", "incremental");
    assert!(!said.contains("BackupPromotedToFull"), "{said}");
    assert_eq!(
        (&second["base"], &second["kind"], &second["level"]),
        (&first["id"], &json!("Export"), &json!("Verified")),
        "{second}"
    );
    assert_eq!(second["startRevision"], first["revision"]);
    let (size, whole) = (
        second["size"].as_u64().unwrap(),
        first["size"].as_u64().unwrap(),
    );
    assert!(
        size < whole / 4,
        "{size} of {whole}: what did not change is not in it"
    );

    taken.delete("configmap", "fresh");
    taken.set("c3", "last");
    let (url, kubeconfig) = (taken.url(), cluster.admin().display().to_string());
    let words = ["export", "third", "--mode", "incremental", "--to", &url];
    let third = guardian(&[&words[..], &["--kubeconfig", &kubeconfig, "-o", "json"]].concat());
    let third = third.json()["backup"].clone();
    assert_eq!(third["base"], first["id"], "{third}");
    // The oracle: everything, listed anew.
    taken.create("everything", "full");
    assert_eq!(taken.differs("third", "everything"), Vec::<Value>::new());
    let changed = taken.differs("first", "second");
    let names: Vec<String> = changed
        .iter()
        .map(|one| {
            format!(
                "{} {}",
                one["change"].as_str().unwrap(),
                one["name"].as_str().unwrap()
            )
        })
        .collect();
    for expected in [
        "changed c1",
        "deleted c2",
        "changed c3",
        "created fresh",
        "deleted ferns.example.com",
        "created mosses.example.com",
    ] {
        assert!(
            names.iter().any(|name| name == expected),
            "{expected}: {names:?}"
        );
    }
    assert!(
        !names.iter().any(|name| name.contains("brief")),
        "{names:?}"
    );
    let got = taken
        .from(&[
            "object", "get", "c3", "-k", "cm", "-n", "shop", "--backup", "third", "-o", "json",
        ])
        .json();
    assert_eq!(got["data"]["v"], "last");
    taken
        .from(&["backup", "delete", first["id"].as_str().unwrap(), "--yes"])
        .code(5);

    let new = Kubernetes::start();
    let kubeconfig = new.admin().display().to_string();
    let imported = taken
        .from(&[
            "import",
            "--backup",
            "third",
            "--yes",
            "--kubeconfig",
            &kubeconfig,
            "-o",
            "json",
        ])
        .json();
    assert!(
        imported["source"]
            .as_str()
            .unwrap()
            .contains("with 2 before it"),
        "{}",
        imported["source"]
    );
    for (name, value) in [
        ("c0", Some("old")),
        ("c1", Some("new")),
        ("c2", None),
        ("c3", Some("last")),
        ("fresh", None),
    ] {
        let is = new
            .get("configmap", "shop", name)
            .map(|object| object["data"]["v"].clone());
        assert_eq!(is, value.map(|value| json!(value)), "{name}");
    }
    assert!(new.get("crd", "", "ferns.example.com").is_none());
    assert_eq!(
        new.get("moss", "shop", "one").unwrap()["spec"]["of"],
        "Moss"
    );

    // All of it is proved again when that is asked for; one damaged link is one too many.
    let verified = taken.from(&["backup", "verify", "third", "--deep", "-o", "json"]);
    let verified = verified.json();
    assert_eq!(verified["level"], "Verified", "{verified}");
    assert!(
        verified["checks"]
            .to_string()
            .contains("2 exports that it builds on"),
        "{verified}"
    );
    let location = second["location"].as_str().unwrap();
    let file = location.strip_prefix("file://").unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
    taken.from(&["backup", "verify", "first", "--deep"]).code(0);
    taken.from(&["backup", "verify", "third", "--deep"]).code(3);
    taken.from(&["object", "ls", "--backup", "third"]).code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_say_what_changed_is_listed_anew_and_one_that_forgot_is_exported_whole()
 {
    // Without its cache the server tells nothing of how far a watch is, and forgets what etcd has compacted.
    let taken = Taken::of(Kubernetes::with_flags(&["--watch-cache=false"]));
    taken.create("first", "full");
    taken.set("c1", "new");
    taken.delete("configmap", "c2");
    let (second, said) = taken.create("second", "incremental");
    // Of the kind alone that was written last it can be told; when that is none of ours, all is listed anew.
    assert_eq!(
        said.contains("BackupPromotedToFull: the server cannot tell"),
        second["base"].is_null(),
        "{said}"
    );
    taken.create("everything", "full");
    assert_eq!(taken.differs("second", "everything"), Vec::<Value>::new());

    taken.set("c1", "newer");
    taken.set("c1", "newest");
    let mut client = taken.cluster.etcd.client().await;
    let revision = client
        .get("x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client.compact(revision, None).await.unwrap();
    let (third, said) = taken.create("third", "incremental");
    assert_eq!(third["base"], Value::Null, "{third}");
    assert!(
        said.contains("BackupPromotedToFull: the server cannot tell what changed of any kind"),
        "{said}"
    );
}

#[test]
fn a_schedule_of_exports_runs_without_kubernetes_resources_and_makes_chains() {
    let (cluster, etcd) = (Kubernetes::start(), Etcd::start("3.6"));
    fill(&cluster);
    let site = Site::new(&etcd, "");
    site.schedule("managed", &site.local(), "  fullEvery: {increments: 2}\n");
    let file = site.path("manifests/managed.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace(
            "backupMode: Full",
            "backupMode: Incremental\n      source: Proxy",
        ),
    )
    .unwrap();
    let mut command = guardian_command();
    command
        .args(["run", "--config", site.config().to_str().unwrap()])
        .env("KUBECONFIG", cluster.admin());
    let running =
        crate::support::Process::start("etcdguardian", &mut command, &site.path("run.log"));
    let made = until_within(
        Duration::from_secs(240),
        "a chain, and the next one",
        || {
            let made = site.backups(&site.url());
            (made.iter().filter(|one| one["base"].is_null()).count() >= 2).then_some(made)
        },
    );
    let log = running.log_text();
    drop(running);
    let whole = |one: &Value| {
        one["kind"] == "Export" && one["level"] == "Verified" && one["schedule"] == "managed"
    };
    assert!(made.iter().all(whole), "{made:?}");
    // The newest comes first: the last one is where it began.
    let base = made.last().unwrap();
    assert!(base["base"].is_null(), "{base}");
    let parts = made.iter().filter(|one| one["base"] == base["id"]).count();
    assert_eq!(parts, 2, "fullEvery: {made:?}\n{log}");
}

#[test]
fn restores_and_schedules_of_an_api_server_are_listed() {
    let cluster = Kubernetes::start();
    cluster.apply("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {name: back, namespace: team-a}\nspec: {restoreMode: Full, backupName: daily, etcdCluster: {dataDir: /var/lib/etcd}}\n");
    cluster.apply("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {name: nightly, namespace: team-a}\nspec: {schedule: '3 3 * * *', backupTemplate: {spec: {backupMode: Full, storageLocation: {provider: S3, bucket: b}}}}\n");
    let kubeconfig = cluster.admin().display().to_string();
    let list = |what: &str, more: &[&str]| {
        guardian(&[&["list", what, "--kubeconfig", &kubeconfig][..], more].concat())
    };
    for (what, name) in [("restores", "back"), ("schedules", "nightly")] {
        let all = list(what, &["-o", "json"]).json();
        let items = all["items"].as_array().unwrap_or_else(|| panic!("{all}"));
        assert_eq!(items.len(), 1, "{all}");
        assert_eq!(
            items[0]["metadata"]["name"], name,
            "as the API server has it: {all}"
        );
        assert!(list(what, &["-n", "team-a"]).ok().contains(name));
        assert!(
            !list(what, &["-n", "guardian"]).ok().contains(name),
            "another namespace"
        );
    }
}
