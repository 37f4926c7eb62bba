//! The stored form of every built-in kind against the JSON that Kubernetes' own machinery gives for it, and what is not applied.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/support/dense.rs"]
mod dense;

use serde_json::{Map, Value, json};

use self::dense::dense;

use super::clean::clean;
use super::decode::decode;
use super::kinds::{CustomNames, WantedKind};
use super::plan::{Change, compare, holds, rank};
use super::stored::{Identity, Stored};

/// Objects of every built-in kind, every field set: tools/kubernetes-schema/golden.py.
fn golden() -> Vec<(String, Vec<u8>, Value)> {
    let packed = include_bytes!("../../tests/golden/kubernetes.jsonl.zst");
    let text = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    let read = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let stored: k8s_openapi::ByteString =
            serde_json::from_value(line["stored"].take()).unwrap();
        let name = line["name"].as_str().unwrap().to_owned();
        (name, stored.0, line["json"].take())
    };
    text.lines().map(read).collect()
}

#[test]
fn every_built_in_kind_decodes_to_what_kubernetes_says_it_is() {
    let golden = golden();
    assert!(golden.len() > 150, "{}", golden.len());
    for (name, stored, expected) in golden {
        let decoded = decode(&name, &Stored::of(&stored)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded.unknown, Vec::<String>::new(), "{name}");
        let decoded = dense(Value::Object(decoded.object));
        assert_eq!(decoded, dense(expected), "{name}");
    }
}

#[test]
fn a_cut_object_is_an_error_and_never_a_panic() {
    for (name, stored, _) in golden() {
        for length in (4..stored.len()).step_by(7) {
            let _ = decode(&name, &Stored::of(&stored[..length]));
        }
    }
}

#[test]
fn a_field_of_a_newer_kubernetes_is_named() {
    let (_, mut stored, _) = golden()
        .into_iter()
        .find(|(name, ..)| name == "core.v1.ConfigMap")
        .unwrap();
    // The envelope ends with contentEncoding and contentType; a second raw part replaces the first: metadata{name: "x"}, field 99.
    stored.extend([
        0x12, 0x09, 0x0a, 0x03, 0x0a, 0x01, b'x', 0x9a, 0x06, 0x01, b'?',
    ]);
    let decoded = decode("k", &Stored::of(&stored)).unwrap();
    assert_eq!(decoded.unknown, ["99"]);
    assert_eq!(decoded.object["metadata"], json!({"name": "x"}));
}

#[test]
fn what_is_encrypted_says_with_which_key() {
    let of = |value: &'static [u8]| Stored::of(value);
    let error = decode(
        "/registry/secrets/shop/db",
        &of(b"k8s:enc:aescbc:v1:key1:\x00\x01"),
    );
    let words = error.unwrap_err().to_string();
    assert!(words.contains("provider aescbc, key 'key1'"), "{words}");
    let stored = of(b"k8s:enc:kms:v2:cloud:\xff");
    assert!(
        matches!(&stored, Stored::Encrypted { provider, key } if provider == "kms v2" && key == "cloud")
    );
    let identity = stored.identity("/registry/secrets/shop/db", "/registry/");
    assert_eq!(identity.unwrap().to_string(), "secrets shop/db");
    let custom = stored.identity("/registry/example.com/widgets/shop/w", "/registry/");
    assert_eq!(custom.unwrap().api_version, "example.com");
    assert!(matches!(of(b"\xd9\xd9\xf7\xa1"), Stored::Cbor(_)));
    assert!(matches!(of(b"plain"), Stored::Other(_)));
    assert!(matches!(of(b""), Stored::Other(_)));
}

fn identity(api_version: &str, kind: &str) -> Identity {
    Identity {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: String::new(),
        name: "n".to_owned(),
    }
}

#[test]
fn kinds_are_found_by_all_their_names() {
    let matches = |word: &str, api_version: &str, kind: &str| {
        WantedKind::new(word).matches(&identity(api_version, kind), &[])
    };
    for word in ["ConfigMap", "configmap", "configmaps", "cm"] {
        assert!(matches(word, "v1", "ConfigMap"), "{word}");
        assert!(!matches(word, "apps/v1", "Deployment"), "{word}");
    }
    for (word, api_version, kind) in [
        ("deployments.apps", "apps/v1", "Deployment"),
        ("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"),
        ("ingresses", "networking.k8s.io/v1", "Ingress"),
        ("storageclasses", "storage.k8s.io/v1", "StorageClass"),
        ("endpoints", "v1", "Endpoints"),
        ("secret", "", "secrets"),
    ] {
        assert!(matches(word, api_version, kind), "{word}");
    }
    assert!(!matches("deployments.extensions", "apps/v1", "Deployment"));
    let definition = json!({"spec": {"group": "example.com", "names":
        {"kind": "Cactus", "plural": "cacti", "shortNames": ["ct"]}}});
    let custom = CustomNames::of(definition.to_string().as_bytes()).unwrap();
    let cactus = identity("example.com/v1", "Cactus");
    for word in ["cacti", "ct", "cacti.example.com", "cactus"] {
        assert!(
            WantedKind::new(word).matches(&cactus, std::slice::from_ref(&custom)),
            "{word}"
        );
    }
}

