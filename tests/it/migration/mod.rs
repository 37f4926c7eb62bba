//! A whole cluster moves: out by `export`, into an empty one by `import`, killed on the way; compared object by object with nothing but
//! the differences that docs/how-to/migrate.md lists.

// Objects are tables there: a line each.
#[rustfmt::skip]
mod fleet;
mod fit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kube::Client;
use serde_json::{Value, json};

use self::fleet::{ask, client, fill, list, path_of, soon};
use crate::support::{Kubernetes, Ran, guardian, guardian_process};

/// What tells one object from another: its resource, namespace and name.
type Place = (String, String, String);

fn words<'a>(verb: &'a str, store: &'a str, kubeconfig: &'a str) -> Vec<&'a str> {
    let flag = if verb == "export" { "--to" } else { "--from" };
    vec![verb, flag, store, "--kubeconfig", kubeconfig, "-o", "json"]
}

fn run(verb: &str, cluster: &Kubernetes, store: &Path, more: &[&str]) -> Ran {
    let (url, kubeconfig) = (
        format!("file://{}", store.display()),
        cluster.admin().display().to_string(),
    );
    guardian(&[&words(verb, &url, &kubeconfig), more].concat())
}

/// Every object of the kinds, read by the test's own hand.
async fn everything(client: &Client, kinds: &Value) -> BTreeMap<Place, Value> {
    let mut all = BTreeMap::new();
    for (resource, count) in kinds.as_object().unwrap() {
        let plural = resource.split('.').next().unwrap();
        let version = count["apiVersion"].as_str().unwrap();
        for mut object in list(client, version, plural).await {
            let text = |field: &str| {
                object["metadata"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let place = (resource.clone(), text("namespace"), text("name"));
            object["kind"] = count["kind"].clone();
            all.insert(place, object);
        }
    }
    all
}

fn remove(object: &mut Value, pointer: &str, fields: &[&str]) {
    if let Some(Value::Object(inner)) = object.pointer_mut(pointer) {
        inner.retain(|name, _| !fields.contains(&name.as_str()));
        // An empty map says what none says.
        if inner.is_empty() && pointer.starts_with("/metadata/") {
            let last = pointer.trim_start_matches("/metadata/").to_owned();
            remove(object, "/metadata", &[&last]);
        }
    }
}

/// The object without what docs/how-to/migrate.md says is different afterwards.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    remove(&mut object, "", &["status"]);
    remove(
        &mut object,
        "/metadata",
        &[
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
        ],
    );
    // An owner that is not exported is dropped; the others have new UIDs.
    if let Some(Value::Array(owners)) = object.pointer_mut("/metadata/ownerReferences") {
        owners.retain(|owner| owner["kind"] != "Lease");
        for owner in owners.iter_mut() {
            owner.as_object_mut().unwrap().remove("uid");
        }
        if owners.is_empty() {
            remove(&mut object, "/metadata", &["ownerReferences"]);
        }
    }
    match object["kind"].as_str().unwrap() {
        "Service" => {
            if object["spec"]["clusterIP"] != "None" {
                remove(&mut object, "/spec", &["clusterIP", "clusterIPs"]);
            }
            remove(&mut object, "/spec", &["healthCheckNodePort"]);
            let ports = object
                .pointer_mut("/spec/ports")
                .and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                port.as_object_mut().unwrap().remove("nodePort");
            }
        }
        "PersistentVolume" => {
            remove(&mut object, "/spec/claimRef", &["uid", "resourceVersion"]);
            remove(
                &mut object,
                "/metadata/annotations",
                &["pv.kubernetes.io/bound-by-controller"],
            );
        }
        "PersistentVolumeClaim" => {
            let bound = [
                "pv.kubernetes.io/bind-completed",
                "pv.kubernetes.io/bound-by-controller",
            ];
            remove(&mut object, "/metadata/annotations", &bound);
            if object["spec"]["volumeName"] == "gone" {
                remove(&mut object, "/spec", &["volumeName"]);
            }
        }
        "Secret" if object["type"] == "kubernetes.io/service-account-token" => {
            remove(&mut object, "", &["data"]);
            remove(
                &mut object,
                "/metadata/annotations",
                &["kubernetes.io/service-account.uid"],
            );
            remove(
                &mut object,
                "/metadata/labels",
                &["kubernetes.io/legacy-token-last-used"],
            );
        }
        "Job" => {
            let labels = [
                "controller-uid",
                "batch.kubernetes.io/controller-uid",
                "job-name",
                "batch.kubernetes.io/job-name",
            ];
            remove(&mut object, "/spec", &["selector"]);
            remove(&mut object, "/metadata/labels", &labels);
            remove(&mut object, "/spec/template/metadata/labels", &labels);
        }
        _ => {}
    }
    object
}

