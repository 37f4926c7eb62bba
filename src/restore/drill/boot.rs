//! A member of a real etcd on a restored data directory: started on loopback, asked, and ended.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::plan::Booted;
use crate::cause::with_causes;
use crate::etcd::{ConnectOptions, Etcd};

/// Between two tries to reach the member.
const RETRY: Duration = Duration::from_millis(200);
/// More than any database: a restored one must not be refused for its size.
const QUOTA_BYTES: &str = "17179869184";
/// Bytes of the log's end that an error shows.
const SHOWN: usize = 600;

/// A URL on loopback whose port is free.
pub fn free_url() -> std::io::Result<String> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(format!("http://127.0.0.1:{port}"))
}

/// Boots a member and asks for its revision and HashKV; in words why it did not get that far.
pub async fn boot(
    binary: &Path,
    data_dir: &Path,
    peer: &str,
    timeout: Duration,
) -> Result<Booted, String> {
    let client = free_url().map_err(|error| error.to_string())?;
    let log = data_dir.with_extension("log");
    let output = std::fs::File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(binary);
    command
        // ETCD_ variables would change what is started; one core is enough.
        .env_clear()
        .env("GOMAXPROCS", "1")
        .args(["--name", "drill", "--logger", "zap", "--log-level", "warn"])
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", peer])
        .args(["--quota-backend-bytes", QUOTA_BYTES])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true);
    let mut process = command
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
    let etcd = Etcd::unconnected(&ConnectOptions::plain(client.clone()));
    let deadline = Instant::now() + timeout;
    let answer = loop {
        if let Ok(Some(status)) = process.try_wait() {
            break Err(format!("it ended with {status}: {}", tail(&log)));
        }
        let failure = match ask(&etcd, &client).await {
            Ok(booted) => break Ok(booted),
            Err(failure) => failure,
        };
        if Instant::now() >= deadline {
            break Err(format!(
                "it did not answer within {} s ({failure}): {}",
                timeout.as_secs(),
                tail(&log)
            ));
        }
        sleep(RETRY).await;
    };
    // Killed: what it wrote is thrown away.
    let _ = process.kill().await;
    answer
}

async fn ask(etcd: &Etcd, client: &str) -> Result<Booted, String> {
    let words = |error: crate::etcd::EtcdError| with_causes(&error);
    etcd.require_leader().await.map_err(words)?;
    let members = etcd.members().await;
    let status = members
        .into_iter()
        .next()
        .ok_or_else(|| "no member".to_owned())?
        .1
        .map_err(words)?;
    let live = etcd.hash_kv_of(client, 0).await.map_err(words)?;
    Ok(Booted {
        version: status.version,
        revision: status.revision,
        hash: live.hash.hash,
    })
}

/// The end of a log, in one line.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let start = text.len().saturating_sub(SHOWN);
    let end = text.get(start..).unwrap_or_default();
    String::from_utf8_lossy(end).trim().replace('\n', "; ")
}
