//! A real Kubernetes API server on an etcd of its own, with its controllers when a test wants them, but without nodes: pods are
//! made and never run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Etcd, Pki, Process, free_port, guardian_command, repository, tool, until};

/// The bearer token of the cluster's administrator.
const ADMIN: &str = "admin-token";
/// The bearer token of the service account `etcdguardian` of namespace `guardian`, as far as rights go.
const OPERATOR: &str = "operator-token";

/// A running API server.
pub struct Kubernetes {
    /// Its own etcd.
    pub etcd: Etcd,
    server: Command,
    apiserver: Process,
    _controllers: Option<Process>,
    // Last, as the servers' logs in it are read when they are dropped.
    scratch: TempDir,
}

/// Starts the API server; ready when this returns.
fn start_server(command: &mut Command, folder: &Path) -> Process {
    let log = folder.join("apiserver.log");
    let mut server = Process::start("kube-apiserver", command, &log);
    let admin = folder.join("admin.kubeconfig");
    server.wait_ready(|| {
        kubectl_with(&admin, &["get", "--raw", "/readyz"])
            .output()
            .is_ok_and(|output| output.status.success())
    });
    server
}

fn start_controllers(folder: &Path, pki: &Pki) -> Process {
    let admin = folder.join("admin.kubeconfig");
    Process::start(
        "kube-controller-manager",
        Command::new(tool("kube-controller-manager"))
            .arg(format!("--kubeconfig={}", admin.display()))
            .arg(format!(
                "--service-account-private-key-file={}",
                pki.server_key.display()
            ))
            .arg(format!("--secure-port={}", free_port()))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--authentication-kubeconfig={}", admin.display()))
            .arg(format!("--authorization-kubeconfig={}", admin.display())),
        &folder.join("controllers.log"),
    )
}

impl Kubernetes {
    /// Starts one with the CustomResourceDefinitions and the namespaces `guardian`, `team-a` and `etcd-guardian-system`.
    pub fn start() -> Self {
        Self::launch(false, &[])
    }

    /// The same with more flags of the API server's own.
    pub fn with_flags(flags: &[&str]) -> Self {
        Self::launch(false, flags)
    }

    /// The same with the controllers of Jobs, StatefulSets, garbage and the rest.
    pub fn with_controllers() -> Self {
        Self::launch(true, &[])
    }