/// Where objects of a report are, by what is said of them.
fn places(items: &Value, kinds: &Value) -> BTreeMap<Place, Value> {
    let resource = |item: &Value| {
        let of = |(resource, count): (&String, &Value)| {
            let group = |version: &Value| {
                version
                    .as_str()
                    .unwrap()
                    .split_once('/')
                    .map_or(String::new(), |(group, _)| group.to_owned())
            };
            (count["kind"] == item["kind"]
                && group(&count["apiVersion"]) == group(&item["apiVersion"]))
            .then(|| resource.clone())
        };
        kinds.as_object().unwrap().iter().find_map(of).unwrap()
    };
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let items = items.as_array().unwrap().iter();
    items
        .map(|item| {
            (
                (resource(item), text(item, "namespace"), text(item, "name")),
                item.clone(),
            )
        })
        .collect()
}

async fn count(client: &Client, namespace: &str) -> u64 {
    let path = path_of("v1", "configmaps", namespace);
    let page = ask(client, "GET", &format!("{path}?limit=1"), &Value::Null).await;
    let page = page.unwrap_or_default();
    let more = page["metadata"]["remainingItemCount"]
        .as_u64()
        .unwrap_or_default();
    more + page["items"].as_array().map_or(0, Vec::len) as u64
}

/// What is exported of a full cluster: the summary, the objects as the test read them, the import's own list of what stays out.
struct Moved {
    kinds: Value,
    before: BTreeMap<Place, Value>,
}

