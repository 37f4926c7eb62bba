//! `etcdguardian run` as people start it: a site with its config, manifests, secrets and store.

mod environment;
mod live;
mod promises;
mod screen;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Etcd, Pki, Process, free_port, guardian, guardian_process, until};

/// A config, its folders and what they hold.
pub struct Site {
    scratch: TempDir,
}

impl Site {
    pub fn new(etcd: &Etcd, extra: &str) -> Self {
        Self::of(&[etcd.endpoint()], extra)
    }

    /// A site whose etcd answers at these URLs.
    pub fn of(endpoints: &[String], extra: &str) -> Self {
        let site = Self {
            scratch: tempfile::tempdir().unwrap(),
        };
        for folder in ["manifests", "store"] {
            std::fs::create_dir_all(site.path(folder)).unwrap();
        }
        site.secret("s3", "access-key-id", b"vgw");
        site.secret("s3", "secret-access-key", b"vgwsecret");
        let port = free_port();
        let config = format!(
            "kind: EtcdGuardianConfig\ncluster: {{name: test, endpoints: ['{}']}}\nstateDir: {}\nmanifests: {}\nsecretsDir: {}\nserve: {{listen: '127.0.0.1:{port}'}}\n{extra}\n",
            endpoints.join("', '"),
            site.path("state").display(),
            site.path("manifests").display(),
            site.path("secrets").display(),
        );
        std::fs::write(site.config(), config).unwrap();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("guardian.yaml")
    }

    /// Writes one key of a Secret.
    pub fn secret(&self, name: &str, key: &str, value: &[u8]) {
        let folder = self.path("secrets").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(key), value).unwrap();
    }

    /// Gives it what an etcd with certificates and users asks for, by the Secrets `tls` and `user`.
    pub fn signs_in(&self, pki: &Pki, password: &str) {
        let file = |path: &Path| std::fs::read(path).unwrap();
        self.secret("tls", "ca.crt", &file(&pki.ca));
        self.secret("tls", "tls.crt", &file(&pki.client_cert));
        self.secret("tls", "tls.key", &file(&pki.client_key));
        self.secret("user", "username", b"root");
        self.secret("user", "password", password.as_bytes());
        let text = std::fs::read_to_string(self.config()).unwrap();
        let secured = "cluster: {certificates: {secretName: tls}, auth: {secretName: user}, ";
        std::fs::write(self.config(), text.replacen("cluster: {", secured, 1)).unwrap();
    }

    pub fn local(&self) -> String {
        format!(
            "{{provider: Local, bucket: {}}}",
            self.path("store").display()
        )
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.path("store").display())
    }

    /// A schedule that backs up every few seconds.
    pub fn schedule(&self, name: &str, location: &str, spec: &str) {
        let text = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: {name}}}\nspec:\n  schedule: '* * * * *'\n  immediate: true\n  aiOptimization: {{enabled: true, minInterval: 1s, maxInterval: 3s}}\n{spec}  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {location}\n      retentionPolicy: {{maxBackups: 50}}\n"
        );
        std::fs::write(self.path(&format!("manifests/{name}.yaml")), text).unwrap();
    }

    pub fn start(&self) -> Process {
        guardian_process(
            &["run", "--config", self.config().to_str().unwrap()],
            &self.path("run.log"),
        )
    }

    pub fn guardian(&self, words: &[&str]) -> crate::support::Ran {
        let config = self.config();
        let mut all = words.to_vec();
        all.extend(["--config", config.to_str().unwrap()]);
        guardian(&all)
    }

    /// Where the page is.
    pub fn port(&self) -> u16 {
        let config = std::fs::read_to_string(self.config()).unwrap();
        let port = config.split("listen: '127.0.0.1:").nth(1).unwrap();
        port.split('\'').next().unwrap().parse().unwrap()
    }

    /// What the page's JSON says.
    pub fn page(&self) -> Value {
        let answer = crate::support::http("GET", self.port(), "/status.json", "");
        answer.unwrap().json()
    }

    pub fn backups(&self, url: &str) -> Vec<Value> {
        let listed = self
            .guardian(&["backup", "list", "--from", url, "-o", "json"])
            .json();
        listed["items"].as_array().unwrap().clone()
    }

    pub fn wait_for_backups(&self, url: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} backups"), || {
            let backups = self.backups(url);
            (backups.len() >= count).then_some(backups)
        })
    }

    /// Every backup is whole, none was made twice, and each is consistent with the live cluster.
    pub fn assert_whole(&self, url: &str) -> usize {
        let backups = self.backups(url);
        let ids: BTreeSet<&str> = backups.iter().map(|b| b["id"].as_str().unwrap()).collect();
        let names: BTreeSet<&str> = backups
            .iter()
            .map(|b| b["name"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), backups.len());
        assert_eq!(
            names.len(),
            backups.len(),
            "no run was made twice: {backups:?}"
        );
        for id in ids {
            self.guardian(&["backup", "verify", id, "--from", url, "--deep"])
                .ok();
        }
        backups.len()
    }
}

pub fn scratch_is_empty(site: &Site) -> bool {
    std::fs::read_dir(site.path("state/scratch"))
        .map_or(true, |mut entries| entries.next().is_none())
}