    fn launch(controllers: bool, flags: &[&str]) -> Self {
        let etcd = Etcd::start("3.6");
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let pki = Pki::create(&scratch.path().join("pki"));
        let tokens = scratch.path().join("tokens");
        let lines = format!(
            "{ADMIN},admin,1,system:masters\n{OPERATOR},system:serviceaccount:guardian:etcdguardian,2,\"system:serviceaccounts,system:serviceaccounts:guardian\"\n"
        );
        std::fs::write(&tokens, lines).expect("write the tokens");
        let port = free_port();
        let mut server = Command::new(tool("kube-apiserver"));
        server
            .arg(format!("--etcd-servers={}", etcd.endpoint()))
            .arg(format!("--secure-port={port}"))
            .arg(format!("--tls-cert-file={}", pki.server_cert.display()))
            .arg(format!(
                "--tls-private-key-file={}",
                pki.server_key.display()
            ))
            .arg(format!(
                "--service-account-key-file={}",
                pki.server_cert.display()
            ))
            .arg(format!(
                "--service-account-signing-key-file={}",
                pki.server_key.display()
            ))
            .arg(format!("--token-auth-file={}", tokens.display()))
            .args([
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/24",
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
            ])
            .args(flags);
        let kubeconfig = |token: &str, name: &str| {
            let file = scratch.path().join(name);
            let text = format!(
                "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: {}}}}}]\nusers: [{{name: u, user: {{token: {token}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u, namespace: guardian}}}}]\ncurrent-context: x\n",
                pki.ca.display()
            );
            std::fs::write(&file, text).expect("write a kubeconfig");
        };
        kubeconfig(ADMIN, "admin.kubeconfig");
        kubeconfig(OPERATOR, "operator.kubeconfig");
        let apiserver = start_server(&mut server, scratch.path());
        let controllers = controllers.then(|| start_controllers(scratch.path(), &pki));
        let cluster = Self {
            etcd,
            server,
            apiserver,
            _controllers: controllers,
            scratch,
        };
        let crds = repository("crds");
        cluster.kubectl(&[
            "apply",
            "--server-side",
            "-f",
            crds.to_str().expect("UTF-8"),
        ]);
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ]);
        for namespace in ["guardian", "team-a", "etcd-guardian-system"] {
            cluster.kubectl(&["create", "namespace", namespace]);
        }
        cluster
    }

    /// Kills the API server and its etcd, as a kubelet whose manifests are gone.
    pub fn stop(&mut self) {
        self.apiserver.kill();
        self.etcd.process(0).kill();
    }

    /// Starts both again, etcd on what its data directory holds now.
    pub fn start_again(&mut self) {
        self.etcd.restart(0);
        self.apiserver = start_server(&mut self.server, self.scratch.path());
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> PathBuf {
        self.scratch.path().join("admin.kubeconfig")
    }

    /// The operator's kubeconfig: the rights that the chart's roles give to its service account, and no more.
    pub fn operator(&self) -> PathBuf {
        self.scratch.path().join("operator.kubeconfig")
    }

    /// Runs kubectl as the administrator; what it printed, when it ended well.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let (ok, stdout, stderr) = self.try_kubectl(args);
        assert!(ok, "kubectl {args:?}: {stderr}");
        stdout
    }

    /// Runs kubectl: whether it ended well, what it printed, and what it said.
    pub fn try_kubectl(&self, args: &[&str]) -> (bool, String, String) {
        let output = kubectl_with(&self.admin(), args)
            .output()
            .expect("run kubectl");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Applies YAML.
    pub fn apply(&self, yaml: &str) {
        let (ok, said) = self.try_apply(yaml);
        assert!(ok, "{said}\n{yaml}");
    }

    /// Applies YAML: whether that went well, and what was said.
    pub fn try_apply(&self, yaml: &str) -> (bool, String) {
        let file = self
            .scratch
            .path()
            .join(format!("{}.yaml", uuid::Uuid::new_v4()));
        std::fs::write(&file, yaml).expect("write YAML");
        let (ok, _, said) = self.try_kubectl(&["apply", "-f", file.to_str().expect("UTF-8")]);
        (ok, said)
    }

    /// Creates what an object or a list of objects says, as it is.
    pub fn create(&self, object: &Value) {
        let (ok, said) = self.try_create(object);
        assert!(ok, "{said}\n{object}");
    }

    /// The same: whether that went well, and what was said.
    pub fn try_create(&self, object: &Value) -> (bool, String) {
        let file = self
            .scratch
            .path()
            .join(format!("{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&file, object.to_string()).expect("write JSON");
        let (ok, _, said) = self.try_kubectl(&["create", "-f", file.to_str().expect("UTF-8")]);
        (ok, said)
    }

    /// Merges a patch into an object.
    pub fn merge(&self, kind: &str, namespace: &str, name: &str, patch: &str) {
        self.kubectl(&[
            "patch",
            kind,
            "-n",
            namespace,
            name,
            "--type=merge",
            "-p",
            patch,
        ]);
    }

    /// An object as JSON; `None` when it is not there.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let args = ["get", kind, "-n", namespace, name, "-o", "json"];
        let (ok, stdout, said) = self.try_kubectl(&args);
        if !ok {
            assert!(said.contains("NotFound"), "{said}");
            return None;
        }
        Some(serde_json::from_str(&stdout).expect("JSON"))
    }

    /// Every object of a kind in a namespace.
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "-n", namespace, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the phase of an object is one of these; the object then.
    pub fn wait_phase(&self, kind: &str, namespace: &str, name: &str, phases: &[&str]) -> Value {
        until(&format!("{kind} {name} {phases:?}"), || {
            let object = self.get(kind, namespace, name)?;
            let phase = object["status"]["phase"].as_str()?.to_owned();
            phases.contains(&phase.as_str()).then_some(object)
        })
    }

    /// The operator with a config, as the chart's service account; its log and state in `folder`.
    pub fn start_operator(&self, config: &Path, folder: &Path, name: &str) -> Process {
        Process::start(
            "operator",
            &mut self.operator_command(config, name),
            &folder.join(format!("{name}.log")),
        )
    }

    /// The command that starts it.
    pub fn operator_command(&self, config: &Path, name: &str) -> Command {
        let mut command = guardian_command();
        command
            .arg("operator")
            .arg("--config")
            .arg(config)
            .env("KUBECONFIG", self.operator())
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", "guardian");
        command
    }
}

fn kubectl_with(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(tool("kubectl"));
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(args)
        .env("HOME", kubeconfig.parent().expect("a folder"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_lowercase().ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command
}
