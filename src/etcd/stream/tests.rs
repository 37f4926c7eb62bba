//! The drain, fed by hand: whole streams, cut ones, digests that lie.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A stream made by hand; it hangs when `hang` is set and nothing is left.
struct Synthetic {
    chunks: VecDeque<Chunk<Vec<u8>>>,
    hang: bool,
    empty_for_ever: bool,
}

#[async_trait]
impl Chunks for Synthetic {
    type Blob = Vec<u8>;

    async fn next(&mut self) -> Result<Option<Chunk<Vec<u8>>>, EtcdError> {
        match self.chunks.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None if self.empty_for_ever => Ok(Some(Chunk {
                remaining: 7,
                blob: Vec::new(),
            })),
            None if self.hang => std::future::pending().await,
            None => Ok(None),
        }
    }
}

#[derive(Default)]
struct Seen(AtomicU64, AtomicU64);

impl StreamProgress for Seen {
    fn bytes(&self, done: u64, total: u64) {
        self.0.store(done, Ordering::Relaxed);
        self.1.store(total, Ordering::Relaxed);
    }
}

const IMAGE: usize = 3 * 4096;

fn image() -> Vec<u8> {
    (0..IMAGE).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn digest_of(image: &[u8]) -> Vec<u8> {
    ring::digest::digest(&SHA256, image).as_ref().to_vec()
}

/// The database in messages of `size` bytes, as etcd sends it, without the digest.
fn messages(image: &[u8], size: usize) -> Vec<Chunk<Vec<u8>>> {
    let mut left = image.len();
    image
        .chunks(size)
        .map(|blob| {
            left -= blob.len();
            Chunk {
                remaining: left as u64,
                blob: blob.to_vec(),
            }
        })
        .collect()
}

fn last(blob: Vec<u8>) -> Chunk<Vec<u8>> {
    Chunk { remaining: 0, blob }
}

async fn copy(
    chunks: Vec<Chunk<Vec<u8>>>,
    hang: bool,
    free: Option<u64>,
) -> (Result<Received, EtcdError>, Vec<u8>, (u64, u64)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.db");
    let seen = Seen::default();
    let reading = Reading {
        endpoint: "http://a:1",
        stall: Duration::from_millis(200),
        progress: &seen,
        free,
    };
    let mut source = Synthetic {
        chunks: chunks.into(),
        hang,
        empty_for_ever: false,
    };
    let outcome = reading.copy(&mut source, &file).await;
    let written = std::fs::read(&file).unwrap_or_default();
    let progress = (
        seen.0.load(Ordering::Relaxed),
        seen.1.load(Ordering::Relaxed),
    );
    (outcome, written, progress)
}

fn problem(outcome: Result<Received, EtcdError>) -> StreamProblem {
    match outcome.unwrap_err() {
        EtcdError::Stream { problem, endpoint } => {
            assert_eq!(endpoint, "http://a:1");
            problem
        }
        other => unreachable!("{other}"),
    }
}

#[tokio::test]
async fn a_whole_stream_is_written_with_its_digest_and_counted() {
    let image = image();
    for size in [4096, 1000, IMAGE, IMAGE - 1] {
        let mut chunks = messages(&image, size);
        chunks.push(last(digest_of(&image)));
        let (outcome, written, progress) = copy(chunks, false, None).await;
        let received = outcome.unwrap();
        assert_eq!(received.bytes, IMAGE as u64 + 32);
        assert_eq!(received.image_sha256, hex::encode(digest_of(&image)));
        assert_eq!(received.file_sha256, hex::encode(digest_of(&written)));
        assert_eq!(written, [image.clone(), digest_of(&image)].concat());
        assert_eq!(progress, (IMAGE as u64, IMAGE as u64));
    }
}

#[tokio::test]
async fn a_digest_may_come_in_pieces_or_glued_to_the_database() {
    let image = image();
    let digest = digest_of(&image);
    let mut pieces = messages(&image, 4096);
    pieces.push(last(digest[..10].to_vec()));
    pieces.push(last(digest[10..].to_vec()));
    assert!(copy(pieces, false, None).await.0.is_ok());
    let mut glued = messages(&image, 4096);
    glued.last_mut().unwrap().blob.extend(&digest);
    assert!(copy(glued, false, None).await.0.is_ok());
}

#[tokio::test]
async fn what_is_less_or_more_than_a_snapshot_is_refused() {
    let image = image();
    let digest = digest_of(&image);
    let whole = |tail: Vec<Vec<u8>>| {
        let mut chunks = messages(&image, 4096);
        chunks.extend(tail.into_iter().map(last));
        chunks
    };
    let mut wrong = digest.clone();
    wrong[5] ^= 1;
    let mut cut = messages(&image, 4096);
    cut.pop();
    let cases = [
        (whole(vec![]), StreamProblem::DigestMissing(0)),
        (
            whole(vec![digest[..31].to_vec()]),
            StreamProblem::DigestMissing(31),
        ),
        (
            whole(vec![digest.clone(), vec![0]]),
            StreamProblem::TrailingBytes,
        ),
        (whole(vec![wrong]), StreamProblem::DigestMismatch),
        (
            cut,
            StreamProblem::Truncated {
                received: 8192,
                expected: IMAGE as u64,
            },
        ),
        (Vec::new(), StreamProblem::Empty),
    ];
    for (chunks, expected) in cases {
        assert_eq!(problem(copy(chunks, false, None).await.0), expected);
    }
}

#[tokio::test]
async fn silence_and_empty_messages_end_the_reading() {
    let image = image();
    let (outcome, ..) = copy(messages(&image, 4096), true, None).await;
    assert_eq!(problem(outcome), StreamProblem::Stalled(0));

    let folder = tempfile::tempdir().unwrap();
    let reading = Reading {
        endpoint: "http://a:1",
        stall: Duration::from_secs(30),
        progress: &Seen::default(),
        free: None,
    };
    let mut source = Synthetic {
        chunks: messages(&image, 4096).into(),
        hang: false,
        empty_for_ever: true,
    };
    let outcome = reading.copy(&mut source, &folder.path().join("f")).await;
    assert_eq!(problem(outcome), StreamProblem::EmptyMessages);
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_named_before_it_is_full() {
    let image = image();
    let (outcome, written, _) = copy(messages(&image, 4096), false, Some(IMAGE as u64)).await;
    assert!(matches!(outcome, Err(EtcdError::NoSpace { .. })));
    assert!(written.is_empty());
}

#[tokio::test]
async fn a_file_that_is_there_already_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine");
    std::fs::write(&file, "precious").unwrap();
    let reading = Reading {
        endpoint: "http://a:1",
        stall: Duration::from_secs(1),
        progress: &Seen::default(),
        free: None,
    };
    let mut source = Synthetic {
        chunks: VecDeque::new(),
        hang: false,
        empty_for_ever: false,
    };
    let outcome = reading.copy(&mut source, &file).await;
    assert!(matches!(outcome, Err(EtcdError::Write { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
