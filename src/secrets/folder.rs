//! Secrets of stand-alone mode: a folder per Secret, a file per key.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{Secret, SecretError, Secrets};

/// Larger than any credential; a bigger file is not one.
const MAX_VALUE_BYTES: u64 = 1024 * 1024;

/// Reads `<folder>/<secret>/<key>`; the namespace plays no part, as stand-alone mode has one owner.
#[derive(Debug, Clone)]
pub struct FolderSecrets {
    folder: Option<PathBuf>,
}

impl FolderSecrets {
    /// Secrets below `folder`; without one, every read fails by name.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }
}

#[async_trait]
impl Secrets for FolderSecrets {
    async fn read(&self, _namespace: &str, name: &str) -> Result<Secret, SecretError> {
        let Some(folder) = &self.folder else {
            return Err(SecretError::NoFolder {
                name: name.to_owned(),
            });
        };
        let valid = !name.is_empty()
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !valid {
            return Err(SecretError::InvalidName {
                name: name.to_owned(),
            });
        }
        let path = folder.join(name);
        let place = path.display().to_string();
        let values = tokio::task::spawn_blocking(move || read_folder(&path)).await;
        match values {
            Ok(Ok(values)) => Ok(Secret::new(name, values)),
            Ok(Err(source)) if source.kind() == io::ErrorKind::NotFound => {
                Err(SecretError::NotFound {
                    name: name.to_owned(),
                    place,
                })
            }
            Ok(Err(source)) => Err(SecretError::Unreadable {
                name: name.to_owned(),
                place,
                source,
            }),
            Err(join) => {
                let source = io::Error::other(join);
                Err(SecretError::Unreadable {
                    name: name.to_owned(),
                    place,
                    source,
                })
            }
        }
    }
}

fn read_folder(path: &std::path::Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut values = BTreeMap::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let Ok(key) = entry.file_name().into_string() else {
            continue;
        };
        // Mounted Secrets keep their versions in hidden `..data` folders; the keys are links into it.
        let metadata = std::fs::metadata(entry.path())?;
        if key.starts_with('.') || !metadata.is_file() || metadata.len() > MAX_VALUE_BYTES {
            continue;
        }
        values.insert(key, std::fs::read(entry.path())?);
    }
    Ok(values)
}
