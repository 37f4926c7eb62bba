//! The value of a row: etcd's `mvccpb.KeyValue` (etcd-format.md §3.2).

use super::proto::{Field, Fields, put_varint, varint, varint_in, varint_length};

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
        match Self::plain(bytes) {
            Some(row) => Ok(row),
            None => Self::decode_noting_order(bytes).map(|(row, _)| row),
        }
    }

    /// Reads a row's value, and says whether its bytes are what etcd would write for it: since a message of these fields is
    /// never shorter, a waste of no byte and fields in order mean the same bytes.
    ///
    /// # Errors
    /// What is wrong, in words.
    #[inline]
    pub fn decode_canonical(bytes: &'a [u8]) -> Result<(Self, bool), &'static str> {
        match Self::plain(bytes) {
            Some(row) => Ok((row, true)),
            None => Self::decode_any(bytes),
        }
    }

    /// Reads a row's value as etcd writes it, which nearly every one is: each field at most once and in its order, none that says
    /// nothing, no byte wasted. Nothing for any other.
    #[inline]
    fn plain(bytes: &'a [u8]) -> Option<Self> {
        let (key, bytes) = plain_bytes(bytes, 1)?;
        if bytes.is_empty() {
            let alone = Self::default();
            return Some(Self { key, ..alone });
        }
        let (create_revision, bytes) = plain_number(bytes, 2)?;
        let (mod_revision, bytes) = plain_number(bytes, 3)?;
        let (version, bytes) = plain_number(bytes, 4)?;
        let (value, bytes) = plain_bytes(bytes, 5)?;
        let (lease, bytes) = plain_number(bytes, 6)?;
        bytes.is_empty().then_some(Self {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        })
    }

    fn decode_any(bytes: &'a [u8]) -> Result<(Self, bool), &'static str> {
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

/// A number above 0 in as few bytes as it needs, and what follows it.
#[inline(always)]
fn plain_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return (*first > 0).then_some((u64::from(*first), rest));
    }
    let Some((number, length)) = bytes.first_chunk().and_then(|word| varint_in(*word)) else {
        return long_plain_varint(bytes);
    };
    // Its last byte would be nothing but zeros if there were one too many.
    let last = *bytes.get(length - 1)?;
    Some((number, bytes.get(length..)?)).filter(|_| last != 0)
}

#[cold]
fn long_plain_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = bytes;
    let number = varint(&mut rest)?;
    (bytes.len() - rest.len() == varint_length(number)).then_some((number, rest))
}

/// The number of a field, and what follows it; 0 when it is not the next one.
#[inline(always)]
fn plain_number(bytes: &[u8], field: u8) -> Option<(i64, &[u8])> {
    let Some(behind) = bytes.strip_prefix(&[field << 3]) else {
        return Some((0, bytes));
    };
    let (number, rest) = plain_varint(behind)?;
    Some((number.cast_signed(), rest))
}

/// The bytes of a field, and what follows them; none when it is not the next one.
#[inline(always)]
fn plain_bytes(bytes: &[u8], field: u8) -> Option<(&[u8], &[u8])> {
    let Some(behind) = bytes.strip_prefix(&[field << 3 | 2]) else {
        return Some((&[], bytes));
    };
    let (length, rest) = plain_varint(behind)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
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

        #[test]
        fn the_plain_way_reads_what_etcd_would_write_and_nothing_else(
            rows in proptest::collection::vec((any::<[i64; 4]>(), 0_usize..3, 0_usize..40), 1..8),
            (change, at) in (any::<u8>(), any::<prop::sample::Index>()),
        ) {
            for (numbers, key, value) in rows {
                // Small numbers and zeros too.
                let number = |index: usize| numbers[index] >> (numbers[index] & 63);
                let (key, content) = ("k".repeat(key), "v".repeat(value));
                let row = KeyValue {
                    key: key.as_bytes(),
                    create_revision: number(0),
                    mod_revision: number(1),
                    version: number(2),
                    value: content.as_bytes(),
                    lease: number(3),
                };
                let mut bytes = Vec::new();
                row.encode(&mut bytes);
                prop_assert_eq!(KeyValue::plain(&bytes), Some(row));
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = change;
                }
                let any = KeyValue::decode_any(&bytes);
                let plain = KeyValue::plain(&bytes);
                prop_assert_eq!(plain, any.ok().filter(|(_, canonical)| *canonical).map(|(row, _)| row));
            }
        }
    }
}
