//! The API server as the loop's host: records in ConfigMaps, status on the resource, backups as EtcdBackup objects of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};

use super::plan;
use crate::api::{ErrorClass, EtcdBackup, EtcdBackupSchedule};
use crate::cause::with_causes;
use crate::engine::{
    Done, Failed, GoodBackup, Host, Order, ResourceName, ScheduleRecord, Services, StageName,
};
use crate::operator::context::{Context, audit};
use crate::operator::labels::{MANAGED_BY, MANAGER, SCHEDULE_LABEL, label_value};
use crate::operator::lease::is_conflict;
use crate::pipeline::Recording;
use crate::schedule::decide::Decision;
use crate::serve::ScheduleState;

/// The key of a record in its ConfigMap.
const RECORD_KEY: &str = "record.json";
/// What only the core computes can be computed anew: it is saved at most this often, so that a thousand schedules are no load.
const SAVE_CORE: SignedDuration = SignedDuration::from_mins(30);
/// A status that differs in its decision alone is written at most this often.
const SHOW_DECISION: SignedDuration = SignedDuration::from_secs(60);
/// One that differs only in the number of changes at risk, which grows with every write to etcd, at most this often: a metric has it anew
/// at each look.
const SHOW_EXPOSURE: SignedDuration = SignedDuration::from_mins(30);

/// Keeps records in ConfigMaps of the operator's namespace.
#[derive(Default)]
pub struct ClusterHost {
    context: OnceLock<Arc<Context>>,
    known: Mutex<HashMap<ResourceName, Known>>,
}

#[derive(Default, Clone)]
struct Known {
    version: Option<String>,
    saved: Option<(plan::Digest, Timestamp)>,
    shown: Option<(plan::Shown, Timestamp)>,
    ready: Option<bool>,
    /// The UIDs of its backups' objects, by name.
    objects: HashMap<String, String>,
}

impl ClusterHost {
    /// The context needs the services, and these the host: so the context comes last.
    pub fn set_context(&self, context: Arc<Context>) {
        let _ = self.context.set(context);
    }

    /// What a schedule's status says is not what was written here: it is written anew.
    pub fn say_again(&self, name: &ResourceName) {
        self.with(name, |known| known.shown = None);
    }

    /// The objects that a schedule's status speaks of: some are gone by now, and nothing else tells their UIDs.
    pub fn met(&self, schedule: &EtcdBackupSchedule) {
        let history = schedule.status.iter().flat_map(|one| &one.backup_history);
        let told = history.filter(|entry| !entry.uid.is_empty());
        self.with(&ResourceName::of(schedule), |known| {
            for entry in told {
                let uid = known.objects.entry(entry.name.clone());
                uid.or_insert_with(|| entry.uid.clone());
            }
        });
    }

    fn met_backup(&self, schedule: &ResourceName, backup: &EtcdBackup) {
        let uid = backup.uid().unwrap_or_default();
        self.with(schedule, |known| {
            known.objects.insert(backup.name_any(), uid);
        });
    }

