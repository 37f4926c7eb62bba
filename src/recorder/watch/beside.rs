//! What no watch tells, asked for beside it: users and roles by their revision, and alarms.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Origin;
use crate::etcd::Etcd;

/// How often. Each question about users passes through raft once, as a write does.
const EVERY: Duration = Duration::from_secs(15);

/// What etcd said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// The revision of users and roles; `None` while nobody tells.
    pub auth_revision: Option<u64>,
    /// Raised alarms, as `NOSPACE of member 8e9e05c52164694d`; `None` while nobody tells.
    pub alarms: Option<Vec<String>>,
}

impl Beside {
    /// That users or roles are no longer those of the full backup that a chain stands on, in words.
    pub(super) fn users_changed(&self, origin: &Origin) -> Option<String> {
        let (then, now) = (origin.auth_revision?, self.auth_revision?);
        (then != now).then(|| changed(then, now))
    }
}

/// Users or roles are other ones, in words.
pub fn changed(then: u64, now: u64) -> String {
    format!(
        "users or roles were changed, which no increment holds: etcd's authRevision is {now}, and {then} in the full backup"
    )
}

/// Asks again and again; what was said last stays while nobody answers.
pub(super) async fn ask(etcd: Arc<Etcd>, said: watch::Sender<Beside>) {
    loop {
        let (auth_revision, alarms) = tokio::join!(etcd.auth_revision(), etcd.alarms());
        said.send_if_modified(|last| {
            let now = Beside {
                auth_revision: auth_revision.or(last.auth_revision),
                alarms: alarms.ok().or_else(|| last.alarms.clone()),
            };
            let other = *last != now;
            *last = now;
            other
        });
        tokio::time::sleep(EVERY).await;
    }
}
