//! Velero's half of a pair: a Velero Backup that is made once ours is stored, waited for, and told in our status.

pub mod back;
mod half;
mod plan;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

pub use half::Half;
use plan::{Seen, judge, wanted};
pub use plan::{asked, name_of, pair_of};

use super::context::{Context, audit};
use super::lease::is_conflict;
use crate::api::{EtcdBackup, EtcdRestore};
use crate::cause::with_causes;

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "velero.io".into(),
        version: "v1".into(),
        api_version: "velero.io/v1".into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// Velero's object of a name, made as it is wanted when it is not there and was never known; or what became of it.
async fn found_or_made<K>(
    api: &Api<DynamicObject>,
    ours: &K,
    (kind, name, namespace): (&str, &str, &str),
    known: bool,
    wanted: Value,
) -> Result<Option<DynamicObject>, Box<Half>>
where
    K: Resource<DynamicType = ()>,
{
    let mut found = api.get_opt(name).await;
    if let (Ok(None), false) = (&found, known) {
        let object = serde_json::from_value(wanted)
            .map_err(|error| Box::new(Half::failed("VeleroTemplateInvalid", &error.to_string())))?;
        found = match api.create(&PostParams::default(), &object).await {
            Ok(made) => {
                let scope = format!("Velero {kind} {namespace}/{name}");
                audit(ours, "create", &scope, "created");
                Ok(Some(made))
            }
            Err(error) if is_conflict(&error) => api.get_opt(name).await,
            Err(error) => Err(error),
        };
    }
    found.map_err(|error| {
        Box::new(match error {
            kube::Error::Api(status) => plan::refused(status.code, &status.message, namespace),
            other => Half::later(&with_causes(&other)),
        })
    })
}

/// Makes Velero's half when it is not there, looks at it, and says how far it is.
pub async fn look(context: &Context, backup: &EtcdBackup, now: Timestamp) -> Half {
    let namespace = plan::namespace_of(backup);
    let (client, kind) = (context.client.clone(), resource("Backup", "backups"));
    let backups: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
    let name = name_of(backup);
    let status = backup.status.as_ref();
    let known = status.is_some_and(|status| status.velero_backup_uid.is_some());
    let of = ("Backup", name.as_str(), namespace.as_str());
    let object = match found_or_made(&backups, backup, of, known, wanted(backup)).await {
        Ok(object) => object,
        Err(half) => return *half,
    };
    let locations: Api<DynamicObject> = Api::namespaced_with(
        client,
        &namespace,
        &resource("BackupStorageLocation", "backupstoragelocations"),
    );
    let locations = locations.list(&ListParams::default()).await;
    let locations = locations.map(|list| list.items).unwrap_or_default();
    let plain = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
    let seen = Seen {
        uid: object.as_ref().and_then(ResourceExt::uid),
        object: object.as_ref().map(plain),
        locations: locations.iter().map(plain).collect(),
    };
    judge(backup, &seen, now)
}

/// Makes Velero's Restore of a pair when it is not there, looks at it, and says how far it is.
pub async fn look_back(
    context: &Context,
    restore: &EtcdRestore,
    backup: &EtcdBackup,
    now: Timestamp,
) -> Half {
    let object = match back::wanted(restore, backup) {
        Ok(object) => object,
        Err(half) => return *half,
    };
    let namespace = plan::namespace_of(backup);
    let kind = resource("Restore", "restores");
    let restores: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &namespace, &kind);
    let name = back::name_of(restore);
    let status = restore.status.as_ref();
    let known = status.is_some_and(|status| status.velero_restore_uid.is_some());
    let of = ("Restore", name.as_str(), namespace.as_str());
    match found_or_made(&restores, restore, of, known, object).await {
        Ok(object) => {
            let plain = object.map(|object| serde_json::to_value(object).unwrap_or_default());
            back::judge(restore, plain.as_ref(), now)
        }
        Err(half) => *half,
    }
}
