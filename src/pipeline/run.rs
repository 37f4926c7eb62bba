//! Carries a backup out, stage by stage; the manifest is the last thing that is written.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::export;
use super::hooks::{self, HookFailed, Told};
use super::increment::{Outcome, Tools};
use super::plan::How;
use super::prove::{on_map, prove_drained};
use super::scratch::Scratch;
use super::seal_file::{Content, Plain, provable};
use super::stages::Stages;
use super::synthetic::Merging;
use super::{
    Completed, Part, PipelineError, Progress, Recording, Request, Services, Stage, bridge, plan,
    trace,
};
use crate::api::{BackupMode, Hooks};
use crate::etcd::{ConnectOptions, Drained, Etcd};
use crate::export::bundle::About;
use crate::repository::key::full_id;
use crate::repository::{Kind, Lease, Level, Manifest, Repository};
use crate::seal::{Sealer, Unsealer};
use crate::snapshot;
use crate::verify::{self, Verdict, VerifyError};

/// Makes a backup. Stage clocks aside, nothing here decides by time.
///
/// # Errors
/// Names the stage and the object; nothing that was stored before is harmed.
pub async fn run(
    request: &Request,
    services: &Services,
    progress: &dyn Progress,
) -> Result<Completed, PipelineError> {
    run_recorded(request, services, progress, &Recording::default()).await
}

/// As [`run`], with the standing watch that an incremental backup is cut from.
///
/// # Errors
/// As [`run`].
pub async fn run_recorded(
    request: &Request,
    services: &Services,
    progress: &dyn Progress,
    recording: &Recording,
) -> Result<Completed, PipelineError> {
    let stages = Stages::new(progress);
    let attempt = Attempt {
        request,
        recording,
        services,
        stages: &stages,
        stored: Mutex::new(None),
    };
    let mut outcome = attempt.make().await;
    // Whoever makes what is left tells how it ended, and calls the hooks after.
    let left = matches!(outcome, Err(PipelineError::Left(_)));
    if !left {
        trace::ended(&stages.span(), &outcome);
    }
    let none = Hooks::default();
    let after = &request.spec.hooks.as_ref().unwrap_or(&none).post_backup;
    if !after.is_empty() && !left {
        stages.begin(Stage::PostHooks);
        let said = hooks::after(
            after,
            &told_outcome(request, &outcome),
            services.commands.as_ref(),
        )
        .await;
        if let Ok(completed) = &mut outcome {
            completed.warnings.extend(said);
        }
    }
    if let Ok(completed) = &mut outcome {
        completed.stages = stages.finish();
    }
    outcome
}

fn told_outcome(request: &Request, outcome: &Result<Completed, PipelineError>) -> Told {
    let told = Told::of(request, "postBackup");
    match outcome {
        Ok(completed) => Told {
            outcome: Some("Completed"),
            message: Some(format!("stored at {}", completed.location)),
            id: Some(completed.manifest.id.clone()),
            location: Some(completed.location.clone()),
            revision: Some(completed.manifest.revision),
            level: Some(completed.manifest.level.to_string()),
            ..told
        },
        Err(error) => Told {
            outcome: Some("Failed"),
            message: Some(error.to_string()),
            ..told
        },
    }
}

pub(super) struct Attempt<'a> {
    pub(super) request: &'a Request,
    pub(super) recording: &'a Recording,
    pub(super) services: &'a Services,
    pub(super) stages: &'a Stages<'a>,
    /// What lies in the store without a manifest, to be deleted when the attempt fails.
    pub(super) stored: Mutex<Option<(Arc<Repository>, Manifest)>>,
}

/// A backup whose data is stored and proved, and whose manifest is not written yet.
pub(super) struct Made {
    pub(super) repository: Arc<Repository>,
    pub(super) manifest: Manifest,
    /// The right to write the chain, for an increment.
    pub(super) lease: Option<Lease>,
    pub(super) warnings: Vec<String>,
    /// What an export holds.
    pub(super) about: Option<About>,
    /// Why there was nothing to store: the manifest is that of the backup before.
    pub(super) idle: Option<String>,
    /// The chain that is to become a full backup.
    pub(super) merging: Option<Box<Merging>>,
}

/// A snapshot on the local disk with what is known of it.
struct Taken {
    drained: Drained,
    created: Timestamp,
    settled: Timestamp,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    verdict: Verdict,
    hash_kv: Option<snapshot::HashKv>,
    shares: Vec<snapshot::Share>,
    auth_revision: Option<u64>,
}

/// The revision of users and roles in a file, where it says one.
pub(super) fn auth_revision(status: &snapshot::Status) -> Option<u64> {
    Some(status.auth_revision).filter(|revision| *revision > 0)
}

