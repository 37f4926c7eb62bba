//! What a person should know before a snapshot is restored: how the Kubernetes in it fits the one that will run on it, as far as that is
//! known. Pure.

use std::collections::BTreeSet;

use super::findings::{Finding, minor, some};
use super::kinds::{group_now, group_of};
use super::ranges::{self, Ranges};
use super::removed::removed_in;
use super::survey::{Held, KindHeld};
use super::target::{Served, Target};

/// Minor versions by which kubelets may be older than their API server: Kubernetes' version skew policy.
const SKEW: u32 = 3;

/// What to do about objects in a version that is served no more.
const REWRITE: &str = "have the old API server write them anew (kubectl get, then kubectl replace) and take another backup, or put them back with 'etcdguardian object restore'";

/// The cluster whose API server will run on the restored etcd, or one like it.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// The cluster.
    pub target: &'a Target,
    /// What its API server serves.
    pub served: &'a Served,
}

/// What to know; `etcd` is the version of the etcd that it was taken from.
pub fn findings(held: &Held, etcd: Option<&str>, here: Option<Here<'_>>) -> Vec<Finding> {
    let mut found = Found::default();
    found.note(
        "EtcdVersion",
        match etcd {
            Some(version) => format!(
                "it is of etcd {version}: start an etcd of that minor version on it, or of the next one, never an older one"
            ),
            None => "the file does not say of which etcd it is (before 3.6): start one of the minor version that it was taken from, or of the next one".to_owned(),
        },
    );
    if held.kinds.is_empty() && held.encrypted.is_empty() {
        return found.0;
    }
    found.versions(held, here);
    for kind in &held.kinds {
        if kind.is_custom() {
            found.custom(held, kind);
        } else {
            found.built_in(kind, here);
        }
    }
    found.definitions(held, here);
    for ((provider, key), (count, resources)) in &held.encrypted {
        found.note(
            "EncryptedAtRest",
            format!(
                "{count} values ({}) are encrypted at rest by the API server (provider {provider}, key '{key}'): the EncryptionConfiguration of the one that runs on the restored etcd must have that key",
                some(resources)
            ),
        );
    }
    found.ranges(held, here);
    found.nodes(held, here);
    found.0
}

