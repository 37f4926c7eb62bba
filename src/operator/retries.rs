//! Looks at the objects of a controller, and how long an object waits after the API server refused something of it: longer after each
//! refusal in a row, and only that object.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::Resource;
use kube::core::DynamicObject;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::ObjectRef;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::lease::is_conflict;
use crate::cause::with_causes;

/// The wait after the first refusal.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// The wait after so many refusals in a row: each twice as long as the one before.
pub fn wait_after(refusals: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(refusals.saturating_sub(1));
    FIRST.saturating_mul(doubled).min(LONGEST)
}

/// An object's uid, as another one may have its name later, and the refusals in a row.
type Refusals = (Option<String>, u32);

/// The objects that were refused last; who was answered, or is gone, is not in it.
#[derive(Default)]
pub struct Retries(Mutex<HashMap<ObjectRef<DynamicObject>, Refusals>>);

impl Retries {
    /// When an object is looked at again that was refused once more.
    fn refused<K>(&self, object: &K) -> Action
    where
        K: Resource<DynamicType = ()>,
    {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (uid, refusals) = all
            .entry(ObjectRef::from_obj(object).erase())
            .or_insert((None, 0));
        if *uid != object.meta().uid {
            (*uid, *refusals) = (object.meta().uid.clone(), 0);
        }
        *refusals = refusals.saturating_add(1);
        Action::requeue(wait_after(*refusals))
    }

    /// Notes that an object was answered, or is gone.
    fn settled(&self, object: &ObjectRef<DynamicObject>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(object);
    }

    /// Notes what else a controller tells: that an object is gone which was to be looked at again.
    fn told<R: StdError + 'static, Q: StdError + 'static>(&self, error: &Error<R, Q>) {
        if let Error::ObjectNotFound(gone) = error {
            self.settled(gone);
        }
    }
}

/// Runs a controller until the process ends: `look` at each object that changes, and `again` where somebody was faster.
pub async fn control<K, F>(
    controller: Controller<K>,
    look: fn(Arc<K>, Arc<Context>) -> F,
    again: Duration,
    context: Arc<Context>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, kube::Error>> + Send + 'static,
{
    let told = Arc::clone(&context);
    let reconcile = move |object: Arc<K>, context: Arc<Context>| {
        let looked = look(Arc::clone(&object), Arc::clone(&context));
        async move { after_look(&context, object.as_ref(), again, looked.await) }
    };
    controller
        .run(
            reconcile,
            |object, _, context| context.retries.refused(object.as_ref()),
            context,
        )
        .for_each(|result| {
            if let Err(error) = result {
                told.retries.told(&error);
                tracing::debug!(kind = %K::kind(&()), %error, "a look did not come about or end well");
            }
            ready(())
        })
        .await;
}

/// What follows a look at an object, whatever came of it.
///
/// # Errors
/// What the API server refused, for [`Retries::refused`].
fn after_look<K>(
    context: &Context,
    object: &K,
    again: Duration,
    outcome: Result<Action, kube::Error>,
) -> Result<Action, kube::Error>
where
    K: Resource<DynamicType = ()>,
{
    let kind = K::kind(&());
    context.services.metrics.reconciled(&kind, outcome.is_ok());
    let outcome = match outcome {
        // What they wrote comes by the watch.
        Err(error) if is_conflict(&error) => Ok(Action::requeue(again)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::await_change()),
        outcome => outcome,
    };
    let object = ObjectRef::from_obj(object);
    match &outcome {
        Ok(_) => context.retries.settled(&object.erase()),
        Err(error) => tracing::warn!(%kind, %object, "{}", with_causes(error)),
    }
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    fn object(name: &str, uid: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        };
        ConfigMap {
            metadata,
            ..ConfigMap::default()
        }
    }

    fn reference(object: &ConfigMap) -> ObjectRef<DynamicObject> {
        ObjectRef::from_obj(object).erase()
    }

    fn after(seconds: u64) -> Action {
        Action::requeue(Duration::from_secs(seconds))
    }

    #[test]
    fn each_wait_is_longer_up_to_five_minutes() {
        let seconds = |refusals| wait_after(refusals).as_secs();
        assert_eq!([1, 2, 3, 4, 9, 10].map(seconds), [1, 2, 4, 8, 256, 300]);
        assert_eq!(wait_after(u32::MAX), LONGEST);
    }

    #[test]
    fn an_object_waits_for_its_own_refusals_only_and_begins_anew_after_an_answer() {
        let retries = Retries::default();
        let (bad, good) = (object("bad", "1"), object("good", "2"));
        let waits: Vec<Action> = (0..3).map(|_| retries.refused(&bad)).collect();
        assert_eq!(waits, [after(1), after(2), after(4)]);
        assert_eq!(retries.refused(&good), after(1));
        retries.settled(&reference(&bad));
        assert_eq!(retries.refused(&bad), after(1));
        assert_eq!(retries.refused(&good), after(2));
    }

    #[test]
    fn an_object_that_was_deleted_leaves_nothing_behind_for_the_next_of_its_name() {
        let retries = Retries::default();
        for _ in 0..3 {
            retries.refused(&object("bad", "1"));
        }
        assert_eq!(retries.refused(&object("bad", "2")), after(1));
        let gone = Box::new(reference(&object("bad", "2")));
        let error: Error<kube::Error, kube::Error> = Error::ObjectNotFound(gone);
        retries.told(&error);
        assert!(retries.0.lock().unwrap().is_empty());
    }
}
