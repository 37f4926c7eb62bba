//! The pages on clusters are walked: their `kubectl`, `helm` and `etcdguardian` lines run, in the order of the page, against a real API
//! server, a real etcd and an S3 store. What needs a node is run on one (`super::walked`).

use std::process::{Command, Output};

use tempfile::TempDir;

use super::walked::is_run_elsewhere;
use super::{Block, blocks, documented};
use crate::support::{Etcd, Kubernetes, Pki, Process, Versitygw, free_port, repository, tools_dir};

/// The pages, in the order in which they are walked.
pub const PAGES: [&str; 10] = [
    "docs/tutorials/on-a-cluster.md",
    "docs/reference/operator.md",
    "docs/how-to/upgrade.md",
    "docs/how-to/let-tenants-back-up.md",
    "docs/how-to/get-one-object-back.md",
    "docs/how-to/export-a-managed-cluster.md",
    "docs/how-to/migrate.md",
    "docs/how-to/install-the-chart.md",
    "docs/how-to/install-offline.md",
    "docs/how-to/restore-kubeadm.md",
];

/// Pages whose lines of `kubectl` and `helm` are walked here, and the others on a site.
pub const SHARED: [&str; 3] = [
    "docs/how-to/store-in-alibaba-cloud.md",
    "docs/how-to/use-workload-identity.md",
    "docs/runbooks/OperatorAbsent.md",
];

struct Walk {
    cluster: Kubernetes,
    store: Versitygw,
    folder: TempDir,
    ran: usize,
    operator: Option<Process>,
    /// What else stands for words of the page.
    places: Vec<(String, String)>,
    /// Only lines of `kubectl` and `helm` are run.
    kubernetes_alone: bool,
}

impl Walk {
    fn new() -> Self {
        let cluster = Kubernetes::with_controllers();
        let region = ["--region", "eu-central-1"];
        let walk = Self {
            store: Versitygw::start_as(&["etcd-backups"], "vgw", "vgwsecret", &region),
            folder: tempfile::tempdir().unwrap(),
            cluster,
            ran: 0,
            operator: None,
            places: Vec::new(),
            kubernetes_alone: false,
        };
        // The chart brings its own.
        walk.cluster.kubectl(&["delete", "crd", "--all"]);
        let at = |path: &str| walk.folder.path().join(path);
        for folder in ["pki", "bin", "target/release", "kubernetes", "charts"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        let pki = Pki::create(&at("issued"));
        for (from, to) in [
            (&pki.ca, "ca.crt"),
            (&pki.server_cert, "tls.crt"),
            (&pki.server_key, "tls.key"),
        ] {
            std::fs::copy(from, at(to)).unwrap();
        }
        for (from, to) in [
            (&pki.ca, "ca.crt"),
            (&pki.server_cert, "healthcheck-client.crt"),
            (&pki.server_key, "healthcheck-client.key"),
        ] {
            std::fs::copy(from, at("pki").join(to)).unwrap();
        }
        std::os::unix::fs::symlink(repository("charts/etcdguardian"), at("charts/etcdguardian"))
            .unwrap();
        std::os::unix::fs::symlink(repository("docs"), at("docs")).unwrap();
        let built = env!("CARGO_BIN_EXE_etcdguardian");
        std::os::unix::fs::symlink(built, at("bin/etcdguardian")).unwrap();
        let config = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdGuardianConfig\ncluster: {{name: prod, endpoints: ['{}']}}\nstore: {{provider: S3, bucket: etcd-backups, region: eu-central-1}}\nstateDir: {}\n",
            walk.cluster.etcd.endpoint(),
            at("state").display()
        );
        std::fs::write(at("guardian.yaml"), config).unwrap();
        for stands_for in ["target/release/etcdguardian", "etcdguardian-new"] {
            std::fs::write(at(stands_for), "#!/bin/sh\n").unwrap();
        }
        walk
    }

