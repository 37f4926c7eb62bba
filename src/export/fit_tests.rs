//! How a snapshot's Kubernetes fits another, finding by finding.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::super::survey::Definition;
use super::*;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn kind(api_version: &str, kind: &str) -> KindHeld {
    KindHeld {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        objects: 3,
    }
}

fn held(kinds: &[(&str, &str)]) -> Held {
    Held {
        kinds: kinds.iter().map(|(one, of)| kind(one, of)).collect(),
        definitions: BTreeMap::from([(
            "cacti.example.com".to_owned(),
            Definition {
                group: "example.com".to_owned(),
                kind: "Cactus".to_owned(),
                versions: set(&["v1"]),
            },
        )]),
        ..Held::default()
    }
}

fn served(kinds: &[(&str, &str, &[&str])]) -> Served {
    let versions = kinds.iter().map(|(group, kind, versions)| {
        let versions = versions.iter().map(|one| (*one).to_owned()).collect();
        (((*group).to_owned(), (*kind).to_owned()), versions)
    });
    Served {
        versions: versions.collect(),
        definitions: Some(BTreeSet::new()),
    }
}

fn codes(found: &[Finding]) -> Vec<(&'static str, bool)> {
    found.iter().map(|one| (one.code, one.blocks)).collect()
}

#[test]
fn versions_that_are_gone_are_named_with_and_without_a_server() {
    let held = held(&[
        ("v1", "ConfigMap"),
        ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"),
        ("policy/v1beta1", "PodDisruptionBudget"),
        ("policy/v1beta1", "PodSecurityPolicy"),
        ("extensions/v1beta1", "Deployment"),
        ("node.k8s.io/v1alpha1", "RuntimeClass"),
        ("example.com/v1", "Cactus"),
        ("example.com/v1alpha1", "Cactus"),
        ("example.com/v1", "Orphan"),
    ]);
    let alone = findings(&held, Some("3.6.16"), None);
    let expected = [
        ("EtcdVersion", false),
        ("VersionRemoved", false),
        ("VersionRemoved", false),
        ("VersionRemoved", false),
        ("VersionUnstable", false),
        ("VersionNotDefined", true),
        ("NoDefinition", true),
    ];
    assert_eq!(codes(&alone), expected, "{alone:#?}");
    assert!(alone[0].message.contains("3.6.16"));
    assert!(alone[1].message.contains("from 1.25 on"), "{alone:?}");
    assert!(alone[3].message.contains("from 1.16 on"), "{alone:?}");

    let served = served(&[
        ("", "ConfigMap", &["v1"]),
        ("policy", "PodDisruptionBudget", &["v1"]),
        ("apps", "Deployment", &["v1"]),
        ("node.k8s.io", "RuntimeClass", &["v1"]),
    ]);
    let target = Target::default();
    let here = Here {
        target: &target,
        served: &served,
    };
    let found = findings(&held, None, Some(here));
    let expected = [
        ("EtcdVersion", false),
        ("VersionNotServed", false),
        ("KindNotServed", true),
        ("VersionNotServed", false),
        ("VersionNotServed", false),
        ("VersionNotDefined", true),
        ("NoDefinition", true),
        ("DefinitionMissing", false),
    ];
    assert_eq!(codes(&found), expected, "{found:#?}");
    assert!(found[1].message.contains("serves as policy/v1 only"));
    assert!(found[2].message.contains("from 1.25 on"), "{found:?}");
    assert!(found[3].message.contains("serves as apps/v1 only"));
    assert!(found[7].message.contains("cacti.example.com"));
}

#[test]
fn releases_ranges_nodes_and_keys_are_compared() {
    let mut held = held(&[("v1", "Node")]);
    held.versions = set(&["v1.33.2"]);
    held.nodes = vec!["a".to_owned(), "b".to_owned()];
    held.service_ranges = set(&["10.96.0.0/12"]);
    held.pod_ranges = set(&["10.77.0.0/24"]);
    let key = ("aescbc".to_owned(), "key1".to_owned());
    held.encrypted.insert(key, (4, set(&["secrets"])));
    let alone = findings(&held, None, None);
    let expected = [
        "EtcdVersion",
        "KubernetesVersion",
        "EncryptedAtRest",
        "ServiceRange",
        "PodRange",
        "NodesLeftBehind",
    ];
    let names: Vec<&str> = alone.iter().map(|one| one.code).collect();
    assert_eq!(names, expected);
    assert!(alone[2].message.contains("4 values (secrets)"), "{alone:?}");

    let served = Served {
        definitions: None,
        ..served(&[("", "Node", &["v1"])])
    };
    let with = |version: &str, services: &[&str], pods: &[&str], nodes: &[&str]| {
        let target = Target {
            version: version.to_owned(),
            nodes: set(nodes),
            pod_ranges: set(pods),
            service_address: None,
            service_ranges: set(services),
        };
        let here = Here {
            target: &target,
            served: &served,
        };
        let found = findings(&held, None, Some(here));
        let found = found.iter().map(|one| one.code);
        found.collect::<Vec<&str>>()
    };
    let same = (
        &["10.96.0.0/12"][..],
        &["10.77.0.0/24"][..],
        &["a", "b"][..],
    );
    let fits = ["EtcdVersion", "EncryptedAtRest"];
    assert_eq!(with("v1.33.9", same.0, same.1, same.2), fits);
    for (version, code) in [
        ("v1.32.1", "KubernetesOlder"),
        ("v1.34.0", "VersionDiffers"),
        ("v1.36.0", "VersionDiffers"),
        ("v1.37.0", "KubeletsTooOld"),
    ] {
        let found = with(version, same.0, same.1, same.2);
        assert_eq!(found, ["EtcdVersion", code, "EncryptedAtRest"], "{version}");
    }
    let found = with("v1.33.0", &["10.77.0.0/16"], &["10.244.0.0/24"], &["b"]);
    let expected = [
        "EtcdVersion",
        "EncryptedAtRest",
        "ServiceRangeDiffers",
        "PodRangeDiffers",
        "RangesClash",
        "NodesLeftBehind",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_no_kubernetes_says_only_of_which_etcd_it_is() {
    let found = findings(&Held::default(), Some("3.5.35"), None);
    assert_eq!(codes(&found), [("EtcdVersion", false)]);
}
