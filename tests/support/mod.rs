//! The test bed: real servers on free loopback ports, started when a test asks, ready when the call returns, gone when dropped.
//!
//! Every binary comes from `$ETCDGUARDIAN_TOOLS/bin` (`make tools`); a missing one fails the test and says how to get it.

mod binary;
mod browser;
pub mod clusters;
mod dense;
mod etcd;
mod http;
mod kubernetes;
mod lost;
mod otlp;
mod pki;
mod process;
mod prometheus;
mod s3;
mod servers;
mod stores;
pub mod traces;
pub mod velero;

use std::path::PathBuf;

pub use binary::{Ran, guardian, guardian_command, guardian_process};
pub use browser::{Page, chromium};
pub use dense::dense;
pub use etcd::Etcd;
pub use http::{http, open_metrics};
pub use kubernetes::Kubernetes;
pub use lost::LostAnswers;
pub use otlp::{Collector, Seen};
pub use pki::Pki;
pub use process::{Process, free_port, until, until_within};
pub use prometheus::Prometheus;
pub use s3::{Issuer, Minio, S3rver, curl};
pub use servers::{Mailpit, SlackFake, Toxiproxy, Versitygw};
pub use stores::{Azurite, GcsFake, KmsFake, OssGate, block_on, location};

/// The folder that `make tools` fills.
pub fn tools_dir() -> PathBuf {
    std::env::var_os("ETCDGUARDIAN_TOOLS").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set");
            PathBuf::from(home).join(".cache/etcdguardian/tools")
        },
        PathBuf::from,
    )
}

/// The path of a tool, as `etcdctl-3.6`; fails when it is not there.
pub fn tool(name: &str) -> PathBuf {
    let path = tools_dir().join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make tools`",
        path.display()
    );
    path
}

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
