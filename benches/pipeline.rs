//! A backup of a real etcd to a real S3 server and back, beside each of its stages alone: `make bench-pipeline`. Prints
//! docs/performance.md's section.
//!
//! BENCH_SIZE says how large the database is, as 1G. Values are as alike and as different as those of Kubernetes: a third is random.
//! All rates are megabytes of the database a second, so that stages that see compressed bytes can be compared with those before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, Txn, TxnOp};
use etcdguardian::api::{ClusterConfig, Compression};
use etcdguardian::export::ApiServer;
use etcdguardian::export::resources::Selection;
use etcdguardian::pipeline::{self, Part, Progress, Request, Services, Stage};
use etcdguardian::repository::{Repository, SilentObserver};
use etcdguardian::seal::{Digest, Seal, Sealer, Unsealer};
use etcdguardian::secrets::FolderSecrets;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::io::AsyncReadExt;

const VALUE: usize = 64 * 1024;
const ROUNDS: usize = 3;

fn main() {
    // Under `cargo test --benches` there is nothing to do.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    etcdguardian::init_tls();
    let size = std::env::var("BENCH_SIZE").map_or(1 << 30, |text| bytes_of(&text));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    runtime.block_on(async {
        let bench = Bench::start(scratch.path()).await;
        bench.run(size).await;
    });
}

/// `1G`, `500M`.
fn bytes_of(text: &str) -> u64 {
    let (digits, unit) = text.split_at(text.len() - 1);
    let unit = if unit == "G" { 30 } else { 20 };
    digits.parse::<u64>().expect("as 1G or 500M") << unit
}

/// A server that ends with the benchmark.
struct Server(Child);

