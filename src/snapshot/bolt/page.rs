//! The layout of pages: the constants and fixed-size records that the reader, the checker and the builder share
//! (etcd-format.md §2.1–2.6). Everything is little-endian.

/// Bytes that a processor takes from memory at once, on all that matter here.
pub const CACHE_LINE: usize = 64;
/// Bytes of the header that every page starts with.
pub const PAGE_HEADER: usize = 16;
/// Bytes of a branch or leaf element, which stand in an array behind the page header.
pub const ELEMENT: usize = 16;
/// Bytes of the header of a bucket's value: root page and sequence.
pub const BUCKET_HEADER: usize = 16;
/// Bytes of the meta record behind the header of pages 0 and 1.
pub const META: usize = 64;
/// Flag of a page that holds child pages.
pub const FLAG_BRANCH: u16 = 0x01;
/// Flag of a page that holds rows.
pub const FLAG_LEAF: u16 = 0x02;
/// Flag of the two meta pages.
pub const FLAG_META: u16 = 0x04;
/// Flag of a page that lists free pages.
pub const FLAG_FREELIST: u16 = 0x10;
/// Flag of a leaf element whose value is a bucket.
pub const BUCKET_ELEMENT: u32 = 1;
/// Marks a bbolt meta record.
pub const MAGIC: u32 = 0xED0C_DAED;
/// The only version of the format.
pub const VERSION: u32 = 2;
/// The freelist is not in the file: bbolt derives it when it opens the file.
pub const NO_FREELIST: u64 = u64::MAX;
/// As the count of a freelist page: the count does not fit there, it is the first of the ids.
pub const COUNT_ELSEWHERE: u16 = 0xFFFF;
/// The longest key, in bytes; the shortest is 1.
pub const MAX_KEY: usize = 32_768;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = (1 << 31) - 2;
/// The smallest page size, in bytes.
pub const MIN_PAGE_SIZE: u32 = 1024;
/// The largest page size, in bytes.
pub const MAX_PAGE_SIZE: u32 = 65_536;

/// Images are shorter than this: a terabyte, a hundred times etcd's own limit, so that a place in one fits in 40 bits.
pub const MAX_IMAGE: u64 = 1 << 40;

/// Whether pages can be this long: a power of two from 1 KiB to 64 KiB.
pub fn is_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&bytes)
}

/// The little-endian u16 at an offset, if it lies inside.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian u32 at an offset, if it lies inside.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian u64 at an offset, if it lies inside.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The header of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// The page's own number.
    pub id: u64,
    /// Exactly one of the page flags.
    pub flags: u16,
    /// Elements, or ids in a freelist page.
    pub count: u16,
    /// Pages that follow and belong to this one.
    pub overflow: u32,
}

impl PageHeader {
    /// Reads the header at the beginning of `page`.
    pub fn decode(page: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(page, 0)?,
            flags: u16_at(page, 8)?,
            count: u16_at(page, 10)?,
            overflow: u32_at(page, 12)?,
        })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; PAGE_HEADER] {
        let mut bytes = [0; PAGE_HEADER];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }
}

/// The record that everything else is found from. There are two, and the newer valid one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes of a page.
    pub page_size: u32,
    /// The page of the bucket that holds the buckets.
    pub root: u64,
    /// The sequence of that bucket; etcd leaves it 0.
    pub root_sequence: u64,
    /// The page that lists free pages, or [`NO_FREELIST`].
    pub freelist: u64,
    /// The first page number that was never used: the image is that many pages long.
    pub high_water: u64,
    /// The transaction that wrote the record.
    pub transaction: u64,
}

impl Meta {
    /// Reads a meta record, and says why it is none.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let record: &[u8; META] = bytes.first_chunk().ok_or("it is cut off")?;
        let word = |at: usize| u32_at(record, at).unwrap_or_default();
        let long = |at: usize| u64_at(record, at).unwrap_or_default();
        if word(0) != MAGIC {
            return Err("it has no bbolt magic number");
        }
        if word(4) != VERSION {
            return Err("its format version is not 2");
        }
        if long(56) != fnv1a64(&record[..56]) {
            return Err("its checksum is wrong");
        }
        if !is_page_size(word(8)) {
            return Err("its page size is not a power of two from 1024 to 65536");
        }
        Ok(Self {
            page_size: word(8),
            root: long(16),
            root_sequence: long(24),
            freelist: long(32),
            high_water: long(40),
            transaction: long(48),
        })
    }

    /// The record's bytes, with its checksum.
    pub fn encode(&self) -> [u8; META] {
        let mut bytes = [0; META];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.root.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.root_sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let checksum = fnv1a64(&bytes[..56]);
        bytes[56..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// FNV-1a with 64 bits, which guards meta records.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a64_is_the_published_one() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn records_read_back_and_any_flipped_bit_of_a_meta_is_noticed() {
        let header = PageHeader {
            id: 7,
            flags: FLAG_LEAF,
            count: 3,
            overflow: 2,
        };
        assert_eq!(PageHeader::decode(&header.encode()), Some(header));
        let meta = Meta {
            page_size: 4096,
            root: 3,
            root_sequence: 0,
            freelist: NO_FREELIST,
            high_water: 9,
            transaction: 41,
        };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        for bit in 0..META * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&broken).is_err(), "bit {bit}");
        }
    }
}
