//! Connections to clusters, shared by all who look at one with the same credentials: a thousand schedules of a cluster do not each
//! connect to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{ConnectOptions, Etcd};

/// Connections that nobody has used for so long are closed.
const UNUSED: Duration = Duration::from_secs(900);

type Known = HashMap<[u8; 32], (Arc<Etcd>, Instant)>;

/// Clusters that somebody has looked at lately.
#[derive(Default)]
pub struct SharedClusters {
    known: Mutex<Known>,
}

impl SharedClusters {
    /// The cluster that is reached so; nothing is sent to it yet.
    pub fn of(&self, options: &ConnectOptions) -> Arc<Etcd> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, used)| now.duration_since(*used) < UNUSED);
        let (etcd, used) = known
            .entry(options.fingerprint())
            .or_insert_with(|| (Arc::new(Etcd::unconnected(options)), now));
        *used = now;
        Arc::clone(etcd)
    }

    /// The next who wants it connects anew: it did not answer, and what it was told of users may no longer hold.
    pub fn forget(&self, options: &ConnectOptions) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&options.fingerprint());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::ClusterConfig;
    use crate::secrets::FolderSecrets;

    async fn options(folder: &std::path::Path, password: &str) -> ConnectOptions {
        std::fs::create_dir_all(folder.join("etcd")).unwrap();
        std::fs::write(folder.join("etcd/username"), "root").unwrap();
        std::fs::write(folder.join("etcd/password"), password).unwrap();
        let cluster: ClusterConfig = serde_json::from_value(serde_json::json!({
            "endpoints": ["http://127.0.0.1:1"], "auth": {"secretName": "etcd"},
        }))
        .unwrap();
        let secrets = FolderSecrets::new(Some(folder.to_owned()));
        let resolved = ConnectOptions::resolve(&cluster, "default", &secrets).await;
        resolved.unwrap()
    }

    #[tokio::test]
    async fn a_cluster_is_shared_until_its_credentials_change_or_it_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let clusters = SharedClusters::default();
        let old = options(folder.path(), "old").await;
        let first = clusters.of(&old);
        assert!(Arc::ptr_eq(
            &first,
            &clusters.of(&options(folder.path(), "old").await)
        ));
        let new = options(folder.path(), "new").await;
        assert!(!Arc::ptr_eq(&first, &clusters.of(&new)));
        clusters.forget(&old);
        assert!(!Arc::ptr_eq(&first, &clusters.of(&old)));
    }
}
