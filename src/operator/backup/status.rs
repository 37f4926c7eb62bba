//! The status of an EtcdBackup as it goes on: what `kubectl get` and `describe` show. Pure.

use jiff::Timestamp;

use crate::api::{ErrorClass, EtcdBackupStatus, ValidationResult};
pub use crate::operator::conditions::Draft;
use crate::operator::conditions::shortened;
use crate::operator::report::Finished;
use crate::operator::velero::Half;
use crate::repository::{Kind, Level};

/// So many warnings are kept, each of so many bytes.
const WARNINGS: usize = 20;
const WARNING: usize = 1000;

impl Draft<EtcdBackupStatus> {
    /// An attempt begins.
    pub fn begun(mut self, run_id: &str, attempt: i64, job: Option<String>) -> EtcdBackupStatus {
        let message = match (attempt, &job) {
            (1, None) => "the backup is being made".to_owned(),
            (1, Some(job)) => format!("the backup is being made by Job {job}"),
            (attempt, _) => format!("attempt {attempt} is under way"),
        };
        let status = &mut self.status;
        status.phase = Some("Running".to_owned());
        status.run_id = Some(run_id.to_owned());
        status.attempts = Some(attempt);
        status.next_attempt_time = None;
        status.completion_time = None;
        status.start_time = Some(self.now);
        status.job = job;
        status.message = Some(message.clone());
        for kind in ["Succeeded", "SnapshotTaken", "Stored", "Verified"] {
            self.say(kind, None, "Running", &message);
        }
        self.status
    }

    /// More than an increment is due: a Job goes on with the attempt.
    pub fn left_to(mut self, job: String, why: &str) -> EtcdBackupStatus {
        self.status.phase = Some("Running".to_owned());
        self.status.message = Some(format!("{why}; Job {job} makes it"));
        self.status.job = Some(job);
        self.status
    }

    /// The work is in another stage.
    pub fn in_stage(mut self, stage: &str) -> EtcdBackupStatus {
        let after = |one: &[&str]| one.contains(&stage);
        let late = ["verify", "commit", "retain", "post-hooks"];
        self.status.phase = Some(
            if after(&["verify", "commit"]) {
                "Verifying"
            } else {
                "Running"
            }
            .to_owned(),
        );
        self.status.message = Some(format!("stage {stage}"));
        if after(&["check", "store"]) || after(&late) {
            self.say(
                "SnapshotTaken",
                Some(true),
                "SnapshotTaken",
                "what is backed up is on the local disk",
            );
        }
        if after(&late) {
            self.say(
                "Stored",
                Some(true),
                "Uploaded",
                "the backup's data is in the store",
            );
        }
        self.status
    }

    /// It is there; with `pair`, Velero's half is to be made.
    pub fn completed(mut self, finished: &Finished, pair: bool) -> EtcdBackupStatus {
        let manifest = &finished.manifest;
        let whole = |number: u64| i64::try_from(number).ok();
        let verified = manifest.level >= Level::Verified;
        let checks: Vec<&str> = manifest
            .checks
            .iter()
            .map(|check| check.message.as_str())
            .collect();
        let mut message = format!(
            "revision {} is in the store, {}",
            manifest.revision,
            manifest.level.to_string().to_lowercase()
        );
        for said in finished.remark.iter().chain(&finished.warnings) {
            message.push_str("; ");
            message.push_str(said);
        }
        let status = &mut self.status;
        status.phase = Some(
            if pair {
                "TriggeringVelero"
            } else {
                "Completed"
            }
            .to_owned(),
        );
        status.completion_time = Some(manifest.completed);
        status.start_time.get_or_insert(manifest.created);
        status.next_attempt_time = None;
        status.attempts.get_or_insert(1);
        let warnings = finished.warnings.iter().take(WARNINGS);
        status.warnings = warnings.map(|one| shortened(one, WARNING)).collect();
        status.snapshot_size = whole(manifest.stored_size);
        status.raw_size = whole(manifest.raw_size);
        status.snapshot_location = Some(finished.location.clone());
        status.etcd_revision = Some(manifest.revision);
        status.start_revision = manifest.start_revision;
        status.run_id = Some(manifest.run_id.clone());
        status.kind = Some(manifest.kind.to_string());
        status.mode = Some(
            if manifest.chain.is_some() {
                "Incremental"
            } else {
                "Full"
            }
            .to_owned(),
        );
        status.base = manifest.chain.as_ref().map(|chain| chain.base.clone());
        status.cluster_id = Some(manifest.cluster_id.clone());
        status.etcd_version = Some(manifest.etcd_version.clone());
        status.key_count = whole(manifest.key_count);
        status.sha256 = Some(manifest.plain_sha256.clone());
        status.hash_kv = manifest.hash_kv.as_ref().map(|hash| i64::from(hash.hash));
        status.compact_revision = Some(manifest.compact_revision);
        status.backup_id = Some(manifest.id.clone());
        status.snapshot_time = Some(manifest.created);
        status.validation_result = Some(ValidationResult {
            valid: verified,
            hash: Some(manifest.plain_sha256.clone()),
            message: Some(checks.join("; ")).filter(|text| !text.is_empty()),
            level: Some(manifest.level.to_string()),
        });
        status.message = Some(message.clone());
        self.say("Succeeded", Some(true), "Completed", &message);
        self.say(
            "SnapshotTaken",
            Some(true),
            "SnapshotTaken",
            match manifest.kind {
                Kind::Export => "the objects were listed to their end",
                _ => "etcd's snapshot was taken whole",
            },
        );
        self.say("Stored", Some(true), "Committed", &finished.location);
        if verified {
            self.say(
                "Verified",
                Some(true),
                &manifest.level.to_string(),
                &checks.join("; "),
            );
        } else {
            self.say(
                "Verified",
                Some(false),
                "NotAskedFor",
                "validation.enabled is false: nothing was read back from the store",
            );
        }
        self.status
    }

