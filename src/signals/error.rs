//! Why no signal could be read. No message holds a credential: URLs are shown without their user part.

use std::io;
use std::path::PathBuf;

use crate::api::ErrorClass;
use crate::secrets::SecretError;

/// Why no signal could be read.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// etcd did not answer.
    #[error("etcd's status could not be sampled")]
    Etcd(#[from] crate::etcd::EtcdError),
    /// The history of samples cannot be written.
    #[error(
        "the sample history {} cannot be written: free space or mend its rights; until then it lives in memory only",
        .path.display()
    )]
    History {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No URL is configured.
    #[error(
        "no Prometheus URL is configured: set prometheus.url in the schedule's aiOptimization or in the config"
    )]
    NoUrl,
    /// The URL cannot be used.
    #[error("prometheus.url is not an http or https URL ({reason}): write it as http://host:9090")]
    BadUrl {
        /// What is wrong.
        reason: String,
    },
    /// The Secret cannot be used.
    #[error("the Prometheus credentials cannot be used")]
    Secret(#[from] SecretError),
    /// The Secret has no usable keys.
    #[error(
        "the Prometheus credentials hold neither `token` nor `username` and `password`: add one of them to the Secret"
    )]
    NoCredentials,
    /// A value of the Secret cannot stand in an HTTP header, or is not a certificate.
    #[error("`{key}` of the Prometheus credentials is not {wanted}: write it again")]
    BadCredential {
        /// The key.
        key: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// No HTTP client could be built.
    #[error("no HTTP client could be built for Prometheus")]
    Client(#[source] reqwest::Error),
    /// The server cannot be reached.
    #[error(
        "Prometheus at {server} cannot be reached: check prometheus.url, the network and the server"
    )]
    Unreachable {
        /// Its URL without credentials.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error(
        "Prometheus at {server} did not answer the {query} within {seconds} s: try a simpler query or a faster server"
    )]
    Timeout {
        /// Its URL without credentials.
        server: String,
        /// Which query.
        query: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// Wrong or missing credentials.
    #[error(
        "Prometheus at {server} refuses the credentials (HTTP {status}): check prometheus.credentialsSecret"
    )]
    Unauthorized {
        /// Its URL without credentials.
        server: String,
        /// 401 or 403.
        status: u16,
    },
    /// The query is wrong.
    #[error(
        "Prometheus at {server} rejects the {query} ({message}): correct it; '{text}' was asked"
    )]
    Rejected {
        /// Its URL without credentials.
        server: String,
        /// Which query.
        query: &'static str,
        /// What the server says.
        message: String,
        /// The query itself.
        text: String,
    },
    /// The server fails.
    #[error(
        "Prometheus at {server} fails on the {query} (HTTP {status}{message}): look into the server's log"
    )]
    Server {
        /// Its URL without credentials.
        server: String,
        /// Which query.
        query: &'static str,
        /// The status.
        status: u16,
        /// What the server says, with a colon before it; or nothing.
        message: String,
    },
    /// Something else answers.
    #[error(
        "{server} does not answer like Prometheus ({what}): check that prometheus.url names its API and not a login page or another service"
    )]
    NotPrometheus {
        /// Its URL without credentials.
        server: String,
        /// What came instead.
        what: String,
    },
    /// The answer is too long.
    #[error(
        "the answer of Prometheus at {server} to the {query} is larger than {limit_mib} MiB: aggregate the query to one series"
    )]
    TooLarge {
        /// Its URL without credentials.
        server: String,
        /// Which query.
        query: &'static str,
        /// The limit.
        limit_mib: usize,
    },
    /// The readings do not fit a grid.
    #[error("the answer of Prometheus does not fit a regular grid")]
    Grid(#[from] super::series::SeriesError),
}

impl SignalError {
    /// How a caller should treat the error.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Etcd(error) => error.class(),
            Self::Secret(error) => error.class(),
            Self::NoUrl | Self::BadUrl { .. } | Self::Rejected { .. } => ErrorClass::Usage,
            Self::NoCredentials | Self::BadCredential { .. } | Self::Unauthorized { .. } => {
                ErrorClass::Credentials
            }
            Self::Timeout { .. } => ErrorClass::Timeout,
            Self::History { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Server { .. }
            | Self::NotPrometheus { .. }
            | Self::TooLarge { .. }
            | Self::Grid(_) => ErrorClass::Failed,
        }
    }
}
