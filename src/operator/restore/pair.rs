//! The volumes of a pair, brought by Velero once etcd is back.

use super::observe;
use super::status::Draft;
use crate::api::{EtcdRestore, EtcdRestoreStatus};
use crate::operator::context::Context;
use crate::operator::velero::{Half, back, look_back};

/// Has Velero's Restore made and looks how far it is; the restore of etcd stands, whatever becomes of it.
pub async fn pair(context: &Context, restore: &EtcdRestore, draft: &mut Draft<EtcdRestoreStatus>) {
    let half = match observe::stored(context, restore).await {
        Some(stored) => look_back(context, restore, &stored.backup, draft.now).await,
        None => Half::failed(
            "VeleroBackupMissing",
            "the EtcdBackup is gone, and with it the name of its Velero half",
        ),
    };
    draft.paired(&back::name_of(restore), &half);
    if let Half::Ended {
        whole,
        reason,
        message,
        ..
    } = half
    {
        let reason = match whole {
            true => "VeleroRestoreCompleted",
            false => reason.as_str(),
        };
        context
            .event(restore, !whole, reason, "Velero", &message)
            .await;
    }
}