    /// Velero's half is so far. The backup itself is there and stays so, whatever becomes of it.
    pub fn paired(mut self, name: &str, half: &Half) -> EtcdBackupStatus {
        self.status.velero_backup_name = Some(name.to_owned());
        if let Some(uid) = half.uid() {
            self.status.velero_backup_uid = Some(uid.clone());
        }
        match half {
            Half::Waiting { message, .. } => {
                self.status.message = Some(message.clone());
                self.say("VeleroBackup", None, "Waiting", message);
            }
            Half::Ended {
                whole,
                reason,
                message,
                phase,
                location,
                ..
            } => {
                self.status.phase = Some("Completed".to_owned());
                self.status.velero_backup_phase.clone_from(phase);
                self.status.velero_backup_location.clone_from(location);
                let stored = "the backup is in the store";
                self.status.message = Some(format!("{stored}; {message}"));
                self.say("VeleroBackup", Some(*whole), reason, message);
            }
        }
        self.status
    }

    /// An attempt failed; another follows.
    pub fn retried(mut self, reason: &str, message: &str, at: Timestamp) -> EtcdBackupStatus {
        let attempts = self.status.attempts.unwrap_or(1);
        let message = format!("attempt {attempts} failed, another follows: {message}");
        self.status.phase = Some("Pending".to_owned());
        self.status.next_attempt_time = Some(at);
        self.status.message = Some(message.clone());
        self.say("Succeeded", None, reason, &message);
        self.status
    }

    /// It failed for good.
    pub fn failed(mut self, reason: &str, message: &str) -> EtcdBackupStatus {
        let message = format!("{message} -- next: {}", next_step(reason));
        self.status.phase = Some("Failed".to_owned());
        self.status.completion_time = Some(self.now);
        self.status.next_attempt_time = None;
        self.status.message = Some(message.clone());
        self.say("Succeeded", Some(false), reason, &message);
        for kind in ["SnapshotTaken", "Stored", "Verified"] {
            let open = self
                .status
                .conditions
                .iter()
                .any(|one| one.type_ == kind && one.status == "Unknown");
            if open {
                self.say(kind, Some(false), reason, "the attempt failed");
            }
        }
        if reason == ErrorClass::VerificationFailed.reason() {
            self.say("Verified", Some(false), reason, &message);
        }
        self.status
    }

    /// It will never be made.
    pub fn rejected(mut self, reason: &str, message: &str) -> EtcdBackupStatus {
        self.status.phase = Some("Rejected".to_owned());
        self.status.message = Some(message.to_owned());
        if self.status.start_time.is_some() {
            self.status.completion_time = Some(self.now);
            for kind in ["SnapshotTaken", "Stored", "Verified"] {
                self.say(kind, Some(false), reason, "the backup is not allowed");
            }
        }
        self.say("Succeeded", Some(false), reason, message);
        self.status
    }

    /// The store must say what became of the run, and does not.
    pub fn unknown(mut self, error: &str) -> EtcdBackupStatus {
        let message =
            format!("what became of the run is not known while the store does not answer: {error}");
        self.status.message = Some(message.clone());
        self.say("Succeeded", None, "StoreUnavailable", &message);
        self.status
    }
}

/// What a person does about a failure.
fn next_step(reason: &str) -> &'static str {
    match reason {
        "OOMKilled" => {
            return "raise jobs.resources.limits.memory in the chart's values, then create the EtcdBackup anew under another name";
        }
        "Evicted" => {
            return "free room on the nodes or raise scratch.sizeLimit in the chart's values, then create the EtcdBackup anew under another name";
        }
        "EvictionByEvictionAPI"
        | "PreemptionByScheduler"
        | "DeletionByTaintManager"
        | "DeletionByPodGC"
        | "TerminationByKubelet"
        | "NodeLost" => {
            return "see that nodes are no longer drained or lost, or set priorityClassName in the chart's values, then create the EtcdBackup anew under another name";
        }
        "JobNotCreated" => {
            return "see that the operator's role and the namespace's quota allow Jobs, then create the EtcdBackup anew under another name";
        }
        _ => {}
    }
    match ErrorClass::from_reason(reason) {
        ErrorClass::StoreUnavailable => {
            "see that the store answers, then create the EtcdBackup anew under another name"
        }
        ErrorClass::Credentials => {
            "mend the Secret that is named, then create the EtcdBackup anew under another name"
        }
        ErrorClass::EtcdUnavailable => {
            "see that etcd answers at its endpoints, then create the EtcdBackup anew under another name"
        }
        ErrorClass::VerificationFailed => {
            "look at the disk and memory of etcd's members (etcdctl endpoint hashkv), and take another backup from another member"
        }
        ErrorClass::Timeout => {
            "raise activeDeadlineSeconds, or find out what is slow with `etcdguardian doctor`"
        }
        ErrorClass::Refused | ErrorClass::Usage => {
            "correct the spec in a new EtcdBackup: a spec is immutable"
        }
        _ => {
            "read the operator's log of this time, then create the EtcdBackup anew under another name"
        }
    }
}
