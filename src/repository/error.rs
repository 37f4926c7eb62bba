//! Why a store could not be used, said so that somebody can act; and how errors of the object_store crate become that.

use std::error::Error;
use std::io;

use super::manifest::ManifestError;
use crate::api::ErrorClass;
use crate::kms::KmsError;
use crate::secrets::SecretError;

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// No such backup.
    #[error("{location} holds no backup '{id}': see 'etcdguardian backup list --from {location}'")]
    NotFound {
        /// Where.
        location: String,
        /// What was asked for.
        id: String,
    },
    /// Several backups answer to the name.
    #[error("'{id}' means several backups in {location}: say which of {candidates}")]
    Ambiguous {
        /// Where.
        location: String,
        /// What was asked for.
        id: String,
        /// Ids, comma-separated, at most ten.
        candidates: String,
    },
    /// An object that a backup needs is gone.
    #[error(
        "{location} has no object {key}: the backup is incomplete; restore another and take a new one"
    )]
    NoObject {
        /// Where.
        location: String,
        /// Which.
        key: String,
    },
    /// The bucket is not there.
    #[error(
        "the bucket of {location} does not exist: create it, or correct the bucket, region and endpoint"
    )]
    NoBucket {
        /// Where.
        location: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// Another object is there already, and ours may not replace it.
    #[error(
        "{location} already holds {key} with other content: nothing was overwritten; take another backup"
    )]
    Conflict {
        /// Where.
        location: String,
        /// Which.
        key: String,
    },
    /// Another writer holds the chain.
    #[error(
        "the chain of backup '{base}' in {location} is being written by {holder}: wait for it, or stop it; a writer that died is taken over after a minute"
    )]
    Locked {
        /// Where.
        location: String,
        /// The full backup of the chain.
        base: String,
        /// Who holds it.
        holder: String,
    },
    /// Credentials are missing or wrong, or lack a right.
    #[error(
        "{location} refuses to {action} {key}: check the Secret that credentialsSecret names, or the workload identity, and its rights on the bucket"
    )]
    Refused {
        /// Where.
        location: String,
        /// `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// Which object.
        key: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// No credentials were found at all.
    #[error(
        "no credentials for {location} were found: name a Secret in credentialsSecret, set the provider's environment variables, or run with a workload identity"
    )]
    NoCredentials {
        /// Where.
        location: String,
        /// What was tried last.
        #[source]
        source: object_store::Error,
    },
    /// Signatures are valid for minutes only.
    #[error("{location} refuses this machine's clock: set it right (NTP), then try again")]
    Clock {
        /// Where.
        location: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The file system says no.
    #[error("{location} cannot {action} {key}: {problem}")]
    Directory {
        /// Where.
        location: String,
        /// `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// Which object.
        key: String,
        /// What is wrong and what to do.
        problem: &'static str,
        /// What the system said.
        #[source]
        source: object_store::Error,
    },
    /// The store does not answer, or answers with errors.
    #[error(
        "{location} did not {action} {key}: check the endpoint, region and network, then try again"
    )]
    Unavailable {
        /// Where.
        location: String,
        /// `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// Which object.
        key: String,
        /// What happened.
        #[source]
        source: object_store::Error,
    },
    /// The location cannot be opened.
    #[error("{location} cannot be opened: {problem}")]
    Location {
        /// Where.
        location: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A feature that this store or version does not have.
    #[error("{location}: {feature} is not supported yet: {instead}")]
    Unsupported {
        /// Where.
        location: String,
        /// What was asked for.
        feature: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// A key that is not of this repository's grammar.
    #[error("'{key}' is not a key of a backup: nothing was touched")]
    ForeignKey {
        /// The key.
        key: String,
    },
    /// A manifest that cannot be believed.
    #[error("the manifest of backup '{id}' cannot be used")]
    Manifest {
        /// Which backup.
        id: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Stored bytes are not what was meant to be stored.
    #[error("{key} in {location} is damaged: {problem}")]
    Damaged {
        /// Where.
        location: String,
        /// Which object.
        key: String,
        /// What differs, and what to do.
        problem: String,
    },
    /// The local file that is to be stored cannot be read.
    #[error("{what} cannot be read while it is stored: {problem}")]
    Source {
        /// Which file or stream.
        what: String,
        /// What to do.
        problem: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bucket is in another region.
    #[error(
        "the bucket of {location} is in another region{}: correct the region, and the endpoint if one is named",
        .region.as_ref().map(|name| format!(", {name}")).unwrap_or_default()
    )]
    Region {
        /// Where it was looked for.
        location: String,
        /// The one that it is in, where the store says so.
        region: Option<String>,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// Credentials could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The keys of a key management service cannot be asked for.
    #[error(transparent)]
    Kms(#[from] KmsError),
}

impl RepositoryError {
    /// How a caller should treat the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } | Self::NoObject { .. } | Self::NoBucket { .. } => {
                ErrorClass::NotFound
            }
            Self::Ambiguous { .. } | Self::Location { .. } | Self::Region { .. } => {
                ErrorClass::Usage
            }
            Self::Conflict { .. } | Self::Unsupported { .. } | Self::ForeignKey { .. } => {
                ErrorClass::Refused
            }
            Self::Locked { .. } => ErrorClass::Locked,
            Self::Refused { .. } | Self::NoCredentials { .. } | Self::Clock { .. } => {
                ErrorClass::Credentials
            }
            Self::Directory { .. } | Self::Unavailable { .. } => ErrorClass::StoreUnavailable,
            Self::Manifest { source, .. } => source.class(),
            Self::Damaged { .. } => ErrorClass::VerificationFailed,
            Self::Source { .. } => ErrorClass::Failed,
            Self::Secret(error) => error.class(),
            Self::Kms(error) => error.class(),
        }
    }
}