fn cleaned(mut object: Value) -> (Value, Vec<String>) {
    let fields: &mut Map<String, Value> = object.as_object_mut().unwrap();
    let notes = clean(fields);
    (object, notes)
}

#[test]
fn what_a_server_gave_is_taken_away_and_what_is_missed_is_said() {
    let (service, notes) = cleaned(json!({
        "apiVersion": "v1", "kind": "Service", "status": {"loadBalancer": {}},
        "metadata": {"name": "web", "uid": "u", "resourceVersion": "1", "managedFields": [], "labels": {"a": "b"},
            "creationTimestamp": "t", "ownerReferences": [{"kind": "Shop", "name": "s", "uid": "gone"}]},
        "spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [{"port": 80, "nodePort": 30080}]},
    }));
    assert_eq!(
        service,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"ports": [{"port": 80}]}})
    );
    let notes = notes.join("; ");
    for word in ["Shop s", "10.0.0.7", "30080"] {
        assert!(notes.contains(word), "{notes}");
    }
    let (headless, _) =
        cleaned(json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None"}}));
    assert_eq!(headless["spec"]["clusterIP"], "None");
    let (job, _) = cleaned(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "labels": {"controller-uid": "u", "mine": "x"}},
        "spec": {"selector": {}, "template": {"metadata": {"labels": {"batch.kubernetes.io/controller-uid": "u"}}}}}));
    assert_eq!(job["metadata"]["labels"], json!({"mine": "x"}));
    assert_eq!(job["spec"], json!({"template": {"metadata": {}}}));
    let (token, _) = cleaned(
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"annotations": {"kubernetes.io/service-account.uid": "u", "kubernetes.io/service-account.name": "d"}},
        "data": {"token": "eA=="}}),
    );
    assert_eq!(token.get("data"), None);
    assert_eq!(
        token["metadata"]["annotations"],
        json!({"kubernetes.io/service-account.name": "d"})
    );
}

#[test]
fn a_claim_that_was_bound_is_held_by_one_that_is_not_bound_yet() {
    let (claim, _) = cleaned(
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"volumeName": "disk-1"},
        "metadata": {"name": "bound", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}),
    );
    let live = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"volumeName": "disk-1"},
        "metadata": {"name": "bound", "uid": "new"}, "status": {"phase": "Pending"}});
    assert!(holds(&live, &claim), "{claim}");
}

#[test]
fn a_plan_names_the_fields_that_change_and_nothing_of_the_server() {
    let live = json!({"metadata": {"name": "c", "resourceVersion": "5", "generation": 1}, "data": {"a": "1", "b": "2"}});
    let same = json!({"metadata": {"name": "c", "resourceVersion": "9", "managedFields": []}, "data": {"a": "1", "b": "2"}});
    assert_eq!(compare(None, &live), Change::Create);
    assert_eq!(compare(Some(&live), &same), Change::Unchanged);
    let other =
        json!({"metadata": {"name": "c", "labels": {"x": "y"}}, "data": {"a": "3", "b": "2"}});
    assert_eq!(
        compare(Some(&live), &other),
        Change::Update {
            fields: vec!["data.a".to_owned(), "metadata.labels".to_owned()]
        }
    );
}

#[test]
fn what_others_need_comes_first() {
    let order = [
        identity("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        identity("v1", "Namespace"),
        identity("v1", "ServiceAccount"),
        identity("rbac.authorization.k8s.io/v1", "RoleBinding"),
        identity("storage.k8s.io/v1", "StorageClass"),
        identity("v1", "ConfigMap"),
        identity("apps/v1", "Deployment"),
        identity("example.com/v1", "Cactus"),
        identity(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
        ),
    ];
    let ranks: Vec<u8> = order.iter().map(rank).collect();
    assert!(ranks.is_sorted_by(|one, other| one < other), "{ranks:?}");
}
