//! Velero's half of a pair: a Velero Backup that is made once ours is stored, waited for, and told in our status.

pub mod back;
mod plan;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Api, ResourceExt};

pub use plan::{Half, asked, name_of, pair_of};
use plan::{Seen, judge, wanted};

use super::context::Context;
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

/// Makes Velero's half when it is not there, looks at it, and says how far it is.
pub async fn look(context: &Context, backup: &EtcdBackup, now: Timestamp) -> Half {
    let namespace = plan::namespace_of(backup);
    let (client, kind) = (context.client.clone(), resource("Backup", "backups"));
    let backups: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
    let name = name_of(backup);
    let known = backup
        .status
        .as_ref()
        .and_then(|status| status.velero_backup_uid.clone());
    let mut found = backups.get_opt(&name).await;
    if let (Ok(None), None) = (&found, &known) {
        let object = match serde_json::from_value(wanted(backup)) {
            Ok(object) => object,
            Err(error) => return Half::failed("VeleroTemplateInvalid", &error.to_string()),
        };
        found = match backups.create(&PostParams::default(), &object).await {
            Ok(made) => Ok(Some(made)),
            Err(kube::Error::Api(status)) if status.code == 409 => backups.get_opt(&name).await,
            Err(error) => Err(error),
        };
    }
    let object = match found {
        Ok(object) => object,
        Err(kube::Error::Api(status)) => {
            return plan::refused(status.code, &status.message, &namespace);
        }
        Err(error) => return Half::later(&with_causes(&error)),
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
    let mut found = restores.get_opt(&name).await;
    if let (Ok(None), false) = (&found, known) {
        let object = match serde_json::from_value(object) {
            Ok(object) => object,
            Err(error) => return Half::failed("VeleroTemplateInvalid", &error.to_string()),
        };
        found = match restores.create(&PostParams::default(), &object).await {
            Ok(made) => Ok(Some(made)),
            Err(kube::Error::Api(status)) if status.code == 409 => restores.get_opt(&name).await,
            Err(error) => Err(error),
        };
    }
    match found {
        Ok(object) => {
            let plain = object.map(|object| serde_json::to_value(object).unwrap_or_default());
            back::judge(restore, plain.as_ref(), now)
        }
        Err(kube::Error::Api(status)) => plan::refused(status.code, &status.message, &namespace),
        Err(error) => Half::later(&with_causes(&error)),
    }
}
