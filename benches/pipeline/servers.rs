//! The servers of the benchmark, etcd with what fills it and a store, and what a process takes of the machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, Txn, TxnOp};

const VALUE: usize = 64 * 1024;

/// A program of those that `make tools` brings.
pub fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("ETCDGUARDIAN_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/etcdguardian/tools"),
        PathBuf::from,
    );
    tools.join("bin").join(name)
}

/// A server that ends with the benchmark.
pub struct Server(Child);

impl Server {
    fn start(name: &str, arguments: &[String]) -> Self {
        let child = Command::new(tool(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An etcd and an S3 server, on the loopback.
pub struct Servers {
    pub etcd: Server,
    pub store: Server,
    /// Where etcd is reached.
    pub endpoint: String,
    /// Where the store is reached.
    pub store_url: String,
}

impl Servers {
    /// Starts both, with their data below `folder`.
    pub fn start(folder: &Path) -> Self {
        let port = || {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let (client, peer, s3) = (port(), port(), port());
        let at = |name: &str| folder.join(name).display().to_string();
        for name in ["s3/backups", "iam"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let endpoint = format!("http://127.0.0.1:{client}");
        let etcd = [
            format!("--data-dir={}", at("etcd")),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            "--quota-backend-bytes=34359738368".to_owned(),
            "--snapshot-count=1000".to_owned(),
            "--max-wals=2".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ];
        let versitygw = [
            format!("--port=127.0.0.1:{s3}"),
            "--access=vgw".to_owned(),
            "--secret=vgwsecret".to_owned(),
            "--quiet".to_owned(),
            format!("--iam-dir={}", at("iam")),
            "posix".to_owned(),
            at("s3"),
        ];
        Self {
            etcd: Server::start("etcd-3.6", &etcd),
            store: Server::start("versitygw", &versitygw),
            endpoint,
            store_url: format!("http://127.0.0.1:{s3}"),
        }
    }

    /// Fills etcd until its database has about so many bytes.
    pub async fn fill(&self, size: u64) -> u64 {
        let mut client = loop {
            if let Ok(mut client) = Client::connect([&self.endpoint], None).await
                && client.status().await.is_ok()
            {
                break client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut state = 1_u64;
        let mut written = 0;
        let mut key = 0;
        while written < size {
            let puts: Vec<TxnOp> = (0..16)
                .map(|_| {
                    key += 1;
                    let name = format!("/registry/configmaps/bench/value-{key:09}");
                    TxnOp::put(name, value(&mut state), None)
                })
                .collect();
            written += (puts.len() * (VALUE + 4096)) as u64;
            client.txn(Txn::new().and_then(puts)).await.unwrap();
        }
        u64::try_from(client.status().await.unwrap().db_size()).unwrap()
    }
}

/// Processor time of a process; Linux counts it in hundredths.
pub fn seconds(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let behind_name = text.rsplit(')').next().unwrap();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

/// Private memory of this process; mapped pages of files are the kernel's to drop and do not count.
pub fn private_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.map_or(0, |kib| kib.parse::<u64>().unwrap() * 1024)
}

/// A third random letters, the rest alike.
fn value(state: &mut u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE);
    while value.len() < VALUE {
        value.extend_from_slice(
            b"{\"metadata\":{\"managedFields\":[{\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\",\"manager\":\"kubelet\"}],\"uid\":\"",
        );
        for _ in 0..50 {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            value.push(b'a' + u8::try_from((*state >> 33) % 26).unwrap());
        }
    }
    value.truncate(VALUE);
    value
}
