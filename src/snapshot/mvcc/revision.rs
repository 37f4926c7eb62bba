//! Revisions, and the keys of rows that carry them (etcd-format.md §3.1).

use std::fmt;

/// A place in etcd's history: the transaction, and the change within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The revision that users see; the first write is 2.
    pub main: i64,
    /// The change within the transaction, from 0.
    pub sub: i64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.main, self.sub)
    }
}

/// The key of a row of the bucket `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowKey {
    /// When it was written.
    pub revision: Revision,
    /// Whether the row deletes its key.
    pub tombstone: bool,
}

impl RowKey {
    /// Reads 17 bytes, or 18 of a tombstone; nothing when they are no row key.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, mark) = bytes.split_first_chunk::<17>()?;
        let tombstone = match mark {
            [] => false,
            b"t" => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(*head.first_chunk()?);
        let sub = i64::from_be_bytes(*head.last_chunk()?);
        (head[8] == b'_' && main >= 0 && sub >= 0).then_some(Self {
            revision: Revision { main, sub },
            tombstone,
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&self.revision.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&self.revision.sub.to_be_bytes());
        if self.tombstone {
            bytes.push(b't');
        }
        bytes
    }

    /// The smallest row key of a revision: where a walk from that revision begins.
    pub fn first_of(main: i64) -> Self {
        Self {
            revision: Revision { main, sub: 0 },
            tombstone: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_read_back_and_nothing_else_is_one() {
        let key = RowKey {
            revision: Revision { main: 7, sub: 2 },
            tombstone: true,
        };
        assert_eq!(RowKey::decode(&key.encode()), Some(key));
        let first = RowKey::first_of(7).encode();
        assert_eq!(first.len(), 17);
        for broken in [
            &b""[..],
            &first[..16],
            b"\0\0\0\0\0\0\0\x02-\0\0\0\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0x",
            b"\xff\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(RowKey::decode(broken), None, "{broken:?}");
        }
    }
}