#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn note(&mut self, code: &'static str, message: String) {
        self.push(code, false, message);
    }

    fn push(&mut self, code: &'static str, blocks: bool, message: String) {
        self.0.push(Finding {
            code,
            blocks,
            message,
        });
    }

    fn versions(&mut self, held: &Held, here: Option<Here<'_>>) {
        if held.versions.is_empty() {
            return;
        }
        let were = some(&held.versions);
        let Some(here) = here else {
            return self.note(
                "KubernetesVersion",
                format!(
                    "its nodes were of Kubernetes {were}: take an API server of that version; one more than {SKEW} minor versions newer serves such kubelets no more, and an older one may not read what is stored"
                ),
            );
        };
        let is = &here.target.version;
        let Some((_, to)) = minor(is) else { return };
        let minors = || held.versions.iter().filter_map(|one| Some(minor(one)?.1));
        if minors().max().is_some_and(|newest| newest > to) {
            self.push(
                "KubernetesOlder",
                true,
                format!(
                    "its nodes were of Kubernetes {were} and this server is {is}: an older one may not read what is stored; take one of the same version"
                ),
            );
        } else if minors().min().is_some_and(|oldest| oldest + SKEW < to) {
            self.note(
                "KubeletsTooOld",
                format!(
                    "its nodes were of Kubernetes {were} and this server is {is}, which serves kubelets of {SKEW} minor versions back: renew the nodes before they join"
                ),
            );
        } else if minors().any(|from| from != to) {
            self.note(
                "VersionDiffers",
                format!("its nodes were of Kubernetes {were} and this server is {is}"),
            );
        }
    }

    /// A kind that Kubernetes itself serves, or has served.
    fn built_in(&mut self, kind: &KindHeld, here: Option<Here<'_>>) {
        let (version, name, objects) = (&kind.api_version, &kind.kind, kind.objects);
        // API servers of every release store definitions as v1beta1, whatever they serve.
        if group_of(version) == "apiextensions.k8s.io" {
            return;
        }
        let gone = removed_in(version, name);
        let since = gone.map_or(String::new(), |minor| {
            format!("; Kubernetes serves that version no more from 1.{minor} on")
        });
        let Some(here) = here else {
            match gone {
                Some(minor) => self.note(
                    "VersionRemoved",
                    format!(
                        "{objects} objects are stored as {version} {name}, which Kubernetes serves no more from 1.{minor} on: for a newer one, {REWRITE}"
                    ),
                ),
                None if version.contains("alpha") || version.contains("beta") => self.note(
                    "VersionUnstable",
                    format!(
                        "{objects} objects are stored as {version} {name}: a Kubernetes that does not serve that version cannot read them"
                    ),
                ),
                None => {}
            }
            return;
        };
        let group = group_of(version);
        let key = |group: &str| (group.to_owned(), name.clone());
        let served = &here.served.versions;
        let now = group_now(group, name);
        let Some(versions) = served.get(&key(group)).or_else(|| served.get(&key(now))) else {
            return self.push(
                "KindNotServed",
                true,
                format!(
                    "{objects} objects are stored as {version} {name}, and this server serves that kind in no version{since}: they stay in etcd, and nobody sees them"
                ),
            );
        };
        let stored = version
            .rsplit_once('/')
            .map_or(version.as_str(), |(_, v)| v);
        let same_group = served.contains_key(&key(group));
        if !(same_group && versions.iter().any(|one| one == stored)) {
            let place = if now.is_empty() {
                String::new()
            } else {
                format!("{now}/")
            };
            self.note(
                "VersionNotServed",
                format!(
                    "{objects} objects are stored as {version} {name}, which this server serves as {place}{} only{since}: it may not read the old form; {REWRITE}",
                    versions.join(", ")
                ),
            );
        }
    }

    /// A kind of a definition, which must come with it.
    fn custom(&mut self, held: &Held, kind: &KindHeld) {
        let (version, name, objects) = (&kind.api_version, &kind.kind, kind.objects);
        let group = group_of(version);
        let mut definitions = held.definitions.values();
        let defined = definitions.find(|one| one.group == group && one.kind == *name);
        let Some(defined) = defined else {
            return self.push(
                "NoDefinition",
                true,
                format!(
                    "{objects} objects are stored as {version} {name}, and the definition of that kind is not in the backup: apply it, or nobody sees them"
                ),
            );
        };
        let stored = version.rsplit_once('/').map_or("", |(_, version)| version);
        if !defined.versions.contains(stored) {
            self.push(
                "VersionNotDefined",
                true,
                format!(
                    "{objects} objects are stored as {version} {name}, and their definition has only {}: the API server cannot read them until it has that version again",
                    some(&defined.versions)
                ),
            );
        }
    }

    /// Definitions that the server has not: they come along, what works with them does not.
    fn definitions(&mut self, held: &Held, here: Option<Here<'_>>) {
        let Some(there) = here.and_then(|here| here.served.definitions.as_ref()) else {
            return;
        };
        let missing = held
            .definitions
            .keys()
            .filter(|name| !there.contains(*name));
        let missing: BTreeSet<String> = missing.cloned().collect();
        if !missing.is_empty() {
            self.note("DefinitionMissing", coming(&missing, "backup"));
        }
    }

    fn ranges(&mut self, held: &Held, here: Option<Here<'_>>) {
        let none = BTreeSet::new();
        let (services, pods) = match here {
            Some(here) => (&here.target.service_ranges, &here.target.pod_ranges),
            None => (&none, &none),
        };
        if !held.service_ranges.is_empty() {
            let were = some(&held.service_ranges);
            let need = "the API server needs the same --service-cluster-ip-range";
            if services.is_empty() {
                self.note(
                    "ServiceRange",
                    format!("services have addresses of {were}: {need}"),
                );
            } else if services.is_disjoint(&held.service_ranges) {
                let is = some(services);
                self.note(
                    "ServiceRangeDiffers",
                    format!(
                        "services have addresses of {were}, and this cluster's of {is}: {need} as the backup"
                    ),
                );
            }
        }
        if !held.pod_ranges.is_empty() {
            let were = some(&held.pod_ranges);
            let need =
                "the controller manager's --cluster-cidr and the network plugin must have these";
            if pods.is_empty() {
                self.note("PodRange", format!("pods had addresses of {were}: {need}"));
            } else if pods.is_disjoint(&held.pod_ranges) {
                let is = some(pods);
                self.note(
                    "PodRangeDiffers",
                    format!("pods had addresses of {were}, and this cluster's of {is}: {need}"),
                );
            }
        }
        let from = Ranges {
            services: &held.service_ranges,
            pods: &held.pod_ranges,
        };
        self.0
            .extend(ranges::clash(from, Ranges { services, pods }));
    }

    fn nodes(&mut self, held: &Held, here: Option<Here<'_>>) {
        let there = here.map(|here| &here.target.nodes);
        let gone = held.nodes.iter();
        let gone = gone.filter(|name| !there.is_some_and(|there| there.contains(*name)));
        let gone: Vec<String> = gone.cloned().collect();
        if gone.is_empty() {
            return;
        }
        let which = match there {
            Some(_) => "nodes are in it that this cluster has not",
            None => "nodes are in it",
        };
        self.note(
            "NodesLeftBehind",
            format!(
                "{} {which} ({}): delete the objects of those that are gone",
                gone.len(),
                some(&gone)
            ),
        );
    }
}

/// What is said of definitions that come along.
pub(super) fn coming(names: &BTreeSet<String>, source: &str) -> String {
    format!(
        "{} definitions of the {source} are not on this server ({}): they come with it, and the controllers and webhooks that work with them do not; have these here too",
        names.len(),
        some(names)
    )
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
