//! A real etcd cluster of one or three members of any version we support.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Pki, Process, free_port, http, tool};

/// What to start; `Etcd::of("3.6").members(3).tls().start()`.
pub struct Plan {
    version: String,
    members: usize,
    tls: bool,
    password: Option<String>,
    data_dir: Option<PathBuf>,
    restored: Vec<(PathBuf, String)>,
    args: Vec<String>,
}

/// A running cluster.
pub struct Etcd {
    /// The PEM files, when it speaks TLS.
    pub pki: Option<Pki>,
    version: String,
    password: Option<String>,
    members: Vec<Member>,
    scratch: TempDir,
}

struct Member {
    client_url: String,
    metrics_port: u16,
    data_dir: PathBuf,
    command: Vec<String>,
    process: Process,
}

impl Plan {
    /// So many members instead of one.
    pub fn members(mut self, count: usize) -> Self {
        self.members = count;
        self
    }

    /// Mutual TLS on the client port.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Authentication: the user `root` with this password; on restored data it is there already.
    pub fn auth(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// One member on a data directory that is there already, as one that was restored.
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// A member on each of these restored data directories, at the peer URL that it was restored for; etcd verifies them itself.
    pub fn restored(mut self, members: &[(PathBuf, String)]) -> Self {
        self.members = members.len();
        self.restored = members.to_vec();
        self
    }

    /// One more flag of etcd's own, as `--quota-backend-bytes=33554432`.
    pub fn arg(mut self, flag: &str) -> Self {
        self.args.push(flag.to_owned());
        self
    }

    /// Starts it; healthy when this returns.
    pub fn start(self) -> Etcd {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let pki = self.tls.then(|| Pki::create(&scratch.path().join("pki")));
        let peers: Vec<(String, String)> = (0..self.members)
            .map(|index| {
                let peer = self.restored.get(index).map_or_else(
                    || format!("http://127.0.0.1:{}", free_port()),
                    |(_, peer)| peer.clone(),
                );
                (format!("m{index}"), peer)
            })
            .collect();
        let initial: Vec<String> = peers
            .iter()
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let members = peers
            .iter()
            .enumerate()
            .map(|(index, (name, peer))| {
                let data_dir = self
                    .restored
                    .get(index)
                    .map(|(folder, _)| folder.clone())
                    .or_else(|| self.data_dir.clone());
                self.member(
                    scratch.path(),
                    (name, peer),
                    data_dir,
                    &initial.join(","),
                    pki.as_ref(),
                )
            })
            .collect();
        let mut etcd = Etcd {
            pki,
            version: self.version,
            password: None,
            members,
            scratch,
        };
        etcd.wait_healthy();
        if let Some(password) = self.password {
            if !self.restored.is_empty() {
                // Users come with the data.
                etcd.password = Some(password);
                return etcd;
            }
            etcd.ctl(&["user", "add", &format!("root:{password}")]);
            etcd.ctl(&["user", "grant-role", "root", "root"]);
            etcd.ctl(&["auth", "enable"]);
            etcd.password = Some(password);
        }
        etcd
    }

    fn member(
        &self,
        scratch: &Path,
        (name, peer): (&str, &str),
        existing: Option<PathBuf>,
        initial: &str,
        pki: Option<&Pki>,
    ) -> Member {
        let scheme = if pki.is_some() { "https" } else { "http" };
        let client_url = format!("{scheme}://127.0.0.1:{}", free_port());
        let metrics_port = free_port();
        let is_new = existing.is_none();
        let data_dir = existing.unwrap_or_else(|| scratch.join(name));
        let mut command = vec![
            format!("--name={name}"),
            format!("--data-dir={}", data_dir.display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics_port}"),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        if is_new {
            command.push(format!("--initial-advertise-peer-urls={peer}"));
            command.push(format!("--initial-cluster={initial}"));
        }
        if let Some(pki) = pki {
            command.push(format!("--cert-file={}", pki.server_cert.display()));
            command.push(format!("--key-file={}", pki.server_key.display()));
            command.push(format!("--trusted-ca-file={}", pki.ca.display()));
            command.push("--client-cert-auth".to_owned());
        }
        command.extend(self.args.iter().cloned());
        let process = launch(&self.version, name, &command, scratch);
        Member {
            client_url,
            metrics_port,
            data_dir,
            command,
            process,
        }
    }
}

fn launch(version: &str, name: &str, args: &[String], scratch: &Path) -> Process {
    Process::start(
        &format!("etcd-{version} {name}"),
        Command::new(tool(&format!("etcd-{version}")))
            .env("ETCD_VERIFY", "all")
            .args(args),
        &scratch.join(format!("{name}.log")),
    )
}

impl Etcd {
    /// What to start of a version: `3.4`, `3.5`, `3.6` or `3.7`; one member without TLS and authentication unless told more.
    pub fn of(version: &str) -> Plan {
        Plan {
            version: version.to_owned(),
            members: 1,
            tls: false,
            password: None,
            data_dir: None,
            restored: Vec::new(),
            args: Vec::new(),
        }
    }

    /// One plain member.
    pub fn start(version: &str) -> Self {
        Self::of(version).start()
    }