async fn export(store: &Path) -> Moved {
    let old = Kubernetes::with_controllers();
    let client = client(&old).await;
    fill(&client).await;
    let exported = run("export", &old, store, &["whole"]).json();
    assert_eq!(exported["backup"]["level"], "Verified", "{exported}");
    let kinds = exported["export"]["kinds"].clone();
    let some: Vec<&Value> = kinds
        .as_object()
        .unwrap()
        .values()
        .filter(|kind| kind["objects"] != 0)
        .collect();
    assert!(some.len() >= 30, "{} kinds", some.len());
    let skipped = exported["export"]["skipped"].to_string();
    assert!(!skipped.contains("not allowed"), "{skipped}");
    let before = everything(&client, &kinds).await;
    assert!(before.len() >= 5_000, "{}", before.len());
    for (resource, version) in [
        ("cacti", "v1"),
        ("ferns", "v1beta1"),
        ("mosses", "v1alpha1"),
        ("palms", "v2beta1"),
    ] {
        let kind = &kinds[format!("{resource}.example.com")];
        assert_eq!(
            kind["apiVersion"],
            format!("example.com/{version}"),
            "as it is stored: {kind}"
        );
    }
    Moved { kinds, before }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_thirty_kinds_moves_with_the_documented_differences_alone() {
    let store = tempfile::tempdir().unwrap();
    let moved = export(store.path()).await;
    let new = Kubernetes::with_controllers();
    let client = client(&new).await;

    // Killed in the middle.
    let (url, kubeconfig) = (
        format!("file://{}", store.path().display()),
        new.admin().display().to_string(),
    );
    let mut importing = words("import", &url, &kubeconfig);
    importing.push("--yes");
    let mut process = guardian_process(&importing, &store.path().join("killed.log"));
    soon("the first ConfigMaps", async || {
        (count(&client, "shop").await > 100).then_some(())
    })
    .await;
    process.kill();

    let report = run("import", &new, store.path(), &["--yes"]).json();
    let items = places(&report["items"], &moved.kinds);
    let left = places(&report["leftOut"], &moved.kinds);
    let resumed = items
        .values()
        .filter(|item| item["action"] == "unchanged")
        .count();
    let left_to_do = items.len() - resumed;
    assert!(
        resumed > 100 && left_to_do > 100,
        "killed in the middle: {resumed} were there already, {left_to_do} were not"
    );
    for (place, item) in &items {
        assert_eq!(item.get("error"), None, "{place:?}: {item}");
        assert!(
            item["applied"] == true || item["action"] == "unchanged",
            "{place:?}: {item}"
        );
    }

    let after = everything(&client, &moved.kinds).await;
    let mut differ = Vec::new();
    for (place, old) in &moved.before {
        if left.contains_key(place) {
            continue;
        }
        assert!(items.contains_key(place), "{place:?} is not in the report");
        let (old, is) = (essence(old), after.get(place).map(essence));
        if is.as_ref() != Some(&old) {
            differ.push(format!(
                "{place:?}\n  was {old}\n  is  {}",
                is.unwrap_or_default()
            ));
        }
    }
    assert!(
        differ.is_empty(),
        "{} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
    stays_out(&left, &after);
    owners_are_linked(&after);
    findings(&report);

    // Once more: nothing is left to do, though every webhook is down by now and would refuse whatever is tried.
    let again = run("import", &new, store.path(), &["--yes"]).json();
    for (place, item) in places(&again["items"], &moved.kinds) {
        assert_eq!(item["action"], "unchanged", "{place:?}: {item}");
    }
    policies(&new, &client, store.path()).await;
}

fn findings(report: &Value) {
    let found: BTreeSet<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    for code in ["ForeignFinalizers", "VolumesAreEmpty", "WebhooksWait"] {
        assert!(found.contains(code), "{found:?}");
    }
}

/// What is left out has its reason, and is not there.
fn stays_out(left: &BTreeMap<Place, Value>, after: &BTreeMap<Place, Value>) {
    let reason = |resource: &str, name: &str| {
        let place = (resource.to_owned(), "shop".to_owned(), name.to_owned());
        assert!(!after.contains_key(&place), "{place:?}");
        left.get(&place).unwrap_or_else(|| panic!("{place:?}"))["reason"].clone()
    };
    assert_eq!(reason("secrets", "leaving"), "it was being deleted");
    assert_eq!(reason("pods", "ended"), "it had ended, and would run again");
    assert_eq!(
        reason("jobs.batch", "done"),
        "it had ended, and would run again"
    );
    let made_again = left
        .values()
        .filter(|one| one["reason"] == "its owner makes it again");
    assert!(
        made_again.count() >= 2,
        "pods and replica sets of deployments"
    );
    let allowed = [
        "it was being deleted",
        "it had ended, and would run again",
        "its owner makes it again",
        "every cluster makes its own",
    ];
    for (place, one) in left {
        assert!(
            allowed.contains(&one["reason"].as_str().unwrap()),
            "{place:?}: {one}"
        );
    }
}

fn owners_are_linked(after: &BTreeMap<Place, Value>) {
    let get = |resource: &str, namespace: &str, name: &str| {
        &after[&(resource.to_owned(), namespace.to_owned(), name.to_owned())]
    };
    for (name, resource, namespace, owner) in [
        ("of-cactus", "cacti.example.com", "shop", "v1-0"),
        ("made-by-cactus", "cacti.example.com", "shop", "v1-1"),
        ("of-moss", "mosses.example.com", "", "peat"),
    ] {
        let linked = &get("secrets", "shop", name)["metadata"]["ownerReferences"][0]["uid"];
        assert_eq!(
            *linked,
            get(resource, namespace, owner)["metadata"]["uid"],
            "{name}"
        );
    }
    let orphan = &get("secrets", "shop", "of-lease")["metadata"];
    assert_eq!(orphan.get("ownerReferences"), None, "{orphan}");
}

/// What differs stays, is brought back, or stops it all.
async fn policies(new: &Kubernetes, client: &Client, store: &Path) {
    for plural in [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
    ] {
        let path = path_of(
            "admissionregistration.k8s.io/v1",
            &format!("{plural}/guard"),
            "",
        );
        let mut hook = ask(client, "GET", &path, &Value::Null).await.unwrap();
        hook["webhooks"][0]["failurePolicy"] = json!("Ignore");
        ask(client, "PUT", &path, &hook).await.unwrap();
    }
    let changed = [
        (
            path_of("v1", "configmaps/many-0", "shop"),
            json!({"data": {"n": "changed"}}),
            "/data/n",
            json!("bg=="),
        ),
        (
            path_of("apps/v1", "deployments/web", "shop"),
            json!({"spec": {"minReadySeconds": 9}}),
            "/spec/minReadySeconds",
            json!(9),
        ),
        (
            path_of("example.com/v1", "cacti/v1-0", "shop"),
            json!({"spec": {"height": 13}}),
            "/spec/height",
            json!(12),
        ),
    ];
    for (path, patch, ..) in &changed {
        // The webhooks may be silent a moment after they are changed.
        soon("a change", async || {
            ask(client, "PATCH", path, patch).await.ok()
        })
        .await;
    }
    let value = async |path: &str, pointer: &str| {
        let object = ask(client, "GET", path, &Value::Null).await.unwrap();
        object.pointer(pointer).cloned().unwrap_or_default()
    };
    run("import", new, store, &["--yes", "--existing", "fail"]).code(5);
    let skipped = run("import", new, store, &["--yes", "--existing", "skip"]).json();
    let differ = skipped["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["action"] == "update");
    // Of the webhooks, a ConfigMap and a cactus. What was set beside the export's fields (minReadySeconds) is not the import's to take away.
    assert_eq!(differ.count(), 4);
    for (path, patch, pointer, _) in &changed {
        assert_eq!(
            value(path, pointer).await,
            *patch.pointer(pointer).unwrap(),
            "{path}"
        );
    }
    run("import", new, store, &["--yes", "--existing", "update"]).ok();
    for (path, _, pointer, is) in &changed {
        assert_eq!(value(path, pointer).await, *is, "{path}");
    }
}
