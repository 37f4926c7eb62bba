//! The pages on a site without Kubernetes are walked: every command of theirs runs, in the order of the page, against a real etcd, a
//! real S3 server and Prometheus, and contract servers of the other clouds, while `run` works.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::blocks;
use super::walked::is_run_elsewhere;
use crate::backup::files;
use crate::support::{
    Etcd, GcsFake, KmsFake, OssGate, Process, Prometheus, Ran, SlackFake, Versitygw,
    guardian_command, repository, tools_dir, until,
};

/// The pages, in the order in which they are walked.
pub const PAGES: [&str; 28] = [
    "docs/how-to/run-as-a-service.md",
    "docs/how-to/choose-a-store.md",
    "docs/how-to/encrypt.md",
    "docs/how-to/look-into-a-snapshot.md",
    "docs/how-to/replicate.md",
    "docs/how-to/restore.md",
    "docs/how-to/tune-the-model.md",
    "docs/explanation/scheduling.md",
    "docs/reference/traces.md",
    "docs/troubleshooting.md",
    "docs/runbooks/BackupFailure.md",
    "docs/runbooks/BackupSizeSpiking.md",
    "docs/runbooks/CertificateExpiring.md",
    "docs/runbooks/ChannelDown.md",
    "docs/runbooks/ConfigInvalid.md",
    "docs/runbooks/EtcdDbGrowing.md",
    "docs/runbooks/EtcdUnavailable.md",
    "docs/runbooks/ModelFallback.md",
    "docs/runbooks/NoRecentBackup.md",
    "docs/runbooks/OperatorAbsent.md",
    "docs/runbooks/RecorderGap.md",
    "docs/runbooks/RecoverabilityLost.md",
    "docs/runbooks/ReplicaBehind.md",
    "docs/runbooks/RestoreDrillFailed.md",
    "docs/runbooks/StoreUnavailable.md",
    "docs/runbooks/ValidationFailure.md",
    "docs/how-to/store-in-alibaba-cloud.md",
    "docs/how-to/use-workload-identity.md",
];

/// Buckets that the pages name, each with a backup in it.
const BUCKETS: [&str; 5] = [
    "etcd-backups",
    "bucket/prefix",
    "first-bucket",
    "replica-bucket",
    "etcd-frankfurt",
];
const SHANGHAI: &str = "oss://etcd-shanghai?region=cn-test&endpoint=http://oss-cn-test.aliyuncs.com&credentialsSecret=oss";

struct Site {
    folder: TempDir,
    etcd: Etcd,
    s3: Versitygw,
    gcs: GcsFake,
    kms: KmsFake,
    prometheus: Prometheus,
    /// Two backups of the bucket `etcd-backups`, and the first one's revision.
    monday: String,
    tuesday: String,
    revision: i64,
    /// What of etcd was forgotten before.
    compacted: i64,
    running: Option<Process>,
    ran: usize,
    _oss: OssGate,
    _slack: SlackFake,
}

