//! Where backups are kept: the storage location that every resource and the config file share.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::HumanDuration;

/// The kinds of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Provider {
    /// Amazon S3 and everything that speaks its API.
    S3,
    /// Alibaba Cloud Object Storage Service.
    OSS,
    /// Google Cloud Storage.
    GCS,
    /// Azure Blob Storage.
    Azure,
    /// A directory; for stand-alone mode and tests.
    Local,
}

impl Provider {
    /// The scheme of this provider's URLs (`s3://bucket/prefix`).
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::OSS => "oss",
            Self::GCS => "gs",
            Self::Azure => "az",
            Self::Local => "file",
        }
    }
}

/// A bucket and prefix, and how to reach them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageLocation {
    /// The kind of object store.
    pub provider: Provider,
    /// Bucket name; container for Azure; directory for Local.
    #[schemars(length(min = 1, max = 1024))]
    pub bucket: String,
    /// Region of S3 and OSS buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub region: Option<String>,
    /// URL of an S3-compatible or private endpoint. `http:` is accepted with a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// Path inside the bucket under which this repository lives.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512), extend("default" = ""))]
    pub prefix: String,
    /// Secret in the same namespace with the credentials; without it workload identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret: Option<String>,
    /// Encryption done by the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Write-once protection of what is stored, for S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// The provider's storage class, as `STANDARD_IA`; Azure's access tier. The bucket's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub storage_class: Option<String>,
    /// How the bucket is named in requests; the default depends on the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,
}

/// Encryption at rest done by the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerSideEncryption {
    /// Which key the provider uses.
    #[serde(rename = "type")]
    pub kind: ServerSideEncryptionKind,
    /// The provider's key, for `KMS`.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key_id: Option<String>,
}

/// Which key the provider encrypts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ServerSideEncryptionKind {
    /// The provider's own key.
    AES256,
    /// A key of the provider's key management service.
    KMS,
}

/// Write-once protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLock {
    /// Whether privileged users may lift the lock.
    pub mode: ObjectLockMode,
    /// How long stored objects are locked.
    pub retain: HumanDuration,
}

/// Whether privileged users may lift a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ObjectLockMode {
    /// Users with the right to bypass governance may.
    Governance,
    /// Nobody may.
    Compliance,
}

/// How the bucket is named in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    VirtualHosted,
}
