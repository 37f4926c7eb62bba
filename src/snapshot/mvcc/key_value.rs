//! The value of a row: etcd's `mvccpb.KeyValue` (etcd-format.md §3.2).

use super::proto::{Field, Fields, put_varint, varint_length};

/// A key as one row left it. In a tombstone only `key` is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision of this row.
    pub mod_revision: i64,
    /// Changes since it was created, from 1.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease that it lives by; 0 for none.
    pub lease: i64,
}

impl<'a> KeyValue<'a> {
    /// Reads a row's value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut row = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(key)) => row.key = key,
                (2, Field::Number(number)) => row.create_revision = number.cast_signed(),
                (3, Field::Number(number)) => row.mod_revision = number.cast_signed(),
                (4, Field::Number(number)) => row.version = number.cast_signed(),
                (5, Field::Bytes(value)) => row.value = value,
                (6, Field::Number(number)) => row.lease = number.cast_signed(),
                _ => return Err("it has a field that etcd does not write"),
            }
        }
        Ok(row)
    }

    /// Whether `bytes`, which decoded to this, are what etcd would write for it: since a message of these fields is never
    /// shorter, a waste of no byte and fields in order mean the same bytes.
    pub fn is_canonical(&self, bytes: &[u8]) -> bool {
        self.encoded_length() == bytes.len()
            && Fields::of(bytes)
                .try_fold(0, |last, field| match field {
                    Ok((number, _)) if number > last => Some(number),
                    _ => None,
                })
                .is_some()
    }

    /// Appends the row's value as etcd writes it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let bytes = |out: &mut Vec<u8>, number: u8, bytes: &[u8]| {
            if !bytes.is_empty() {
                out.push(number << 3 | 2);
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        };
        let number = |out: &mut Vec<u8>, field: u8, number: i64| {
            if number != 0 {
                out.push(field << 3);
                put_varint(out, number.cast_unsigned());
            }
        };
        bytes(out, 1, self.key);
        number(out, 2, self.create_revision);
        number(out, 3, self.mod_revision);
        number(out, 4, self.version);
        bytes(out, 5, self.value);
        number(out, 6, self.lease);
    }

    fn encoded_length(&self) -> usize {
        let bytes = |bytes: &[u8]| match bytes.len() {
            0 => 0,
            length => 1 + varint_length(length as u64) + length,
        };
        let number = |number: i64| match number {
            0 => 0,
            number => 1 + varint_length(number.cast_unsigned()),
        };
        bytes(self.key)
            + number(self.create_revision)
            + number(self.mod_revision)
            + number(self.version)
            + bytes(self.value)
            + number(self.lease)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wasteful_encodings_are_readable_but_not_canonical() {
        let plain = b"\x0a\x01a\x10\x02\x18\x02\x20\x01";
        let wasteful: [&[u8]; 3] = [
            b"\x0a\x01a\x10\x82\x00\x18\x02\x20\x01",
            b"\x10\x02\x0a\x01a\x18\x02\x20\x01",
            b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x30\x00",
        ];
        let row = KeyValue::decode(plain).unwrap();
        assert!(row.is_canonical(plain));
        for bytes in wasteful {
            assert_eq!(KeyValue::decode(bytes), Ok(row));
            assert!(!row.is_canonical(bytes), "{bytes:?}");
        }
        assert!(KeyValue::decode(b"\x3a\x00").is_err());
        assert!(KeyValue::decode(b"\x0a\x05a").is_err());
    }

    proptest! {
        #[test]
        fn rows_read_back(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            numbers in any::<[i64; 4]>(),
        ) {
            let row = KeyValue {
                key: &key,
                create_revision: numbers[0],
                mod_revision: numbers[1],
                version: numbers[2],
                value: &value,
                lease: numbers[3],
            };
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            prop_assert_eq!(KeyValue::decode(&bytes), Ok(row));
            prop_assert!(row.is_canonical(&bytes));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(row) = KeyValue::decode(&bytes) && row.is_canonical(&bytes) {
                let mut again = Vec::new();
                row.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
