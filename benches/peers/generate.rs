//! Databases of a size and a shape, as etcd would have written them: rows of Kubernetes-like keys, in order of revisions.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use etcdguardian::snapshot::bolt::build::ImageBuilder;
use etcdguardian::snapshot::mvcc::{KeyValue, Revision, RowKey};

/// Repeatable noise: xorshift.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A key of the generator's: when it was created, and how often it changed.
#[derive(Clone, Copy, Default)]
struct Live {
    create: i64,
    version: i64,
}

/// Writes a snapshot of about `size` bytes, with etcd's digest behind it.
///
/// Shapes: `small`, many keys of some hundred bytes, each written once and compacted for the most part; `large`, values of a
/// megabyte; `history`, few keys that change over and over; `tombstones`, keys that are made and deleted again.
pub fn generate(path: &Path, shape: &str, size: u64) {
    // Bytes of a row with its key, its element and its share of a page.
    let (value, row) = match shape {
        "large" => (1_000_000, 1_003_000),
        "small" | "history" => (250, 410),
        "tombstones" => (120, 205),
        _ => panic!("there is no shape {shape}"),
    };
    let rows = i64::try_from(size / row).unwrap().max(2);
    let keys = match shape {
        "history" => rows / 25 + 1,
        "tombstones" => rows / 10 + 1,
        _ => rows,
    };
    let unfinished = path.with_extension("unfinished");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unfinished)
        .unwrap();
    let mut image = ImageBuilder::new(BufWriter::with_capacity(1 << 20, file), 4096).unwrap();
    image.bucket(b"key").unwrap();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut live = vec![Live::default(); usize::try_from(keys).unwrap()];
    let mut content = vec![0_u8; value + 64];
    let mut bytes = Vec::new();
    for index in 0..rows {
        let main = index + 2;
        let number = match shape {
            // A key is made and, right or a while after, deleted; one in ten stays.
            "tombstones" => (index / 2) % keys,
            "history" => i64::try_from(noise.next() % keys as u64).unwrap(),
            _ => index,
        };
        let key = format!(
            "/registry/pods/namespace-{:03}/workload-{number:012}",
            number % 200
        );
        let state = &mut live[usize::try_from(number).unwrap()];
        let tombstone =
            shape == "tombstones" && index % 2 == 1 && number % 10 != 0 && state.version > 0;
        bytes.clear();
        if tombstone {
            *state = Live::default();
            KeyValue {
                key: key.as_bytes(),
                ..KeyValue::default()
            }
            .encode(&mut bytes);
        } else {
            if state.version == 0 {
                state.create = main;
            }
            state.version += 1;
            for word in content.chunks_mut(8) {
                let noise = noise.next().to_le_bytes();
                word.copy_from_slice(&noise[..word.len()]);
            }
            let length =
                value - value / 4 + usize::try_from(noise.next() % (value as u64 / 2)).unwrap();
            KeyValue {
                key: key.as_bytes(),
                create_revision: state.create,
                mod_revision: main,
                version: state.version,
                value: &content[..length.min(content.len())],
                lease: 0,
            }
            .encode(&mut bytes);
        }
        let revision = Revision { main, sub: 0 };
        image
            .row(
                &RowKey {
                    revision,
                    tombstone,
                }
                .encode(),
                &bytes,
            )
            .unwrap();
    }
    image.bucket(b"meta").unwrap();
    image
        .row(b"consistent_index", &(rows as u64 + 5).to_be_bytes())
        .unwrap();
    if shape == "small" {
        // Nothing was superseded, so nothing is missing at whatever revision it was compacted.
        let mark = RowKey::first_of(2 + rows * 9 / 10).encode();
        image.row(b"finishedCompactRev", &mark).unwrap();
        image.row(b"scheduledCompactRev", &mark).unwrap();
    }
    image.row(b"term", &2_u64.to_be_bytes()).unwrap();
    let (out, length) = image.finish().unwrap();
    let mut file = out.into_inner().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
    }
    assert_eq!(file.stream_position().unwrap(), length);
    file.write_all(digest.finish().as_ref()).unwrap();
    file.sync_all().unwrap();
    std::fs::rename(&unfinished, path).unwrap();
}