impl Server {
    fn start(name: &str, arguments: &[String]) -> Self {
        let tools = std::env::var("ETCDGUARDIAN_TOOLS").unwrap_or_else(|_| {
            format!(
                "{}/.cache/etcdguardian/tools",
                std::env::var("HOME").unwrap()
            )
        });
        let child = Command::new(format!("{tools}/bin/{name}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Hears how far a backup is, and says nothing.
struct Silent;

impl Progress for Silent {
    fn stage(&self, _: Stage) {}
    fn bytes(&self, _: u64, _: u64) {}
}

struct Bench {
    folder: PathBuf,
    endpoint: String,
    location: String,
    sealer: Sealer,
    unsealer: Unsealer,
    _servers: [Server; 2],
}

impl Bench {
    async fn start(folder: &Path) -> Self {
        let port = || {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let (client, peer, s3) = (port(), port(), port());
        let at = |name: &str| folder.join(name).display().to_string();
        for name in ["s3/backups", "iam", "secrets/s3", "secrets/seal"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let endpoint = format!("http://127.0.0.1:{client}");
        let etcd = [
            format!("--data-dir={}", at("etcd")),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            "--quota-backend-bytes=34359738368".to_owned(),
            "--snapshot-count=1000".to_owned(),
            "--max-wals=2".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ];
        let versitygw = [
            format!("--port=127.0.0.1:{s3}"),
            "--access=vgw".to_owned(),
            "--secret=vgwsecret".to_owned(),
            "--quiet".to_owned(),
            format!("--iam-dir={}", at("iam")),
            "posix".to_owned(),
            at("s3"),
        ];
        let servers = [
            Server::start("etcd-3.6", &etcd),
            Server::start("versitygw", &versitygw),
        ];
        let key = etcdguardian::seal::generate();
        let secret = |name: &str, text: &str| {
            std::fs::write(folder.join("secrets").join(name), text).unwrap();
        };
        secret("s3/access-key-id", "vgw");
        secret("s3/secret-access-key", "vgwsecret");
        let identity = key.identity_file.expose_secret();
        secret("seal/identities", identity);
        let mut unsealer = Unsealer::default();
        unsealer.add_identities(identity, "bench").unwrap();
        let secrets = FolderSecrets::new(Some(folder.join("secrets")));
        let encryption = serde_json::from_value(
            serde_json::json!({"enabled": true, "encryptionSecret": "seal"}),
        )
        .unwrap();
        let resolve = Sealer::resolve(Some(&encryption), Compression::None, "default", &secrets);
        let sealer = resolve.await.unwrap();
        Self {
            folder: folder.to_owned(),
            endpoint,
            location: format!(
                "{{provider: S3, bucket: backups, region: us-east-1, endpoint: 'http://127.0.0.1:{s3}', credentialsSecret: s3, addressing: Path}}"
            ),
            sealer,
            unsealer,
            _servers: servers,
        }
    }

    async fn run(&self, size: u64) {
        let size = self.fill(size).await;
        let megabytes = size as f64 / 1e6;
        println!("\n### {megabytes:.0} MB of etcd 3.6 to S3 and back\n");
        let whole = self.back_up().await;
        let rate = |took: Duration| megabytes / took.as_secs_f64();
        println!("| stage of the whole | took | MB/s |\n| --- | ---: | ---: |");
        let mut all = Duration::ZERO;
        for (stage, took) in &whole {
            all += *took;
            if took.as_millis() > 0 {
                println!(
                    "| {} | {:.2} s | {:.0} |",
                    stage.name(),
                    took.as_secs_f64(),
                    rate(*took)
                );
            }
        }
        println!(
            "| all of it | {:.2} s | {:.0} |",
            all.as_secs_f64(),
            rate(all)
        );
        let of = |wanted: Stage| whole.iter().find(|(stage, _)| *stage == wanted).unwrap().1;
        let (there, back) = self.alone(size).await;
        for (name, stages, took) in [
            ("to S3", there, of(Stage::Store)),
            ("and back", back, of(Stage::Verify)),
        ] {
            println!("\n| {name}: alone | MB/s |\n| --- | ---: |");
            for (stage, alone) in &stages {
                println!("| {stage} | {:.0} |", rate(*alone));
            }
            let slowest = stages.iter().max_by_key(|(_, took)| *took).unwrap();
            println!(
                "\nAll of them together: {:.0} MB/s, {:.2} of the slowest, {}.",
                rate(took),
                slowest.1.as_secs_f64() / took.as_secs_f64(),
                slowest.0
            );
        }
    }

    /// Fills etcd until its database has about so many bytes.
    async fn fill(&self, size: u64) -> u64 {
        let mut client = loop {
            if let Ok(mut client) = Client::connect([&self.endpoint], None).await
                && client.status().await.is_ok()
            {
                break client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut state = 1_u64;
        let mut written = 0;
        let mut key = 0;
        while written < size {
            let puts: Vec<TxnOp> = (0..16)
                .map(|_| {
                    key += 1;
                    let name = format!("/registry/configmaps/bench/value-{key:09}");
                    TxnOp::put(name, value(&mut state), None)
                })
                .collect();
            written += (puts.len() * (VALUE + 4096)) as u64;
            client.txn(Txn::new().and_then(puts)).await.unwrap();
        }
        u64::try_from(client.status().await.unwrap().db_size()).unwrap()
    }

    async fn back_up(&self) -> Vec<(Stage, Duration)> {
        let spec = format!(
            "{{backupMode: Full, storageLocation: {}, encryption: {{enabled: true, encryptionSecret: seal}}}}",
            self.location
        );
        let request = Request {
            spec: serde_saphyr::from_str(&spec).unwrap(),
            namespace: "default".to_owned(),
            name: "bench".to_owned(),
            schedule: None,
            run_id: "bench".to_owned(),
            cluster_name: "bench".to_owned(),
            cluster: ClusterConfig {
                endpoints: vec![self.endpoint.clone()],
                ..ClusterConfig::default()
            },
            export: Selection::default(),
            makes_velero_pair: false,
            part: Part::Whole,
            scratch: self.folder.join("scratch"),
            started: Timestamp::now(),
        };
        let services = Services {
            secrets: Arc::new(FolderSecrets::new(Some(self.folder.join("secrets")))),
            observer: Arc::new(SilentObserver),
            commands: Arc::new(pipeline::hooks::OnThisHost),
            api: ApiServer::Inferred,
        };
        let made = pipeline::run(&request, &services, &Silent).await.unwrap();
        println!(
            "Backup {}: {} of {} MB stored.\n",
            made.manifest.level,
            made.manifest.stored_size / 1_000_000,
            made.manifest.raw_size / 1_000_000
        );
        made.stages
    }

    /// Each stage by itself, the best of a few: on the way there, and on the way back.
    async fn alone(&self, size: u64) -> (Vec<Alone>, Vec<Alone>) {
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
        let pack = |out: &mut dyn Write| zstd.seal(&mut read(&plain), out).unwrap();
        pack(&mut file(&packed));
        let mut there = vec![
            alone("SHA-256", || digest(&plain)),
            alone("zstd", || pack(&mut io::sink())),
            alone("age", || {
                self.sealer
                    .seal(&mut read(&packed), &mut io::sink())
                    .unwrap();
            }),
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
        assert!(size > 0);
        (there, back)
    }

    fn open(&self, seal: &Seal, compression: Compression, from: &Path, mut to: impl Write) {
        self.unsealer
            .unseal(seal, compression, &mut read(from), &mut to)
            .unwrap();
        to.flush().unwrap();
    }
}

type Alone = (&'static str, Duration);

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

/// A third random letters, the rest alike.
fn value(state: &mut u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE);
    while value.len() < VALUE {
        value.extend_from_slice(
            b"{\"metadata\":{\"managedFields\":[{\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\",\"manager\":\"kubelet\"}],\"uid\":\"",
        );
        for _ in 0..50 {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            value.push(b'a' + u8::try_from((*state >> 33) % 26).unwrap());
        }
    }
    value.truncate(VALUE);
    value
}
