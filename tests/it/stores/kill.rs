//! SIGKILL at random instants of a full backup, an increment, a copy, a replication and a prune, on a directory and on S3: the next
//! run works, whatever is listed is whole and stands on what it needs, and a sweep leaves nothing of what was broken off. `KILLS`
//! and `SEED` in the environment choose how many and which.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcdguardian::repository::{Kind, Manifest, Repository, SilentObserver};
use etcdguardian::secrets::FolderSecrets;
use jiff::{SignedDuration, Timestamp};

use crate::backup::{Desk, cluster, files};
use crate::support::{Etcd, Toxiproxy, Versitygw, block_on, guardian_command, until};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// xorshift: the same instants for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// Runs to the end, or is killed after so many milliseconds; says whether it was.
fn killed_after(command: &mut Command, millis: u64) -> bool {
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(millis));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    !ended
}

/// What is killed, in turn.
const WORK: [&str; 5] = ["full", "increment", "copy", "replicate", "prune"];

/// Its stores by name.
const BUCKETS: [&str; 3] = ["backups", "copies", "replica"];

/// An etcd and three stores: one for backups, one for copies by hand, one that a schedule replicates to.
struct Scene {
    etcd: Etcd,
    desk: Desk,
    urls: [String; 3],
    /// The folders behind the stores.
    folders: [PathBuf; 3],
    seen: BTreeSet<String>,
}

impl Scene {
    /// `location` makes the YAML and the URL of a store of this name.
    fn new(desk: Desk, etcd: Etcd, location: impl Fn(&str) -> (String, String)) -> Self {
        let [near, copies, replica] = BUCKETS.map(location);
        std::fs::create_dir_all(desk.path("manifests")).unwrap();
        let manifest = format!(
            "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdBackupSchedule\nmetadata: {{name: s}}\nspec:\n  schedule: '@hourly'\n  backupTemplate:\n    spec:\n      backupMode: Full\n      storageLocation: {}\n      retentionPolicy: {{maxBackups: 1}}\n      replicateTo: [{{storageLocation: {}, retentionPolicy: {{maxBackups: 2}}}}]\n",
            near.0, replica.0
        );
        std::fs::write(desk.path("manifests/s.yaml"), manifest).unwrap();
        let manifests = desk.path("manifests").display().to_string();
        desk.add(&format!("manifests: {manifests}\nstore: {}\n", near.0));
        Self {
            etcd,
            desk,
            urls: [near.1, copies.1, replica.1],
            folders: Default::default(),
            seen: BTreeSet::new(),
        }
    }

    fn words(&self, work: &str) -> Vec<&str> {
        let [near, copies, _] = &self.urls;
        match work {
            "full" => vec!["backup", "create"],
            "increment" => vec!["backup", "create", "--mode", "incremental"],
            "copy" => vec!["backup", "copy", "--from", near, "--to", copies],
            "replicate" => vec!["backup", "create", "--from-schedule", "s"],
            _ => {
                let rule = ["--max-backups", "2", "--yes"];
                let mut words = vec!["backup", "prune", "--from", near];
                words.extend(rule);
                words
            }
        }
    }

    async fn open(&self, url: &str) -> Repository {
        let secrets = FolderSecrets::new(Some(self.desk.path("secrets")));
        let location = url.parse().unwrap();
        Repository::open(&location, "default", &secrets, Arc::new(SilentObserver))
            .await
            .unwrap()
    }

    fn backups(&self, url: &str) -> Vec<Manifest> {
        let catalog = block_on(async { self.open(url).await.catalog(None).await.unwrap() });
        assert_eq!(catalog.damaged, Vec::<String>::new(), "{url}");
        catalog.backups
    }

    /// Every backup of every store has what it stands on, and those that are new prove whole from their bytes.
    fn everything_listed_is_whole(&mut self) {
        for url in self.urls.clone() {
            let backups = self.backups(&url);
            for backup in &backups {
                if let Some(chain) = &backup.chain {
                    let is_base = |one: &Manifest| one.kind == Kind::Full && one.id == chain.base;
                    assert!(backups.iter().any(is_base), "{} has no base", backup.id);
                }
                if self.seen.insert(format!("{url} {}", backup.id)) {
                    let words = ["backup", "verify", &backup.id, "--from", &url, "--deep"];
                    self.desk.run(&words).ok();
                }
            }
        }
    }

    /// A day and an hour later a sweep leaves no data without a manifest; returns what it found.
    fn sweep(&self) -> usize {
        let later = Timestamp::now() + SignedDuration::from_hours(25);
        let mut swept = 0;
        for (url, folder) in self.urls.iter().zip(&self.folders) {
            let (gone, left) = block_on(async {
                let repository = self.open(url).await;
                let gone = repository.sweep(later).await.unwrap().0;
                (gone, repository.sweep(later).await.unwrap().0)
            });
            assert_eq!(left, Vec::<String>::new(), "{url}");
            swept += gone.len();
            let stored = files(folder);
            let stored = stored.iter().filter(|file| {
                let path = file.display().to_string();
                !path.contains("/.sgwtmp/") && !path.contains("/lock/")
            });
            assert_eq!(stored.count(), 2 * self.backups(url).len(), "{url}");
        }
        swept
    }
}

