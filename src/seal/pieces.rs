//! What is written here goes to another thread, piece by piece; whoever writes waits when the other side is slower.

use std::io::{self, Write};

use bytes::Bytes;

/// Bytes go over in pieces of this size.
const PIECE: usize = 256 * 1024;

/// A writer whose pieces somebody else takes. The last word is `None`: without it the stream broke off.
pub struct Pieces<F> {
    filling: Vec<u8>,
    hand_over: F,
}

impl<F: FnMut(Option<Bytes>) -> io::Result<()>> Pieces<F> {
    /// Hands full pieces to `hand_over`, which may wait.
    pub fn new(hand_over: F) -> Self {
        Self {
            filling: Vec::with_capacity(PIECE),
            hand_over,
        }
    }

    /// Hands over what is left, and that this was all.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn end(mut self) -> io::Result<()> {
        self.flush()?;
        (self.hand_over)(None)
    }
}

impl<F: FnMut(Option<Bytes>) -> io::Result<()>> Write for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.len() >= PIECE {
            self.flush()?;
        }
        let count = bytes.len().min(PIECE);
        self.filling
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.filling, Vec::with_capacity(PIECE));
        (self.hand_over)(Some(piece.into()))
    }
}
