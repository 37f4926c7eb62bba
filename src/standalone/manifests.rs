//! The manifests folder: what it wants now, what in it is wrong, and word when it changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};
use tokio::sync::watch;

use crate::api::{EtcdBackup, EtcdBackupSchedule, Resource, StorageLocation, parse_resources};
use crate::engine::ResourceName;

/// Larger than any folder of manifests that people write; a bigger file is not one.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What the folder wants, and what in it could not be understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Schedules by name.
    pub schedules: BTreeMap<ResourceName, EtcdBackupSchedule>,
    /// Single backups by name.
    pub backups: BTreeMap<ResourceName, EtcdBackup>,
    /// One sentence for each file or object that is wrong; the others work all the same.
    pub problems: Vec<String>,
}

impl Desired {
    /// Reads every `*.yaml`, `*.yml` and `*.json` of the folder, in name order.
    pub fn load(folder: &Path, store: Option<&StorageLocation>) -> Self {
        let mut desired = Self::default();
        let files = match manifest_files(folder) {
            Ok(files) => files,
            Err(error) => {
                desired.problems.push(format!(
                    "the manifests folder {} cannot be read: {error}; create it or mend 'manifests' in the config",
                    folder.display()
                ));
                return desired;
            }
        };
        for file in files {
            let origin = file.display().to_string();
            match read_file(&file) {
                Ok(text) => match parse_resources(&text, &origin, store) {
                    Ok(resources) => {
                        for resource in resources {
                            desired.add(resource, &origin);
                        }
                    }
                    Err(error) => desired.problems.push(error.to_string()),
                },
                Err(error) => desired.problems.push(format!(
                    "{origin} cannot be read: {error}; mend its rights or remove it"
                )),
            }
        }
        desired
    }

    fn add(&mut self, resource: Resource, origin: &str) {
        let (kind, name, twice) = match resource {
            Resource::Schedule(schedule) => {
                let name = ResourceName::of(schedule.as_ref());
                let twice = self.schedules.contains_key(&name);
                if !twice {
                    self.schedules.insert(name.clone(), *schedule);
                }
                ("EtcdBackupSchedule", name, twice)
            }
            Resource::Backup(backup) => {
                let name = ResourceName::of(backup.as_ref());
                let twice = self.backups.contains_key(&name);
                if !twice {
                    self.backups.insert(name.clone(), *backup);
                }
                ("EtcdBackup", name, twice)
            }
            Resource::Restore(restore) => {
                let name = ResourceName::of(restore.as_ref());
                self.problems.push(format!(
                    "EtcdRestore {name} in {origin}: stand-alone mode restores only when told to; use 'etcdguardian restore'"
                ));
                return;
            }
        };
        if twice {
            self.problems.push(format!(
                "{kind} {name} in {origin} is there twice: the first one counts; remove or rename one"
            ));
        }
    }
}

fn manifest_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let wanted = path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        });
        if wanted && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    std::fs::read_to_string(path)
}

/// Counts up whenever something in the folder changes. The watcher works while it is held.
pub struct FolderWatch {
    _watcher: Option<notify::RecommendedWatcher>,
    changes: watch::Receiver<u64>,
}

impl FolderWatch {
    /// Watches the folder itself, not its files: editors and mounted ConfigMaps replace files by renaming.
    ///
    /// Where the system cannot watch, the periodic reload of the loop still sees every change.
    pub fn start(folder: &Path) -> Self {
        let (sender, changes) = watch::channel(0);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                sender.send_modify(|count| *count += 1);
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            tracing::warn!(folder = %folder.display(), %error, "cannot watch the manifests folder: changes are seen at the next periodic reload");
        }
        Self {
            _watcher: watcher.ok(),
            changes,
        }
    }

    /// Waits for the next change; for ever where the system cannot watch.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
