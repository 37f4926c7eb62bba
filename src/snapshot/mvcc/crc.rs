//! CRC-32C over many pieces of one image. Pieces that touch each other are taken in one go: bbolt packs the rows of a page,
//! so that is a call a page instead of two a row.

use std::ops::Range;

/// A checksum in the making.
#[derive(Debug, Clone)]
pub struct Crc<'a> {
    image: &'a [u8],
    sum: u32,
    length: usize,
    pending: Range<usize>,
}

impl<'a> Crc<'a> {
    /// Starts with nothing read.
    pub fn new(image: &'a [u8]) -> Self {
        Self {
            image,
            sum: 0,
            length: 0,
            pending: 0..0,
        }
    }

    /// One over the same image that has read nothing.
    pub fn fresh(&self) -> Self {
        Self::new(self.image)
    }

    /// Reads bytes that are not of the image.
    pub fn word(&mut self, bytes: &[u8]) {
        self.flush();
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.length += bytes.len();
    }

    /// Reads `length` bytes of the image.
    pub fn piece(&mut self, at: usize, length: usize) {
        if at != self.pending.end {
            self.flush();
            self.pending = at..at;
        }
        self.pending.end += length;
    }

    /// Reads what another one has read.
    pub fn append(&mut self, other: &Crc<'_>) {
        self.flush();
        let mut other = other.clone();
        other.flush();
        self.append_known(other.sum, other.length);
    }

    /// Reads `length` bytes of which only the checksum is known.
    pub fn append_known(&mut self, sum: u32, length: usize) {
        self.flush();
        self.sum = crc32c::crc32c_combine(self.sum, sum, length);
        self.length += length;
    }

    /// How many bytes were read.
    pub fn length(&self) -> usize {
        self.length + self.pending.len()
    }

    /// The checksum of what was read.
    pub fn finish(mut self) -> u32 {
        self.flush();
        self.sum
    }

    fn flush(&mut self) {
        let pending = std::mem::replace(&mut self.pending, 0..0);
        let bytes = self.image.get(pending).unwrap_or_default();
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.length += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_parts_add_up_to_the_whole() {
        let image = b"....123456..789";
        let (mut first, mut second) = (Crc::new(image), Crc::new(image));
        first.word(b"");
        first.piece(4, 2);
        first.piece(6, 1);
        second.piece(7, 3);
        second.piece(12, 3);
        first.append(&second);
        assert_eq!(first.finish(), 0xE306_9283);
    }
}
