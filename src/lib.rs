//! EtcdGuardian backs up etcd when it matters and proves that every backup restores.
//!
//! The rooms, from the outermost in; a room uses those below it, never those above:
//!
//! | room | its one job |
//! | --- | --- |
//! | [`cli`] | words in, words out: verbs, tables, progress, exit codes |
//! | [`operator`] | the three resources in the API server: leader election, Jobs, events, restores |
//! | [`standalone`] | the main loop with a folder of YAML in place of the API server |
//! | [`engine`] | the loop of one schedule: observe → fit → decide → dispatch, for either host |
//! | [`serve`] | metrics, health, status page |
//! | [`alert`] | outcome → message → Slack, email, webhook |
//! | [`schedule`] | the core: when a backup is worth taking, and why |
//! | [`signals`] | Prometheus, etcd sampler, trace files → one series |
//! | [`pipeline`] | snapshot → verify → seal → store → retain |
//! | [`restore`] | a backup → data directories that boot |
//! | [`export`] | Kubernetes objects out of what etcd holds, and back into an API server |
//! | [`verify`] | evidence → verdict, level by level |
//! | [`recorder`] | the standing watch that writes increments |
//! | [`retain`] | catalogue + policy + now → kept and dropped, with reasons |
//! | [`repository`] | what lies in the bucket: keys, manifest, catalogue |
//! | [`kms`] | data keys that a key management service wraps |
//! | [`seal`] | compression and encryption envelopes |
//! | [`etcd`] | connections, snapshot stream, status, HashKV |
//! | [`snapshot`] | the file format: pages, rows, data directories |
//! | [`records`] | small files that survive a crash, and large ones on their way to the disk |
//! | [`secrets`] | where credentials come from |
//! | [`api`] | what users write: resources, config, defaults, validation |
//! | [`telemetry`] | logs, and traces to a collector |
//! | [`cause`] | an error and its causes in one line |

pub mod alert;
pub mod api;
pub mod cause;
pub mod cli;
pub mod engine;
pub mod etcd;
pub mod export;
pub mod kms;
pub mod operator;
pub mod pipeline;
pub mod recorder;
pub mod records;
pub mod repository;
pub mod restore;
pub mod retain;
pub mod schedule;
pub mod seal;
pub mod secrets;
pub mod serve;
pub mod signals;
pub mod snapshot;
pub mod standalone;
pub mod telemetry;
pub mod verify;

/// Installs the one TLS provider (ring) for the process; call it before any client is built. Idempotent.
pub fn init_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
