//! Frames: a kind, a length, a payload and a CRC-32C over all three. Whatever the bytes say, no more is allocated than was read.

use std::io::{self, Read};

use super::SegmentError;

/// Bytes of a frame around its payload.
const HEAD: usize = 5;
const CRC: usize = 4;
/// The longest header or footer, in bytes.
const MAX_JSON: usize = 1 << 20;
/// The longest row, in bytes; etcd's own default limit of a request is 1.5 MiB.
const MAX_ROW: usize = 128 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Header,
    Revision,
    Put,
    Tombstone,
    Commit,
    Idle,
    Lease,
    Footer,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Header => b'H',
            Self::Revision => b'R',
            Self::Put => b'P',
            Self::Tombstone => b'D',
            Self::Commit => b'C',
            Self::Idle => b'I',
            Self::Lease => b'L',
            Self::Footer => b'F',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'H' => Self::Header,
            b'R' => Self::Revision,
            b'P' => Self::Put,
            b'D' => Self::Tombstone,
            b'C' => Self::Commit,
            b'I' => Self::Idle,
            b'L' => Self::Lease,
            b'F' => Self::Footer,
            _ => return None,
        })
    }

    fn longest(self) -> usize {
        match self {
            Self::Header | Self::Footer => MAX_JSON,
            Self::Put | Self::Tombstone => MAX_ROW,
            Self::Revision | Self::Commit | Self::Idle | Self::Lease => 16,
        }
    }
}

/// Appends a frame to `out`.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SegmentError> {
    let length = u32::try_from(payload.len()).ok();
    let Some(length) = length.filter(|_| payload.len() <= kind.longest()) else {
        let problem = format!("a {kind:?} of {} bytes is too long", payload.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem).into());
    };
    let mut head = [0; HEAD];
    head[0] = kind.byte();
    head[1..].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Two big-endian 64-bit numbers, as the short frames hold.
pub fn pair(first: i64, second: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_be_bytes());
    bytes[8..].copy_from_slice(&second.to_be_bytes());
    bytes
}

/// The two numbers of a short frame.
pub fn unpair(payload: &[u8]) -> Option<(i64, i64)> {
    let first = payload.first_chunk().copied().map(i64::from_be_bytes)?;
    let second = payload
        .get(8..)?
        .first_chunk()
        .copied()
        .map(i64::from_be_bytes)?;
    (payload.len() == 16).then_some((first, second))
}

/// Reads the next frame's raw bytes into `raw` and returns its kind; `None` at the end of the bytes.
pub fn read(
    source: &mut dyn Read,
    at: u64,
    raw: &mut Vec<u8>,
) -> Result<Option<Kind>, SegmentError> {
    let damaged = |problem: &str| SegmentError::Damaged {
        at,
        problem: problem.to_owned(),
    };
    raw.clear();
    take(source, HEAD, raw)?;
    if raw.is_empty() {
        return Ok(None);
    }
    let length = raw.get(1..).and_then(|rest| rest.first_chunk().copied());
    let (Some(&kind), Some(length)) = (raw.first(), length) else {
        return Err(damaged("a frame is cut off"));
    };
    let kind = Kind::of(kind).ok_or_else(|| damaged("this is no frame"))?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > kind.longest() {
        return Err(damaged("a frame is impossibly long"));
    }
    take(source, length + CRC, raw)?;
    if raw.len() != HEAD + length + CRC {
        return Err(damaged("a frame is cut off"));
    }
    let (body, crc) = raw.split_at(HEAD + length);
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(damaged("a frame's checksum is wrong"));
    }
    Ok(Some(kind))
}

/// The payload of a frame that `read` accepted.
pub fn payload(raw: &[u8]) -> &[u8] {
    raw.get(HEAD..raw.len().saturating_sub(CRC))
        .unwrap_or_default()
}

fn take(source: &mut dyn Read, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
    source.take(count as u64).read_to_end(into).map(|_| ())
}
