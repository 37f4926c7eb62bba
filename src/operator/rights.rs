//! What the operator must be allowed to do, asked of the API server right by right: what `doctor` shows, and what the chart grants.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};

/// Rights on a resource: API group, resource (and subresource), verbs.
pub type Right = (&'static str, &'static str, &'static [&'static str]);

/// Rights in every namespace.
pub const EVERYWHERE: &[Right] = &[
    (
        "etcdguardian.io",
        "etcdbackups",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    (
        "etcdguardian.io",
        "etcdbackupschedules",
        &["get", "list", "watch", "patch"],
    ),
    ("etcdguardian.io", "etcdrestores", &["get", "list", "watch"]),
    ("etcdguardian.io", "etcdbackups/status", &["patch"]),
    ("etcdguardian.io", "etcdbackupschedules/status", &["patch"]),
    ("etcdguardian.io", "etcdrestores/status", &["patch"]),
    ("", "secrets", &["get"]),
    ("", "pods", &["list"]),
    ("", "namespaces", &["list"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("batch", "jobs", &["get", "list", "watch", "create"]),
    ("apps", "statefulsets", &["get", "patch"]),
    ("events.k8s.io", "events", &["create"]),
];

/// Rights in the operator's own namespace.
pub const AT_HOME: &[Right] = &[
    (
        "coordination.k8s.io",
        "leases",
        &["get", "create", "update"],
    ),
    (
        "",
        "configmaps",
        &["get", "create", "update", "patch", "delete"],
    ),
];

/// How many rights there are.
pub fn count() -> usize {
    let verbs = |rights: &[Right]| {
        rights
            .iter()
            .map(|(_, _, verbs)| verbs.len())
            .sum::<usize>()
    };
    verbs(EVERYWHERE) + verbs(AT_HOME)
}

/// The rights that the client's user lacks, each as `create jobs.batch`.
///
/// # Errors
/// When the API server does not answer the question.
pub async fn missing(client: &Client, home: &str) -> Result<Vec<String>, Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let asked = [(EVERYWHERE, None), (AT_HOME, Some(home))]
        .into_iter()
        .flat_map(|(rights, namespace)| rights.iter().map(move |right| (right, namespace)))
        .flat_map(|((group, resource, verbs), namespace)| {
            verbs
                .iter()
                .map(move |verb| (*group, *resource, *verb, namespace))
        });
    let answers = join_all(asked.map(|(group, resource, verb, namespace)| {
        let reviews = reviews.clone();
        async move {
            let review = question(group, resource, verb, namespace);
            let answer = reviews.create(&PostParams::default(), &review).await?;
            let allowed = answer.status.is_some_and(|status| status.allowed);
            Ok((!allowed).then(|| named(group, resource, verb, namespace)))
        }
    }))
    .await;
    let answers = answers.into_iter().collect::<Result<Vec<_>, Error>>()?;
    Ok(answers.into_iter().flatten().collect())
}

fn question(
    group: &str,
    resource: &str,
    verb: &str,
    namespace: Option<&str>,
) -> SelfSubjectAccessReview {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

fn named(group: &str, resource: &str, verb: &str, namespace: Option<&str>) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    let place = namespace.map_or_else(|| "everywhere".to_owned(), |name| format!("in {name}"));
    format!("{verb} {resource}{dot}{group} {place}")
}
