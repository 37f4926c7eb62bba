//! Stops and starts a static pod on the node that this runs on: the kubelet runs what lies in its folder of manifests, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::RestoreError;
use super::observe::is_running;
use super::workspace::{make_folder, sync_folder};

/// Between two looks at the data directory.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row must find it free: a pod that ends and begins again all the time is caught between its ends too.
const FREE_LOOKS: u32 = 6;

/// The manifest of a static pod.
#[derive(Debug, Clone)]
pub struct StaticPod {
    /// Where the kubelet reads it.
    pub manifest: PathBuf,
    /// Where it lies while the pod is stopped, on the same file system.
    pub aside: PathBuf,
}

impl StaticPod {
    /// Moves the manifest aside and waits until no etcd runs on the data directory. Done already when it lies aside.
    ///
    /// # Errors
    /// When there is no manifest, it cannot be moved, or etcd goes on for longer than `limit`; it is moved back then.
    pub fn stop(&self, data_dir: &Path, limit: Duration) -> Result<(), RestoreError> {
        if self.manifest.exists() {
            self.shift(&self.manifest, &self.aside)?;
        } else if !self.aside.exists() {
            return Err(RestoreError::Usage(format!(
                "there is no {} on this node: name the manifest of etcd's static pod in spec.etcdCluster.staticPodManifest, or stop etcd by hand and set spec.quiesceCluster to false",
                self.manifest.display()
            )));
        }
        let begin = Instant::now();
        let mut free = 0;
        while free < FREE_LOOKS {
            free = if is_running(data_dir) { 0 } else { free + 1 };
            if begin.elapsed() > limit {
                self.start()?;
                return Err(RestoreError::Running {
                    data_dir: data_dir.to_owned(),
                });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Moves the manifest back. Done already when it is there.
    ///
    /// # Errors
    /// When it lies in neither place, or cannot be moved.
    pub fn start(&self) -> Result<(), RestoreError> {
        if self.manifest.exists() {
            return Ok(());
        }
        self.shift(&self.aside, &self.manifest)
    }

    fn shift(&self, from: &Path, to: &Path) -> Result<(), RestoreError> {
        for folder in [&self.aside, &self.manifest]
            .into_iter()
            .filter_map(|file| file.parent())
        {
            make_folder(folder)?;
        }
        fs::rename(from, to).map_err(RestoreError::file("move the manifest", from))?;
        for folder in [from, to].into_iter().filter_map(Path::parent) {
            sync_folder(folder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use rustix::fs::{FlockOperation, flock};

    use super::*;
    use crate::snapshot::datadir::DATABASE;

    #[test]
    fn a_manifest_goes_aside_and_back_and_etcd_must_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let pod = StaticPod {
            manifest: folder.path().join("manifests/etcd.yaml"),
            aside: folder.path().join("stopped/etcd.yaml"),
        };
        let data = folder.path().join("etcd");
        let none = pod.stop(&data, LOOK).unwrap_err().to_string();
        assert!(none.contains("staticPodManifest"), "{none}");
        fs::create_dir_all(pod.manifest.parent().unwrap()).unwrap();
        fs::create_dir_all(data.join("member/snap")).unwrap();
        fs::write(&pod.manifest, "kind: Pod").unwrap();
        let database = File::create(data.join(DATABASE)).unwrap();
        flock(&database, FlockOperation::NonBlockingLockExclusive).unwrap();
        let still = pod.stop(&data, Duration::ZERO).unwrap_err();
        assert!(matches!(still, RestoreError::Running { .. }), "{still}");
        assert!(
            pod.manifest.exists(),
            "a member that would not stop is left as it was"
        );
        flock(&database, FlockOperation::Unlock).unwrap();
        for _ in 0..2 {
            pod.stop(&data, Duration::from_secs(60)).unwrap();
            assert!(pod.aside.exists() && !pod.manifest.exists());
        }
        for _ in 0..2 {
            pod.start().unwrap();
            assert!(!pod.aside.exists() && pod.manifest.exists());
        }
    }
}
