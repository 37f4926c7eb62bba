//! The little of protocol buffers that etcd's rows are made of, read without a copy.

/// A field's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// An integer.
    Number(u64),
    /// Text, bytes, or a message within.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// The bytes; empty for a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    /// The number as protocol buffers' int64; 0 for bytes.
    pub fn int64(self) -> i64 {
        match self {
            Self::Number(number) => number.cast_signed(),
            Self::Bytes(_) => 0,
        }
    }
}

/// The fields of a message in the order of its bytes; ends after the first mistake.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a message.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<(u64, Field<'a>), &'static str> {
        let tag = varint(&mut self.rest).ok_or("a field's tag is broken")?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut self.rest).ok_or("a number is broken")?),
            2 => {
                let length = varint(&mut self.rest).ok_or("a length is broken")?;
                let split = usize::try_from(length)
                    .ok()
                    .and_then(|length| self.rest.split_at_checked(length));
                let (bytes, rest) = split.ok_or("a field is cut off")?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            _ => return Err("a field has a type that etcd does not write"),
        };
        Ok((tag >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Takes a variable-length integer off the front.
#[inline]
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    // Tags, lengths and small numbers take one byte, and are most of what a row is made of.
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    match bytes.first_chunk().and_then(|word| varint_in(*word)) {
        Some((number, length)) => {
            *bytes = bytes.get(length..)?;
            Some(number)
        }
        None => long_varint(bytes),
    }
}

/// A variable-length integer of eight bytes at most, and how many it takes; nothing when it is longer.
#[inline]
pub fn varint_in(word: [u8; 8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(word);
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let bits = ends.trailing_zeros() + 1;
    // Seven bits of each byte, moved together by twos, fours and eights.
    let sevens = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
    let twos = (sevens & 0x007f_007f_007f_007f) | ((sevens & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (twos & 0x0000_3fff_0000_3fff) | ((twos & 0x3fff_0000_3fff_0000) >> 2);
    let all = (fours & 0x0000_0000_0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4);
    Some((all, bits as usize / 8))
}

fn long_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    let mut rest = *bytes;
    for index in 0..10 {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        let part = u64::from(byte & 0x7f);
        // The tenth byte holds the last bit.
        if index == 9 && part > 1 {
            return None;
        }
        number |= part << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = rest;
            return Some(number);
        }
    }
    None
}

/// The bytes that [`varint`] needs for a number when nothing is wasted.
pub fn varint_length(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a variable-length integer.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_read_back_whatever_follows(
            number in any::<u64>(),
            bits in 0_u32..64,
            behind in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let number = number >> bits;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            prop_assert_eq!(bytes.len(), varint_length(number));
            bytes.extend_from_slice(&behind);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(varint(&mut rest), Some(number));
            prop_assert_eq!(rest, behind.as_slice());
        }

        #[test]
        fn both_ways_read_the_same_of_any_bytes(
            bytes in proptest::collection::vec(prop_oneof![Just(0x80), Just(0xff), any::<u8>()], 0..14),
        ) {
            let (mut one, mut other) = (bytes.as_slice(), bytes.as_slice());
            prop_assert_eq!(varint(&mut one), long_varint(&mut other));
            prop_assert_eq!(one, other);
        }
    }
}
