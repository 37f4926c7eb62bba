//! Asks: which namespaces a selector means now, and whether an account may touch them.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::PostParams;
use kube::core::SelectorExt;
use kube::{Api, Client, ResourceExt};

use super::plan::{self, Account};
use crate::api::EtcdBackup;
use crate::cause::with_causes;
use crate::export::proxy;
use crate::export::resources::selector_of;

/// The namespaces that a backup takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// All of the cluster.
    Everything,
    /// These, as far as labels and rights said just now.
    Namespaces(Vec<String>),
}

/// Why a backup or restore may not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A right is missing: for good, as far as this object goes.
    NotAllowed(String),
    /// The API server could not be asked, or the selector selects nothing.
    Unknown(String),
}

/// The namespaces that a backup's selector means now, all of which its service account may back up.
///
/// # Errors
/// When a right is missing, or cannot be asked for: nothing is taken for granted.
pub async fn selected(
    client: &Client,
    backup: &EtcdBackup,
    trusted: bool,
) -> Result<Selected, Refused> {
    let Some(selector) = &backup.spec.namespace_selector else {
        return Ok(Selected::Everything);
    };
    let own = backup.namespace().unwrap_or_default();
    let selector = selector_of(selector).map_err(Refused::NotAllowed)?;
    let all = proxy::namespaces(client).await;
    let all = all.map_err(|error| Refused::Unknown(with_causes(&error)))?;
    let namespaces: Vec<String> = all
        .into_iter()
        .filter(|one| selector.matches(&one.labels))
        .map(|one| one.name)
        .collect();
    if namespaces.is_empty() {
        return Err(Refused::Unknown(
            "namespaceSelector selects no namespace that is there: label one".to_owned(),
        ));
    }
    if !trusted {
        let account = Account {
            namespace: own,
            name: backup.spec.service_account_name.clone(),
        };
        let foreign = plan::foreign(&account.namespace, &namespaces);
        allowed(client, &account, plan::BACKUP, &foreign).await?;
    }
    Ok(Selected::Namespaces(namespaces))
}

/// Whether an account has a verb on every one of these namespaces.
///
/// # Errors
/// Names every right that is missing.
pub async fn allowed(
    client: &Client,
    account: &Account,
    verb: &str,
    namespaces: &[&str],
) -> Result<(), Refused> {
    let denied = denied(client, account, verb, namespaces).await?;
    if denied.is_empty() {
        return Ok(());
    }
    Err(Refused::NotAllowed(plan::refusal(account, verb, &denied)))
}

/// Whether an account may run commands in a pod of its own namespace.
///
/// # Errors
/// Why not, or why nobody can say.
pub async fn may_exec(client: &Client, account: &Account, pod: &str) -> Result<(), String> {
    match is_allowed(client, &plan::exec_question(account, pod)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "{} may not create pods/exec in namespace {}: bind a role with that right to it, or name another serviceAccountName",
            account.user(),
            account.namespace
        )),
        Err(error) => Err(format!(
            "rights cannot be asked for: {}",
            with_causes(&error)
        )),
    }
}

async fn is_allowed(client: &Client, asked: &SubjectAccessReview) -> Result<bool, kube::Error> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), asked).await?;
    let status = answer.status.unwrap_or_default();
    Ok(status.allowed && status.denied != Some(true))
}

/// The namespaces on which an account lacks a verb.
async fn denied<'a>(
    client: &Client,
    account: &Account,
    verb: &str,
    namespaces: &[&'a str],
) -> Result<Vec<&'a str>, Refused> {
    let answers = join_all(namespaces.iter().map(|namespace| {
        let question = plan::question(account, verb, namespace);
        async move {
            let allowed = is_allowed(client, &question).await?;
            Ok::<_, kube::Error>((!allowed).then_some(*namespace))
        }
    }))
    .await;
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>();
    let answers = answers.map_err(|error| {
        Refused::Unknown(format!(
            "rights cannot be asked for: {}",
            with_causes(&error)
        ))
    })?;
    Ok(answers.into_iter().flatten().collect())
}
