//! Why etcd could not be used: each error names the endpoint, what went wrong and what to do next.

use std::error::Error as _;
use std::path::PathBuf;

use crate::api::ErrorClass;
use crate::secrets::SecretError;

/// gRPC status codes, as numbers on the wire.
mod code {
    pub const UNKNOWN: i32 = 2;
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const DEADLINE_EXCEEDED: i32 = 4;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const OUT_OF_RANGE: i32 = 11;
    pub const UNAUTHENTICATED: i32 = 16;
}

/// Why etcd could not be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Nobody answered.
    #[error(
        "no etcd endpoint answered ({attempts}): check the endpoints and certificates with 'etcdguardian doctor'"
    )]
    Unavailable {
        /// Each endpoint with its own failure.
        attempts: String,
    },
    /// A certificate, user or password is wrong, or the user may not do this.
    #[error(
        "etcd and this program do not trust each other ({attempts}): check the certificates, user and password with 'etcdguardian doctor'"
    )]
    Credentials {
        /// Each endpoint with its own failure.
        attempts: String,
    },
    /// An answer did not come in time.
    #[error(
        "etcd did not answer in time ({attempts}): look at its load and disks with 'etcdguardian doctor'"
    )]
    Timeout {
        /// Each endpoint with its own failure.
        attempts: String,
    },
    /// Members answer, but none of them knows a leader.
    #[error(
        "the etcd cluster has no leader, so it has no quorum ({endpoints}): bring the other members back; 'etcdguardian snapshot save' still saves what one member has"
    )]
    NoLeader {
        /// The members that answered.
        endpoints: String,
    },
    /// No endpoint is configured.
    #[error("no etcd endpoint is named: set endpoints, such as https://10.0.0.1:2379")]
    NoEndpoint,
    /// An endpoint is no URL that etcd serves.
    #[error(
        "etcd endpoint '{endpoint}' cannot be used: {problem}; write it as https://10.0.0.1:2379"
    )]
    Endpoint {
        /// The endpoint, without a password.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A Secret with a certificate or password is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A certificate or key cannot be read or used.
    #[error("the etcd {what} from {place} cannot be used: {problem}; put a PEM file there")]
    Certificate {
        /// `CA certificate`, `client certificate` or `client key`.
        what: &'static str,
        /// File or Secret.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The revision is no longer in etcd's history.
    #[error("etcd member {endpoint} has compacted revision {revision} away: ask for a newer one")]
    Compacted {
        /// Who was asked.
        endpoint: String,
        /// For what.
        revision: i64,
    },
    /// The member has not got that far.
    #[error("etcd member {endpoint} has not reached revision {revision} yet: ask again later")]
    Behind {
        /// Who was asked.
        endpoint: String,
        /// For what.
        revision: i64,
    },
    /// The snapshot stream ended wrongly.
    #[error(
        "the snapshot stream of etcd member {endpoint} is not whole: {problem}; look at that member's log"
    )]
    Stream {
        /// Whose stream.
        endpoint: String,
        /// What is wrong.
        problem: StreamProblem,
    },
    /// No member gave a whole snapshot.
    #[error(
        "no etcd member gave a whole snapshot ({attempts}): look at the members with 'etcdguardian doctor'"
    )]
    NoSnapshot {
        /// Each endpoint with its own failure.
        attempts: String,
        /// The class of the failure that says most.
        class: ErrorClass,
    },
    /// The scratch disk is too small.
    #[error(
        "{folder} has {free} bytes free and the snapshot needs {needed}: free some, or name another folder as stateDir"
    )]
    NoSpace {
        /// The folder.
        folder: PathBuf,
        /// Free bytes.
        free: u64,
        /// Needed bytes.
        needed: u64,
    },
    /// The snapshot cannot be written to disk.
    #[error("{path} cannot be written: free space or mend the permissions of its folder")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// etcd answered with an error of its own.
    #[error("etcd member {endpoint} answered: {answer}; look at that member's log")]
    Answer {
        /// Who.
        endpoint: String,
        /// Its words.
        answer: String,
    },
}

/// How a snapshot stream can be less than a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamProblem {
    /// It ended early.
    #[error("it ended after {received} of {expected} bytes")]
    Truncated {
        /// Bytes of the image that came.
        received: u64,
        /// Bytes that the first message announced.
        expected: u64,
    },
    /// Nothing came at all.
    #[error("it held nothing")]
    Empty,
    /// The database came without its digest.
    #[error("the digest at its end is missing or cut ({0} of 32 bytes)")]
    DigestMissing(usize),
    /// More came than the database and its digest.
    #[error("bytes follow the digest")]
    TrailingBytes,
    /// The digest is not that of the bytes.
    #[error("the digest that etcd sent is not that of the bytes that arrived")]
    DigestMismatch,
    /// Nothing new arrived for a while.
    #[error("nothing arrived for {0} seconds")]
    Stalled(u64),
    /// Messages come, but they are empty.
    #[error("etcd sends only empty messages, as it does when its own copy failed")]
    EmptyMessages,
}

