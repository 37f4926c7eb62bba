//! What form a value in etcd has, and whose object it is, without decoding it as a whole. The forms are those that
//! kube-apiserver writes: JSON, `k8s\0` with protobuf's `runtime.Unknown`, and encrypted with the prefix `k8s:enc:`.

use serde::{Deserialize, Serialize};

use crate::snapshot::mvcc::proto::{Field, Fields};

/// What begins a value in protocol buffers.
const PROTOBUF: &[u8] = b"k8s\0";
/// What begins a value that the API server encrypted.
const ENCRYPTED: &[u8] = b"k8s:enc:";
/// What begins a self-described CBOR value.
pub(super) const CBOR: &[u8] = &[0xd9, 0xd9, 0xf7];

/// A value of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored<'a> {
    /// JSON: custom resources and the definitions of these.
    Json(&'a [u8]),
    /// CBOR, behind its mark: custom resources where the API server's feature CBORServingAndStorage is on.
    Cbor(&'a [u8]),
    /// Protocol buffers: the built-in kinds.
    Protobuf(Envelope<'a>),
    /// Encrypted by the API server.
    Encrypted {
        /// As `aescbc` or `kms`.
        provider: String,
        /// The name of the encryption key.
        key: String,
    },
    /// None of these, and why.
    Other(&'static str),
}

/// `runtime.Unknown`: an object's type beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// As `apps/v1`.
    pub api_version: &'a str,
    /// As `Deployment`.
    pub kind: &'a str,
    /// The object's message.
    pub raw: &'a [u8],
}

/// Which object a value is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// As `apps/v1`; empty when the value is encrypted.
    pub api_version: String,
    /// As `Deployment`; the resource of the key, as `secrets`, when the value is encrypted.
    pub kind: String,
    /// Empty for objects of the whole cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl<'a> Stored<'a> {
    /// Tells a value's form.
    pub fn of(value: &'a [u8]) -> Self {
        if let Some(message) = value.strip_prefix(PROTOBUF) {
            return Envelope::read(message).map_or_else(Self::Other, Self::Protobuf);
        }
        if let Some(rest) = value.strip_prefix(ENCRYPTED) {
            let mut parts = rest.splitn(4, |byte| *byte == b':');
            let mut text =
                || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            let (provider, version, key) = (text(), text(), text());
            let provider = if version == "v1" {
                provider
            } else {
                format!("{provider} {version}")
            };
            return Self::Encrypted { provider, key };
        }
        if value.starts_with(CBOR) {
            return Self::Cbor(value);
        }
        match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Self::Json(value),
            _ => Self::Other("its value is neither JSON nor Kubernetes' protobuf"),
        }
    }

    /// Which object it is; for an encrypted one what its key behind `prefix` says. Nothing when it is none.
    pub fn identity(&self, key: &str, prefix: &str) -> Option<Identity> {
        match self {
            Self::Json(json) => {
                let head: Head = serde_json::from_slice(json).ok()?;
                Some(head.into())
            }
            Self::Cbor(cbor) => {
                let object = super::cbor::decode(cbor).ok()?;
                let head: Head = serde_json::from_value(object.into()).ok()?;
                Some(head.into())
            }
            Self::Protobuf(envelope) => {
                let (namespace, name) = envelope.place()?;
                Some(Identity {
                    api_version: envelope.api_version.to_owned(),
                    kind: envelope.kind.to_owned(),
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            Self::Encrypted { .. } => of_key(key, prefix),
            Self::Other(_) => None,
        }
    }
}

/// What a JSON object says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Place,
}

impl From<Head> for Identity {
    fn from(head: Head) -> Self {
        Self {
            api_version: head.api_version,
            kind: head.kind,
            namespace: head.metadata.namespace,
            name: head.metadata.name,
        }
    }
}

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    namespace: String,
    name: String,
}

impl<'a> Envelope<'a> {
    fn read(message: &'a [u8]) -> Result<Self, &'static str> {
        const NO_TEXT: &str = "its type is no text";
        let mut envelope = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, Field::Bytes(type_meta)) => {
                    for field in Fields::of(type_meta) {
                        let (number, field) = field?;
                        let text = std::str::from_utf8(field.bytes()).map_err(|_| NO_TEXT)?;
                        match number {
                            1 => envelope.api_version = text,
                            2 => envelope.kind = text,
                            _ => {}
                        }
                    }
                }
                (2, Field::Bytes(raw)) => envelope.raw = raw,
                (3, Field::Bytes(encoding)) if !encoding.is_empty() => {
                    return Err("its content is encoded in a way that is not known");
                }
                _ => {}
            }
        }
        if envelope.kind.is_empty() {
            return Err("its envelope names no kind");
        }
        Ok(envelope)
    }

    /// Namespace and name: fields 3 and 1 of `ObjectMeta`, which is field 1 of every object.
    fn place(&self) -> Option<(&'a str, &'a str)> {
        let meta = Fields::of(self.raw).find_map(|field| match field {
            Ok((1, Field::Bytes(meta))) => Some(meta),
            _ => None,
        })?;
        let (mut namespace, mut name) = ("", "");
        for field in Fields::of(meta) {
            match field.ok()? {
                (1, Field::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
                (3, Field::Bytes(bytes)) => namespace = std::str::from_utf8(bytes).ok()?,
                _ => {}
            }
        }
        Some((namespace, name))
    }
}

/// `<prefix>/[group/]resource/[namespace/]name`, read as having a namespace when it has three parts or more.
fn of_key(key: &str, prefix: &str) -> Option<Identity> {
    let rest = key.strip_prefix(prefix)?.trim_start_matches('/');
    let mut parts: Vec<&str> = rest.split('/').collect();
    let group = match parts.first() {
        Some(first) if first.contains('.') && parts.len() > 2 => parts.remove(0),
        _ => "",
    };
    let (resource, namespace, name) = match parts.as_slice() {
        [resource, name] => (resource, "", name),
        [resource, .., namespace, name] => (resource, *namespace, name),
        _ => return None,
    };
    Some(Identity {
        api_version: group.to_owned(),
        kind: (*resource).to_owned(),
        namespace: namespace.to_owned(),
        name: (*name).to_owned(),
    })
}
