//! `backup create`, `backup verify`, `snapshot save` and `doctor` against real servers.

mod create;
mod doctor;
pub mod memory;
mod proof;
mod save;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Etcd, Ran, Versitygw, guardian_command};

/// A folder with secrets, a store and a config for one etcd.
pub struct Desk {
    pub folder: TempDir,
}

impl Desk {
    /// `extra` is more YAML of the config.
    pub fn new(cluster: &str, extra: &str) -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (secret, values) in [
            (
                "s3",
                [("access-key-id", "vgw"), ("secret-access-key", "vgwsecret")],
            ),
            (
                "root",
                [("username", "root"), ("password", "correct horse")],
            ),
            ("reader", [("username", "reader"), ("password", "hunter2")]),
        ] {
            let folder = desk.path("secrets").join(secret);
            std::fs::create_dir_all(&folder).unwrap();
            for (key, value) in values {
                std::fs::write(folder.join(key), value).unwrap();
            }
        }
        std::fs::create_dir_all(desk.path("store")).unwrap();
        let config = format!(
            "kind: EtcdGuardianConfig\ncluster: {cluster}\nsecretsDir: {}\nstateDir: {}\n{extra}\n",
            desk.path("secrets").display(),
            desk.path("state").display(),
        );
        std::fs::write(desk.path("guardian.yaml"), config).unwrap();
        desk
    }

    /// For a plain etcd, with a folder as store.
    pub fn local(etcd: &Etcd) -> Self {
        let desk = Self::new(&cluster(&etcd.endpoints()), "");
        let store = format!(
            "store: {{provider: Local, bucket: {}}}\n",
            desk.path("store").display()
        );
        desk.add(&store);
        desk
    }

    /// More YAML of the config.
    pub fn add(&self, yaml: &str) {
        let file = self.path("guardian.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text + yaml).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new pair of age keys: the file of the secret one, and the public one, which the Secret `seal` names.
    pub fn seal(&self) -> (String, String) {
        let identity = self.path("offline.key").display().to_string();
        let public = self.run(&["keygen", &identity]).ok();
        std::fs::create_dir_all(self.path("secrets/seal")).unwrap();
        std::fs::write(self.path("secrets/seal/recipients"), &public).unwrap();
        (identity, public.trim().to_owned())
    }

    /// A backup that is sealed for it.
    pub fn create_sealed(&self) -> Value {
        let words = [
            "backup",
            "create",
            "--encryption-secret",
            "seal",
            "-o",
            "json",
        ];
        self.run(&words).json()
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        self.run_as(&[], words)
    }

    /// The same with these variables in the environment.
    pub fn run_as(&self, variables: &[(&str, &str)], words: &[&str]) -> Ran {
        let mut command = guardian_command();
        command.envs(variables.iter().copied()).args(words);
        Ran::of(command.arg("--config").arg(self.path("guardian.yaml")))
    }

    pub fn create(&self) -> Value {
        self.run(&["backup", "create", "-o", "json"]).json()
    }

    pub fn items(&self) -> Vec<Value> {
        let listed = self.run(&["backup", "list", "-o", "json"]).json();
        listed["items"].as_array().unwrap().clone()
    }
}

pub fn cluster(endpoints: &[String]) -> String {
    format!("{{name: test, endpoints: ['{}']}}", endpoints.join("','"))
}

/// A store of versitygw's bucket `backups`, reached on this port.
pub fn s3(port: u16) -> String {
    format!(
        "store: {{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', credentialsSecret: s3, addressing: Path}}\n"
    )
}

/// The file behind a local backup.
pub fn data_file(backup: &Value) -> PathBuf {
    let location = backup["location"].as_str().unwrap();
    PathBuf::from(location.strip_prefix("file://").unwrap())
}

/// The files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The objects of versitygw's bucket `backups`.
pub fn objects(store: &Versitygw) -> Vec<PathBuf> {
    files(&store.file("backups", ""))
        .into_iter()
        .filter(|path| !path.display().to_string().contains("/.sgwtmp/"))
        .collect()
}

/// Changes a byte in the middle of a file, in place.
pub fn flip(file: &Path) {
    use std::os::unix::fs::FileExt;
    let handle = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let at = handle.metadata().unwrap().len() * 3 / 4;
    let mut byte = [0];
    handle.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    handle.write_all_at(&byte, at).unwrap();
}
