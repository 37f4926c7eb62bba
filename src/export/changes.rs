//! What changed of one kind between two resourceVersions: watched from the first, read up to the second. A server that has forgotten
//! the first says so; one that does not say when the second is reached is not believed to have told everything. In both cases the kind
//! is listed anew, and the others are not.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::{Request, Resource};
use serde_json::{Map, Value};

use super::ExportError;
use super::list::{Kind, Spool, page};
use crate::cause::with_causes;

/// How long a watch may last. A server tells how far a watch is two seconds before its end.
const WATCHED: Duration = Duration::from_secs(6);
/// A connection that breaks looks like an end, and comes earlier.
const MARGIN: Duration = Duration::from_secs(1);
/// A server that does not even end the watch is left after this.
const GIVEN_UP: Duration = Duration::from_secs(30);

/// What became of a kind.
pub enum Changed {
    /// These changes, and no others.
    Net(Net),
    /// It cannot be told whether these are all changes, the server has forgotten some, or the kind cannot be watched: it must be
    /// listed anew. Why, in words.
    Unknown(String),
}

/// The last word on each object that changed.
pub struct Net {
    spool: Spool,
    /// Which object of the spool is the last one of its name; none when it is gone.
    last: BTreeMap<(String, String), Option<u64>>,
    added: u64,
}

impl Net {
    /// Nothing changed.
    pub fn empty() -> Self {
        Self::new(None)
    }

    fn new(scratch: Option<&Path>) -> Self {
        Self {
            spool: Spool::new(scratch),
            last: BTreeMap::new(),
            added: 0,
        }
    }

    /// The objects that are gone: namespace and name.
    pub fn gone(&self) -> impl Iterator<Item = &(String, String)> {
        let gone = self.last.iter().filter(|(_, at)| at.is_none());
        gone.map(|(object, _)| object)
    }

