//! Versions of built-in kinds that Kubernetes serves no more, and since which release. Pure.

/// Version, kinds, and the minor release of Kubernetes 1 that serves them no more: `APILifecycleRemoved` of `k8s.io/api` 0.37.2, for
/// kinds that are stored; what that has forgotten is from Kubernetes' deprecated API migration guide.
const REMOVED: [(&str, &[&str], u32); 38] = [
    (
        "apps/v1beta1",
        &["ControllerRevision", "Deployment", "StatefulSet"],
        16,
    ),
    (
        "apps/v1beta2",
        &[
            "ControllerRevision",
            "DaemonSet",
            "Deployment",
            "ReplicaSet",
            "StatefulSet",
        ],
        16,
    ),
    (
        "extensions/v1beta1",
        &[
            "DaemonSet",
            "Deployment",
            "NetworkPolicy",
            "PodSecurityPolicy",
            "ReplicaSet",
        ],
        16,
    ),
    ("batch/v2alpha1", &["CronJob"], 21),
    (
        "admissionregistration.k8s.io/v1beta1",
        &[
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ],
        22,
    ),
    (
        "apiextensions.k8s.io/v1beta1",
        &["CustomResourceDefinition"],
        22,
    ),
    ("apiregistration.k8s.io/v1beta1", &["APIService"], 22),
    (
        "certificates.k8s.io/v1beta1",
        &["CertificateSigningRequest"],
        22,
    ),
    ("coordination.k8s.io/v1beta1", &["Lease"], 22),
    ("extensions/v1beta1", &["Ingress"], 22),
    (
        "networking.k8s.io/v1beta1",
        &["Ingress", "IngressClass"],
        22,
    ),
    (
        "rbac.authorization.k8s.io/v1beta1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        22,
    ),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], 22),
    (
        "storage.k8s.io/v1beta1",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"],
        22,
    ),
    (
        "storage.k8s.io/v1alpha1",
        &["CSIStorageCapacity", "VolumeAttachment"],
        24,
    ),
    ("autoscaling/v2beta1", &["HorizontalPodAutoscaler"], 25),
    ("batch/v1beta1", &["CronJob"], 25),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"], 25),
    ("events.k8s.io/v1beta1", &["Event"], 25),
    ("node.k8s.io/v1beta1", &["RuntimeClass"], 25),
    (
        "policy/v1beta1",
        &["PodDisruptionBudget", "PodSecurityPolicy"],
        25,
    ),
    ("autoscaling/v2beta2", &["HorizontalPodAutoscaler"], 26),
    ("flowcontrol.apiserver.k8s.io/v1beta1", FLOW, 26),
    ("storage.k8s.io/v1beta1", &["CSIStorageCapacity"], 27),
    ("flowcontrol.apiserver.k8s.io/v1beta2", FLOW, 29),
    ("admissionregistration.k8s.io/v1alpha1", POLICY, 32),
    ("flowcontrol.apiserver.k8s.io/v1beta3", FLOW, 32),
    ("admissionregistration.k8s.io/v1beta1", POLICY, 34),
    ("storage.k8s.io/v1alpha1", &["VolumeAttributesClass"], 35),
    ("certificates.k8s.io/v1alpha1", &["ClusterTrustBundle"], 37),
    (
        "networking.k8s.io/v1beta1",
        &["IPAddress", "ServiceCIDR"],
        37,
    ),
    ("storage.k8s.io/v1beta1", &["VolumeAttributesClass"], 37),
    ("coordination.k8s.io/v1alpha2", &["LeaseCandidate"], 38),
    ("resource.k8s.io/v1beta1", CLAIMS, 38),
    ("coordination.k8s.io/v1beta1", &["LeaseCandidate"], 39),
    ("resource.k8s.io/v1beta2", CLAIMS, 39),
    (
        "certificates.k8s.io/v1beta1",
        &["ClusterTrustBundle", "PodCertificateRequest"],
        40,
    ),
    (
        "storagemigration.k8s.io/v1beta1",
        &["StorageVersionMigration"],
        40,
    ),
];
const FLOW: &[&str] = &["FlowSchema", "PriorityLevelConfiguration"];
const POLICY: &[&str] = &[
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];
const CLAIMS: &[&str] = &[
    "DeviceClass",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceSlice",
];

/// The minor release of Kubernetes 1 from which on a version of a kind is not served; nothing when it is not known to go.
pub fn removed_in(api_version: &str, kind: &str) -> Option<u32> {
    let mut all = all();
    all.find(|(version, of, _)| *version == api_version && *of == kind)
        .map(|(.., minor)| minor)
}

/// Every version and kind, with the release.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str, u32)> {
    let rows = REMOVED.iter();
    rows.flat_map(|(version, kinds, minor)| kinds.iter().map(move |kind| (*version, *kind, *minor)))
}