/// Kills and looks, again and again; `unfinished` says how many uploads the stores hold that were begun and not finished.
fn survives(mut scene: Scene, unfinished: impl Fn() -> usize) {
    let (kills, seed) = (number("KILLS", 20), number("SEED", 0x5eed));
    eprintln!("KILLS={kills} SEED={seed}");
    let mut dice = Dice(seed | 1);
    let config = scene.desk.path("guardian.yaml").display().to_string();
    // How long each takes when nobody kills it.
    let takes = WORK.map(|work| {
        scene.etcd.fill("i/", 5, 100);
        let start = Instant::now();
        scene.desk.run(&scene.words(work)).ok();
        u64::try_from(start.elapsed().as_millis()).unwrap()
    });
    scene.everything_listed_is_whole();
    let (mut cut, mut begun) = (0, 0);
    for round in 0..usize::try_from(kills).unwrap() {
        let (work, takes) = (WORK[round % WORK.len()], takes[round % WORK.len()]);
        scene.etcd.fill("i/", 5, 100);
        let mut command = guardian_command();
        command.args(scene.words(work)).args(["--config", &config]);
        cut += u64::from(killed_after(&mut command, dice.below(takes + takes / 10)));
        begun = begun.max(unfinished());
        scene.everything_listed_is_whole();
        let near = scene.backups(&scene.urls[0]);
        let proved = |one: &Manifest| one.kind == Kind::Full;
        assert!(near.iter().any(proved), "{work} left no full backup");
        // What was interrupted is not in the way of the next one, nor need that wait.
        let ran = scene.desk.run(&scene.words(work));
        assert_eq!(ran.code, 0, "round {round}, {work}: {}", ran.stderr);
        scene.everything_listed_is_whole();
    }
    assert!(cut > 0, "none of {kills} was cut short");
    let scratch = files(&scene.desk.path("state"));
    assert_eq!(scratch, Vec::<PathBuf>::new());
    let swept = scene.sweep();
    assert_eq!(unfinished(), 0, "the sweep aborts every upload");
    scene.everything_listed_is_whole();
    eprintln!(
        "{cut} of {kills} were cut short; up to {begun} uploads unfinished at once, {swept} leftovers swept, {} backups proved",
        scene.seen.len()
    );
    // Retention counted what is whole, and what it kept restores.
    scene.desk.run(&scene.words("prune")).ok();
    let of_none = |one: &&Manifest| one.kind == Kind::Full && one.schedule.is_none();
    let near = scene.backups(&scene.urls[0]);
    assert_eq!(near.iter().filter(of_none).count(), 2);
    let to = scene.desk.path("restored").display().to_string();
    let [near, ..] = &scene.urls;
    let words = ["restore", "--from", near, "--data-dir", &to, "--yes"];
    scene.desk.run(&words).ok();
}

/// An etcd whose backups take more than one part.
fn etcd() -> Etcd {
    let etcd = Etcd::start("3.6");
    etcd.fill("k/", 40, 500_000);
    etcd
}

#[test]
fn whatever_a_kill_leaves_in_a_directory_is_whole() {
    let etcd = etcd();
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    let folders = BUCKETS.map(|name| desk.path("places").join(name));
    let root = desk.path("places").display().to_string();
    let mut scene = Scene::new(desk, etcd, |name| {
        let yaml = format!("{{provider: Local, bucket: {root}/{name}}}");
        (yaml, format!("file://{root}/{name}"))
    });
    scene.folders = folders.clone();
    let staged = move || {
        let all = folders.iter().flat_map(|folder| files(folder));
        all.filter(|file| file.display().to_string().contains('#'))
            .count()
    };
    survives(scene, staged);
}

/// A bucket of versitygw behind a port, as YAML and as URL.
fn in_bucket(port: u16, name: &str) -> (String, String) {
    (
        format!(
            "{{provider: S3, bucket: {name}, region: us-east-1, endpoint: 'http://127.0.0.1:{port}', credentialsSecret: s3, addressing: Path}}"
        ),
        format!(
            "s3://{name}?region=us-east-1&endpoint=http://127.0.0.1:{port}&credentialsSecret=s3&addressing=path"
        ),
    )
}

#[test]
fn whatever_a_kill_leaves_in_s3_is_whole() {
    let etcd = etcd();
    let store = Versitygw::start(&BUCKETS);
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    let mut scene = Scene::new(desk, etcd, |name| in_bucket(store.port, name));
    scene.folders = BUCKETS.map(|name| store.file(name, ""));
    let unfinished = || BUCKETS.iter().map(|one| store.unfinished(one).len()).sum();
    survives(scene, unfinished);
}

#[test]
fn an_upload_that_a_kill_broke_off_is_aborted_when_it_is_old_and_not_before() {
    let etcd = etcd();
    let store = Versitygw::start(&BUCKETS);
    let toxiproxy = Toxiproxy::start();
    let port = toxiproxy.proxy("s3", store.port);
    let desk = Desk::new(&cluster(&etcd.endpoints()), "");
    let mut scene = Scene::new(desk, etcd, |name| in_bucket(port, name));
    scene.folders = BUCKETS.map(|name| store.file(name, ""));
    // So slow that it is in the middle of its parts for certain.
    toxiproxy.upstream_toxic("s3", "bandwidth", r#"{"rate":200}"#);
    let config = scene.desk.path("guardian.yaml").display().to_string();
    let mut command = guardian_command();
    command.args(["backup", "create", "--config", &config]);
    let log = scene.desk.path("create.log");
    let mut running = crate::support::Process::start("backup create", &mut command, &log);
    until("the upload is begun", || {
        (!store.unfinished("backups").is_empty()).then_some(())
    });
    running.kill();
    toxiproxy.heal();
    assert_eq!(scene.backups(&scene.urls[0]), Vec::<Manifest>::new());
    // A sweep of today leaves alone what may be another's work in progress.
    scene.desk.run(&scene.words("full")).ok();
    assert_eq!(store.unfinished("backups").len(), 1);
    assert_eq!(scene.sweep(), 1);
    assert_eq!(store.unfinished("backups"), Vec::<String>::new());
    scene.everything_listed_is_whole();
}