    /// Shows each object that is there in its last form: namespace, name, JSON. How many there were.
    ///
    /// # Errors
    /// As [`Spool::show`].
    pub fn show(
        self,
        mut show: impl FnMut(&str, &str, &[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<u64> {
        let (last, mut at, mut shown) = (self.last, 0, 0);
        self.spool.show(|namespace, name, json| {
            let object = (namespace.to_owned(), name.to_owned());
            let newest = last.get(&object) == Some(&Some(at));
            at += 1;
            if newest {
                shown += 1;
                show(namespace, name, json)?;
            }
            Ok(())
        })?;
        Ok(shown)
    }
}

/// Watches a kind from one version to another: of the whole cluster, or of these namespaces alone.
///
/// # Errors
/// When the server cannot be reached, or the spool cannot be written.
pub async fn changes(
    client: &Client,
    kind: &Kind,
    namespaces: &[String],
    (from, to): (u64, u64),
    scratch: Option<&Path>,
) -> Result<Changed, ExportError> {
    let mut net = Net::new(scratch);
    let places: Vec<(Option<&str>, Option<&str>)> = match (namespaces.is_empty(), kind.namespaced) {
        (true, _) => vec![(None, None)],
        (false, true) => namespaces
            .iter()
            .map(|one| (Some(one.as_str()), None))
            .collect(),
        // The namespaces themselves.
        (false, false) => namespaces
            .iter()
            .map(|one| (None, Some(one.as_str())))
            .collect(),
    };
    for (namespace, name) in places {
        let watched = watch(
            client,
            &kind.resource,
            (namespace, name),
            (from, to),
            &mut net,
        );
        let watched = tokio::time::timeout(GIVEN_UP, watched).await;
        let given_up = || Ok(End::open("the server did not end the watch"));
        if let End::Open(why) = watched.unwrap_or_else(|_| given_up())? {
            return Ok(Changed::Unknown(why));
        }
    }
    Ok(Changed::Net(net))
}

/// How a watch ended.
enum End {
    /// All up to the version was told.
    Reached,
    /// Nobody can say, and why.
    Open(String),
}

impl End {
    fn open(why: &str) -> Self {
        Self::Open(why.to_owned())
    }
}

async fn watch(
    client: &Client,
    resource: &ApiResource,
    (namespace, name): (Option<&str>, Option<&str>),
    (from, to): (u64, u64),
    net: &mut Net,
) -> Result<End, ExportError> {
    let words = format!("watch {}", resource.kind);
    let mut params = WatchParams::default().timeout(WATCHED.as_secs() as u32);
    if let Some(name) = name {
        params = params.fields(&format!("metadata.name={name}"));
    }
    let path = DynamicObject::url_path(resource, namespace);
    let request = Request::new(path).watch(&params, &from.to_string());
    let request = request
        .map_err(kube::Error::BuildRequest)
        .map_err(ExportError::server(words.clone()))?;
    let began = Instant::now();
    let events = match client.request_events::<Map<String, Value>>(request).await {
        Ok(events) => events,
        Err(error) => return ended(error, words),
    };
    // A consistent read makes the server ask etcd how far its own watch is: a quiet kind would be silent about it for minutes.
    let nudge = page(client, resource, namespace, &ListParams::default().limit(1)).await;
    if let Err(error) = nudge {
        return ended(error, words);
    }
    let mut events = pin!(events);
    let mut at_version = false;
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            // The server ended it in its own time, and the last event was of the version itself: no bookmark follows on such a one.
            Ok(None) if at_version && began.elapsed() >= WATCHED - MARGIN => {
                return Ok(End::Reached);
            }
            Ok(None) => return Ok(End::open("the server did not say how far the watch was")),
            Err(kube::Error::Api(status)) => return ended(kube::Error::Api(status), words),
            // A watch that breaks is a watch that did not tell everything.
            Err(error) => return Ok(End::Open(with_causes(&error))),
        };
        let (object, is_there) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, true),
            WatchEvent::Deleted(object) => (object, false),
            WatchEvent::Bookmark(mark) => {
                let reached = mark.metadata.resource_version.parse::<u64>();
                match reached.is_ok_and(|reached| reached >= to) {
                    true => return Ok(End::Reached),
                    false => continue,
                }
            }
            WatchEvent::Error(status) => return ended(kube::Error::Api(status), words),
        };
        match version_of(&object) {
            Some(version) if version > to => return Ok(End::Reached),
            // Others of the same revision may follow: somebody may write several at once into etcd.
            Some(version) => {
                at_version = version == to;
                net.note(resource, object, is_there).map_err(|source| {
                    let action = "write";
                    ExportError::Bundle { action, source }
                })?;
            }
            None => return Ok(End::open("an object without a resourceVersion")),
        }
    }
}

/// What a refusal means.
fn ended(error: kube::Error, words: String) -> Result<End, ExportError> {
    match error {
        // Not allowed to watch, not watchable, too busy for it, forgotten (410: a server's cache of a kind holds the last hundreds of its events, and
        // begins anew when the definition of a custom kind changes) or half forgotten (500: etcd has compacted what an object was
        // before): what can be listed is listed.
        kube::Error::Api(status)
            if [403, 404, 405, 410, 429, 500, 503, 504].contains(&status.code) =>
        {
            Ok(End::Open(status.message))
        }
        error => Err(ExportError::server(words)(error)),
    }
}

fn version_of(object: &Map<String, Value>) -> Option<u64> {
    let version = object.get("metadata")?.get("resourceVersion")?;
    version.as_str()?.parse().ok()
}

impl Net {
    fn note(
        &mut self,
        resource: &ApiResource,
        object: Map<String, Value>,
        is_there: bool,
    ) -> std::io::Result<()> {
        let text = |field: &str| {
            let value = object.get("metadata").and_then(|meta| meta.get(field));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let key = (text("namespace"), text("name"));
        let at = is_there.then_some(self.added);
        if is_there {
            self.spool.add(resource, object)?;
            self.added += 1;
        }
        self.last.insert(key, at);
        Ok(())
    }
}
