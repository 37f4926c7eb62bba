//! Moves a proved restore into place: the only part of a restore that touches the target.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::RestoreError;
use super::observe::is_running;
use super::plan::{LOST_AND_FOUND, Plan, WORKSPACE};
use super::workspace::{make_folder, sync_folder};

/// What takes the place of a folder belongs to whom the folder belonged: etcd seldom runs as root, a restore often does.
pub fn keep_owner(target: &Path, data: &Path) -> Result<(), RestoreError> {
    let (Ok(old), Ok(new)) = (fs::metadata(target), fs::metadata(data)) else {
        return Ok(());
    };
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        chown(&folder, Some(old.uid()), Some(old.gid()))
            .map_err(RestoreError::file("give away the folder", &folder))?;
        let entries = fs::read_dir(&folder).map_err(RestoreError::file("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(RestoreError::file("list", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                chown(&path, Some(old.uid()), Some(old.gid()))
                    .map_err(RestoreError::file("give away the file", &path))?;
            }
        }
    }
    Ok(())
}

/// What was moved away under a living etcd would go on to be written.
pub fn refuse_running(target: &Path) -> Result<(), RestoreError> {
    if is_running(target) {
        return Err(RestoreError::Running {
            data_dir: target.to_owned(),
        });
    }
    Ok(())
}

/// Moves what is there aside when told, and the restored folder where it was.
pub fn put_in_place(plan: &Plan, data: &Path) -> Result<(), RestoreError> {
    let target = &plan.data_dir;
    // Whoever keeps etcd running may have started it meanwhile.
    refuse_running(target)?;
    if plan.inside {
        return put_inside(plan, data);
    }
    if let Some(old) = &plan.keep_old_as {
        fs::rename(target, old).map_err(RestoreError::file("move aside", target))?;
    }
    if let Err(error) = fs::rename(data, target) {
        if let Some(old) = &plan.keep_old_as {
            // Back as it was; when this fails too, the old directory is still there under its new name.
            let _ = fs::rename(old, target);
        }
        return Err(RestoreError::file("move into place", target)(error));
    }
    sync_folder(
        target
            .parent()
            .filter(|parent| *parent != Path::new(""))
            .unwrap_or(Path::new(".")),
    )
}

/// The root of a file system cannot be renamed: what lies in it is.
fn put_inside(plan: &Plan, data: &Path) -> Result<(), RestoreError> {
    let target = &plan.data_dir;
    let names = |folder: &Path| -> Result<Vec<OsString>, RestoreError> {
        fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
            .map_err(RestoreError::file("list", folder))
    };
    if let Some(old) = &plan.keep_old_as {
        make_folder(old)?;
        let ours = [
            Some(OsStr::new(WORKSPACE)),
            Some(OsStr::new(LOST_AND_FOUND)),
            old.file_name(),
        ];
        for name in names(target)? {
            let earlier = name.to_string_lossy().starts_with("before-");
            if !earlier && !ours.contains(&Some(name.as_os_str())) {
                let from = target.join(&name);
                fs::rename(&from, old.join(&name))
                    .map_err(RestoreError::file("move aside", &from))?;
            }
        }
    }
    for name in names(data)? {
        let to = target.join(&name);
        fs::rename(data.join(&name), &to).map_err(RestoreError::file("move into place", &to))?;
    }
    sync_folder(target)
}
