//! What has to be asked of the API server before other namespaces are touched, and what a refusal says. Pure.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};

use crate::api::FieldError;

/// The verb on a namespace that a tenant's export needs; Kubernetes itself has no such verb.
pub const BACKUP: &str = "backup";
/// The verb on a namespace that a restore of objects needs.
pub const RESTORE: &str = "restore";

/// A service account as the API server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace, which is that of the object that names it.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Account {
    /// Its name as a user.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// The namespaces whose rights must be asked for: all but the object's own.
pub fn foreign<'a>(own: &str, namespaces: &'a [String]) -> Vec<&'a str> {
    let others = namespaces.iter().map(String::as_str);
    others.filter(|name| *name != own).collect()
}

/// The question whether an account has a verb on a namespace. A RoleBinding in that namespace is enough to grant it.
pub fn question(account: &Account, verb: &str, namespace: &str) -> SubjectAccessReview {
    review(
        account,
        ResourceAttributes {
            verb: Some(verb.to_owned()),
            resource: Some("namespaces".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        },
    )
}

/// The question whether an account may run commands in a pod of its own namespace.
pub fn exec_question(account: &Account, pod: &str) -> SubjectAccessReview {
    review(
        account,
        ResourceAttributes {
            verb: Some("create".to_owned()),
            resource: Some("pods".to_owned()),
            subresource: Some("exec".to_owned()),
            namespace: Some(account.namespace.clone()),
            name: Some(pod.to_owned()),
            ..ResourceAttributes::default()
        },
    )
}

fn review(account: &Account, about: ResourceAttributes) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(account.user()),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", account.namespace),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                group: Some(String::new()),
                ..about
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// What is missing, and who can give it.
pub fn refusal(account: &Account, verb: &str, denied: &[&str]) -> String {
    let (user, places) = (account.user(), denied.join(", "));
    format!(
        "{user} has no right to {verb} namespaces {places}: have a role with the verb {verb} on namespaces, such as etcd-tenant-operator, bound to it in each of them, or select fewer"
    )
}

/// A name of a service account that is none, or would name another user.
pub fn account_problem(path: &str, name: &str) -> Option<FieldError> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let good = !name.is_empty() && name.len() <= 253 && name.bytes().all(fits);
    (!good).then(|| FieldError {
        path: path.to_owned(),
        message: format!("'{name}' is no name of a service account of this namespace"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn account() -> Account {
        Account {
            namespace: "team-a".to_owned(),
            name: "saver".to_owned(),
        }
    }

    #[test]
    fn its_own_namespace_is_not_asked_for_and_all_others_are() {
        let namespaces = ["team-a", "shop", "kube-system"].map(str::to_owned);
        assert_eq!(foreign("team-a", &namespaces), ["shop", "kube-system"]);
        assert!(foreign("team-a", &namespaces[..1]).is_empty());
    }

    #[test]
    fn the_question_is_about_the_account_and_one_namespace() {
        let asked = question(&account(), BACKUP, "shop").spec;
        assert_eq!(asked.user.unwrap(), "system:serviceaccount:team-a:saver");
        let about = asked.resource_attributes.unwrap();
        assert_eq!(about.namespace, about.name);
        let words = refusal(&account(), BACKUP, &["shop", "bank"]);
        for part in [
            "system:serviceaccount:team-a:saver",
            "backup namespaces shop, bank",
        ] {
            assert!(words.contains(part), "{words}");
        }
    }

    #[test]
    fn no_name_leads_to_another_user() {
        assert_eq!(account_problem("p", "default"), None);
        for bad in ["", "a:b", "../x", "A", "kube-system:admin"] {
            assert!(account_problem("p", bad).is_some(), "{bad}");
        }
    }
}