impl Site {
    fn new() -> Self {
        let slack = SlackFake::start();
        let mut site = Self {
            folder: tempfile::tempdir().unwrap(),
            etcd: Etcd::start("3.6"),
            s3: Versitygw::start_as(
                &BUCKETS.map(|bucket| bucket.split('/').next().unwrap()),
                "vgw",
                "vgwsecret",
                &["--region", "eu-central-1"],
            ),
            gcs: GcsFake::start("etcd-elsewhere"),
            kms: KmsFake::start(),
            prometheus: Prometheus::start(&crate::tuning::history(), &[]),
            monday: String::new(),
            tuesday: String::new(),
            revision: 0,
            compacted: 0,
            running: None,
            ran: 0,
            _oss: OssGate::start(&["etcd-shanghai", "etcd-hangzhou"]),
            _slack: slack,
        };
        site.etcd.fill("/registry/configmaps/default/k", 60, 100);
        for key in ["/registry/ranges/serviceips", "/registry/pods/shop/a"] {
            site.etcd.ctl(&["put", key, "something"]);
        }
        site.compacted = site.etcd.revision();
        let compacted = site.compacted.to_string();
        site.etcd.ctl(&["compaction", &compacted]);
        site.etcd
            .ctl(&["put", "/registry/pods/shop/b", "something"]);
        let proxy = site._oss.proxy.clone();
        let account = site.gcs.account();
        for (file, text) in [
            ("secrets/gcs/service-account.json", account.as_str()),
            ("secrets/oss/access-key-id", "LTAItest"),
            ("secrets/oss/access-key-secret", "testsecret"),
            ("secrets/oss/proxy-url", &proxy),
            ("secrets/etcd-client/none", ""),
            ("secrets/s3/access-key-id", "vgw"),
            ("secrets/s3/secret-access-key", "vgwsecret"),
            ("slack-webhook", &site._slack.webhook),
        ] {
            let place = site.at(file);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, text).unwrap();
        }
        // Where the tools have other names than on the pages.
        std::fs::create_dir_all(site.at("bin")).unwrap();
        for (name, tool) in [("etcdctl", "etcdctl-3.6"), ("age", "age")] {
            std::os::unix::fs::symlink(crate::support::tool(tool), site.at("bin").join(name))
                .unwrap();
        }
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The config and the schedule of the page on services, for this site.
    fn set_up(&mut self) {
        let page = blocks(&repository(PAGES[0]));
        for (kind, name) in [
            ("kind: EtcdGuardianConfig", "guardian.yaml"),
            ("kind: EtcdBackupSchedule", "manifests/main.yaml"),
        ] {
            let block = page.iter().find(|block| block.text.contains(kind)).unwrap();
            let text = block
                .text
                .replace("/etc/etcdguardian", &self.folder.path().display().to_string())
                .replace("/var/lib/etcdguardian", &self.at("state").display().to_string())
                .replace(
                    "endpoints: [\"https://10.0.0.1:2379\"], certificates: {secretName: etcd-client}",
                    &format!("endpoints: [\"{}\"]", self.etcd.endpoint()),
                )
                .replace(
                    "region: eu-central-1, credentialsSecret: s3",
                    &format!(
                        "region: eu-central-1, credentialsSecret: s3, endpoint: \"{}\", addressing: Path",
                        self.s3.url
                    ),
                );
            let place = self.at(name);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let text = if name == "guardian.yaml" {
                format!("{text}serve: {{listen: ''}}\n")
            } else {
                text.replace("spec:\n  schedule", "spec:\n  immediate: true\n  schedule")
            };
            std::fs::write(place, text).unwrap();
        }
        for bucket in BUCKETS {
            self.create(&format!("s3://{bucket}"));
        }
        self.create(SHANGHAI);
        let key = "/registry/configmaps/default/k1";
        self.etcd.ctl(&["put", key, "changed"]);
        self.create("s3://etcd-backups");
        let listed = self.guardian(&[
            "backup",
            "list",
            "--from",
            "s3://etcd-backups",
            "-o",
            "json",
        ]);
        let listed = listed.json();
        let mut ids: Vec<(i64, String)> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let id = one["id"].as_str().unwrap().to_owned();
                (one["revision"].as_i64().unwrap(), id)
            })
            .collect();
        ids.sort();
        (self.revision, self.monday) = ids[0].clone();
        self.tuesday = ids[ids.len() - 1].1.clone();
    }

    fn create(&self, url: &str) {
        let words = ["backup", "create", "--to", url];
        self.guardian(&words).ok();
    }

    fn guardian(&self, words: &[&str]) -> Ran {
        let mut command = guardian_command();
        self.dress(command.args(words), self.folder.path());
        Ran::of(&mut command)
    }

    /// The environment of a shell on this machine.
    fn dress(&self, command: &mut Command, folder: &Path) {
        let built = Path::new(env!("CARGO_BIN_EXE_etcdguardian"));
        let path = [
            self.at("bin"),
            built.parent().unwrap().to_owned(),
            tools_dir().join("bin"),
        ];
        let path = path.map(|part| part.display().to_string()).join(":");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("aws_") || text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(folder)
            .env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()))
            .env("ETCDGUARDIAN_CONFIG", self.at("guardian.yaml"))
            .env("ETCDCTL_ENDPOINTS", self.etcd.endpoint())
            .env("AWS_ENDPOINT_URL_S3", &self.s3.url)
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "vgw")
            .env("AWS_SECRET_ACCESS_KEY", "vgwsecret");
    }

    /// What a line of a page says, with the places of this site in it.
    fn here(&self, line: &str, folder: &Path, number: usize) -> String {
        let base = folder.display().to_string();
        let own = format!("{base}/{number}");
        std::fs::create_dir_all(&own).unwrap();
        let elsewhere = format!(
            "'gs://etcd-elsewhere?endpoint={}&credentialsSecret=gcs'",
            self.gcs.url
        );
        let pairs = [
            (
                "/etc/etcdguardian/",
                format!("{}/", self.folder.path().display()),
            ),
            (
                "--config guardian.yaml",
                format!("--config {}", self.at("guardian.yaml").display()),
            ),
            ("/var/lib/etcd", format!("{own}/etcd")),
            ("/tmp/new", format!("{own}/new")),
            ("/var/tmp/", format!("{base}/")),
            ("/tmp/etcdguardian/", format!("{own}/")),
            ("https://10.0.0.1:2379", self.etcd.endpoint()),
            ("http://127.0.0.1:2379", self.etcd.endpoint()),
            (
                "http://prometheus.monitoring:9090",
                self.prometheus.url.clone(),
            ),
            ("http://prometheus:9090", self.prometheus.url.clone()),
            ("20260101T000000Z-100", self.monday.clone()),
            ("20260102T000000Z-200", self.tuesday.clone()),
            (" 120000 ", format!(" {} ", self.compacted)),
            (" 123456 ", format!(" {} ", self.revision)),
            ("--since 56d", "--since 12d".to_owned()),
            ("--step 5m", "--step 15m".to_owned()),
            (
                "oss://etcd-shanghai?region=cn-shanghai",
                SHANGHAI.to_owned(),
            ),
            (
                "oss://etcd-hangzhou?region=cn-hangzhou",
                SHANGHAI.replace("etcd-shanghai", "etcd-hangzhou"),
            ),
            ("gs://etcd-elsewhere", elsewhere),
            (
                "arn:aws:kms:us-west-2:123456789012:key/mrk-1234",
                MULTI_REGION.to_owned(),
            ),
            (" NAME", " main".to_owned()),
            ("verify ID", "verify latest".to_owned()),
        ];
        let mut line = format!("{line} ");
        if folder.ends_with("encrypt") {
            let by = ["sealed", "kms-sealed"][usize::from(line.contains("--kms-key"))];
            line = line.replace("s3://etcd-backups", &format!("file://{base}/{by}"));
        }
        for (words, place) in pairs {
            line = line.replace(words, &place);
        }
        line.trim_end().to_owned()
    }

    /// Runs every command of a page.
    fn page(&mut self, page: &str) {
        let folder = self.at(Path::new(page).file_stem().unwrap().to_str().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        self.before(page, &folder);
        let mut number = 0;
        for block in blocks(&repository(page)) {
            if !["sh", "console"].contains(&block.language.as_str()) {
                continue;
            }
            for line in block.text.replace("\\\n", " ").lines() {
                let line = line.strip_prefix("$ ").unwrap_or(line);
                if is_run_elsewhere(page, line)
                    || ["kubectl ", "helm "]
                        .iter()
                        .any(|what| line.starts_with(what))
                {
                    continue;
                }
                number += 1;
                let line = self.here(line, &folder, number);
                self.line(&line, &folder, &block.place);
            }
        }
        assert!(number > 0, "{page}");
    }

    fn line(&mut self, line: &str, folder: &Path, place: &str) {
        self.ran += 1;
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]);
        self.dress(&mut command, folder);
        if line.starts_with("etcdguardian run ") && !line.contains("--once") {
            let words: Vec<&str> = line.split(' ').skip(1).collect();
            let mut command = guardian_command();
            self.dress(command.args(words), folder);
            let log = folder.join("run.log");
            self.running = Some(Process::start("run", &mut command, &log));
            until("protected", || {
                (self.guardian(&["status"]).code == 0).then_some(())
            });
            return;
        }
        if folder.ends_with("encrypt") {
            self.kms(&mut command);
        }
        if line.starts_with("etcdguardian keygen --unwrap") {
            taken_home(folder, "kms-sealed");
        }
        let ran = Ran::of(&mut command);
        assert_eq!(ran.code, 0, "{place}: {line}\n{}{}", ran.stdout, ran.stderr);
        if line.starts_with("etcdguardian keygen etcd-backups.key") {
            self.seal(folder, &format!("{} {}", ran.stdout, ran.stderr));
            taken_home(folder, "sealed");
        }
    }

    fn kms(&self, command: &mut Command) {
        command
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "awssecret")
            .env("AWS_ENDPOINT_URL_KMS", &self.kms.url);
    }

    /// What a page takes for granted.
    fn before(&self, page: &str, folder: &Path) {
        let file = |name: &str| folder.join(name).display().to_string();
        if page.ends_with("look-into-a-snapshot.md") || page.ends_with("/restore.md") {
            for name in ["snapshot.db", "monday.db", "tuesday.db"] {
                self.guardian(&["snapshot", "save", &file(name)]).ok();
            }
            self.guardian(&["keygen", &file("key.txt")]).ok();
        }
        if page.ends_with("tune-the-model.md") {
            let ran = ["model", "export", "--prometheus", &self.prometheus.url];
            let mut words = ran.to_vec();
            let out = file("older.csv");
            words.extend(["--since", "12d", "--step", "15m", "--out", &out]);
            self.guardian(&words).ok();
        }
    }

    /// Backups that are sealed for the public key which `keygen` printed, and by the key service, beside what the page then looks at.
    fn seal(&self, folder: &Path, said: &str) {
        let recipient = said
            .split_whitespace()
            .find(|word| word.starts_with("age1"));
        let secret = self.at("secrets/backup-keys");
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::write(secret.join("recipients"), recipient.unwrap()).unwrap();
        let store = format!("file://{}", folder.join("sealed").display());
        let manifests = self.at("kms");
        std::fs::create_dir_all(&manifests).unwrap();
        let schedule = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: kms}}\nspec:\n  schedule: '@hourly'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {{provider: Local, bucket: {}}}\n      encryption: {{enabled: true, kmsKeyID: '{KEY}'}}\n",
            folder.join("kms-sealed").display()
        );
        std::fs::write(manifests.join("kms.yaml"), schedule).unwrap();
        let config = std::fs::read_to_string(self.at("guardian.yaml")).unwrap();
        let own = format!("manifests: {}", self.at("manifests").display());
        let config = config.replace(&own, &format!("manifests: {}", manifests.display()));
        std::fs::write(self.at("kms.yaml"), config).unwrap();
        let mut command = guardian_command();
        command.args(["backup", "create", "--from-schedule", "kms"]);
        self.dress(&mut command, folder);
        self.kms(&mut command);
        Ran::of(command.env("ETCDGUARDIAN_CONFIG", self.at("kms.yaml"))).ok();
        self.guardian(&[
            "backup",
            "create",
            "--to",
            &store,
            "--encryption-secret",
            "backup-keys",
        ])
        .ok();
    }
}

/// The files of a store's one backup, beside the reader.
fn taken_home(folder: &Path, store: &str) {
    for file in files(&folder.join(store)) {
        std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
}

const KEY: &str = "arn:aws:kms:eu-central-1:1:key/k1";
const MULTI_REGION: &str = "arn:aws:kms:eu-central-1:1:key/mrk-replica";

#[test]
fn the_pages_on_a_site_are_walked() {
    let mut site = Site::new();
    site.set_up();
    for page in PAGES {
        site.page(page);
    }
    assert!(site.ran >= 90, "only {} lines were run", site.ran);
    eprintln!("{} lines ran", site.ran);
}