impl EtcdError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. } | Self::NoLeader { .. } => ErrorClass::EtcdUnavailable,
            Self::Credentials { .. } | Self::Certificate { .. } => ErrorClass::Credentials,
            Self::Timeout { .. } => ErrorClass::Timeout,
            Self::NoEndpoint | Self::Endpoint { .. } => ErrorClass::Usage,
            Self::Secret(error) => error.class(),
            Self::Compacted { .. } | Self::Behind { .. } => ErrorClass::NotFound,
            Self::Stream { problem, .. } => match problem {
                StreamProblem::Stalled(_) => ErrorClass::Timeout,
                StreamProblem::DigestMismatch => ErrorClass::VerificationFailed,
                _ => ErrorClass::Failed,
            },
            Self::NoSnapshot { class, .. } => *class,
            Self::NoSpace { .. } | Self::Write { .. } | Self::Answer { .. } => ErrorClass::Failed,
        }
    }

    /// The part of the words that is about one endpoint, for a list of attempts.
    fn attempt(&self) -> String {
        match self {
            Self::Unavailable { attempts }
            | Self::Credentials { attempts }
            | Self::Timeout { attempts } => attempts.clone(),
            Self::Stream { endpoint, problem } => format!("{endpoint}: {problem}"),
            Self::Answer { endpoint, answer } => format!("{endpoint}: {answer}"),
            other => other.to_string(),
        }
    }
}

/// One error for several attempts: a wrong credential says more than silence, silence more than slowness.
pub(super) fn all_failed(mut failures: Vec<EtcdError>) -> EtcdError {
    if failures.len() == 1
        && let Some(only) = failures.pop()
    {
        return only;
    }
    let attempts = join_attempts(&failures);
    let any = |class| failures.iter().any(|failure| failure.class() == class);
    if any(ErrorClass::Credentials) {
        EtcdError::Credentials { attempts }
    } else if any(ErrorClass::EtcdUnavailable) || !any(ErrorClass::Timeout) {
        EtcdError::Unavailable { attempts }
    } else {
        EtcdError::Timeout { attempts }
    }
}

/// One error for several members whose snapshot could not be had.
pub(super) fn no_snapshot(mut failures: Vec<EtcdError>) -> EtcdError {
    if failures.len() == 1
        && let Some(only) = failures.pop()
    {
        return only;
    }
    const BY_MEANING: [ErrorClass; 4] = [
        ErrorClass::Credentials,
        ErrorClass::VerificationFailed,
        ErrorClass::Timeout,
        ErrorClass::EtcdUnavailable,
    ];
    let class = BY_MEANING
        .into_iter()
        .find(|class| failures.iter().any(|failure| failure.class() == *class))
        .unwrap_or(ErrorClass::Failed);
    let attempts = join_attempts(&failures);
    EtcdError::NoSnapshot { attempts, class }
}

fn join_attempts(failures: &[EtcdError]) -> String {
    let attempts: Vec<String> = failures.iter().map(EtcdError::attempt).collect();
    attempts.join("; ")
}

/// What a failed call to one endpoint means. `None` when the transport broke, which says little: the connection is then probed.
pub(super) fn of_call(
    endpoint: &str,
    revision: i64,
    error: &etcd_client::Error,
) -> Option<EtcdError> {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return None;
    };
    let words = status.message();
    let attempts = format!("{endpoint}: {}", words.trim_start_matches("etcdserver: "));
    let endpoint = endpoint.to_owned();
    match status.code() as i32 {
        code::UNAUTHENTICATED | code::PERMISSION_DENIED => {
            Some(EtcdError::Credentials { attempts })
        }
        // 3.4 gives the second one the code Unknown, and to 3.5 a user without rights has it.
        code::INVALID_ARGUMENT | code::UNKNOWN
            if [
                "authentication failed",
                "user name is empty",
                "permission denied",
            ]
            .iter()
            .any(|refusal| words.contains(refusal)) =>
        {
            Some(EtcdError::Credentials { attempts })
        }
        code::OUT_OF_RANGE if words.contains("compacted") => {
            Some(EtcdError::Compacted { endpoint, revision })
        }
        code::OUT_OF_RANGE if words.contains("future") => {
            Some(EtcdError::Behind { endpoint, revision })
        }
        code::DEADLINE_EXCEEDED => Some(EtcdError::Timeout { attempts }),
        // etcd's own words: everything else with that prefix came from a member that is up.
        _ if words.starts_with("etcdserver: ") && status.source().is_none() => {
            Some(if words.contains("no leader") {
                EtcdError::Unavailable { attempts }
            } else {
                EtcdError::Answer {
                    endpoint,
                    answer: words.to_owned(),
                }
            })
        }
        _ => None,
    }
}

/// Whether a user was given to a cluster whose user management is off.
pub(super) fn auth_is_off(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.code() as i32 == code::FAILED_PRECONDITION
            && status.message().contains("authentication is not enabled"))
}