    /// What a page says, with the places of this test in it.
    fn here(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let mut text = text.to_owned();
        for (words, place) in &self.places {
            text = text.replace(words, place);
        }
        text.replace("access-key-id=…", "access-key-id=vgw")
            .replace("secret-access-key=…", "secret-access-key=vgwsecret")
            .replace("/etc/kubernetes/pki/etcd/", &format!("{folder}/pki/"))
            .replace("/usr/local/bin/", &format!("{folder}/bin/installed-"))
            .replace("https://10.0.0.1:2379", &self.cluster.etcd.endpoint())
            .replace("  etcdCertificates: {secretName: etcd-client}\n", "")
            .replace("  certificates: {secretName: etcd-client}\n", "")
            .replace(
                "region: eu-central-1, credentialsSecret",
                &format!(
                    "region: eu-central-1, endpoint: '{}', addressing: Path, credentialsSecret",
                    self.store.url
                ),
            )
    }

    /// Runs what a page shows, block by block.
    fn page(&mut self, page: &str) {
        let blocks = blocks(&repository(page));
        // Files that commands name are the documents of the page.
        let write = |name: &str, text: &str| {
            std::fs::write(self.folder.path().join(name), self.here(text)).unwrap();
        };
        for block in &blocks {
            match block.language.as_str() {
                "text" if block.text.contains("storage:") => write("my-values.yaml", &block.text),
                "yaml" if block.text.contains("kind: EtcdBackup\n") => {
                    // There is no node that would run its Job.
                    write(
                        "first.yaml",
                        &(block.text.clone() + "  executor: InProcess\n"),
                    );
                }
                "yaml" if block.text.contains("kind: EtcdBackupSchedule\n") => {
                    write("schedule.yaml", &block.text);
                }
                _ => {}
            }
        }
        for block in blocks {
            match block.language.as_str() {
                "sh" | "console" => self.block(page, &block),
                "yaml" if block.text.contains("kind: EtcdBackupSchedule\n") => {
                    let ran = self.shell("kubectl apply -f schedule.yaml");
                    assert!(ran.status.success(), "{}: {}", block.place, said(&ran));
                }
                _ => {}
            }
        }
    }

    fn block(&mut self, page: &str, block: &Block) {
        let joined = block.text.replace("\\\n", " ");
        for line in joined.lines().map(|line| line.trim_start_matches("$ ")) {
            if self.kubernetes_alone && !["kubectl ", "helm "].iter().any(|w| line.starts_with(w)) {
                continue;
            }
            if is_run_elsewhere(page, line) {
                continue;
            }
            // The Deployment has no node: this operator stands for its pod, once the chart has defined the resources.
            if line.contains("first.yaml") {
                self.operator = Some(self.operator());
            }
            self.line(line, &block.place);
        }
    }

    fn line(&mut self, line: &str, place: &str) {
        let mut line = self.here(line);
        let asks = ["etcdguardian object restore", "etcdguardian import"];
        let looks = line.contains("--plan") || line.contains("--dry-run");
        if asks.iter().any(|what| line.starts_with(what)) && !looks {
            // What a person says on a terminal.
            line += " --yes";
        }
        let ran = self.shell(&line);
        assert!(ran.status.success(), "{place}: {line}\n{}", said(&ran));
        self.ran += 1;
    }

    fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("bash");
        let folder = self.folder.path();
        let path = [
            folder.join("bin"),
            tools_dir().join("bin"),
            std::env::var("PATH").unwrap().into(),
        ]
        .map(|part| part.display().to_string())
        .join(":");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("aws_") || text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(folder)
            .env("PATH", path)
            .env("HOME", folder)
            .env("KUBECONFIG", self.cluster.admin())
            .env("AWS_ENDPOINT_URL_S3", &self.store.url)
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "vgw")
            .env("AWS_SECRET_ACCESS_KEY", "vgwsecret")
            .output()
            .unwrap()
    }

    /// The operator that the chart would run in a pod.
    fn operator(&self) -> Process {
        let config = self.folder.path().join("operator.yaml");
        let text = format!(
            "cluster: {{name: prod, endpoints: ['{}']}}\nstateDir: {}\nserve: {{listen: ''}}\n",
            self.cluster.etcd.endpoint(),
            self.folder.path().join("state").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = crate::support::guardian_command();
        command
            .args(["operator", "--config"])
            .arg(&config)
            .env("KUBECONFIG", self.cluster.admin())
            .env("POD_NAME", "walk")
            .env("POD_NAMESPACE", "guardian");
        Process::start(
            "operator",
            &mut command,
            &self.folder.path().join("operator.log"),
        )
    }

    /// The control plane of three nodes that the page on kubeadm restores, after a member was stopped; the restored etcd.
    fn kubeadm(&mut self) -> Etcd {
        let page = "docs/how-to/restore-kubeadm.md";
        let mut old = Etcd::start("3.6");
        old.fill("k/", 10, 10);
        old.process(0).kill();
        let peers: Vec<String> = (0..3)
            .map(|_| format!("http://127.0.0.1:{}", free_port()))
            .collect();
        let mut members = Vec::new();
        for (node, peer) in peers.iter().enumerate() {
            let root = self.folder.path().join(format!("node{node}"));
            std::fs::create_dir_all(root.join("manifests")).unwrap();
            for name in ["etcd", "kube-apiserver"] {
                std::fs::write(root.join(format!("manifests/{name}.yaml")), "{}").unwrap();
            }
            let copied = Command::new("cp")
                .arg("-r")
                .args([old.data_dir(0), &root.join("etcd")])
                .status();
            assert!(copied.unwrap().success());
            let at = |name: &str| root.join(name).display().to_string();
            let place = |words: &str, place: String| (words.to_owned(), place);
            self.places = vec![
                place("--name cp1 ", format!("--name m{node} ")),
                place(
                    "--initial-advertise-peer-urls https://10.0.0.1:2380",
                    format!("--initial-advertise-peer-urls {peer}"),
                ),
                place("cp1=https://10.0.0.1:2380", format!("m0={}", peers[0])),
                place("cp2=https://10.0.0.2:2380", format!("m1={}", peers[1])),
                place("cp3=https://10.0.0.3:2380", format!("m2={}", peers[2])),
                place("/root/stopped", at("stopped")),
                place("/etc/kubernetes/manifests", at("manifests")),
                place("/var/lib/etcd", at("etcd")),
            ];
            if node == 0 {
                self.page(page);
                assert!(root.join("manifests/kube-apiserver.yaml").exists());
            } else {
                // On the others step 3 again, with their own names.
                let mut blocks = blocks(&repository(page));
                blocks.retain(|block| block.text.contains("--initial-cluster "));
                assert_eq!(blocks.len(), 1);
                self.block(page, &blocks[0]);
            }
            members.push((root.join("etcd"), peer.clone()));
        }
        Etcd::of("3.6").restored(&members).start()
    }

    /// What the pages on objects take for granted: a ConfigMap that two backups know, and that was deleted between them.
    fn objects(&mut self) {
        for name in ["old.kubeconfig", "new.kubeconfig"] {
            std::fs::copy(self.cluster.admin(), self.folder.path().join(name)).unwrap();
        }
        let endpoint = self.cluster.etcd.endpoint();
        let create = format!(
            "etcdguardian backup create --endpoints {endpoint} --to s3://etcd-backups/prod -o json"
        );
        let made = |walk: &Self| -> String {
            let ran = walk.shell(&create);
            assert!(ran.status.success(), "{}", said(&ran));
            let made: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
            made["id"].as_str().unwrap().to_owned()
        };
        let done = |walk: &Self, line: &str| {
            let ran = walk.shell(line);
            assert!(ran.status.success(), "{line}: {}", said(&ran));
        };
        done(
            self,
            "kubectl create configmap settings -n shop --from-literal=colour=blue",
        );
        done(
            self,
            &format!("etcdguardian snapshot save snapshot.db --endpoints {endpoint}"),
        );
        let monday = made(self);
        let between = jiff::Timestamp::now();
        done(self, "kubectl delete configmap settings -n shop");
        let tuesday = made(self);
        let place = |words: &str, place: String| (words.to_owned(), place);
        self.places = vec![
            place("2026-11-25T14:04:00Z", between.to_string()),
            place("diff monday tuesday", format!("diff {monday} {tuesday}")),
        ];
    }

    /// The README's own line for the ConfigMap, deleted once more.
    fn object_of_the_readme(&mut self) {
        let line = documented("README.md", "etcdguardian object restore ");
        let gone = self.shell("kubectl delete configmap settings -n shop");
        assert!(gone.status.success(), "{}", said(&gone));
        let store = "file:///tmp/etcdguardian/backups".to_owned();
        self.places
            .push((store, "s3://etcd-backups/prod".to_owned()));
        self.line(&line, "README.md");
        self.places.pop();
        self.colour_is_back();
    }

    fn colour_is_back(&self) {
        let words = "kubectl get configmap settings -n shop -o jsonpath={.data.colour}";
        let back = self.shell(words);
        assert_eq!(String::from_utf8_lossy(&back.stdout), "blue");
    }

    /// A cluster that never saw the chart.
    fn anew(&self) {
        let line = "helm uninstall etcdguardian -n etcdguardian; kubectl delete crd --all; kubectl delete namespace etcdguardian --timeout=90s";
        let ran = self.shell(line);
        assert!(ran.status.success(), "{}", said(&ran));
    }
}

