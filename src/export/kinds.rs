//! Whether a word that a person types, as `deploy`, `configmaps` or `widgets.example.com`, means a kind.

use serde::Deserialize;

use super::stored::Identity;

/// What kubectl takes for the built-in kinds besides their names.
const SHORT: [(&str, &str); 28] = [
    ("cj", "CronJob"),
    ("cm", "ConfigMap"),
    ("crd", "CustomResourceDefinition"),
    ("crds", "CustomResourceDefinition"),
    ("csr", "CertificateSigningRequest"),
    ("deploy", "Deployment"),
    ("ds", "DaemonSet"),
    ("ep", "Endpoints"),
    ("ev", "Event"),
    ("hpa", "HorizontalPodAutoscaler"),
    ("ing", "Ingress"),
    ("limits", "LimitRange"),
    ("netpol", "NetworkPolicy"),
    ("no", "Node"),
    ("ns", "Namespace"),
    ("pc", "PriorityClass"),
    ("pdb", "PodDisruptionBudget"),
    ("po", "Pod"),
    ("pv", "PersistentVolume"),
    ("pvc", "PersistentVolumeClaim"),
    ("quota", "ResourceQuota"),
    ("rc", "ReplicationController"),
    ("rs", "ReplicaSet"),
    ("sa", "ServiceAccount"),
    ("sc", "StorageClass"),
    ("sts", "StatefulSet"),
    ("svc", "Service"),
    ("vap", "ValidatingAdmissionPolicy"),
];

/// Where definitions of custom resources lie behind the prefix.
pub const DEFINITIONS: &str = "/apiextensions.k8s.io/customresourcedefinitions/";

/// The names of a custom resource, out of its definition.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomNames {
    kind: String,
    plural: String,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(skip)]
    group: String,
}

impl CustomNames {
    /// Reads a definition in JSON; nothing when it is none.
    pub fn of(definition: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Definition {
            spec: Spec,
        }
        #[derive(Deserialize)]
        struct Spec {
            group: String,
            names: CustomNames,
        }
        let definition: Definition = serde_json::from_slice(definition).ok()?;
        Some(Self {
            group: definition.spec.group,
            ..definition.spec.names
        })
    }
}

/// A kind that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedKind {
    word: String,
    group: Option<String>,
}

impl WantedKind {
    /// `kind`, `kind.group` or `group/version/kind`-free words; case does not matter.
    pub fn new(word: &str) -> Self {
        let word = word.to_lowercase();
        match word.split_once('.') {
            Some((kind, group)) => Self {
                word: kind.to_owned(),
                group: Some(group.to_owned()),
            },
            None => Self { word, group: None },
        }
    }

    /// Whether an object is of the kind; `custom` knows more names.
    pub fn matches(&self, identity: &Identity, custom: &[CustomNames]) -> bool {
        let group = group_of(&identity.api_version);
        if self.group.as_deref().is_some_and(|wanted| wanted != group) {
            return false;
        }
        let kind = identity.kind.to_lowercase();
        if self.word == kind || self.word == plural(&kind) {
            return true;
        }
        let short = SHORT.iter().find(|(short, _)| *short == self.word);
        // The kind of an encrypted object is known only as the resource of its key.
        let is = |name: &str| kind == name || kind == plural(name);
        if is(&self.word) || short.is_some_and(|(_, name)| is(&name.to_lowercase())) {
            return true;
        }
        custom.iter().any(|names| {
            names.group == group
                && names.kind == identity.kind
                && (names.plural == self.word || names.short_names.contains(&self.word))
        })
    }
}

/// Groups that API servers of Kubernetes have served themselves; all others are of definitions or of other servers.
const BUILT_IN: [&str; 28] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "auditregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "imagepolicy.k8s.io",
    "internal.apiserver.k8s.io",
    "lifecycle.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "settings.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether Kubernetes itself serves, or has served, a group.
pub fn is_built_in(group: &str) -> bool {
    BUILT_IN.contains(&group)
}

/// Kinds that moved to another group: Kubernetes' own deprecation guide.
const MOVED: [(&str, &str, &str); 7] = [
    ("extensions", "Ingress", "networking.k8s.io"),
    ("extensions", "NetworkPolicy", "networking.k8s.io"),
    ("extensions", "Deployment", "apps"),
    ("extensions", "DaemonSet", "apps"),
    ("extensions", "ReplicaSet", "apps"),
    ("extensions", "PodSecurityPolicy", "policy"),
    ("events.k8s.io", "Event", ""),
];

/// The group in which a kind of a group is served today.
pub fn group_now<'a>(group: &'a str, kind: &str) -> &'a str {
    let mut moved = MOVED.iter();
    let moved = moved.find(|(from, of, _)| *from == group && *of == kind);
    moved.map_or(group, |(.., now)| now)
}

/// The group of an API version: `apps` of `apps/v1`, nothing of `v1`.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The resource of a kind in lower case, as Kubernetes forms it.
pub fn plural(kind: &str) -> String {
    let consonant = |c: char| !"aeiou".contains(c);
    match kind.strip_suffix('y') {
        Some(stem) if stem.chars().last().is_some_and(consonant) => format!("{stem}ies"),
        _ if kind == "endpoints" => kind.to_owned(),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| kind.ends_with(end)) => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}
