//! How an error of any room maps to an exit code, a condition reason and a metric label.

use serde::Serialize;

/// What kind of failure an error is, so that a caller can choose an exit code or whether to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum ErrorClass {
    /// Anything that has no better class.
    Failed,
    /// The words of the caller are wrong: a flag, a field, a cron expression.
    Usage,
    /// The work was done, but a verification or an objective failed.
    VerificationFailed,
    /// The named object does not exist.
    NotFound,
    /// A policy, a precondition or a missing confirmation forbids it.
    Refused,
    /// The object store cannot be reached or answers with errors.
    StoreUnavailable,
    /// Somebody else holds the lock or the lease.
    Locked,
    /// Credentials or a key are missing, wrong or lack a right.
    Credentials,
    /// etcd cannot be reached or has no quorum.
    EtcdUnavailable,
    /// A deadline passed.
    Timeout,
}

impl ErrorClass {
    /// The process exit code of this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::VerificationFailed => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
            Self::StoreUnavailable => 10,
            Self::Locked => 11,
            Self::Credentials => 12,
            Self::EtcdUnavailable => 13,
            Self::Timeout => 124,
        }
    }

    /// The CamelCase word used for condition reasons and metric labels.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Failed => "Failed",
            Self::Usage => "SpecInvalid",
            Self::VerificationFailed => "VerificationFailed",
            Self::NotFound => "NotFound",
            Self::Refused => "Refused",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::Locked => "Locked",
            Self::Credentials => "CredentialsInvalid",
            Self::EtcdUnavailable => "EtcdUnavailable",
            Self::Timeout => "DeadlineExceeded",
        }
    }

    /// The class of a reason; `Failed` for a word that is none.
    pub fn from_reason(reason: &str) -> Self {
        let all = [
            Self::Usage,
            Self::VerificationFailed,
            Self::NotFound,
            Self::Refused,
            Self::StoreUnavailable,
            Self::Locked,
            Self::Credentials,
            Self::EtcdUnavailable,
            Self::Timeout,
        ];
        let found = all.into_iter().find(|class| class.reason() == reason);
        found.unwrap_or(Self::Failed)
    }

    /// Whether trying again without a change by a person can help.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Failed
                | Self::StoreUnavailable
                | Self::Locked
                | Self::EtcdUnavailable
                | Self::Timeout
        )
    }
}