fn said(ran: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    )
}

#[test]
fn the_pages_on_clusters_are_walked() {
    let mut walk = Walk::new();
    walk.page("docs/tutorials/on-a-cluster.md");
    let first = walk
        .cluster
        .get("etcdbackup", "etcdguardian", "first")
        .unwrap();
    assert_eq!(first["status"]["validationResult"]["level"], "Consistent");
    // The chart's own schedule, which its pod would make.
    let schedule = "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {name: main, namespace: etcdguardian}\nspec:\n  schedule: '@daily'\n  suspend: true\n  backupTemplate: {spec: {backupMode: Full, storageLocation: {provider: S3, bucket: etcd-backups}}}\n";
    std::fs::write(walk.folder.path().join("main.yaml"), schedule).unwrap();
    let applied = walk.shell("kubectl apply -f main.yaml");
    assert!(applied.status.success(), "{}", said(&applied));
    walk.page("docs/reference/operator.md");
    walk.operator = None;
    walk.page("docs/how-to/upgrade.md");
    let namespaces =
        walk.shell("kubectl create namespace shop; kubectl create namespace shop-staging");
    assert!(namespaces.status.success(), "{}", said(&namespaces));
    walk.page("docs/how-to/let-tenants-back-up.md");
    walk.objects();
    walk.page("docs/how-to/get-one-object-back.md");
    walk.colour_is_back();
    walk.object_of_the_readme();
    walk.page("docs/how-to/export-a-managed-cluster.md");
    walk.page("docs/how-to/migrate.md");
    walk.places.clear();
    walk.anew();
    walk.kubernetes_alone = true;
    for page in SHARED {
        walk.page(page);
    }
    walk.kubernetes_alone = false;
    walk.anew();
    walk.page("docs/how-to/install-the-chart.md");
    walk.anew();
    walk.page("docs/how-to/install-offline.md");
    let restored = walk.kubeadm();
    assert_eq!(restored.ctl(&["member", "list"]).lines().count(), 3);
    let back = restored.ctl(&["get", "/registry/namespaces/", "--prefix", "--keys-only"]);
    assert!(back.contains("/registry/namespaces/kube-system"), "{back}");
    assert!(walk.ran >= 55, "only {} lines were run", walk.ran);
    eprintln!("{} lines ran", walk.ran);
}
