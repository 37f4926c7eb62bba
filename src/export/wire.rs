//! A built-in object in the form in which it is stored, without what a server gave it: for kinds and fields that this version does not
//! know, and any API server may. Only the outermost two messages are looked into.

use super::stored::Envelope;
use crate::snapshot::mvcc::proto::{Field, Fields, put_varint};

/// What begins a value in protocol buffers.
const MAGIC: &[u8] = b"k8s\0";
/// Fields of `ObjectMeta` that a server gives: selfLink, uid, resourceVersion, generation, creationTimestamp, deletionTimestamp,
/// deletionGracePeriodSeconds, ownerReferences, managedFields; from `k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto`.
const SERVER_GIVEN: [u64; 9] = [4, 5, 6, 7, 8, 9, 10, 13, 17];
const NAMESPACE: u64 = 3;

/// The value as it can be sent to an API server, in its own namespace or another one.
///
/// # Errors
/// What is wrong with the stored bytes, in words.
pub fn cleared(envelope: &Envelope<'_>, namespace: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let mut object = Vec::with_capacity(envelope.raw.len());
    for field in Fields::of(envelope.raw) {
        match field? {
            (1, Field::Bytes(meta)) => put_bytes(&mut object, 1, &metadata(meta, namespace)?),
            (number, field) => put(&mut object, number, field),
        }
    }
    let mut kind = Vec::new();
    put_bytes(&mut kind, 1, envelope.api_version.as_bytes());
    put_bytes(&mut kind, 2, envelope.kind.as_bytes());
    let mut value = MAGIC.to_vec();
    put_bytes(&mut value, 1, &kind);
    put_bytes(&mut value, 2, &object);
    Ok(value)
}

fn metadata(meta: &[u8], namespace: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let mut kept = Vec::with_capacity(meta.len());
    for field in Fields::of(meta) {
        let (number, field) = field?;
        match (number, namespace) {
            (NAMESPACE, Some(namespace)) if !field.bytes().is_empty() => {
                put_bytes(&mut kept, NAMESPACE, namespace.as_bytes());
            }
            (number, _) if SERVER_GIVEN.contains(&number) => {}
            (number, _) => put(&mut kept, number, field),
        }
    }
    Ok(kept)
}

fn put(out: &mut Vec<u8>, number: u64, field: Field<'_>) {
    match field {
        Field::Number(value) => {
            put_varint(out, number << 3);
            put_varint(out, value);
        }
        Field::Bytes(bytes) => put_bytes(out, number, bytes),
    }
}

fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::stored::Stored;
    use super::*;

    fn stored(meta: &[(u64, Field<'_>)]) -> Vec<u8> {
        let mut inner = Vec::new();
        for (number, field) in meta {
            put(&mut inner, *number, *field);
        }
        let mut object = Vec::new();
        put_bytes(&mut object, 1, &inner);
        // What no version of this program knows.
        put(&mut object, 99, Field::Bytes(b"new"));
        put(&mut object, 100, Field::Number(7));
        let envelope = Envelope {
            api_version: "future.k8s.io/v9",
            kind: "Marvel",
            raw: &object,
        };
        let mut kind = Vec::new();
        put_bytes(&mut kind, 1, envelope.api_version.as_bytes());
        put_bytes(&mut kind, 2, envelope.kind.as_bytes());
        let mut value = MAGIC.to_vec();
        put_bytes(&mut value, 1, &kind);
        put_bytes(&mut value, 2, envelope.raw);
        value
    }

    #[test]
    fn what_a_server_gave_goes_and_what_nobody_knows_stays() {
        let named = [
            (1, Field::Bytes(b"one")),
            (3, Field::Bytes(b"shop")),
            (11, Field::Bytes(b"labels")),
            (99, Field::Number(5)),
        ];
        let given = [
            (5, Field::Bytes(b"uid")),
            (6, Field::Bytes(b"12")),
            (7, Field::Number(3)),
            (8, Field::Bytes(b"")),
            (13, Field::Bytes(b"owner")),
            (17, Field::Bytes(b"fields")),
        ];
        let value = stored(&[&named[..], &given].concat());
        let Stored::Protobuf(envelope) = Stored::of(&value) else {
            unreachable!();
        };
        assert_eq!(cleared(&envelope, None).unwrap(), stored(&named));
        let mut moved = named;
        moved[1].1 = Field::Bytes(b"drill");
        assert_eq!(cleared(&envelope, Some("drill")).unwrap(), stored(&moved));
        // An object of the whole cluster gets no namespace.
        let alone = stored(&named[..1]);
        let Stored::Protobuf(envelope) = Stored::of(&alone) else {
            unreachable!();
        };
        assert_eq!(cleared(&envelope, Some("drill")).unwrap(), alone);
        let broken = Envelope {
            raw: &[0x0a, 0x50],
            ..envelope
        };
        assert!(cleared(&broken, None).is_err());
    }
}
