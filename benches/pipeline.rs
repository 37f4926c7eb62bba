//! A backup of a real etcd to a real S3 server and back, beside each of its stages alone: `make bench-pipeline`. Prints
//! docs/performance.md's section.
//!
//! BENCH_SIZE says how large the database is, as 1G; with BENCH_ALONE=no no stage is measured alone. Values are as alike and as
//! different as those of Kubernetes: a third is random. All rates are megabytes of the database a second, so that stages that
//! see compressed bytes can be compared with those before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "pipeline/alone.rs"]
mod alone;
#[path = "pipeline/servers.rs"]
mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcdguardian::api::{ClusterConfig, Compression};
use etcdguardian::export::ApiServer;
use etcdguardian::export::resources::Selection;
use etcdguardian::pipeline::{self, Part, Progress, Request, Services, Stage};
use etcdguardian::repository::SilentObserver;
use etcdguardian::seal::{Sealer, Unsealer};
use etcdguardian::secrets::FolderSecrets;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use servers::{Servers, private_bytes, seconds, tool};

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

/// Notes at the beginning of each stage what the backup, etcd and the store have had of the processor.
struct Clocks {
    processes: [u32; 3],
    seen: Mutex<Vec<[f64; 3]>>,
}

impl Clocks {
    fn look(&self) {
        self.seen.lock().unwrap().push(self.processes.map(seconds));
    }
}

impl Progress for Clocks {
    fn stage(&self, _: Stage) {
        self.look();
    }

    fn bytes(&self, _: u64, _: u64) {}
}

/// A stage of the whole: how long it took, and the processor's seconds of the backup, etcd and the store.
struct Ran {
    stage: Stage,
    took: Duration,
    busy: [f64; 3],
}

struct Bench {
    folder: PathBuf,
    location: String,
    sealer: Sealer,
    unsealer: Unsealer,
    servers: Servers,
}

impl Bench {
    async fn start(folder: &Path) -> Self {
        for name in ["secrets/s3", "secrets/seal"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let servers = Servers::start(folder);
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
            location: format!(
                "{{provider: S3, bucket: backups, region: us-east-1, endpoint: '{}', credentialsSecret: s3, addressing: Path}}",
                servers.store_url
            ),
            sealer,
            unsealer,
            servers,
        }
    }

    async fn run(&self, size: u64) {
        let size = self.servers.fill(size).await;
        let megabytes = size as f64 / 1e6;
        println!("\n### {megabytes:.0} MB of etcd 3.6 to S3 and back\n");
        let whole = self.back_up().await;
        let rate = |took: Duration| megabytes / took.as_secs_f64();
        println!(
            "| stage of the whole | took | MB/s | processor: backup | etcd | store |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        );
        let line = |name: &str, took: Duration, [own, etcd, store]: [f64; 3]| {
            println!(
                "| {name} | {:.2} s | {:.0} | {own:.1} s | {etcd:.1} s | {store:.1} s |",
                took.as_secs_f64(),
                rate(took)
            );
        };
        let (mut all, mut busy) = (Duration::ZERO, [0.0; 3]);
        for ran in &whole {
            all += ran.took;
            for (all, own) in busy.iter_mut().zip(ran.busy) {
                *all += own;
            }
            if ran.took.as_millis() > 0 {
                line(ran.stage.name(), ran.took, ran.busy);
            }
        }
        line("all of it", all, busy);
        if std::env::var("BENCH_ALONE").is_ok_and(|word| word == "no") {
            return;
        }
        let of = |wanted: Stage| whole.iter().find(|ran| ran.stage == wanted).unwrap().took;
        let streamed = self.stream();
        let stored = of(Stage::Snapshot) + of(Stage::Check) + of(Stage::Store);
        println!(
            "\nFrom etcd to S3: {:.0} MB/s, {:.2} of `etcdctl snapshot save`, {:.0} MB/s.",
            rate(stored),
            streamed.as_secs_f64() / stored.as_secs_f64(),
            rate(streamed)
        );
        let (there, back) = self.alone().await;
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

    /// etcd's own stream to the disk, by etcd's own client.
    fn stream(&self) -> Duration {
        let took = (0..ROUNDS).map(|_| {
            let to = self.folder.join("etcdctl.db");
            let start = Instant::now();
            let mut saved = Command::new(tool("etcdctl-3.6"));
            saved.args(["--endpoints", &self.servers.endpoint, "snapshot", "save"]);
            let output = saved.arg(&to).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let took = start.elapsed();
            std::fs::remove_file(&to).unwrap();
            took
        });
        took.min().unwrap()
    }

    async fn back_up(&self) -> Vec<Ran> {
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
                endpoints: vec![self.servers.endpoint.clone()],
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
        let Servers { etcd, store, .. } = &self.servers;
        let clocks = Clocks {
            processes: [std::process::id(), etcd.id(), store.id()],
            seen: Mutex::default(),
        };
        let running = Arc::new(AtomicBool::new(true));
        let runs = Arc::clone(&running);
        let watch = std::thread::spawn(move || {
            let mut peak = 0;
            while runs.load(Ordering::Relaxed) {
                peak = peak.max(private_bytes());
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let made = pipeline::run(&request, &services, &clocks).await.unwrap();
        clocks.look();
        running.store(false, Ordering::Relaxed);
        println!(
            "Backup {}: {} of {} MB stored, with at most {} MiB of private memory.\n",
            made.manifest.level,
            made.manifest.stored_size / 1_000_000,
            made.manifest.raw_size / 1_000_000,
            watch.join().unwrap() >> 20
        );
        let seen = clocks.seen.into_inner().unwrap();
        let between = seen.windows(2).map(|pair| {
            let mut busy = pair[1];
            for (after, before) in busy.iter_mut().zip(pair[0]) {
                *after -= before;
            }
            busy
        });
        let stages = made.stages.into_iter().zip(between);
        stages
            .map(|((stage, took), busy)| Ran { stage, took, busy })
            .collect()
    }
}
