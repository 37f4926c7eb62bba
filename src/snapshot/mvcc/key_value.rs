//! The value of a row: etcd's `mvccpb.KeyValue` (etcd-format.md §3.2).

use super::proto::{Field, Fields, put_varint, varint, varint_length};

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
        Self::decode_noting_order(bytes).map(|(row, _)| row)
    }

    /// Reads a row's value, and says whether its bytes are what etcd would write for it: since a message of these fields is
    /// never shorter, a waste of no byte and fields in order mean the same bytes.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn decode_canonical(bytes: &'a [u8]) -> Result<(Self, bool), &'static str> {
        let (row, in_order) = Self::decode_noting_order(bytes)?;
        Ok((row, in_order && row.encoded_length() == bytes.len()))
    }

    /// Whether a row's value, which can be decoded, is one of this key.
    pub fn has_key(bytes: &[u8], key: &[u8]) -> bool {
        // etcd writes the key first, and no field twice: what follows need not be looked at.
        if let Some(mut rest) = bytes.strip_prefix(b"\x0a") {
            return varint(&mut rest) == Some(key.len() as u64) && rest.starts_with(key);
        }
        KeyValue::decode(bytes).is_ok_and(|row| row.key == key)
    }

    fn decode_noting_order(bytes: &'a [u8]) -> Result<(Self, bool), &'static str> {
        let mut row = Self::default();
        let (mut last, mut in_order, mut seen) = (0, true, 0_u64);
        for field in Fields::of(bytes) {
            let (number, field) = field?;
            in_order &= number > last;
            last = number;
            let bit = 1 << (number & 63);
            if seen & bit != 0 {
                return Err("a field is there twice");
            }
            seen |= bit;
            match (number, field) {
                (1, Field::Bytes(key)) => row.key = key,
                (2, Field::Number(number)) => row.create_revision = number.cast_signed(),
                (3, Field::Number(number)) => row.mod_revision = number.cast_signed(),
                (4, Field::Number(number)) => row.version = number.cast_signed(),
                (5, Field::Bytes(value)) => row.value = value,
                (6, Field::Number(number)) => row.lease = number.cast_signed(),
                _ => return Err("it has a field that etcd does not write"),
            }
        }
        Ok((row, in_order))
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
        assert_eq!(KeyValue::decode_canonical(plain), Ok((row, true)));
        for bytes in wasteful {
            assert_eq!(KeyValue::decode(bytes), Ok(row));
            assert_eq!(
                KeyValue::decode_canonical(bytes),
                Ok((row, false)),
                "{bytes:?}"
            );
        }
        let shuffled = b"\x10\x02\x18\x02\x20\x01\x0a\x01a";
        for bytes in [&plain[..], shuffled] {
            assert!(KeyValue::has_key(bytes, b"a"));
            assert!(!KeyValue::has_key(bytes, b"b") && !KeyValue::has_key(bytes, b""));
        }
        assert!(KeyValue::decode(b"\x0a\x01a\x0a\x01b").is_err());
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
            prop_assert_eq!(KeyValue::decode_canonical(&bytes), Ok((row, true)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok((row, true)) = KeyValue::decode_canonical(&bytes) {
                let mut again = Vec::new();
                row.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
