//! Puts objects into an API server by server-side apply, each tried out first.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams, PostParams,
    ValidationDirective,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::{Client, Config};
use serde_json::{Map, Value, json};

use super::ExportError;
use super::plan::{Change, compare, holds};
use super::stored::Identity;
use crate::cause::with_causes;

/// Who owns the fields that a restore sets.
pub const FIELD_MANAGER: &str = "etcdguardian-restore";

/// An API server.
pub struct Server {
    client: Client,
    url: String,
    /// What was asked once is not asked for every object; a kind that is not served is asked again.
    kinds: Mutex<HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>>,
}

/// An object on its way in.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Which it is.
    pub identity: Identity,
    /// What is applied.
    pub object: Map<String, Value>,
    /// Whether fields that the server does not know are refused: it was written for another version, which may have others.
    pub strict: bool,
    /// Its stored form in protocol buffers, which is created instead of applying the object.
    pub stored: Option<Vec<u8>>,
}

/// What a server says of a list that has a key twice.
const TWICE: &str = "duplicate entries for key";

impl Server {
    /// Connects to the server of a kubeconfig, else of `KUBECONFIG`, else of the pod.
    ///
    /// # Errors
    /// When none is known, or its configuration is broken.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> Result<Self, ExportError> {
        let no_server = |error: &dyn std::error::Error| ExportError::NoServer {
            problem: with_causes(error),
        };
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = match (kubeconfig, context) {
            (Some(file), _) => {
                let file = Kubeconfig::read_from(file).map_err(|error| no_server(&error))?;
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|error| no_server(&error))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| no_server(&error))?,
            (None, None) => Config::infer().await.map_err(|error| no_server(&error))?,
        };
        let url = config.cluster_url.to_string();
        Self::with(config, url)
    }

    /// Connects as the process that this is, and then acts as another user, with that user's rights and no more.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn acting_as(user: &str) -> Result<Self, ExportError> {
        let config = Config::infer().await;
        let mut config = config.map_err(|error| ExportError::NoServer {
            problem: with_causes(&error),
        })?;
        config.auth_info.impersonate = Some(user.to_owned());
        let url = config.cluster_url.to_string();
        Self::with(config, url)
    }

    fn with(config: Config, url: String) -> Result<Self, ExportError> {
        let client = Client::try_from(config).map_err(ExportError::server("set up the client"))?;
        Ok(Self {
            client,
            url,
            kinds: Mutex::default(),
        })
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether a namespace is there.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn has_namespace(&self, name: &str) -> Result<bool, ExportError> {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        match api.get_metadata_opt(name).await {
            Ok(found) => Ok(found.is_some()),
            // Whoever may not look finds out with the objects.
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(true),
            Err(error) => {
                let words = format!("ask for the namespace {name}");
                Err(ExportError::server(words)(error))
            }
        }
    }

    /// What applying an object would do; changes nothing.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn try_out(&self, incoming: &Incoming, force: bool) -> Result<Change, ExportError> {
        let api = match self.api(&incoming.identity).await? {
            Ok(api) => api,
            Err(reason) => return Ok(Change::NotServed { reason }),
        };
        let identity = &incoming.identity;
        let live = match api.get_opt(&identity.name).await {
            Ok(live) => live,
            Err(error) => return refused(error, identity),
        };
        if let Some(stored) = &incoming.stored {
            if live.is_some() {
                let reason = "it is there: a stored form can be created, and not applied";
                let reason = reason.to_owned();
                return Ok(Change::Refused { reason });
            }
            return match self.create(&api, stored, true).await {
                Ok(()) => Ok(Change::Create),
                Err(error) => refused(error, identity),
            };
        }
        let plain = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
        if let Some(live) = &live
            && holds(&plain(live), &Value::Object(incoming.object.clone()))
        {
            return Ok(Change::Unchanged);
        }
        let answered = patch(&api, incoming, force, true).await;
        let answered = match answered {
            Ok(answered) => answered,
            Err(error) => return refused(error, identity),
        };
        Ok(compare(
            live.as_ref().map(plain).as_ref(),
            &plain(&answered),
        ))
    }

    /// Applies an object; what the server says when it refuses.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn apply(
        &self,
        incoming: &Incoming,
        force: bool,
    ) -> Result<Result<(), String>, ExportError> {
        let api = match self.api(&incoming.identity).await? {
            Ok(api) => api,
            Err(reason) => return Ok(Err(reason)),
        };
        let applied = match &incoming.stored {
            Some(stored) => self.create(&api, stored, false).await,
            None => patch(&api, incoming, force, false).await.map(drop),
        };
        match applied {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(words_of(error, &incoming.identity)?)),
        }
    }

    /// Creates an object from its stored form.
    async fn create(
        &self,
        api: &Api<DynamicObject>,
        stored: &[u8],
        dry_run: bool,
    ) -> Result<(), kube::Error> {
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let url = format!(
            "{}?fieldManager={FIELD_MANAGER}{dry_run}",
            api.resource_url()
        );
        let request = http::Request::post(url)
            .header(
                http::header::CONTENT_TYPE,
                "application/vnd.kubernetes.protobuf",
            )
            .header(http::header::ACCEPT, "application/json")
            .body(stored.to_vec());
        let request = request.map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await.map(drop)
    }

    /// Whether the server knows the object's kind.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn serves(&self, identity: &Identity) -> Result<bool, ExportError> {
        Ok(self.api(identity).await?.is_ok())
    }

    /// The UID of an object, when it is there.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn uid_of(&self, identity: &Identity) -> Result<Option<String>, ExportError> {
        let found = self.metadata_of(identity).await?;
        Ok(found.and_then(|meta| meta.uid))
    }

    /// The metadata of an object, when it is there and may be read.
    pub(super) async fn metadata_of(
        &self,
        identity: &Identity,
    ) -> Result<Option<ObjectMeta>, ExportError> {
        let Ok(api) = self.api(identity).await? else {
            return Ok(None);
        };
        match api.get_metadata_opt(&identity.name).await {
            Ok(found) => Ok(found.map(|object| object.metadata)),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
            Err(error) => Err(ExportError::server(format!("ask for {identity}"))(error)),
        }
    }

    /// The object in a version that the server serves, where its own is not; nothing when the server knows no other.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn in_served_version(
        &self,
        incoming: &Incoming,
    ) -> Result<Option<Incoming>, ExportError> {
        let identity = &incoming.identity;
        let own = super::kinds::group_of(&identity.api_version);
        let group = super::kinds::group_now(own, &identity.kind);
        let served = match kube::discovery::group(&self.client, group).await {
            Ok(group) => {
                let mut all = group.resources_by_stability().into_iter();
                all.find(|(resource, _)| resource.kind == identity.kind)
            }
            Err(kube::Error::Discovery(_)) => None,
            Err(kube::Error::Api(status)) if [404, 503].contains(&status.code) => None,
            Err(error) => {
                let words = format!("ask {} for the group {group}", self.url);
                return Err(ExportError::server(words)(error));
            }
        };
        let version = served.map(|(resource, _)| resource.api_version);
        Ok(version
            .filter(|version| *version != identity.api_version)
            .map(|version| {
                let mut other = incoming.clone();
                other
                    .object
                    .insert("apiVersion".into(), version.clone().into());
                other.identity.api_version = version;
                other.strict = true;
                other
            }))
    }

    async fn api(
        &self,
        identity: &Identity,
    ) -> Result<Result<Api<DynamicObject>, String>, ExportError> {
        let (group, version) = identity
            .api_version
            .split_once('/')
            .unwrap_or(("", &identity.api_version));
        let kind = GroupVersionKind::gvk(group, version, &identity.kind);
        let not_served = || {
            format!(
                "the server does not serve {} of {}: apply its definition or an object of a version that it serves",
                identity.kind, identity.api_version
            )
        };
        let known = self
            .kinds
            .lock()
            .ok()
            .and_then(|kinds| kinds.get(&kind).cloned());
        let asked = match known {
            Some(known) => Ok(known),
            None => pinned_kind(&self.client, &kind).await,
        };
        let (resource, capabilities) = match asked {
            Ok(found) => found,
            Err(kube::Error::Discovery(_)) => return Ok(Err(not_served())),
            // 503: an aggregated API whose server does not answer.
            Err(kube::Error::Api(status)) if [404, 503].contains(&status.code) => {
                return Ok(Err(not_served()));
            }
            Err(error) => {
                return Err(ExportError::server(format!(
                    "ask {} for {}",
                    self.url, identity.kind
                ))(error));
            }
        };
        if let Ok(mut kinds) = self.kinds.lock() {
            kinds.insert(kind, (resource.clone(), capabilities.clone()));
        }
        let client = self.client.clone();
        Ok(Ok(match capabilities.scope {
            Scope::Namespaced => Api::namespaced_with(client, &identity.namespace, &resource),
            Scope::Cluster => Api::all_with(client, &resource),
        }))
    }
}