    /// HashKV at the newest revision of every member.
    pub fn hashes(&self) -> Vec<u64> {
        let text = self.ctl(&["endpoint", "hashkv", "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let members = answer.as_array().expect("a list");
        members
            .iter()
            .map(|member| member["HashKV"]["hash"].as_u64().expect("a hash"))
            .collect()
    }

    /// The first member's client URL.
    pub fn endpoint(&self) -> String {
        self.members[0].client_url.clone()
    }

    /// Every member's client URL.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| m.client_url.clone()).collect()
    }

    /// A member's plain `/metrics` and `/health` port.
    pub fn metrics_port(&self, member: usize) -> u16 {
        self.members[member].metrics_port
    }

    /// A member's data directory.
    pub fn data_dir(&self, member: usize) -> &Path {
        &self.members[member].data_dir
    }

    /// A member's process: to signal it, or to read its log.
    pub fn process(&mut self, member: usize) -> &mut Process {
        &mut self.members[member].process
    }

    /// Starts a member that was killed again, with its flags and data.
    pub fn restart(&mut self, member: usize) {
        let version = self.version.clone();
        let scratch = self.scratch.path().to_owned();
        let place = &mut self.members[member];
        place.process.kill();
        place.process = launch(&version, &format!("m{member}"), &place.command, &scratch);
        self.wait_healthy();
    }

    fn wait_healthy(&mut self) {
        for member in &mut self.members {
            let port = member.metrics_port;
            member.process.wait_ready(|| {
                http("GET", port, "/health", "")
                    .is_some_and(|a| a.status == 200 && a.body.contains("true"))
            });
        }
    }

    /// Runs etcdctl of the cluster's version against it and returns what it printed; fails when etcdctl does.
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = self.ctl_command().args(args).output().expect("run etcdctl");
        assert!(
            output.status.success(),
            "etcdctl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// etcdctl with endpoints, certificates and user set; add a verb.
    pub fn ctl_command(&self) -> Command {
        let mut command = Command::new(tool(&format!("etcdctl-{}", self.version)));
        command
            .env("ETCDCTL_API", "3")
            // Its own two seconds to connect are too few for a machine on which everything is tested at once.
            .args(["--dial-timeout=30s", "--command-timeout=60s"])
            .arg(format!("--endpoints={}", self.endpoints().join(",")));
        if let Some(pki) = &self.pki {
            command
                .arg(format!("--cacert={}", pki.ca.display()))
                .arg(format!("--cert={}", pki.client_cert.display()))
                .arg(format!("--key={}", pki.client_key.display()));
        }
        if let Some(password) = &self.password {
            command.arg(format!("--user=root:{password}"));
        }
        command
    }

    /// A client of the etcd-client crate, of the user `root` when authentication is on.
    pub async fn client(&self) -> etcd_client::Client {
        etcdguardian::init_tls();
        let mut options = etcd_client::ConnectOptions::new();
        if let Some(pki) = &self.pki {
            let read = |path| std::fs::read(path).expect("read a PEM file");
            options = options.with_tls(
                etcd_client::TlsOptions::new()
                    .ca_certificate(etcd_client::Certificate::from_pem(read(&pki.ca)))
                    .identity(etcd_client::Identity::from_pem(
                        read(&pki.client_cert),
                        read(&pki.client_key),
                    )),
            );
        }
        if let Some(password) = &self.password {
            options = options.with_user("root", password);
        }
        etcd_client::Client::connect(self.endpoints(), Some(options))
            .await
            .expect("connect to etcd")
    }

    /// Grants a lease for so many seconds; its id, hexadecimal.
    pub fn lease(&self, seconds: u32) -> String {
        let granted = self.ctl(&["lease", "grant", &seconds.to_string()]);
        let id = granted.split_whitespace().nth(1);
        id.expect("a lease that was granted").to_owned()
    }

    /// Puts `count` keys `<prefix>00000000`… of `bytes` bytes each, up to 100 to a transaction. Not to be called inside a runtime.
    pub fn fill(&self, prefix: &str, count: usize, bytes: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(self.put_many(prefix, count, bytes));
    }

    /// The same inside a runtime. Values differ from key to key and do not compress to nothing.
    pub async fn put_many(&self, prefix: &str, count: usize, bytes: usize) {
        let mut client = self.client().await;
        let keys: Vec<usize> = (0..count).collect();
        // etcd takes requests of 1.5 MiB.
        for chunk in keys.chunks((1_000_000 / bytes.max(1)).clamp(1, 100)) {
            let puts: Vec<etcd_client::TxnOp> = chunk
                .iter()
                .map(|index| {
                    etcd_client::TxnOp::put(
                        format!("{prefix}{index:08}"),
                        value(*index, bytes),
                        None,
                    )
                })
                .collect();
            client
                .txn(etcd_client::Txn::new().and_then(puts))
                .await
                .expect("put a chunk");
        }
    }

    /// The newest revision of the first member.
    pub fn revision(&self) -> i64 {
        let text = self.ctl(&["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        status[0]["Status"]["header"]["revision"]
            .as_i64()
            .expect("a revision")
    }

    /// HashKV of the first member at a revision (0: the newest): the value, and the compact revision it starts after.
    pub fn hash_kv(&self, revision: i64) -> (u64, i64) {
        let text = self.ctl(&[
            "endpoint",
            "hashkv",
            &format!("--rev={revision}"),
            "-w",
            "json",
        ]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let hash = &answer[0]["HashKV"];
        (
            hash["hash"].as_u64().expect("a hash"),
            hash["compact_revision"].as_i64().unwrap_or(0),
        )
    }
}

fn value(index: usize, bytes: usize) -> Vec<u8> {
    // A multiplicative sequence: cheap, repeatable, and as dull as real values are not.
    let mut state = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b'a' + u8::try_from((state >> 33) % 26).expect("below 26")
        })
        .collect()
}