impl Attempt<'_> {
    async fn make(&self) -> Result<Completed, PipelineError> {
        let how = plan::how(self.request).map_err(|why| PipelineError::Refused {
            name: self.request.name.clone(),
            why,
        })?;
        let seconds = self.request.spec.active_deadline_seconds;
        let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        // The scratch folder lives here, so that it goes however the work ends.
        let scratch = Scratch::create(&self.request.scratch)?;
        let ready = tokio::time::timeout(limit, self.prepare(&scratch, how)).await;
        let ready = match ready {
            Ok(Ok(ready)) => ready,
            Ok(Err(error)) => {
                self.clean_up().await;
                return Err(error);
            }
            Err(_) => {
                self.clean_up().await;
                return Err(PipelineError::Deadline { seconds });
            }
        };
        self.commit(ready, scratch).await
    }

    async fn prepare(&self, scratch: &Scratch, how: How) -> Result<Made, PipelineError> {
        let spec = &self.request.spec;
        let secrets = self.services.secrets.as_ref();
        let namespace = self.request.namespace.as_str();
        // Everything that can be wrong with words is found before etcd is touched.
        let observer = self.services.observer.clone();
        let location = &spec.storage_location;
        let repository = Repository::open(location, namespace, secrets, observer).await?;
        let repository = Arc::new(repository);
        let keyring = repository.keyring();
        let encryption = spec.encryption.as_ref();
        let sealing = keyring
            .sealing(encryption, spec.compression, namespace, secrets)
            .await?;
        let unsealer = if spec.validation.enabled {
            Some(Unsealer::resolve(spec.encryption.as_ref(), namespace, secrets).await?)
        } else {
            None
        };

        let mut warnings = Vec::new();
        let part = &self.request.part;
        let begun_elsewhere = matches!(part, Part::Full(_) | Part::Merge);
        let hooks = spec.hooks.as_ref().filter(|_| !begun_elsewhere);
        if let Some(hooks) = hooks.filter(|hooks| !hooks.pre_backup.is_empty()) {
            self.stages.begin(Stage::PreHooks);
            let told = Told::of(self.request, "preBackup");
            let commands = self.services.commands.as_ref();
            let said = hooks::before(&hooks.pre_backup, &told, commands).await;
            warnings.extend(
                said.map_err(|HookFailed { hook, problem }| PipelineError::Hook { hook, problem })?,
            );
        }
        if how != How::Etcd {
            let tools = export::Tools {
                repository: &repository,
                scratch,
                sealing: &sealing,
                unsealer: unsealer.as_ref(),
            };
            let mut made = self.export(&tools, how).await?;
            made.warnings.extend(warnings);
            return Ok(made);
        }
        let options = ConnectOptions::resolve(&self.request.cluster, namespace, secrets).await?;
        let mut promoted = match part {
            Part::Full(why) => Some(why.clone()),
            _ => None,
        };
        let tools = Tools {
            repository: &repository,
            options: &options,
            scratch,
            sealing: &sealing,
            unsealer: unsealer.as_ref(),
        };
        if spec.backup_mode == BackupMode::Incremental && promoted.is_none() {
            let outcome = match part {
                Part::Merge => self.merge_chain(&tools).await?,
                _ => self.increment(&tools).await?,
            };
            match outcome {
                Outcome::Made(mut made) => {
                    made.warnings.extend(warnings);
                    return Ok(*made);
                }
                Outcome::Mergeable => return Err(self.left(&tools, Part::Merge).await),
                Outcome::Promoted(why) if *part == Part::Increment => {
                    return Err(self.left(&tools, Part::Full(why)).await);
                }
                Outcome::Promoted(why) => promoted = Some(why),
            }
        }
        let meanwhile = self.watch_meanwhile(&tools, promoted.as_deref()).await;
        let recorder = meanwhile.as_ref().or(self.recording.recorder.as_deref());
        let plain = scratch.file("snapshot.db");
        let mut taken = self.take(&options, &plain).await?;
        let version = &taken.drained.member.version;
        warnings.extend(plan::warnings(promoted.as_deref(), version));
        if spec.backup_mode == BackupMode::Incremental {
            let full = bridge::Taken {
                plain: &plain,
                member: &taken.drained.member,
                created: taken.created,
                revision: taken.revision,
                compact_revision: taken.compact_revision,
            };
            let bridged = self
                .bridge(&tools, &full, recorder, promoted.as_deref())
                .await;
            taken.verdict.checks.extend(bridged.checks);
            warnings.extend(bridged.warnings);
        }

        self.stages.begin(Stage::Store);
        let id = full_id(taken.created, taken.revision);
        let cluster_id = format!("{:016x}", taken.drained.member.cluster_id);
        let sealer = sealing.of_backup(&cluster_id, &id).await?;
        let (sealer, unsealer) = provable(sealer, unsealer.as_ref());
        let mut manifest = self.manifest(&taken, &sealer);
        let known = Content {
            size: taken.drained.bytes,
            sha256: taken.drained.file_sha256.clone(),
        };
        let plain = Plain::spent(&plain, Some(known));
        self.deposit(&repository, &sealer, plain, &mut manifest)
            .await?;

        if let Some(unsealer) = &unsealer {
            self.stages.begin(Stage::Verify);
            self.prove_stored(&repository, &manifest, unsealer, &taken)
                .await?;
        }
        Ok(Made {
            repository,
            manifest,
            lease: None,
            warnings,
            about: None,
            idle: None,
            merging: None,
        })
    }

    /// Drains a snapshot, proves the file, and compares it with the live cluster.
    async fn take(&self, options: &ConnectOptions, plain: &Path) -> Result<Taken, PipelineError> {
        self.stages.begin(Stage::Snapshot);
        let etcd = Etcd::connect(options).await?;
        etcd.require_leader().await?;
        let created = Timestamp::now();
        let drained = etcd.drain_snapshot(plain, self.stages).await?;
        let settled = Timestamp::now();

        self.stages.begin(Stage::Check);
        let validation = &self.request.spec.validation;
        if !validation.enabled {
            let status = on_map(plain, snapshot::status).await??;
            return Ok(Taken {
                created,
                settled,
                revision: status.revision,
                compact_revision: status.compact_revision,
                keys: status.total_keys,
                verdict: Verdict {
                    level: Level::Stored,
                    checks: Vec::new(),
                },
                hash_kv: None,
                shares: Vec::new(),
                auth_revision: auth_revision(&status),
                drained,
            });
        }
        let ask_live = validation.consistency_check;
        let proved = prove_drained(&etcd, &drained, plain, ask_live).await?;
        let status = proved.status.as_ref();
        let Some(status) = status.filter(|_| proved.verdict.ok()) else {
            return Err(PipelineError::NotSound {
                endpoint: drained.member.endpoint,
                revision: status.map(|status| status.revision).unwrap_or_default(),
                problem: proved.verdict.problem(),
            });
        };
        Ok(Taken {
            created,
            settled,
            revision: status.revision,
            compact_revision: status.compact_revision,
            keys: status.total_keys,
            hash_kv: proved.hash_kv,
            shares: proved.shares,
            auth_revision: auth_revision(status),
            verdict: proved.verdict,
            drained,
        })
    }

    /// Reads back what lies in the store: its plain bytes must be those whose pages, rows and hash were just proved.
    async fn prove_stored(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        unsealer: &Unsealer,
        taken: &Taken,
    ) -> Result<(), PipelineError> {
        let told = |done: u64| self.stages.bytes(done, manifest.stored_size);
        let read = verify::read_back(repository, manifest, unsealer, &told).await?;
        let image = read.plain.map(|plain| plain.image_sha256);
        if image.as_deref() == Some(taken.drained.image_sha256.as_str()) {
            return Ok(());
        }
        Err(VerifyError::Damaged {
            id: manifest.id.clone(),
            problem: "the database read back is not the one that was proved".to_owned(),
        }
        .into())
    }

    fn manifest(&self, taken: &Taken, sealer: &Sealer) -> Manifest {
        let member = &taken.drained.member;
        let id = full_id(taken.created, taken.revision);
        let cluster_id = format!("{:016x}", member.cluster_id);
        let blank = self.blank_manifest(Kind::Full, taken.created, sealer);
        Manifest {
            data_key: Repository::full_data_key(&cluster_id, &id, blank.compression, &blank.seal),
            id,
            cluster_id,
            member_id: format!("{:016x}", member.member_id),
            etcd_version: member.version.clone(),
            settled: Some(taken.settled),
            revision: taken.revision,
            compact_revision: taken.compact_revision,
            key_count: taken.keys,
            level: taken.verdict.level,
            checks: taken.verdict.checks.clone(),
            hash_kv: taken.hash_kv,
            shares: taken.shares.clone(),
            auth_revision: taken.auth_revision,
            ..blank
        }
    }
}

pub(super) fn remove(file: &Path) -> Result<(), PipelineError> {
    std::fs::remove_file(file).map_err(scratch_failed(file))
}

/// Names the file that could not be used.
pub(super) fn scratch_failed(file: &Path) -> impl FnOnce(std::io::Error) -> PipelineError + use<> {
    let path = file.to_owned();
    move |source| PipelineError::Scratch { path, source }
}