/// What was being done to which object of which store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub location: &'a str,
    pub action: &'static str,
    pub key: &'a str,
}

impl Attempt<'_> {
    /// Gives an error of the store crate its meaning.
    pub fn failed(self, source: object_store::Error) -> RepositoryError {
        use object_store::Error as Store;
        let (location, action, key) = (self.location.to_owned(), self.action, self.key.to_owned());
        let words = chain_of(&source);
        let says = |codes: &[&str]| codes.iter().any(|code| words.contains(code));
        if says(&["RequestTimeTooSkewed"]) {
            return RepositoryError::Clock { location, source };
        }
        if says(OTHER_REGION) {
            let region = region_in(&words);
            return RepositoryError::Region {
                location,
                region,
                source,
            };
        }
        if says(METADATA_SERVERS) {
            return RepositoryError::NoCredentials { location, source };
        }
        if says(MISSING_BUCKET) {
            return RepositoryError::NoBucket { location, source };
        }
        if let Some(problem) = io_kind(&source).and_then(directory_problem) {
            return RepositoryError::Directory {
                location,
                action,
                key,
                problem,
                source,
            };
        }
        match source {
            // A write finds nothing missing but the bucket, or an upload that was aborted meanwhile.
            Store::NotFound { .. } if action == "write" && !says(&["NoSuchUpload"]) => {
                RepositoryError::NoBucket { location, source }
            }
            Store::NotFound { .. } => RepositoryError::NoObject { location, key },
            Store::AlreadyExists { .. } | Store::Precondition { .. } => {
                RepositoryError::Conflict { location, key }
            }
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
                RepositoryError::Refused {
                    location,
                    action,
                    key,
                    source,
                }
            }
            source if says(WRONG_CREDENTIALS) => RepositoryError::Refused {
                location,
                action,
                key,
                source,
            },
            source => RepositoryError::Unavailable {
                location,
                action,
                key,
                source,
            },
        }
    }
}

/// Where machines of the clouds ask for their identity: when that fails, there were no credentials.
const METADATA_SERVERS: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
];
/// The words for a bucket of another region: S3's, and the store crate's for a redirect that leads nowhere.
const OTHER_REGION: &[&str] = &[
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IncorrectEndpoint",
    "redirect without LOCATION",
];
/// The providers' words for a bucket that is not there.
const MISSING_BUCKET: &[&str] = &[
    "NoSuchBucket",
    "ContainerNotFound",
    "The specified bucket does not exist",
];
/// The providers' words for wrong credentials under another status than 401 and 403.
const WRONG_CREDENTIALS: &[&str] = &[
    "InvalidToken",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSecurityToken",
    "invalid_grant",
    "InvalidAuthenticationInfo",
    "InvalidIdentityToken",
    // The store crate's own, where it gives the answer to the end of an upload no kind.
    "status code: 401",
    "status code: 403",
];

/// Whether a store calls a request malformed: its signature may be for another region.
pub(super) fn is_bad_request(error: &object_store::Error) -> bool {
    chain_of(error).contains("status code: 400")
}

/// The region that an answer names: `<Region>…</Region>`, or `expecting '…'`.
fn region_in(words: &str) -> Option<String> {
    let between = |before: &str, after: char| {
        let (_, rest) = words.split_once(before)?;
        let (name, _) = rest.split_once(after)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (!name.is_empty() && name.len() < 40 && name.chars().all(plain)).then(|| name.to_owned())
    };
    between("<Region>", '<').or_else(|| between("expecting '", '\''))
}

fn chain_of(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push(' ');
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<io::Error>() {
            return Some(found.kind());
        }
        source = cause.source();
    }
    None
}

fn directory_problem(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::PermissionDenied => Some("this user has no right to: give it one"),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("the file system is read-only: mount it for writing, or choose another store")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some("the disk or quota is full: free space, or prune old backups")
        }
        io::ErrorKind::NotADirectory => {
            Some("a part of the path is a file: choose another directory")
        }
        _ => None,
    }
}