    /// A schedule is gone: nothing of it is remembered.
    pub async fn forget(&self, name: &ResourceName) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        let Some(context) = self.context.get() else {
            return;
        };
        context.set_recording(name, None);
        let api: Api<ConfigMap> = context.api(&context.namespace);
        if let Err(error) = api
            .delete(&record_name(name), &DeleteParams::default())
            .await
        {
            tracing::debug!(schedule = %name, %error, "no record was deleted");
        }
    }

    fn context(&self) -> Result<&Arc<Context>, String> {
        self.context
            .get()
            .ok_or_else(|| "the operator has not started yet".to_owned())
    }

    fn with<T>(&self, name: &ResourceName, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(name.clone()).or_default())
    }

    /// Makes the child, or finds it there, and waits for its end.
    async fn child(&self, order: &Order<'_>) -> Result<Done, Failed> {
        let plain = |message: String| Failed {
            class: ErrorClass::Failed,
            message,
        };
        let context = self.context().map_err(plain)?;
        let refused =
            |error: kube::Error| plain(format!("the API server refused: {}", with_causes(&error)));
        let (namespace, schedule) = (&order.owner.namespace, &order.owner.name);
        let schedules: Api<EtcdBackupSchedule> = context.api(namespace);
        let owner = schedules.get(schedule).await.map_err(refused)?;
        let api: Api<EtcdBackup> = context.api(namespace);
        let name = &order.run.name;
        let mut found = api.get_opt(name).await.map_err(refused)?;
        if found.is_none() {
            let wanted = plan::child(&owner, name, &order.run.trigger);
            match api.create(&signed(), &wanted).await {
                Ok(created) => {
                    let note = format!("EtcdBackup {name}: {}", order.run.trigger);
                    context
                        .event(&owner, false, "BackupCreated", "Dispatch", &note)
                        .await;
                    audit(&owner, "create", &format!("EtcdBackup {name}"), "created");
                    found = Some(created);
                }
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        if let Some(found) = found.as_ref().filter(|one| !plan::is_ours(one, schedule)) {
            let failed = plan::end(found, schedule).and_then(Result::err);
            let failed = failed.unwrap_or_else(|| plain("it is not ours".to_owned()));
            context
                .event(
                    &owner,
                    true,
                    "BackupAdoptionRefused",
                    "Dispatch",
                    &failed.message,
                )
                .await;
            return Err(failed);
        }
        if let Some(found) = &found {
            self.met_backup(order.owner, found);
        }
        let ended = |object: Option<&EtcdBackup>| {
            object.is_none_or(|object| plan::end(object, schedule).is_some())
        };
        loop {
            match await_condition(api.clone(), name, ended).await {
                Ok(None) => {
                    return Err(plain(format!(
                        "EtcdBackup {name} was deleted before it ended"
                    )));
                }
                Ok(Some(object)) => {
                    if let Some(end) = plan::end(&object, schedule) {
                        if plan::is_ours(&object, schedule) {
                            self.met_backup(order.owner, &object);
                        }
                        return end;
                    }
                }
                Err(error) => {
                    tracing::debug!(backup = name, %error, "the watch of a backup was interrupted");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Makes the object of a backup that is in the store.
async fn show(api: &Api<EtcdBackup>, object: &EtcdBackup, id: &str) {
    match api.create(&signed(), object).await {
        Ok(created) => audit(&created, "create", id, "re-created from the catalogue"),
        Err(error) if is_conflict(&error) => {}
        Err(error) => {
            let name = ResourceName::of(object);
            tracing::warn!(backup = %name, id, "its object cannot be re-created: {}", with_causes(&error));
        }
    }
}

/// Objects say who made them.
fn signed() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn record_name(name: &ResourceName) -> String {
    // Namespaces hold no dots, so no two schedules share a name; a long one is shortened with its hash.
    let whole = format!("{}.{}", name.namespace, name.name);
    if whole.len() < 220 {
        format!("etcdguardian-schedule-{whole}")
    } else {
        format!(
            "etcdguardian-schedule-{}-{:08x}",
            &name.namespace,
            crc32c::crc32c(whole.as_bytes())
        )
    }
}

#[async_trait]
impl Host for ClusterHost {
    async fn load(&self, name: &ResourceName) -> Result<Option<ScheduleRecord>, String> {
        let context = self.context()?;
        let api: Api<ConfigMap> = context.api(&context.namespace);
        let found = api
            .get_opt(&record_name(name))
            .await
            .map_err(|error| with_causes(&error))?;
        let version = found.as_ref().and_then(ResourceExt::resource_version);
        self.with(name, |known| {
            *known = Known {
                version,
                objects: std::mem::take(&mut known.objects),
                ..Known::default()
            };
        });
        let text = found.and_then(|map| map.data?.remove(RECORD_KEY));
        // A record of another version is made anew from the catalogue.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    async fn save(&self, name: &ResourceName, record: &ScheduleRecord) -> Result<(), String> {
        let context = self.context()?;
        let now = Timestamp::now();
        let bare = ScheduleRecord {
            core: None,
            ..record.clone()
        };
        let bare = plan::digest(&bare)?;
        let known = self.with(name, |known| known.clone());
        let same = known
            .saved
            .as_ref()
            .is_some_and(|(saved, at)| *saved == bare && now.duration_since(*at).abs() < SAVE_CORE);
        if same {
            return Ok(());
        }
        let text = serde_json::to_string(record).map_err(|error| error.to_string())?;
        let mut map = ConfigMap {
            data: Some([(RECORD_KEY.to_owned(), text)].into()),
            ..ConfigMap::default()
        };
        map.metadata.name = Some(record_name(name));
        map.metadata.resource_version.clone_from(&known.version);
        map.labels_mut()
            .insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        let api: Api<ConfigMap> = context.api(&context.namespace);
        // Both ways fail when another process has written meanwhile: then this one does not begin what it was about to.
        let written = match known.version {
            None => api.create(&PostParams::default(), &map).await,
            Some(_) => {
                api.replace(&record_name(name), &PostParams::default(), &map)
                    .await
            }
        };
        let written = written.map_err(|error| {
            // Whoever deleted it wants it made anew.
            if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                self.with(name, |known| known.version = None);
            }
            with_causes(&error)
        })?;
        self.with(name, |known| {
            known.version = written.resource_version();
            known.saved = Some((bare, now));
        });
        Ok(())
    }

    async fn looked(&self, name: &ResourceName, state: &ScheduleState, _decision: &Decision) {
        let Ok(context) = self.context() else { return };
        let now = Timestamp::now();
        let mut status = state.status.clone();
        let known = self.with(name, |known| {
            let history = &mut status.backup_history;
            let in_it = |name: &String| history.iter().any(|entry| entry.name == *name);
            known.objects.retain(|name, _| in_it(name));
            *history = plan::of_objects(history, &known.objects);
            known.clone()
        });
        let status = &status;
        let says = plan::shown(status);
        if let Some((shown, at)) = &known.shown {
            let within = |limit: SignedDuration| now.duration_since(*at).abs() < limit;
            if says.as_ref() == Ok(shown)
                || says.as_ref().is_ok_and(|says| {
                    (within(SHOW_DECISION) && says.but_decision(shown))
                        || (within(SHOW_EXPOSURE) && says.but_exposure(shown))
                })
            {
                return;
            }
        }
        let written = context.write_status_of::<EtcdBackupSchedule>(name, None, status);
        let object = match written.await {
            Ok(object) => object,
            // Its end comes by the watch.
            Err(kube::Error::Api(answer)) if answer.code == 404 => return,
            Err(error) => {
                tracing::warn!(schedule = %name, "the status cannot be written: {}", with_causes(&error));
                return;
            }
        };
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let holds = ready.is_some_and(|ready| ready.status == "True");
        if let Some(ready) = ready
            && known.ready.unwrap_or(true) != holds
        {
            context
                .event(&object, !holds, &ready.reason, "Observe", &ready.message)
                .await;
        }
        self.with(name, |known| {
            known.shown = says.ok().map(|says| (says, now));
            known.ready = Some(holds);
        });
    }

    async fn catalogued(
        &self,
        name: &ResourceName,
        schedule: &EtcdBackupSchedule,
        backups: &[GoodBackup],
        singles: &[GoodBackup],
    ) {
        let Ok(context) = self.context() else { return };
        let api: Api<EtcdBackup> = context.api(&name.namespace);
        let params =
            ListParams::default().labels(&format!("{SCHEDULE_LABEL}={}", label_value(&name.name)));
        let objects = match api.list(&params).await {
            Ok(list) => list.items,
            Err(error) => {
                tracing::warn!(schedule = %name, "its backups cannot be listed: {}", with_causes(&error));
                return;
            }
        };
        let keep = context.config.history_limit.max(1);
        let failed = schedule.spec.failed_backups_history_limit.unwrap_or(5);
        for object in &objects {
            self.met_backup(name, object);
        }
        let sync = plan::sync(
            &objects,
            backups,
            keep,
            usize::try_from(failed).unwrap_or(5),
        );
        for backup in sync.create.iter().filter_map(|index| backups.get(*index)) {
            show(&api, &plan::found_child(schedule, backup), &backup.id).await;
        }
        let newest = singles.len().saturating_sub(keep);
        for backup in singles.iter().skip(newest) {
            if matches!(api.get_metadata_opt(&backup.name).await, Ok(None)) {
                show(&api, &plan::found_single(schedule, backup), &backup.id).await;
            }
        }
        for object in sync.delete.iter().filter_map(|index| objects.get(*index)) {
            match api
                .delete(&object.name_any(), &DeleteParams::default())
                .await
            {
                Ok(_) => audit(
                    object,
                    "delete",
                    "the object alone",
                    "beyond the history limit, or no longer in the catalogue",
                ),
                Err(error) => {
                    tracing::warn!(backup = %ResourceName::of(object), %error, "an old object cannot be deleted")
                }
            }
        }
    }

    async fn carry_out(
        &self,
        _services: &Services,
        order: &Order<'_>,
        _stage: &StageName,
    ) -> Result<Done, Failed> {
        self.child(order).await
    }

    fn records(&self, name: &ResourceName, recording: &Recording) {
        if let Some(context) = self.context.get() {
            context.set_recording(name, Some(recording));
        }
    }

    fn goes_on(&self) -> bool {
        true
    }
}
