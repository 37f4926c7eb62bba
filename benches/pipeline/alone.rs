//! Each stage of a backup by itself, on the bytes of the backup that was made.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcdguardian::api::Compression;
use etcdguardian::repository::{Repository, SilentObserver};
use etcdguardian::seal::{Digest, Seal, Sealer};
use etcdguardian::secrets::FolderSecrets;
use tokio::io::AsyncReadExt;

use super::{Bench, ROUNDS};

/// A stage, and how long it took.
pub type Alone = (&'static str, Duration);

impl Bench {
    /// Each stage by itself, the best of a few: on the way there, and on the way back.
    pub async fn alone(&self) -> (Vec<Alone>, Vec<Alone>) {
        let at = |name: &str| self.folder.join(name);
        let (plain, packed, sealed) = (at("plain"), at("packed"), at("sealed"));
        let secrets = FolderSecrets::new(Some(at("secrets")));
        let location = serde_saphyr::from_str(&self.location).unwrap();
        let repository = Repository::open(&location, "default", &secrets, Arc::new(SilentObserver))
            .await
            .unwrap();
        let made = repository.find("bench").await.unwrap();
        // The plain file as it was, out of the store.
        let mut stored = repository.read(&made.data_key).await.unwrap();
        let mut out = tokio::fs::File::create(&sealed).await.unwrap();
        tokio::io::copy(&mut stored, &mut out).await.unwrap();
        drop(out);
        let seal = made.seal.clone();
        self.open(&seal, made.compression, &sealed, file(&plain));
        let zstd = Sealer::open(Compression::Zstd);
        let pack = |out: &mut (dyn Write + Send)| zstd.seal(&mut read(&plain), out).unwrap();
        pack(&mut file(&packed));
        let mut there = vec![
            alone("zstd", || pack(&mut io::sink())),
            alone("age", || {
                self.sealer
                    .seal(&mut read(&packed), &mut io::sink())
                    .unwrap();
            }),
            alone("SHA-256 of what is stored", || digest(&sealed)),
        ];
        let mut best = Duration::MAX;
        for round in 0..ROUNDS {
            let length = made.stored_size;
            let key = made
                .data_key
                .replace(&made.id, &format!("{}-{round}", made.id));
            let mut reader = tokio::fs::File::open(&sealed).await.unwrap();
            reader.set_max_buf_size(1 << 20);
            let start = Instant::now();
            repository
                .store_stream(&key, length, "bench", &mut reader, &|_| {})
                .await
                .unwrap();
            best = best.min(start.elapsed());
        }
        there.push(("S3, put", best));
        best = Duration::MAX;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let mut stored = repository.read(&made.data_key).await.unwrap();
            let mut buffer = vec![0; 256 * 1024];
            while stored.read(&mut buffer).await.unwrap() > 0 {}
            best = best.min(start.elapsed());
        }
        let packed_only = Seal::default();
        let back = vec![
            ("S3, get", best),
            alone("age", || {
                self.open(&seal, Compression::None, &sealed, io::sink())
            }),
            alone("zstd", || {
                self.open(&packed_only, Compression::Zstd, &packed, io::sink());
            }),
            alone("SHA-256", || digest(&plain)),
        ];
        (there, back)
    }

    fn open(&self, seal: &Seal, compression: Compression, from: &Path, mut to: impl Write) {
        self.unsealer
            .unseal(seal, compression, &mut read(from), &mut to)
            .unwrap();
        to.flush().unwrap();
    }
}

fn alone(name: &'static str, mut work: impl FnMut()) -> Alone {
    let took = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    (name, took.min().unwrap())
}

fn digest(plain: &Path) {
    let (mut reader, mut digest) = (read(plain), Digest::start().unwrap());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            length => digest.update(&buffer[..length]),
        }
    }
    digest.finish().unwrap();
}

fn read(path: &Path) -> BufReader<File> {
    BufReader::with_capacity(1 << 20, File::open(path).unwrap())
}

fn file(path: &Path) -> BufWriter<File> {
    BufWriter::with_capacity(1 << 20, File::create(path).unwrap())
}
