//! SHA-256 on a thread of its own: beside the codecs it would cost as much again as they do.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ring::digest::{Context, SHA256};

/// Bytes are handed over in pieces of this size.
const PIECE: usize = 256 * 1024;
/// So many pieces wait at most.
const WAITING: usize = 4;

/// A digest that is computed while its bytes are used elsewhere.
pub struct Digest {
    filling: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    worker: JoinHandle<Context>,
}

impl Digest {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (full, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let (used, spare) = sync_channel::<Vec<u8>>(WAITING + 1);
        let work = move || {
            let mut hash = Context::new(&SHA256);
            while let Ok(mut piece) = waiting.recv() {
                hash.update(&piece);
                piece.clear();
                // Whoever hands pieces over may be gone already.
                drop(used.try_send(piece));
            }
            hash
        };
        let worker = std::thread::Builder::new()
            .name("sha256".to_owned())
            .spawn(work)?;
        Ok(Self {
            filling: Vec::with_capacity(PIECE),
            full,
            spare,
            worker,
        })
    }

    /// More bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE - self.filling.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() == PIECE {
                self.hand_over();
            }
        }
    }

    /// The digest so far, to be continued or finished.
    ///
    /// # Errors
    /// When the thread died.
    pub fn finish(mut self) -> io::Result<Context> {
        self.hand_over();
        drop(self.full);
        self.worker
            .join()
            .map_err(|_| io::Error::other("the thread that computes a digest died"))
    }

    fn hand_over(&mut self) {
        let next = self.spare.try_recv();
        let next = next.unwrap_or_else(|_| Vec::with_capacity(PIECE));
        // It fails only when the thread died, which `finish` says.
        drop(self.full.send(std::mem::replace(&mut self.filling, next)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_the_digest_of_all_bytes_in_order() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 11 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            for step in [PIECE * 3, 70_001] {
                let mut digest = Digest::start().unwrap();
                for piece in bytes.chunks(step) {
                    digest.update(piece);
                }
                let seen = digest.finish().unwrap().finish();
                let expected = ring::digest::digest(&SHA256, &bytes);
                assert_eq!(seen.as_ref(), expected.as_ref(), "{length}");
            }
        }
    }
}