/// The object that makes a namespace.
pub fn namespace(name: &str) -> Incoming {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    Incoming {
        identity: Identity {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            namespace: String::new(),
            name: name.to_owned(),
        },
        object: object.as_object().cloned().unwrap_or_default(),
        strict: false,
        stored: None,
    }
}

async fn patch(
    api: &Api<DynamicObject>,
    incoming: &Incoming,
    force: bool,
    dry_run: bool,
) -> Result<DynamicObject, kube::Error> {
    let mut params = PatchParams::apply(FIELD_MANAGER);
    params.force = force;
    params.dry_run = dry_run;
    params.field_validation = incoming.strict.then_some(ValidationDirective::Strict);
    let patch = Patch::Apply(&incoming.object);
    match api.patch(&incoming.identity.name, &params, &patch).await {
        // Names that are twice in a list, as of variables, are valid and cannot be applied; they can be created.
        Err(kube::Error::Api(status)) if status.message.contains(TWICE) => {
            let post = PostParams {
                dry_run,
                field_manager: Some(FIELD_MANAGER.to_owned()),
            };
            let object = serde_json::from_value(Value::Object(incoming.object.clone()))
                .map_err(kube::Error::SerdeError)?;
            match api.create(&post, &object).await {
                Err(kube::Error::Api(there)) if there.code == 409 => Err(kube::Error::Api(status)),
                created => created,
            }
        }
        applied => applied,
    }
}

fn refused(error: kube::Error, identity: &Identity) -> Result<Change, ExportError> {
    words_of(error, identity).map(|reason| Change::Refused { reason })
}

/// What a server that answered says; a server that did not answer is an error.
fn words_of(error: kube::Error, identity: &Identity) -> Result<String, ExportError> {
    match error {
        kube::Error::Api(status) => {
            let conflict = if status.reason == "Conflict" {
                "; add --force-conflicts to take these fields over"
            } else {
                ""
            };
            Ok(format!("{}{conflict}", status.message))
        }
        error => Err(ExportError::server(format!("apply {identity}"))(error)),
    }
}
