//! What every controller shares: the client, the loop's services, the work under way; and how each writes status, events and
//! audit lines.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::conditions::shortened;
use super::labels::MANAGER;
use super::retries::Retries;
use super::runs::Runs;
use crate::api::OperatorConfig;
use crate::engine::{ResourceName, Services};
use crate::pipeline::Recording;

/// An event's note has at most a kilobyte.
const NOTE: usize = 1000;

/// Lists come in pages of so many objects: what a page takes in memory stays with the process.
pub const PAGE: u32 = 100;

/// What every controller shares.
pub struct Context {
    /// Speaks to the API server.
    pub client: Client,
    /// What the loops share too.
    pub services: Arc<Services>,
    /// The operator's part of the config.
    pub config: OperatorConfig,
    /// The operator's namespace.
    pub namespace: String,
    /// Publishes events.
    pub recorder: Recorder,
    /// Work under way.
    pub runs: Runs,
    /// Objects that the API server refuses.
    pub retries: Retries,
    /// The standing watches of incremental schedules.
    pub recordings: watch::Sender<HashMap<ResourceName, Recording>>,
    /// Work that goes on in this process.
    pub tasks: Mutex<JoinSet<()>>,
}

impl Context {
    /// Has work done beside everything else.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Drops all such work, which runs its clean-up.
    pub async fn stop(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    /// The API of a kind in an object's namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Replaces the part of an object's status that is ours. With `versioned`, only if nobody has written to the object since
    /// it was read.
    ///
    /// # Errors
    /// When the API server refuses, or somebody was faster.
    pub async fn write_status<K>(
        &self,
        object: &K,
        status: &impl Serialize,
        versioned: bool,
    ) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let name = ResourceName {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        };
        let version = object.meta().resource_version.as_deref();
        self.write_status_of(&name, version.filter(|_| versioned), status)
            .await
    }

    /// The same of an object that need not be at hand; with a `version` only while it has that one.
    ///
    /// # Errors
    /// When the API server refuses, the object is not there, or somebody was faster.
    pub async fn write_status_of<K>(
        &self,
        name: &ResourceName,
        version: Option<&str>,
        status: &impl Serialize,
    ) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let mut metadata = json!({ "name": name.name });
        if let (Some(version), Value::Object(fields)) = (version, &mut metadata) {
            fields.insert("resourceVersion".to_owned(), json!(version));
        }
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        let api: Api<K> = self.api(&name.namespace);
        api.patch_status(
            &name.name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&patch),
        )
        .await
    }

    /// Publishes an event; a failure to do so is logged and otherwise without consequence.
    pub async fn event<K>(&self, object: &K, warning: bool, reason: &str, action: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(shortened(note, NOTE)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, reason, "an event could not be published");
        }
    }

    /// What a schedule's incremental backups are cut from, as its own task says; asked again for so long while that has not spoken
    /// yet.
    pub async fn recording(&self, schedule: &ResourceName, wait: Duration) -> Option<Recording> {
        let mut told = self.recordings.subscribe();
        let known = told.wait_for(|all| all.contains_key(schedule));
        let known = tokio::time::timeout(wait, known).await.ok()?.ok()?;
        known.get(schedule).cloned()
    }

    /// Remembers that; `None` when the schedule is gone.
    pub fn set_recording(&self, schedule: &ResourceName, recording: Option<&Recording>) {
        self.recordings.send_modify(|all| match recording {
            Some(recording) => drop(all.insert(schedule.clone(), recording.clone())),
            None => drop(all.remove(schedule)),
        });
    }
}

/// A line of the audit log: who wanted what of which object, and what came of it.
pub fn audit<K>(object: &K, action: &str, scope: &str, outcome: &str)
where
    K: Resource<DynamicType = ()>,
{
    // Kubernetes tells an operator no user; whoever wrote the spec signed it with a field manager.
    let managers = object.meta().managed_fields.iter().flatten();
    let mut who: Vec<&str> = managers
        .filter(|entry| entry.subresource.is_none())
        .filter_map(|entry| entry.manager.as_deref())
        .filter(|manager| *manager != MANAGER)
        .collect();
    who.dedup();
    let who = if who.is_empty() {
        MANAGER.to_owned()
    } else {
        who.join(",")
    };
    tracing::info!(
        audit = true,
        action,
        kind = %K::kind(&()),
        namespace = object.meta().namespace.as_deref().unwrap_or_default(),
        name = object.meta().name.as_deref().unwrap_or_default(),
        uid = object.meta().uid.as_deref().unwrap_or_default(),
        who,
        scope,
        outcome,
        "audit"
    );
}
