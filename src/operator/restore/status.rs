//! The status of an EtcdRestore as it goes on: its steps, its conditions, and what a person reads first. Pure.

use super::plan::VELERO;
use crate::api::{EtcdRestore, EtcdRestoreStatus, RestoreStep};
pub use crate::operator::conditions::Draft;
use crate::operator::velero::Half;

impl Draft<EtcdRestoreStatus> {
    /// What a person reads first.
    pub fn message(&mut self, message: &str) {
        self.status.message = Some(message.to_owned());
        self.status
            .phase
            .get_or_insert_with(|| "Pending".to_owned());
    }

    /// It is in another phase.
    pub fn phase(&mut self, phase: &str, message: &str) {
        self.status.phase = Some(phase.to_owned());
        self.say("Succeeded", None, phase, message);
        self.message(message);
    }

    /// A step is in another state.
    pub fn step(&mut self, name: &str, state: &str, message: &str) {
        if let Some(step) = self.status.steps.iter_mut().find(|step| step.name == name) {
            step.state = state.to_owned();
            step.message = message.to_owned();
        }
    }

    /// This will be done.
    pub fn planned(
        &mut self,
        restore: &EtcdRestore,
        fresh_token: String,
        chain: Vec<String>,
        steps: Vec<RestoreStep>,
        warnings: &[String],
    ) {
        let named = restore.spec.etcd_cluster.as_ref();
        let token = named.and_then(|cluster| cluster.initial_cluster_token.clone());
        self.status.cluster_token = Some(token.unwrap_or(fresh_token));
        let mut message = format!(
            "{} backups lead there; {} steps are planned",
            chain.len(),
            steps.len()
        );
        for warning in warnings {
            message = format!("{message}; {warning}");
        }
        self.say("SourceResolved", Some(true), "Found", &chain.join(", "));
        self.status.resolved_chain = chain;
        self.status.steps = steps;
        self.status.start_time = Some(self.now);
        self.phase("Planned", &message);
    }

    /// It failed; nothing more is done.
    pub fn fail(&mut self, reason: &str, message: &str) {
        for step in &mut self.status.steps {
            if step.state == "Running" {
                step.state = "Failed".to_owned();
            }
        }
        self.status.errors.push(message.to_owned());
        self.status.completion_time = Some(self.now);
        self.status.phase = Some("Failed".to_owned());
        self.say("Succeeded", Some(false), reason, message);
        self.message(message);
    }

    /// Velero's Restore is so far.
    pub fn paired(&mut self, name: &str, half: &Half) {
        self.status.velero_restore_name = Some(name.to_owned());
        if let Some(uid) = half.uid() {
            self.status.velero_restore_uid = Some(uid.clone());
        }
        match half {
            Half::Waiting { message, .. } => {
                self.step(VELERO, "Running", message);
                self.say("VeleroRestore", None, "Waiting", message);
                self.message(message);
            }
            Half::Ended {
                whole,
                reason,
                message,
                phase,
                ..
            } => {
                self.status.velero_restore_phase.clone_from(phase);
                self.step(VELERO, if *whole { "Done" } else { "Failed" }, message);
                self.say("VeleroRestore", Some(*whole), reason, message);
            }
        }
    }

    /// It is done and proved.
    pub fn complete(&mut self, revision: i64, message: &str) {
        self.step("validate", "Done", message);
        for step in &mut self.status.steps {
            if step.state == "Running" {
                step.state = "Done".to_owned();
            }
        }
        self.status.restored_revision = Some(revision);
        self.status.completion_time = Some(self.now);
        self.status.phase = Some("Completed".to_owned());
        self.say("ClusterHealthy", Some(true), "HashesEqual", message);
        self.say("Succeeded", Some(true), "Completed", message);
        self.message(message);
    }
}
